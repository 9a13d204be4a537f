"""Every way of editing the tables of a finished run by hand is found, and the finding names the row and the column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB

from cord_worker.config import RunConfig
from cord_worker.coordination.run_context import RunContext, RunContexts
from cord_worker.dataset import ProblemRecord
from cord_worker.engines.instant import ALIKE
from cord_worker.errors import ConfigError
from cord_worker.operations.rechecking import recheck_run
from cord_worker.operations.recomputing import wrong_run
from cord_worker.operations.replaying import contradictions, replay_problem, verify_runs, verify_tables
from cord_worker.store.audit.stored_decisions import begun_problems
from cord_worker.store.audit.stored_digests import Undigested, run_digest
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import content_hash, enqueue
from cord_worker.store.runs.runs import get_run, list_runs, resolve_run
from cord_worker.store.schema.digests import CORRECTNESS, DIGESTS
from cord_worker.store.schema.tables import AnswerState, Base, CandidateState, ProblemState, RunState, TeacherRole
from tests.support.cluster import Cluster
from tests.support.configurations import INSTANT, INTEGRATOR, REWARD
from tests.support.tables import count

PROBLEMS = 3
REFEREE = '[models.referee]\npath = "referee"\nengine = "instant"\n'
CONFIGS = {
    "cord": INSTANT,
    "alike": INSTANT,
    "judged": INSTANT.replace("[search]\n", '[search]\nselection = "reward_model"\n')
    + f'{REWARD}{REFEREE}[verify]\nmethod = "judge"\n[verify.judge]\nmodel = "referee"\n',
    "merged": INSTANT.replace("[search]\n", '[search]\npipeline = "integration"\ntrajectories = 2\n') + INTEGRATOR,
    "tree": INSTANT.replace("[search]\n", '[search]\npipeline = "mcts"\ntrajectories = 3\n'),
    "unchecked": INSTANT + '[verify]\nmethod = "none"\n',
}


@pytest.fixture(scope="module")
def worked(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Callable[[], AbstractContextManager[str]],
    broker_url: str,
) -> Iterator[Database]:
    """Finished runs: of the paper's search, of equal texts, of a reward model and an LLM judge, of an integrator, of
    a tree search, and one whose answers nobody checks. They are enqueued before any worker begins."""
    folder = tmp_path_factory.mktemp("tampering")
    with migrated_database() as url, Cluster(folder, url, broker_url, CONFIGS["judged"]) as cluster:
        database = Database(url)
        (folder / "others").mkdir()
        for name, text in CONFIGS.items():
            records = [
                ProblemRecord(
                    f"problem-{n}",
                    f"What is {n} + {n}?{f' {ALIKE}' if name == 'alike' else ''}",
                    str(2 * n),
                    "Two numbers are added." if n else None,
                    {"level": n, "weight": 1.5e300, "say": 'a "quoted"\tline\n'},
                    f"x:{n}",
                )
                for n in range(PROBLEMS)
            ]
            config = RunConfig.parse(text, source=name, folder=folder)
            database.run(
                lambda connection, name=name, config=config, records=records: enqueue(connection, name, config, records)
            )
        cluster.start()
        with Cluster(folder / "others", url, broker_url, CONFIGS["merged"]) as others:
            others.start("merger")
            cluster.wait_until(lambda: count(database, "finished_at IS NULL") == 0, 100)
        yield database
        database.close()


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit of a run's second problem by `sql`; what is found names `row` and `column`."""

    sql: str
    row: str
    column: str
    run: str = "cord"


LOSER = "(SELECT min(id) FROM candidates WHERE problem_id = :problem AND NOT kept AND state = 'scored' AND step > 1)"
OTHER = "(SELECT max(id) FROM candidates WHERE problem_id = :problem AND NOT kept AND state = 'scored' AND step > 1)"
KEPT = "(SELECT min(id) FROM candidates WHERE problem_id = :problem AND kept AND step > 1)"
WINNING = "(SELECT min(id) FROM candidates WHERE problem_id = :problem AND winning)"
REPEATED = "(SELECT min(id) FROM candidates WHERE problem_id = :problem AND duplicate_of IS NOT NULL)"
WINNER = "(SELECT id FROM trajectories WHERE problem_id = :problem AND winner)"
MERGED = "(SELECT min(id) FROM candidates WHERE problem_id = :problem AND sources IS NOT NULL)"
RUN = "(SELECT run_id FROM problems WHERE id = :problem)"
FIRST_MODEL = f"(SELECT model_id FROM teachers WHERE run_id = {RUN} AND ordinal = 0)"


def _candidate(columns: str, of: str = LOSER) -> str:
    return f"UPDATE candidates SET {columns} WHERE id = {of}"


def _trajectory(columns: str) -> str:
    return f"UPDATE trajectories SET {columns} WHERE id = {WINNER}"


def _problem(columns: str) -> str:
    return f"UPDATE problems SET {columns} WHERE id = :problem"


STEP, WHOLE = ", teacher ", "trajectory "
SWAPPED = f"""
    UPDATE candidates c SET {{columns}} FROM candidates o
    WHERE (c.id, o.id) IN (({LOSER}, {OTHER}), ({OTHER}, {LOSER}))
"""
EDITS = {
    # What models gave.
    "a text is another": Edit(_candidate("text = text || ' indeed'"), STEP, "text"),
    "a text is emptied": Edit(_candidate("text = ''"), STEP, "text"),
    "a text is emptied with its key": Edit(_candidate("text = '', text_key = NULL"), STEP, "text"),
    "a text has another blank": Edit(_candidate("text = replace(text, ' the ', '  the ') || ' '"), STEP, "text"),
    "a finish reason": Edit(_candidate("finish_reason = 'length'"), STEP, "finish_reason"),
    "prompt tokens": Edit(_candidate("prompt_tokens = prompt_tokens + 1"), STEP, "prompt_tokens"),
    "completion tokens": Edit(_candidate("completion_tokens = completion_tokens - 1"), STEP, "completion_tokens"),
    "cached tokens": Edit(_candidate("cached_tokens = 3"), STEP, "cached_tokens"),
    "seconds of a proposal": Edit(_candidate("propose_seconds = propose_seconds + 1e-9"), STEP, "propose_seconds"),
    "a score alone": Edit(_candidate("score = score * 0.999"), STEP, "score"),
    "a consistent shift of a score": Edit(
        _candidate("log_prob_sum = log_prob_sum - 0.1, score = exp((log_prob_sum - 0.1) / answer_tokens)"),
        STEP,
        "score",
    ),
    "a score by its last digit": Edit(_candidate("score = score * (1 - 2.3e-16)"), STEP, "score"),
    "thinking tokens": Edit(_candidate("thinking_tokens = thinking_tokens + 1"), STEP, "thinking_tokens"),
    "answer tokens": Edit(_candidate("answer_tokens = answer_tokens + 1"), STEP, "answer_tokens"),
    "a scoring mode": Edit(_candidate("scoring_mode = 'other'"), STEP, "scoring_mode"),
    "a score's prompt tokens": Edit(_candidate("score_prompt_tokens = 0"), STEP, "score_prompt_tokens"),
    "a judgment": Edit(_candidate("judgment = judgment / 2"), STEP, "judgment", "judged"),
    "a judgment's detail": Edit(
        _candidate("judgment_detail = jsonb_set(judgment_detail, '{mode}', '\"other\"')"), STEP, "judgment_detail",
        "judged",
    ),
    "an integrator's reply": Edit(_candidate("reply = reply || '!'", MERGED), STEP, "reply", "merged"),
    "an integrator's answer": Edit(_candidate("answer_part = '7'", MERGED), STEP, "answer_part", "merged"),
    "an integrator's sources": Edit(
        _candidate("sources = sources[1:cardinality(sources) - 1]", MERGED), STEP, "sources", "merged"
    ),
    "an answer is another": Edit(_trajectory("answer_text = 'The final answer is 2.'"), WHOLE, "answer_text"),
    "an answer's finish": Edit(_trajectory("answer_finish_reason = 'length'"), WHOLE, "answer_finish_reason"),
    "an answer's tokens": Edit(_trajectory("answer_completion_tokens = 0"), WHOLE, "answer_completion_tokens"),
    "correct is flipped": Edit(_trajectory("correct = NOT correct"), WHOLE, "correct"),
    "correct is flipped with its method": Edit(
        _trajectory(
            "correct = NOT correct, verification = jsonb_set(verification, '{method}', "
            "CASE WHEN correct THEN '\"unequal\"'::jsonb ELSE '\"exact\"'::jsonb END)"
        ),
        WHOLE,
        "verification",
    ),
    "the judge's verdict": Edit(_trajectory("correct = NOT correct"), WHOLE, "correct", "judged"),
    "the judge's detail": Edit(
        _trajectory("verification = jsonb_set(verification, '{detail}', '\"so\"')"), WHOLE, "verification", "judged"
    ),
    "the judge's tokens": Edit(_trajectory("verdict_prompt_tokens = 1"), WHOLE, "verdict_prompt_tokens", "judged"),
    # Contents of two rows change places.
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
    # What follows.
    "duplicate turned into loop": Edit(
        _candidate("invalid_reason = 'loop', duplicate_of = NULL", REPEATED), STEP, "invalid_reason", "alike"
    ),
    "a duplicate is valid": Edit(
        _candidate("state = 'proposed', invalid_reason = NULL, duplicate_of = NULL", REPEATED), STEP, "state", "alike"
    ),
    "a duplicate of nobody": Edit(_candidate("duplicate_of = NULL", REPEATED), STEP, "duplicate_of", "alike"),
    "a valid loser is marked invalid": Edit(
        _candidate("state = 'invalid', invalid_reason = 'loop', rank = NULL"), STEP, "invalid_reason"
    ),
    "a valid loser is marked unscorable": Edit(
        _candidate("state = 'invalid', invalid_reason = 'unscorable', rank = NULL"), STEP, "invalid_reason"
    ),
    "a valid loser is marked a duplicate": Edit(
        _candidate(f"state = 'invalid', invalid_reason = 'duplicate', rank = NULL, duplicate_of = {KEPT}"),
        STEP,
        "duplicate_of",
    ),
    "a text's key": Edit(_candidate("text_key = gen_random_uuid()"), STEP, "text_key"),
    "a state goes back": Edit(_candidate("state = 'proposed'"), STEP, "state"),
    "a rank": Edit(
        f"UPDATE candidates c SET rank = (SELECT r.a + r.b - c.rank FROM (SELECT min(rank) AS a, max(rank) AS b FROM "
        f"candidates WHERE id IN ({LOSER}, {KEPT})) r) WHERE c.id IN ({LOSER}, {KEPT})",
        STEP,
        "rank",
    ),
    "kept": Edit(_candidate("kept = true"), STEP, "kept"),
    "a slot's finish": Edit(
        "UPDATE beams SET finish = 'eos' WHERE problem_id = :problem AND step = 1 AND rank = 0", STEP, "finish"
    ),
    "a slot's rank": Edit(
        "UPDATE beams SET rank = 90 - rank WHERE problem_id = :problem AND step = 1", "step 1", "rank"
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
    # How it was planned.
    "a parent": Edit(
        f"UPDATE candidates c SET parent_id = (SELECT max(o.id) FROM candidates o WHERE o.problem_id = :problem "
        f"AND o.kept AND o.step = c.step - 1 AND o.id <> c.parent_id) WHERE c.id = {LOSER}",
        STEP,
        "lineage",
    ),
    "parents in a circle": Edit(
        _candidate("parent_id = id", "(SELECT min(id) FROM candidates WHERE problem_id = :problem AND winning)"),
        STEP,
        "parent_id",
    ),
    "a parent's rank": Edit(_candidate("parent_rank = parent_rank + 1"), STEP, "parent_rank"),
    "a teacher": Edit(
        f"UPDATE candidates c SET teacher_id = (SELECT max(t.id) FROM teachers t WHERE t.run_id = {RUN} "
        f"AND t.id <> c.teacher_id) WHERE c.id = {LOSER}",
        STEP,
        "lineage",
    ),
    "a seed": Edit(_candidate("seed = seed + 1"), STEP, "seed"),
    "a lineage": Edit(_candidate("lineage = md5(lineage)"), STEP, "lineage"),
    "a sample": Edit(_candidate("sample = sample + 1"), STEP, "sample"),
    "a token cap": Edit(_candidate("max_tokens = max_tokens - 1"), STEP, "max_tokens"),
    "an integrator's token cap": Edit(_candidate("max_tokens = max_tokens - 1", MERGED), STEP, "max_tokens", "merged"),
    "a rollout's token cap": Edit(
        _candidate("max_tokens = max_tokens - 1", "(SELECT max(id) FROM candidates WHERE problem_id = :problem "
                   "AND whole)"),
        STEP, "max_tokens", "tree",
    ),
    "whole": Edit(_candidate("whole = NOT whole"), STEP, "whole"),
    "an answer's seed": Edit(_trajectory("answer_seed = answer_seed + 1"), WHOLE, "answer_seed"),
    "a step at which a trajectory was dropped": Edit(
        _trajectory("dropped_at_step = coalesce(dropped_at_step, 1) + 1"), WHOLE, "dropped_at_step"
    ),
    "a tree's depth": Edit(
        _candidate("depth = depth + 1", "(SELECT max(id) FROM candidates WHERE problem_id = :problem)"),
        STEP,
        "depth",
        "tree",
    ),
    # Rows come and go.
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
    "a digest is gone": Edit(_candidate("proposal_digest = NULL"), STEP, "proposal_digest"),
    "a score's digest is gone": Edit(_candidate("score_digest = NULL"), STEP, "score_digest"),
    "a verdict's digest is gone": Edit(_trajectory("correctness_digest = NULL"), WHOLE, "correctness_digest"),
    "a verdict is gone with its digest": Edit(
        _trajectory("correct = NULL, verification = NULL, correctness_digest = NULL"), WHOLE, "correctness_digest"
    ),
    "the judge's verdict is gone with its digest": Edit(
        _trajectory(
            "correct = NULL, verification = NULL, correctness_digest = NULL, verdict_prompt_tokens = NULL, "
            "verdict_completion_tokens = NULL, verdict_seconds = NULL"
        ),
        WHOLE,
        "correctness_digest",
        "judged",
    ),
    "an answer is gone with its digest": Edit(
        _trajectory(
            "answer_text = NULL, answer_finish_reason = NULL, answer_digest = NULL, answer_prompt_tokens = NULL, "
            "answer_completion_tokens = NULL, answer_cached_tokens = NULL, answer_seconds = NULL"
        ),
        WHOLE,
        "answer_digest",
    ),
    "a problem's digest is gone": Edit(_problem("digest = NULL"), "its row", "digest"),
    "a run's digest is gone": Edit(f"UPDATE runs SET digest = NULL WHERE id = {RUN}", "its row", "digest"),
    # How it came about.
    "proposed after it was scored": Edit(_candidate("proposed_at = scored_at + interval '2 days'"), STEP, "scored_at"),
    "scored in the future": Edit(_candidate("scored_at = now() + interval '1 year'"), STEP, "scored_at"),
    "never proposed": Edit(_candidate("proposed_at = NULL"), STEP, "proposed_at"),
    "no attempt to propose": Edit(_candidate("propose_attempts = 0"), STEP, "propose_attempts"),
    "no attempt to score": Edit(_candidate("score_attempts = 0"), STEP, "score_attempts"),
    "no attempt to answer": Edit(_trajectory("answer_attempts = 0"), WHOLE, "answer_attempts"),
    "a worker that never was": Edit(_candidate("propose_worker_id = gen_random_uuid()"), STEP, "propose_worker_id"),
    "a score by nobody": Edit(_candidate("score_worker_id = NULL"), STEP, "score_worker_id"),
    "a score by a teacher's worker": Edit(_candidate("score_worker_id = propose_worker_id"), STEP, "score_worker_id"),
    "answered before it was thought": Edit(_trajectory("answered_at = created_at - interval '2 days'"), WHOLE,
                                           "answered_at"),
    "finished before it began": Edit(_problem("finished_at = created_at - interval '2 days'"), "its row",
                                     "finished_at"),
    "done is failed": Edit(_problem("state = 'failed', failure_reason = 'tired'"), "its row", "state"),
    "not done": Edit(_problem("state = 'verifying'"), "its row", "finished_at"),
    "done is cancelled": Edit(_problem("state = 'cancelled'"), "its row", "state"),
    "done is cancelled with its run, as another": Edit(
        "WITH run AS (UPDATE runs SET state = 'cancelled' FROM problems p WHERE p.id = :problem AND runs.id = p.run_id "
        "RETURNING runs.id) UPDATE problems SET state = 'cancelled', finished_at = CASE WHEN problems.id = :problem "
        "THEN finished_at ELSE now() END FROM run WHERE run_id = run.id AND problems.id >= :problem",
        "its row", "state or finished_at",
    ),
    "done is failed where nothing is checked": Edit(
        _problem("state = 'failed', failure_reason = 'tired'"), "its row", "state", "unchecked"
    ),
    "never admitted": Edit(_problem("admitted_at = NULL"), "its row", "admitted_at"),
    "enqueued after it began": Edit(_problem("created_at = admitted_at + interval '2 days'"), "its row", "created_at"),
    "a decision that failed": Edit(_problem("decision_attempts = 1"), "its row", "decision_attempts"),
    "planned after it was proposed": Edit(_candidate("created_at = proposed_at + interval '2 days'"), STEP,
                                          "created_at"),
    "thought after it was answered": Edit(_trajectory("created_at = answered_at + interval '2 days'"), WHOLE,
                                          "created_at"),
    "a run after its problems": Edit(f"UPDATE runs SET created_at = created_at + interval '2 days' WHERE id = {RUN}",
                                     "its row", "created_at"),
    "a run before its models": Edit(f"UPDATE runs SET created_at = created_at - interval '2 days' WHERE id = {RUN}",
                                    "its row", "created_at"),
    "tokens of a judgment that never was": Edit(_candidate("judgment_prompt_tokens = 5"), STEP,
                                                "judgment_prompt_tokens"),
    "a judgment that never was": Edit(_candidate("judgment = 0.5, judgment_detail = '{}'"), STEP, "judgment"),
    "attempts to judge what never was": Edit(_candidate("judgment_attempts = 1"), STEP, "judgment_attempts"),
    "seconds of a verdict that never was": Edit(_trajectory("verdict_seconds = 5"), WHOLE, "verdict_seconds",
                                                "unchecked"),
    "an answer that was not asked for": Edit(
        "UPDATE trajectories SET answer_text = '7' WHERE id = (SELECT min(j.id) FROM trajectories j JOIN problems p ON "
        f"p.id = j.problem_id WHERE p.run_id = {RUN} AND j.answer_state = 'none')",
        WHOLE, "answer_text",
    ),
    "a check by a model's worker": Edit(_trajectory("check_worker_id = answer_worker_id"), WHOLE, "check_worker_id"),
    "a check by nobody": Edit(_trajectory("check_worker_id = NULL"), WHOLE, "check_worker_id"),
    "a judgment by nobody": Edit(_candidate("judgment_worker_id = NULL"), STEP, "judgment_worker_id", "judged"),
    "a judgment's worker where nobody judges": Edit(_candidate("judgment_worker_id = propose_worker_id"), STEP,
                                                    "judgment_worker_id"),
    "a text's key is gone": Edit(_candidate("text_key = NULL"), STEP, "text_key"),
    "kept is gone": Edit(_candidate("kept = NULL"), STEP, "kept"),
    # What was asked.
    "a question": Edit(_problem("question = question || ' '"), "its row", "question"),
    "a question's answer": Edit(_problem("answer = '7'"), "its row", "answer"),
    "a passage": Edit(_problem("passage = NULL"), "its row", "passage"),
    "an answer with its hash": Edit(_problem("answer = '7', content_hash = '{content_hash}'"), "its row",
                                    "content_hash"),
    "an attribute": Edit(_problem("attributes = jsonb_set(attributes, '{level}', '9')"), "its row", "attributes"),
    "a problem's key": Edit(_problem("key = 'other'"), "its row", "key"),
    "a position": Edit(_problem("position = 90"), "its row", "position"),
    # With what.
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
    "a scoring mode of the run": Edit(f"UPDATE runs SET scoring_mode = 'other' WHERE id = {RUN}", STEP, "scoring_mode"),
}  # fmt: skip


IN_BOTH = (
    "a text is emptied",
    "a text is emptied with its key",
    "a consistent shift of a score",
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
"""What both commands find, in the same words."""


DERIVED = (
    "a token cap",
    "a parent's rank",
    "whole",
    "an answer's seed",
    "a step at which a trajectory was dropped",
    "a candidate is gone",
)
"""What was decided and follows from rows of the problem without a decision: `verify-db` names it as well."""


@dataclass(frozen=True, slots=True)
class Found:
    """What each of the commands says."""

    replay: list[str]
    verify: list[str]


def _said_of(connection: sa.Connection, context: RunContext, problem: int) -> list[str]:
    """What `replay` says of the problem."""
    difference = replay_problem(connection, context, problem).difference
    return [str(difference)] if difference is not None else [str(one) for one in contradictions(connection, [problem])]


def look(database: Database, edit: Edit, *, examples: int = 5) -> Found:
    """What is found while the edit is there; it is undone."""
    with database.transaction() as connection:
        run = resolve_run(connection, edit.run)
        problem = begun_problems(connection, run.id)[1]
        other = ProblemRecord("problem-1", "What is 1 + 1?", "7", "Two numbers are added.", {}, "x:1")
        statement = edit.sql.replace("{content_hash}", content_hash(other))
        assert connection.execute(sa.text(statement), {"problem": problem}).rowcount > 0
        run = resolve_run(connection, edit.run)
        context = RunContexts(database).of_run(run.id, connection)
        replayed = [f"run {run.name}: {one}" for one in wrong_run(connection, run)]
        replayed += _said_of(connection, context, problem)
        verified = verify_runs(connection, RunContexts(database), [run], everything=False, examples=examples)
        connection.rollback()
    return Found(replayed, [str(violation) for report in verified.broken for violation in report.examples])


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_by_hand_is_found_with_its_row_and_column(name: str, worked: Database) -> None:
    edit = EDITS[name]
    found = look(worked, edit)
    named = [line for line in found.replay + found.verify if edit.row in line and edit.column in line]
    assert named, found


@pytest.mark.parametrize("name", IN_BOTH)
def test_both_commands_say_it_in_the_same_words(name: str, worked: Database) -> None:
    edit = EDITS[name]
    found = look(worked, edit)
    named = {line for line in found.replay if edit.row in line and edit.column in line}
    assert named & set(found.verify), found


@pytest.mark.parametrize("name", DERIVED)
def test_verify_db_derives_what_only_decisions_gave(name: str, worked: Database) -> None:
    edit = EDITS[name]
    assert [line for line in look(worked, edit).verify if edit.row in line and edit.column in line]


STATES = {
    ("problems", "state"): ProblemState,
    ("candidates", "state"): CandidateState,
    ("trajectories", "answer_state"): AnswerState,
    ("runs", "state"): RunState,
    ("teachers", "role"): TeacherRole,
}
TABLES = ("problems", "candidates", "trajectories", "beams", "models", "teachers", "runs")
AS_OF = {
    sa.Boolean: ("NOT {column}",),
    sa.Double: ("{column} / 2",),
    sa.BigInteger: ("{column} + 1", "{column} - 1", "{column} + 90"),
    sa.Integer: ("{column} + 1", "{column} - 1", "{column} + 90"),
    sa.Text: ("{column} || '!'",),
    sa.Date: ("{column} + 1",),
    sa.DateTime: ("{column} + interval '2 years'", "{column} - interval '2 years'"),
    sa.Uuid: ("gen_random_uuid()",),
    sa.LargeBinary: ("{column} || '\\x00'",),
    JSONB: ("{column} || '{{\"and\": 1}}'",),
    sa.ARRAY: ("{column} || {column}[1]", "{column}[2:]"),
}
"""SQL: other values of a column, by its type."""
IF_NONE = {
    sa.Double: "0.5",
    sa.Integer: "1",
    sa.BigInteger: "1",
    sa.Text: "'other'",
    sa.DateTime: "now()",
    sa.Uuid: "gen_random_uuid()",
    sa.LargeBinary: "'\\x00'",
    sa.Boolean: "true",
    JSONB: "'{{}}'",
    sa.ARRAY: "ARRAY[1]",
}
"""SQL: a value of a column that has none, by its type."""
MODEL_OF_RUN = f"{{row}}.id IN (SELECT model_id FROM teachers WHERE run_id = {RUN})"
ROWS = {
    "problems": "{row}.id = :problem",
    "candidates": "{row}.problem_id = :problem",
    "trajectories": "{row}.problem_id = :problem",
    "beams": "{row}.problem_id = :problem",
    "models": MODEL_OF_RUN,
    "teachers": f"{{row}}.run_id = {RUN}",
    "runs": f"{{row}}.id = {RUN}",
}
"""SQL: rows of a table that are the problem's or its run's."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to a column: it is made `none`, `set` where it was none, or has another value (SQL)."""

    column: sa.Column[Any]
    value: str
    is_none_before: bool

    @property
    def kind(self) -> str:
        """What UNCHECKED calls it."""
        if self.is_none_before:
            return "set"
        return "none" if self.value == "NULL" else "another"

    @property
    def sql(self) -> str:
        """An update of one row."""
        table, name = self.column.table.name, self.column.name
        here = f"{ROWS[table].format(row='o')} AND o.{name} IS {'' if self.is_none_before else 'NOT '}NULL"
        kind = self.column.type.compile(dialect=postgresql.dialect())
        value = f"CAST({self.value.format(column=f'o.{name}')} AS {kind})"
        first = "NOT o.winner, o.ctid" if table == "trajectories" else "o.ctid"
        # Of states and the like only another one is a change.
        return (
            f"UPDATE {table} SET {name} = changed.value FROM (SELECT o.ctid AS row, {value} AS value FROM {table} o "
            f"WHERE {here} AND {value} IS DISTINCT FROM o.{name} ORDER BY {first} LIMIT 1) changed "
            f"WHERE {table}.ctid = changed.row"
        )


def _changes(column: sa.Column[Any]) -> list[Change]:
    kind = next(one for one in AS_OF if isinstance(column.type, one))
    states = STATES.get((column.table.name, column.name))
    if states is not None:
        others = [f"'{one.value}'" for one in states]
    elif column.foreign_keys:
        ((_, target),) = [(key, key.column) for key in column.foreign_keys]
        rows = {**ROWS, "problems": f"{{row}}.run_id = {RUN}", "models": "true", "runs": "true"}[target.table.name]
        nearby = rows.format(row="k")
        others = [
            f"(SELECT {which}(k.{target.name}) FROM {target.table.name} k WHERE {nearby})" for which in ("min", "max")
        ]
    else:
        others = list(AS_OF[kind])
        if str(column) == "runs.config":
            others.append("jsonb_set({column}, '{{run,priority}}', '99')")
    changes = [Change(column, value, is_none_before=False) for value in others]
    if column.nullable:
        changes.append(Change(column, "NULL", is_none_before=False))
        value = others[0] if column.foreign_keys else IF_NONE[kind]
        changes.append(Change(column, value, is_none_before=True))
    return changes


COLUMNS = [
    column
    for table in TABLES
    for column in Base.metadata.tables[table].columns
    if column.name != "id"  # GENERATED ALWAYS: PostgreSQL changes none
]


UNCHECKED = {
    "problems.touched_at",
    "candidates.touched_at",
    "candidates.propose_attempts",
    "candidates.score_attempts",
    "candidates.judgment_attempts",
    "trajectories.touched_at",
    "trajectories.answer_attempts",
    "trajectories.check_attempts",
    "trajectories.verdict_attempts",
    "models.created_at",
    "runs.state",
    "runs.priority",
    "runs.config",
}
"""Columns of which not every change is found; docs/provenance.md says why."""


@pytest.mark.parametrize("column", COLUMNS, ids=str)
def test_every_change_of_every_column_is_found_or_known_not_to_be(column: sa.Column[Any], worked: Database) -> None:
    tried, missed = 0, []
    for change in _changes(column):
        for run in ("cord", "judged"):
            found = _found(worked, change.sql, run)
            if found is not None:
                tried += 1
                missed += [] if found else [f"{change.kind} ({change.value}) in run {run}"]
                if str(column) not in UNCHECKED:
                    break
    assert tried > 0
    assert bool(missed) == (str(column) in UNCHECKED), missed


def _found(database: Database, statement: str, name: str) -> bool | None:
    """Whether a command finds this edit of the run; None where it has no such row. What PostgreSQL refuses is found."""
    with database.transaction() as connection:
        run = resolve_run(connection, name)
        problem = begun_problems(connection, run.id)[1]
        try:
            if connection.execute(sa.text(statement), {"problem": problem}).rowcount == 0:
                return None
            run = get_run(connection, run.id)
            try:
                context = RunContexts(database).of_run(run.id, connection)
            except ConfigError:
                return bool(list(wrong_run(connection, run)))
            if list(wrong_run(connection, run)) or _said_of(connection, context, problem):
                return True
            return bool(verify_runs(connection, RunContexts(database), [run], everything=False).broken)
        except sa.exc.IntegrityError:
            return True
        finally:
            connection.rollback()


def test_the_page_of_provenance_names_the_columns_that_are_not_checked() -> None:
    page = (Path(__file__).parents[3] / "docs" / "provenance.md").read_text()
    _, _, unfound = page.partition("## What is not found")
    assert set(re.findall(r"`([a-z]+\.[a-z_]+)`", unfound)) == UNCHECKED


def test_a_missing_candidate_is_named_by_its_teacher_and_sample(worked: Database) -> None:
    with worked.transaction() as connection:
        gone = connection.execute(
            sa.text(
                "DELETE FROM candidates c USING teachers t, problems p, runs r WHERE c.id = (SELECT max(o.id) FROM "
                "candidates o JOIN problems q ON q.id = o.problem_id JOIN runs s ON s.id = q.run_id WHERE s.name = "
                "'cord' AND q.key = 'problem-1' AND NOT o.kept AND o.state = 'scored' AND o.step > 1) AND t.id = "
                "c.teacher_id AND p.id = c.problem_id AND r.id = p.run_id "
                "RETURNING c.problem_id, c.step, t.name, c.sample, c.parent_id"
            )
        ).one()
        run = resolve_run(connection, "cord")
        contexts = RunContexts(worked)
        said = replay_problem(connection, contexts.of_run(run.id, connection), gone.problem_id).difference
        verified = verify_runs(connection, contexts, [run], everything=False)
        connection.rollback()
    line = (
        f"problem problem-1: step {gone.step}, teacher {gone.name}, sample {gone.sample}, after candidate "
        f"{gone.parent_id}: its row: missing, though it was planned"
    )
    assert str(said) == line
    assert line in [str(one) for report in verified.broken for one in report.examples]


def test_contents_that_came_with_their_digest_from_another_row_are_named(worked: Database) -> None:
    found = look(worked, EDITS["two proposals change places with their digests"])
    assert [line for line in found.verify if "lineage (unless text, finish_reason" in line]


def test_a_digest_that_is_gone_is_no_row_of_an_older_version(worked: Database) -> None:
    with worked.transaction() as connection:
        connection.execute(sa.text("UPDATE candidates SET proposal_digest = NULL"))
        connection.execute(sa.text("UPDATE problems SET digest = NULL"))
        found = verify_runs(connection, RunContexts(worked), list_runs(connection), everything=True)
        connection.rollback()
    assert {"inputs", "results"} <= {report.invariant.name for report in found.broken}
    assert found.undigested == Undigested(0, 0, 0)


def test_many_consequences_in_one_problem_do_not_hide_the_finding_in_another(worked: Database) -> None:
    with worked.transaction() as connection:
        run = resolve_run(connection, "cord")
        first, second, third = begun_problems(connection, run.id)
        for statement, problem in (
            ("UPDATE problems SET key = 'other' WHERE id = :problem", first),
            (_candidate("text = text || ' indeed'", KEPT), first),
            (_candidate("text = text || ' indeed'"), second),
            (_candidate("seed = seed + 1"), third),
        ):
            assert connection.execute(sa.text(statement), {"problem": problem}).rowcount == 1
        broken = verify_runs(connection, RunContexts(worked), [run], everything=False).broken
        connection.rollback()
    by_name = {report.invariant.name: report for report in broken}
    results, derived = by_name["results"], by_name["derived"]
    assert results.violations > 10
    assert derived.violations > 10
    assert {one.problem for one in results.examples} == {"other", "problem-1"}
    assert [one.problem for one in results.examples[:2]] == ["other", "problem-1"]
    assert {"other", "problem-2"} <= {one.problem for one in derived.examples}
    # Within the flood, the finding with another column is among the first.
    assert [one for one in results.examples if one.problem == "other" and ", text: not" in one.detail], results


def test_there_is_nothing_to_find_otherwise(worked: Database) -> None:
    assert count(worked, "state <> 'done'") == 0
    found = verify_tables(worked, None, examples=3)
    assert [str(violation) for report in found.broken for violation in report.examples] == []
    assert found.undigested == Undigested(0, 0, 0)
    assert sorted(found.digests) == sorted(CONFIGS)


def test_an_answer_whose_digest_an_older_version_wrote_without_its_seed_is_no_fault(worked: Database) -> None:
    cut = sa.text(
        "UPDATE trajectories j SET answer_digest = substr(j.answer_digest, 1, :bytes) FROM problems p "
        "WHERE p.id = j.problem_id AND j.winner AND p.run_id = (SELECT id FROM runs WHERE name = 'cord')"
    )
    with worked.transaction() as connection:
        run = resolve_run(connection, "cord")
        whole = run_digest(connection, run.id)
        found = {}
        for size in (16, 12):
            assert connection.execute(cut, {"bytes": size}).rowcount == PROBLEMS
            verified = verify_runs(connection, RunContexts(worked), [run], everything=False, examples=PROBLEMS)
            found[size] = [str(violation) for report in verified.broken for violation in report.examples]
            if size == 16:
                assert run_digest(connection, run.id) == whole
                connection.execute(sa.text(_trajectory("answer_text = 'another'")), _second(connection, run.id))
                (line,) = _said_of(
                    connection, RunContexts(worked).of_run(run.id), begun_problems(connection, run.id)[1]
                )
                assert ": answer_text: not what was written, says answer_digest" in line
        connection.rollback()
    assert found[16] == []
    assert len(found[12]) >= PROBLEMS


def test_the_digest_of_an_answer_is_of_its_seed(worked: Database) -> None:
    found = look(worked, Edit(_trajectory("answer_seed = answer_seed + 1"), WHOLE, "answer_seed"))
    assert [line for line in found.verify if "answer_seed: not what was written, says answer_digest" in line]


def _second(connection: sa.Connection, run_id: int) -> dict[str, int]:
    return {"problem": begun_problems(connection, run_id)[1]}


def test_rows_of_older_versions_are_counted_and_no_fault(worked: Database) -> None:
    with worked.transaction() as connection:
        for digest in DIGESTS:
            connection.execute(sa.text(f"UPDATE {digest.table} SET {digest.column} = NULL"))
        runs = list_runs(connection)
        found = verify_runs(connection, RunContexts(worked), runs, everything=True)
        connection.rollback()
    assert [str(violation) for report in found.broken for violation in report.examples] == []
    assert found.undigested.problems == PROBLEMS * len(CONFIGS)
    assert found.undigested.candidates == count(worked, "true", "candidates")
    assert found.undigested.answers == count(worked, "answered_at IS NOT NULL", "trajectories")


def test_the_digest_of_a_run_changes_with_any_result_and_with_nothing_else(worked: Database) -> None:
    with worked.transaction() as connection:
        run = resolve_run(connection, "cord")
        before = run_digest(connection, run.id)
        connection.execute(sa.text("UPDATE problems SET touched_at = now()"))
        touched = run_digest(connection, run.id)
        connection.execute(sa.text("UPDATE trajectories SET correctness_digest = answer_digest WHERE winner"))
        changed = run_digest(connection, run.id)
        connection.rollback()
    assert before == touched != changed


def test_a_verdict_with_a_digest_of_its_own_is_found_by_comparing_again_and_mended_by_recheck(worked: Database) -> None:
    digest = CORRECTNESS.sql({"correct": "NOT j.correct"})
    flip = sa.text(
        f"UPDATE trajectories j SET correct = NOT j.correct, correctness_digest = {digest} "
        "FROM problems p WHERE p.id = j.problem_id AND j.winner AND p.key = 'problem-1' "
        "AND p.run_id = (SELECT id FROM runs WHERE name = 'cord')"
    )
    assert worked.run(lambda connection: connection.execute(flip).rowcount) == 1
    found = verify_tables(worked, "cord", examples=3, compare=True)
    (compared,) = [report for report in found.broken if report.invariant.name == "comparisons"]
    assert [(one.problem, ": correct: stored" in one.detail) for one in compared.examples] == [("problem-1", True)]
    assert recheck_run(worked, "cord").rewritten == 1
    assert verify_tables(worked, "cord", examples=3, compare=True).broken == []
