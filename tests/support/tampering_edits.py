"""Edits of the tables of a finished run by hand, and the row and column that each finding must name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit of a run's second problem by `sql`; the finding names `row` and `column`."""

    sql: str
    row: str
    column: str
    run: str = "cord"


LOSER = "(SELECT min(id) FROM candidates WHERE problem_id = :problem AND NOT kept AND state = 'scored' AND step > 1)"
OTHER = "(SELECT max(id) FROM candidates WHERE problem_id = :problem AND NOT kept AND state = 'scored' AND step > 1)"
KEPT = "(SELECT min(id) FROM candidates WHERE problem_id = :problem AND kept AND step > 1)"
WINNING = "(SELECT min(id) FROM candidates WHERE problem_id = :problem AND winning)"
REPEATED = "(SELECT min(id) FROM candidates WHERE problem_id = :problem AND duplicate_of IS NOT NULL)"
STANDING = f"(SELECT duplicate_of FROM candidates WHERE id = {REPEATED})"
WINNER = "(SELECT id FROM trajectories WHERE problem_id = :problem AND winner)"
MERGED = "(SELECT min(id) FROM candidates WHERE problem_id = :problem AND sources IS NOT NULL)"
RESCORE = "(SELECT min(id) FROM rescores WHERE problem_id = :problem)"
RUN = "(SELECT run_id FROM problems WHERE id = :problem)"
FIRST_MODEL = f"(SELECT model_id FROM teachers WHERE run_id = {RUN} AND ordinal = 0)"


LAST_STEP = "(SELECT max(step) FROM beams WHERE problem_id = :problem)"
KEPT_SLOT = (
    "WHERE b.ctid = (SELECT max(k.ctid) FROM beams k JOIN beams f ON f.problem_id = k.problem_id AND "
    "f.candidate_id = k.candidate_id AND f.finish IS NOT NULL AND f.step < k.step WHERE k.problem_id = :problem)"
)
"""SQL: the last slot of a trajectory that had finished before."""


def candidate(columns: str, of: str = LOSER) -> str:
    return f"UPDATE candidates SET {columns} WHERE id = {of}"


def trajectory(columns: str) -> str:
    return f"UPDATE trajectories SET {columns} WHERE id = {WINNER}"


def rescore(columns: str) -> str:
    return f"UPDATE rescores SET {columns} WHERE id = {RESCORE}"


def problem(columns: str) -> str:
    return f"UPDATE problems SET {columns} WHERE id = :problem"


def rollup(table: str, columns: str) -> str:
    return f"UPDATE {table} SET {columns} WHERE ctid = (SELECT min(ctid) FROM {table} WHERE problem_id = :problem)"


STEP, WHOLE = ", teacher ", "trajectory "
SWAPPED = f"""
    UPDATE candidates c SET {{columns}} FROM candidates o
    WHERE (c.id, o.id) IN (({LOSER}, {OTHER}), ({OTHER}, {LOSER}))
"""
EDITS = {
    # Results of models.
    "a text is another": Edit(candidate("text = text || ' indeed'"), STEP, "text"),
    "a text is emptied": Edit(candidate("text = ''"), STEP, "text"),
    "a text is emptied with its key": Edit(candidate("text = '', text_key = NULL"), STEP, "text"),
    "a text has another blank": Edit(candidate("text = replace(text, ' the ', '  the ') || ' '"), STEP, "text"),
    "a finish reason": Edit(candidate("finish_reason = 'length'"), STEP, "finish_reason"),
    "prompt tokens": Edit(candidate("prompt_tokens = prompt_tokens + 1"), STEP, "prompt_tokens"),
    "completion tokens": Edit(candidate("completion_tokens = completion_tokens - 1"), STEP, "completion_tokens"),
    "cached tokens": Edit(candidate("cached_tokens = 3"), STEP, "cached_tokens"),
    "seconds of a proposal": Edit(candidate("propose_seconds = propose_seconds + 1e-9"), STEP, "propose_seconds"),
    "a score alone": Edit(candidate("score = score * 0.999"), STEP, "score"),
    "a consistent shift of a score": Edit(
        candidate("log_prob_sum = log_prob_sum - 0.1, score = exp((log_prob_sum - 0.1) / answer_tokens)"),
        STEP,
        "score",
    ),
    "a score by its last digit": Edit(candidate("score = score * (1 - 2.3e-16)"), STEP, "score"),
    "the smallest number": Edit(candidate("log_prob_sum = -5e-324, answer_tokens = 3"), STEP, "log_prob_sum"),
    "the largest number": Edit(candidate("log_prob_sum = -1.7976931348623157e308"), STEP, "log_prob_sum"),
    "not a number": Edit(candidate("log_prob_sum = 'NaN'"), STEP, "log_prob_sum"),
    "thinking tokens": Edit(candidate("thinking_tokens = thinking_tokens + 1"), STEP, "thinking_tokens"),
    "answer tokens": Edit(candidate("answer_tokens = answer_tokens + 1"), STEP, "answer_tokens"),
    "a scoring mode": Edit(candidate("scoring_mode = 'other'"), STEP, "scoring_mode"),
    "a score's prompt tokens": Edit(candidate("score_prompt_tokens = 0"), STEP, "score_prompt_tokens"),
    "a mean probability": Edit(candidate("mean_probability = mean_probability * 0.999"), STEP, "mean_probability"),
    "a mean probability with a digest without it": Edit(
        candidate("mean_probability = mean_probability * 0.999, score_digest = substr(score_digest, 1, 32)"), STEP,
        "mean_probability",
    ),
    "a score that is a mean probability": Edit(
        candidate("score = score * 0.999"), STEP, "score", "arithmetic"
    ),
    "a mean probability that is a score, with it": Edit(
        candidate("score = score * 0.999, mean_probability = score * 0.999"), STEP, "score", "arithmetic"
    ),
    "a base score alone": Edit(problem("base_score = base_score * 0.999"), "its row", "base_score"),
    "a consistent shift of a base score": Edit(
        problem(
            "base_log_prob_sum = base_log_prob_sum - 0.1, "
            "base_score = exp((base_log_prob_sum - 0.1) / base_answer_tokens), "
            "base_mean_probability = exp((base_log_prob_sum - 0.1) / base_answer_tokens)"
        ),
        "its row", "base_score",
    ),
    "a base score's tokens": Edit(problem("base_prompt_tokens = base_prompt_tokens + 1"), "its row",
                                  "base_prompt_tokens"),
    "a base score is gone in part": Edit(problem("base_score = NULL, base_score_digest = NULL"), "its row",
                                         "base_score"),
    "a base score's digest is gone": Edit(problem("base_score_digest = NULL"), "its row", "base_score_digest"),
    "a base score by nobody": Edit(problem("base_scored_by = NULL"), "its row", "base_scored_by"),
    "a base score by a teacher's worker": Edit(
        problem(f"base_scored_by = (SELECT propose_worker_id FROM candidates WHERE id = {LOSER})"), "its row",
        "base_scored_by",
    ),
    "a base score of the future": Edit(problem("base_scored_at = now() + interval '1 year'"), "its row",
                                       "base_scored_at"),
    "a base score of another problem with its digest": Edit(
        "UPDATE problems p SET base_score = o.base_score, base_log_prob_sum = o.base_log_prob_sum, "
        "base_answer_tokens = o.base_answer_tokens, base_mean_probability = o.base_mean_probability, "
        "base_score_digest = o.base_score_digest FROM problems o WHERE p.id = :problem AND o.run_id = p.run_id "
        "AND o.position = 0",
        "its row", "key (or base_score",
    ),
    "the kind of a run's scores": Edit(
        f"UPDATE runs SET prover_score = 'mean_probability' WHERE id = {RUN}", "its row", "prover_score"
    ),
    "a judgment": Edit(candidate("judgment = judgment / 2"), STEP, "judgment", "judged"),
    "a judgment's detail": Edit(
        candidate("judgment_detail = jsonb_set(judgment_detail, '{mode}', '\"other\"')"), STEP, "judgment_detail",
        "judged",
    ),
    "an integrator's reply": Edit(candidate("reply = reply || '!'", MERGED), STEP, "reply", "merged"),
    "an integrator's answer": Edit(candidate("answer_part = '7'", MERGED), STEP, "answer_part", "merged"),
    "an integrator's sources": Edit(
        candidate("sources = sources[1:cardinality(sources) - 1]", MERGED), STEP, "sources", "merged"
    ),
    "an answer is another": Edit(trajectory("answer_text = 'The final answer is 2.'"), WHOLE, "answer_text"),
    "an answer's finish": Edit(trajectory("answer_finish_reason = 'length'"), WHOLE, "answer_finish_reason"),
    "an answer's tokens": Edit(trajectory("answer_completion_tokens = 0"), WHOLE, "answer_completion_tokens"),
    "correct is flipped": Edit(trajectory("correct = NOT correct"), WHOLE, "correct"),
    "correct is flipped with its method": Edit(
        trajectory(
            "correct = NOT correct, verification = jsonb_set(verification, '{method}', "
            "CASE WHEN correct THEN '\"unequal\"'::jsonb ELSE '\"exact\"'::jsonb END)"
        ),
        WHOLE,
        "verification",
    ),
    "the judge's verdict": Edit(trajectory("correct = NOT correct"), WHOLE, "correct", "judged"),
    "the judge's detail": Edit(
        trajectory("verification = jsonb_set(verification, '{detail}', '\"so\"')"), WHOLE, "verification", "judged"
    ),
    "the judge's tokens": Edit(trajectory("verdict_prompt_tokens = 1"), WHOLE, "verdict_prompt_tokens", "judged"),
    # Contents of two rows are swapped.
    "two texts change places": Edit(SWAPPED.format(columns="text = o.text"), STEP, "text"),
    "two proposals change places with their digests": Edit(
        SWAPPED.format(
            columns="text = o.text, text_key = o.text_key, finish_reason = o.finish_reason, "
            "prompt_tokens = o.prompt_tokens, completion_tokens = o.completion_tokens, "
            "cached_tokens = o.cached_tokens, propose_seconds = o.propose_seconds, "
            "proposal_digest = o.proposal_digest"
        ),
        STEP,
        "lineage",
    ),
    "two scores change places with their digests": Edit(
        SWAPPED.format(
            columns="score = o.score, log_prob_sum = o.log_prob_sum, answer_tokens = o.answer_tokens, "
            "thinking_tokens = o.thinking_tokens, score_digest = o.score_digest"
        ),
        STEP,
        "lineage",
    ),
    "two answers change places with their digests": Edit(
        "UPDATE trajectories j SET answer_text = o.answer_text, answer_digest = o.answer_digest FROM trajectories o "
        f"WHERE j.id = {WINNER} AND o.id = (SELECT min(t.id) FROM trajectories t JOIN problems p ON "
        f"p.id = t.problem_id WHERE p.run_id = {RUN} AND t.winner AND t.id <> j.id)",
        WHOLE,
        "candidate_id",
    ),
    # Values derived from them.
    "duplicate turned into loop": Edit(
        candidate("invalid_reason = 'loop', duplicate_of = NULL", REPEATED), STEP, "invalid_reason", "alike"
    ),
    "a duplicate is valid": Edit(
        candidate("state = 'proposed', invalid_reason = NULL, duplicate_of = NULL", REPEATED), STEP, "state", "alike"
    ),
    "a duplicate of nobody": Edit(candidate("duplicate_of = NULL", REPEATED), STEP, "duplicate_of", "alike"),
    "a valid loser is marked invalid": Edit(
        candidate("state = 'invalid', invalid_reason = 'loop', rank = NULL"), STEP, "invalid_reason"
    ),
    "a valid loser is marked unscorable": Edit(
        candidate("state = 'invalid', invalid_reason = 'unscorable', rank = NULL"), STEP, "invalid_reason"
    ),
    "a valid loser is marked a duplicate": Edit(
        candidate(f"state = 'invalid', invalid_reason = 'duplicate', rank = NULL, duplicate_of = {KEPT}"),
        STEP,
        "duplicate_of",
    ),
    "a text's key": Edit(candidate("text_key = gen_random_uuid()"), STEP, "text_key"),
    "a state goes back": Edit(candidate("state = 'proposed'"), STEP, "state"),
    "a rank": Edit(
        f"UPDATE candidates c SET rank = (SELECT r.a + r.b - c.rank FROM (SELECT min(rank) AS a, max(rank) AS b FROM "
        f"candidates WHERE id IN ({LOSER}, {KEPT})) r) WHERE c.id IN ({LOSER}, {KEPT})",
        STEP,
        "rank",
    ),
    "kept": Edit(candidate("kept = true"), STEP, "kept"),
    "a slot's finish": Edit(
        "UPDATE beams SET finish = 'eos' WHERE problem_id = :problem AND step = 1 AND rank = 0", STEP, "finish"
    ),
    "a slot's rank": Edit(
        "UPDATE beams SET rank = 90 - rank WHERE problem_id = :problem AND step = 1", "step 1", "rank"
    ),
    "a slot's rank in the last beam": Edit(
        "UPDATE beams SET rank = rank + 1 WHERE problem_id = :problem AND (step, rank) = (SELECT step, max(rank) "
        f"FROM beams WHERE problem_id = :problem AND step = {LAST_STEP} GROUP BY step)", "step ", ": ranks ",
    ),
    "a slot's rank, the last one": Edit(
        "UPDATE beams SET rank = 2147483647 WHERE problem_id = :problem AND step = 1 AND rank = 0", "step 1", "rank"
    ),
    "a slot of a finished trajectory that was kept": Edit(
        f"UPDATE beams b SET finish = 'length' {KEPT_SLOT}", WHOLE, "finish"
    ),
    "a slot of a finished trajectory is live again": Edit(f"UPDATE beams b SET finish = NULL {KEPT_SLOT}", WHOLE,
                                                          "finish"),
    "a slot is finished with a trajectory, though it was extended": Edit(
        "WITH slot AS (UPDATE beams SET finish = 'context' WHERE problem_id = :problem AND step = 1 AND rank = 0 "
        "RETURNING candidate_id) INSERT INTO trajectories (problem_id, candidate_id, steps, score, finish, "
        "dropped_at_step) SELECT c.problem_id, c.id, c.depth, c.score, 'context', 2 FROM slot JOIN candidates c ON "
        "c.id = slot.candidate_id",
        STEP, ": finish: context in the beam",
    ),
    "a slot is another problem's": Edit(
        f"UPDATE beams SET problem_id = (SELECT min(id) FROM problems WHERE run_id = {RUN}), step = 40 "
        "WHERE problem_id = :problem AND step = 1 AND rank = 0",
        "step 1", "beam",
    ),
    "a slot is another run's": Edit(
        "UPDATE beams SET problem_id = (SELECT max(id) FROM problems), step = 40 WHERE problem_id = :problem AND "
        f"rank = 0 AND step = {LAST_STEP}", "problem problem-1: ", "",
    ),
    "the last beam is gone": Edit(
        f"DELETE FROM beams WHERE problem_id = :problem AND step = {LAST_STEP}", "problem problem-1: ", "has no beam"
    ),
    "a trajectory is another run's": Edit(
        f"UPDATE trajectories SET problem_id = (SELECT max(id) FROM problems), winner = false WHERE id = {WINNER}",
        STEP, "finish: it finished at step",
    ),
    "a rank and none change places": Edit(
        "UPDATE candidates c SET rank = o.rank FROM candidates o WHERE (c.id, o.id) IN "
        f"(({REPEATED}, {STANDING}), ({STANDING}, {REPEATED}))", STEP, "rank", "alike",
    ),
    "a slot's candidate": Edit(
        f"UPDATE beams SET candidate_id = {LOSER} WHERE problem_id = :problem AND rank = 1 AND step = "
        f"(SELECT step FROM candidates WHERE id = {LOSER})",
        STEP,
        "kept",
    ),
    "winning moved": Edit(
        f"UPDATE candidates SET winning = NOT winning WHERE id IN ({LOSER}, {WINNING})", STEP, "winning"
    ),
    "the winner moved": Edit(
        "UPDATE trajectories SET winner = false WHERE problem_id = :problem", "its row", "state", "tree"
    ),
    # The plan of candidates.
    "a parent": Edit(
        f"UPDATE candidates c SET parent_id = (SELECT max(o.id) FROM candidates o WHERE o.problem_id = :problem "
        f"AND o.kept AND o.step = c.step - 1 AND o.id <> c.parent_id) WHERE c.id = {LOSER}",
        STEP,
        "lineage",
    ),
    "parents in a circle": Edit(
        candidate("parent_id = id", "(SELECT min(id) FROM candidates WHERE problem_id = :problem AND winning)"),
        STEP,
        "parent_id",
    ),
    "a parent's rank": Edit(candidate("parent_rank = parent_rank + 1"), STEP, "parent_rank"),
    "a teacher": Edit(
        f"UPDATE candidates c SET teacher_id = (SELECT max(t.id) FROM teachers t WHERE t.run_id = {RUN} "
        f"AND t.id <> c.teacher_id) WHERE c.id = {LOSER}",
        STEP,
        "lineage",
    ),
    "a seed": Edit(candidate("seed = seed + 1"), STEP, "seed"),
    "a lineage": Edit(candidate("lineage = md5(lineage)"), STEP, "lineage"),
    "a sample": Edit(candidate("sample = sample + 1"), STEP, "sample"),
    "a token cap": Edit(candidate("max_tokens = max_tokens - 1"), STEP, "max_tokens"),
    "an integrator's token cap": Edit(candidate("max_tokens = max_tokens - 1", MERGED), STEP, "max_tokens", "merged"),
    "a rollout's token cap": Edit(
        candidate("max_tokens = max_tokens - 1", "(SELECT max(id) FROM candidates WHERE problem_id = :problem "
                   "AND whole)"),
        STEP, "max_tokens", "tree",
    ),
    "whole": Edit(candidate("whole = NOT whole"), STEP, "whole"),
    "an answer's seed": Edit(trajectory("answer_seed = answer_seed + 1"), WHOLE, "answer_seed"),
    "a step at which a trajectory was dropped": Edit(
        trajectory("dropped_at_step = coalesce(dropped_at_step, 1) + 1"), WHOLE, "dropped_at_step"
    ),
    "a tree's depth": Edit(
        candidate("depth = depth + 1", "(SELECT max(id) FROM candidates WHERE problem_id = :problem)"),
        STEP,
        "depth",
        "tree",
    ),
    # Rows are inserted and deleted.
    "a candidate is gone": Edit(f"DELETE FROM candidates WHERE id = {OTHER}", STEP, "its row: missing"),
    "all candidates of a parent are gone": Edit(
        "DELETE FROM candidates c WHERE c.problem_id = :problem AND NOT EXISTS (SELECT 1 FROM candidates k WHERE "
        "(k.problem_id, k.step, k.parent_id) = (c.problem_id, c.step, c.parent_id) AND k.kept) AND c.step > 1",
        STEP, "its row: missing",
    ),
    "a rollout is gone": Edit(
        "DELETE FROM candidates WHERE id = (SELECT min(id) FROM candidates WHERE problem_id = :problem AND whole)",
        "step ", "candidate", "tree",
    ),
    "a candidate was added": Edit(
        "INSERT INTO candidates (problem_id, parent_id, parent_rank, step, depth, round, teacher_id, sample, lineage, "
        "seed, max_tokens, whole, state, text, finish_reason, prompt_tokens, completion_tokens, kept, proposed_at, "
        "invalid_reason) SELECT problem_id, parent_id, parent_rank, step, depth, round, teacher_id, sample + 1, "
        "md5(lineage), seed, max_tokens, whole, 'invalid', '', 'step', 1, 1, false, now(), 'empty' FROM candidates "
        f"WHERE id = {LOSER}",
        STEP,
        "proposal_digest",
    ),
    "a trajectory is gone": Edit("DELETE FROM trajectories WHERE problem_id = :problem", STEP, "trajectory"),
    "a problem is gone": Edit("DELETE FROM problems WHERE id = :problem", "its row", "position"),
    "a digest is gone": Edit(candidate("proposal_digest = NULL"), STEP, "proposal_digest"),
    "a score's digest is gone": Edit(candidate("score_digest = NULL"), STEP, "score_digest"),
    "a verdict's digest is gone": Edit(trajectory("correctness_digest = NULL"), WHOLE, "correctness_digest"),
    "a verdict is gone with its digest": Edit(
        trajectory("correct = NULL, verification = NULL, correctness_digest = NULL"), WHOLE, "correctness_digest"
    ),
    "the judge's verdict is gone with its digest": Edit(
        trajectory(
            "correct = NULL, verification = NULL, correctness_digest = NULL, verdict_prompt_tokens = NULL, "
            "verdict_completion_tokens = NULL, verdict_seconds = NULL"
        ),
        WHOLE,
        "correctness_digest",
        "judged",
    ),
    "an answer is gone with its digest": Edit(
        trajectory(
            "answer_text = NULL, answer_finish_reason = NULL, answer_digest = NULL, answer_prompt_tokens = NULL, "
            "answer_completion_tokens = NULL, answer_cached_tokens = NULL, answer_seconds = NULL"
        ),
        WHOLE,
        "answer_digest",
    ),
    "a problem's digest is gone": Edit(problem("digest = NULL"), "its row", "digest"),
    "a run's digest is gone": Edit(f"UPDATE runs SET digest = NULL WHERE id = {RUN}", "its row", "digest"),
    # Attempts, workers and other circumstances.
    "proposed after it was scored": Edit(candidate("proposed_at = scored_at + interval '2 days'"), STEP, "scored_at"),
    "scored in the future": Edit(candidate("scored_at = now() + interval '1 year'"), STEP, "scored_at"),
    "never proposed": Edit(candidate("proposed_at = NULL"), STEP, "proposed_at"),
    "no attempt to propose": Edit(candidate("propose_attempts = 0"), STEP, "propose_attempts"),
    "no attempt to score": Edit(candidate("score_attempts = 0"), STEP, "score_attempts"),
    "no attempt to answer": Edit(trajectory("answer_attempts = 0"), WHOLE, "answer_attempts"),
    "a worker that never was": Edit(candidate("propose_worker_id = gen_random_uuid()"), STEP, "propose_worker_id"),
    "a score by nobody": Edit(candidate("score_worker_id = NULL"), STEP, "score_worker_id"),
    "a score by a teacher's worker": Edit(candidate("score_worker_id = propose_worker_id"), STEP, "score_worker_id"),
    "answered before it was thought": Edit(trajectory("answered_at = created_at - interval '2 days'"), WHOLE,
                                           "answered_at"),
    "finished before it began": Edit(problem("finished_at = created_at - interval '2 days'"), "its row",
                                     "finished_at"),
    "scored an hour before it was proposed": Edit(
        candidate("scored_at = proposed_at - interval '1 hour'"), STEP, "proposed_at or scored_at"
    ),
    "finished ten hours from now": Edit(problem("finished_at = finished_at + interval '10 hours'"), "its row",
                                        "finished_at"),
    "planned half an hour late": Edit(candidate("created_at = created_at + interval '30 minutes'"), STEP, "created_at"),
    "admitted half an hour before it was enqueued": Edit(problem("admitted_at = created_at - interval '30 minutes'"),
                                                         "its row", "admitted_at"),
    "a run that begins after its problems": Edit(
        f"UPDATE runs SET created_at = created_at + interval '1 hour' WHERE id = {RUN}", "its row", "created_at"
    ),
    "a run an hour before its models": Edit(
        f"UPDATE runs SET created_at = created_at - interval '1 hour' WHERE id = {RUN}", "its row", "created_at"
    ),
    "a run of the end of time": Edit(f"UPDATE runs SET created_at = 'infinity' WHERE id = {RUN}", "its row",
                                     "created_at"),
    "a run of the beginning of time": Edit(f"UPDATE runs SET created_at = '-infinity' WHERE id = {RUN}", "its row",
                                           "created_at"),
    "a run with the last date": Edit(f"UPDATE runs SET prompt_date = 'infinity' WHERE id = {RUN}", "its row",
                                     "prompt_date"),
    "a run with the date of the last year of PostgreSQL": Edit(
        f"UPDATE runs SET prompt_date = '5874897-12-31' WHERE id = {RUN}", "its row", "prompt_date"
    ),
    "a number of 5000 digits": Edit(f"UPDATE runs SET config = config || '{{\"x\": 1e5000}}' WHERE id = {RUN}",
                                    "its row", "config"),
    "a search that never began": Edit(problem("step = 0"), "step 1", "the problem is at step 0"),
    "done is failed": Edit(problem("state = 'failed', failure_reason = 'tired'"), "its row", "state"),
    "not done": Edit(problem("state = 'verifying'"), "its row", "finished_at"),
    "done is cancelled": Edit(problem("state = 'cancelled'"), "its row", "state"),
    "done is cancelled with its run, as another": Edit(
        "WITH run AS (UPDATE runs SET state = 'cancelled' FROM problems p WHERE p.id = :problem AND runs.id = p.run_id "
        "RETURNING runs.id) UPDATE problems SET state = 'cancelled', finished_at = CASE WHEN problems.id = :problem "
        "THEN finished_at ELSE now() END FROM run WHERE run_id = run.id AND problems.id >= :problem",
        "its row", "state or finished_at",
    ),
    "done is failed where nothing is checked": Edit(
        problem("state = 'failed', failure_reason = 'tired'"), "its row", "state", "unchecked"
    ),
    "never admitted": Edit(problem("admitted_at = NULL"), "its row", "admitted_at"),
    "enqueued after it began": Edit(problem("created_at = admitted_at + interval '2 days'"), "its row", "created_at"),
    "a decision that failed": Edit(problem("decision_attempts = 1"), "its row", "decision_attempts"),
    "planned after it was proposed": Edit(candidate("created_at = proposed_at + interval '2 days'"), STEP,
                                          "created_at"),
    "thought after it was answered": Edit(trajectory("created_at = answered_at + interval '2 days'"), WHOLE,
                                          "created_at"),
    "a run after its problems": Edit(f"UPDATE runs SET created_at = created_at + interval '2 days' WHERE id = {RUN}",
                                     "its row", "created_at"),
    "a run before its models": Edit(f"UPDATE runs SET created_at = created_at - interval '2 days' WHERE id = {RUN}",
                                    "its row", "created_at"),
    "tokens of a judgment that never was": Edit(candidate("judgment_prompt_tokens = 5"), STEP,
                                                "judgment_prompt_tokens"),
    "a judgment that never was": Edit(candidate("judgment = 0.5, judgment_detail = '{}'"), STEP, "judgment"),
    "attempts to judge what never was": Edit(candidate("judgment_attempts = 1"), STEP, "judgment_attempts"),
    "seconds of a verdict that never was": Edit(trajectory("verdict_seconds = 5"), WHOLE, "verdict_seconds",
                                                "unchecked"),
    "an answer that was not asked for": Edit(
        "UPDATE trajectories SET answer_text = '7' WHERE id = (SELECT min(j.id) FROM trajectories j JOIN problems p ON "
        f"p.id = j.problem_id WHERE p.run_id = {RUN} AND j.answer_state = 'none')",
        WHOLE, "answer_text",
    ),
    "a check by a model's worker": Edit(trajectory("check_worker_id = answer_worker_id"), WHOLE, "check_worker_id"),
    "a check by nobody": Edit(trajectory("check_worker_id = NULL"), WHOLE, "check_worker_id"),
    "a judgment by nobody": Edit(candidate("judgment_worker_id = NULL"), STEP, "judgment_worker_id", "judged"),
    "a judgment's worker where nobody judges": Edit(candidate("judgment_worker_id = propose_worker_id"), STEP,
                                                    "judgment_worker_id"),
    "a text's key is gone": Edit(candidate("text_key = NULL"), STEP, "text_key"),
    "kept is gone": Edit(candidate("kept = NULL"), STEP, "kept"),
    # The problem.
    "a question": Edit(problem("question = question || ' '"), "its row", "question"),
    "a question's answer": Edit(problem("answer = '7'"), "its row", "answer"),
    "a passage": Edit(problem("passage = NULL"), "its row", "passage"),
    "an answer with its hash": Edit(problem("answer = '7', content_hash = '{content_hash}'"), "its row",
                                    "content_hash"),
    "an attribute": Edit(problem("attributes = jsonb_set(attributes, '{level}', '9')"), "its row", "attributes"),
    "a problem's key": Edit(problem("key = 'other'"), "its row", "key"),
    "a position": Edit(problem("position = 90"), "its row", "position"),
    # The configuration, models and teachers.
    "the configuration": Edit(
        f"UPDATE runs SET config = jsonb_set(config, '{{search,max_steps}}', '9') WHERE id = {RUN}", "its row", "config"
    ),
    "the run's seed": Edit(f"UPDATE runs SET seed = seed + 1 WHERE id = {RUN}", "its row", "seed"),
    "the run's date": Edit(
        f"UPDATE runs SET prompt_date = prompt_date + 1 WHERE id = {RUN}", "its row", "prompt_date"
    ),
    "the run's version": Edit(f"UPDATE runs SET code_version = '0.0' WHERE id = {RUN}", "its row", "code_version"),
    "a fingerprint": Edit(
        f"UPDATE runs SET config_fingerprint = '0' WHERE id = {RUN}", "its row", "config_fingerprint"
    ),
    "a prover": Edit(f"UPDATE runs SET prover_model_id = {FIRST_MODEL} WHERE id = {RUN}", "its row", "model of prover"),
    "a teacher's sampling": Edit(
        "UPDATE teachers SET sampling = jsonb_set(sampling, '{temperature}', '1.5') "
        f"WHERE run_id = {RUN} AND ordinal = 0",
        "teacher alpha",
        "sampling",
    ),
    "a teacher's system prompt": Edit(
        f"UPDATE teachers SET system_prompt = 'Be brief.' WHERE run_id = {RUN} AND ordinal = 0",
        "teacher alpha",
        "system_prompt",
    ),
    "a model's identity": Edit(
        "UPDATE models SET identity = jsonb_set(identity, '{dtype}', '\"float16\"') "
        f"WHERE id = {FIRST_MODEL}",
        "model alpha",
        "identity",
    ),
    "a model's path": Edit(f"UPDATE models SET path = 'other' WHERE id = {FIRST_MODEL}", "model other", "path"),
    "a model's weights": Edit(
        f"UPDATE models SET weights_digest = 'other' WHERE id = {FIRST_MODEL}", "model alpha", "weights_digest"
    ),
    "a model's weights without their digest": Edit(
        f"UPDATE models SET weights_digest = 'other', digest = NULL WHERE id = {FIRST_MODEL}", "model alpha", "digest"
    ),
    "a model's weights are gone": Edit(
        f"UPDATE models SET weights_digest = NULL, digest = NULL WHERE id = {FIRST_MODEL}",
        "model alpha", "weights_digest",
    ),
    "a teacher's order": Edit(
        f"UPDATE teachers SET ordinal = ordinal + 5 WHERE run_id = {RUN} AND ordinal = 2", "teacher beta-hot", "ordinal"
    ),
    # Rescorings.
    "a rescore alone": Edit(rescore("score = score * 0.999"), STEP, "score"),
    "a consistent shift of a rescore": Edit(
        rescore("log_prob_sum = log_prob_sum - 0.1, score = exp((log_prob_sum - 0.1) / answer_tokens)"), STEP, "score"
    ),
    "a rescore's tokens": Edit(rescore("thinking_tokens = thinking_tokens + 1"), STEP, "thinking_tokens"),
    "a rescore is invalid": Edit(rescore("state = 'invalid', invalid_reason = 'too_long'"), STEP, "score"),
    "a rescore waits again": Edit(rescore("state = 'queued'"), STEP, "scored_at"),
    "a rescore is given up": Edit(
        rescore(
            "state = 'invalid', invalid_reason = 'given_up', score = NULL, log_prob_sum = NULL, answer_tokens = NULL, "
            "thinking_tokens = NULL, prompt_tokens = NULL, cached_tokens = NULL, seconds = NULL, scoring_mode = NULL"
        ),
        STEP,
        "invalid_reason",
    ),
    "a rescore of another worker": Edit(rescore("rescore_worker_id = gen_random_uuid()"), STEP, "rescore_worker_id"),
    "a rescore of another candidate": Edit(
        rescore(
            "candidate_id = (SELECT min(c.id) FROM candidates c JOIN problems p ON p.id = c.problem_id "
            f"WHERE p.run_id <> {RUN})"
        ),
        STEP,
        "candidate_id",
    ),
    "two rescores change places": Edit(
        "UPDATE rescores x SET score = o.score, log_prob_sum = o.log_prob_sum, thinking_tokens = o.thinking_tokens, "
        "prompt_tokens = o.prompt_tokens, cached_tokens = o.cached_tokens, seconds = o.seconds, digest = o.digest "
        f"FROM rescores o WHERE x.id = {RESCORE} AND o.problem_id = x.problem_id AND o.id <> x.id "
        "AND o.rescoring_id = x.rescoring_id AND o.candidate_id = (SELECT max(k.candidate_id) FROM rescores k "
        "WHERE k.rescoring_id = x.rescoring_id AND k.problem_id = :problem)",
        STEP,
        "candidate_id",
    ),
    "a scoring mode of a rescoring": Edit(
        f"UPDATE rescorings SET scoring_mode = 'other' WHERE run_id = {RUN}", STEP, "scoring_mode"
    ),
    "a rescoring's template": Edit(
        f"UPDATE rescorings SET prover = jsonb_set(prover, '{{scoring_template}}', '\"x\"') WHERE run_id = {RUN}",
        "rescoring alpha",
        "prover",
    ),
    "a rescoring's name": Edit(
        f"UPDATE rescorings SET name = 'gamma' WHERE run_id = {RUN} AND name = 'alpha'", "rescoring gamma", "name"
    ),
    # Rollups.
    "a rollup's tokens": Edit(rollup("problem_rollups", "step_tokens = step_tokens + 1"), "its rollup", "step_tokens"),
    "a teacher's winning steps": Edit(rollup("teacher_rollups", "winning = winning + 1"), "rollup of teacher ",
                                      "winning"),
    "a part of a rollup is gone": Edit(
        "DELETE FROM request_rollups WHERE ctid = (SELECT min(ctid) FROM request_rollups WHERE problem_id = :problem)",
        "rollup of model ", "its row: missing",
    ),
    "a rollup is gone, its parts are there": Edit("DELETE FROM problem_rollups WHERE problem_id = :problem",
                                                  "its rollup", "its row: missing"),
    "a scoring mode of the run": Edit(f"UPDATE runs SET scoring_mode = 'other' WHERE id = {RUN}", STEP, "scoring_mode"),
}  # fmt: skip


IN_BOTH = (
    "a text is emptied",
    "a text is emptied with its key",
    "a consistent shift of a score",
    "a consistent shift of a base score",
    "a mean probability",
    "a judgment's detail",
    "an answer is another",
    "correct is flipped",
    "the judge's verdict",
    "duplicate turned into loop",
    "a valid loser is marked invalid",
    "a question's answer",
    "the configuration",
    "a token cap",
    "an integrator's token cap",
    "a rollout's token cap",
    "an answer's seed",
    "a candidate is gone",
    "two proposals change places with their digests",
)
"""Edits that both commands find, in the same words."""


EACH_FINDS = (
    *IN_BOTH,
    "a slot's rank",
    "a slot's rank in the last beam",
    "a slot's rank, the last one",
    "a slot of a finished trajectory that was kept",
    "a slot of a finished trajectory is live again",
    "a slot is finished with a trajectory, though it was extended",
    "a slot is another problem's",
    "a slot is another run's",
    "the last beam is gone",
    "a trajectory is another run's",
    "a rank and none change places",
    "scored an hour before it was proposed",
    "finished ten hours from now",
    "planned half an hour late",
    "a search that never began",
    "a run of the end of time",
    "a run of the beginning of time",
    "a run with the last date",
    "a number of 5000 digits",
)
"""Edits that each command finds, perhaps in other words."""


DERIVED = (
    "a token cap",
    "a parent's rank",
    "whole",
    "an answer's seed",
    "a step at which a trajectory was dropped",
    "a candidate is gone",
)
"""Edits of decided values that follow from the problem's other rows: `verify-db` finds them as well."""
