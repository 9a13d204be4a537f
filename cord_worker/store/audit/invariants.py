"""Invariants: what must hold in the tables at every moment. Each has an SQL query for the rows that break it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa

from cord_worker.store.audit.row_names import FINDING_PARTS_SQL, candidate_name_sql, trajectory_name_sql
from cord_worker.store.schema.verification_sql import METHOD, OWED_TO_CHECK, WITH_JUDGE


@dataclass(frozen=True, slots=True)
class Invariant:
    """What must hold in the tables.

    `broken_by` selects the problem's key and the detail of every violation: the row's name (`row_names`), the column,
    and what is wrong. It reads `scope`: the problems to check, with `run_state`, `run_created_at`, `pipeline`,
    `scoring_mode`, `prover_score`, the keys of the run's models, and whether the run `is_scored`, `is_trimmed` and
    `has_digests`. It is empty for an invariant that SQL cannot express: `operations.table_verification` checks those.
    `of_whole_runs`: the query compares problems with each other.
    """

    name: str
    says: str
    broken_by: str = ""
    of_whole_runs: bool = False


@dataclass(frozen=True, slots=True)
class Violation:
    """One place where an invariant does not hold; `problem` is None if that is the run's own row."""

    run: str
    problem: str | None
    detail: str

    def __str__(self) -> str:
        return f"run {self.run}: {self.detail}" if self.problem is None else f"problem {self.problem}: {self.detail}"


@dataclass(frozen=True, slots=True)
class InvariantReport:
    """An invariant, how often it is broken, and some of the violations."""

    invariant: Invariant
    violations: int
    examples: tuple[Violation, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object (`--json`)."""
        return {
            "invariant": self.invariant.name,
            "says": self.invariant.says,
            "violations": self.violations,
            "examples": [asdict(violation) for violation in self.examples],
        }


JOIN_CANDIDATES = "JOIN candidates c ON c.problem_id = p.id"
"""SQL: the candidates `c` of the problem `p`."""
JOIN_TRAJECTORIES = "JOIN trajectories j ON j.problem_id = p.id"
"""SQL: the trajectories `j` of the problem `p`."""
JOIN_RESCORES = (
    "JOIN rescores x ON x.problem_id = p.id JOIN rescorings q ON q.id = x.rescoring_id "
    "JOIN candidates c ON c.id = x.candidate_id"
)
"""SQL: the rescores `x` of the problem `p`, with their rescorings `q` and candidates `c`."""
_C, _J = candidate_name_sql("c"), trajectory_name_sql("j")
"""SQL: the names of the candidate `c` and of the trajectory `j` in findings."""

_PATHS_OF_WINNERS = """
    WITH RECURSIVE path AS (
        SELECT j.problem_id, c.id, c.parent_id FROM scope p
        JOIN trajectories j ON j.problem_id = p.id AND j.winner JOIN candidates c ON c.id = j.candidate_id
        UNION
        SELECT path.problem_id, c.id, c.parent_id FROM path JOIN candidates c ON c.id = path.parent_id
    )
"""
"""SQL: the table `path`, the candidates on the paths of winners. UNION, because UNION ALL would not end if parents
formed a circle."""


def geometric_mean(log_prob_sum: str, answer_tokens: str) -> str:
    """SQL: the geometric mean of the probabilities of the answer's tokens; NULL if `log_prob_sum` is above 0.

    PostgreSQL raises an error for a result that float8 cannot express, so extreme sums give 0 or 1 without a division.
    """
    return f"""
        CASE WHEN {log_prob_sum} > 0 THEN NULL
             WHEN {log_prob_sum} > -1e-300 THEN 1
             WHEN {log_prob_sum} < -700.0 * {answer_tokens} THEN 0
             ELSE exp({log_prob_sum} / {answer_tokens}) END
    """


def wrong_score(score: str, mean_probability: str, answer_tokens: str, rule: str = "p.prover_score") -> str:
    """SQL: whether a score does not follow from the other numbers of its row; `rule` (SQL) names its mean.

    `recomputed.mean` is the geometric mean. The arithmetic mean may not be below it, and equals it for one token.
    Workers round each to 6 digits or more.
    """
    return f"""
        recomputed.mean IS NULL
        OR CASE WHEN {rule} = 'mean_probability' THEN {score} IS DISTINCT FROM {mean_probability}
                ELSE abs({score} - recomputed.mean) > 1e-6 * greatest({score}, 1e-6) END
        OR CASE WHEN {answer_tokens} = 1 THEN abs({mean_probability} - recomputed.mean)
                ELSE recomputed.mean - {mean_probability} END > 1e-5 * greatest(recomputed.mean, 1e-6)
    """


_BASE_SCORE_COLUMNS = (
    "p.base_score, p.base_log_prob_sum, p.base_mean_probability, p.base_answer_tokens, p.base_prompt_tokens, "
    "p.base_cached_tokens, p.base_score_seconds, p.base_scored_by, p.base_scored_at"
)

_FAILED_DECISION_COLUMNS = """
    concat_ws(', ',
        CASE WHEN p.decision_attempts <> 0 THEN 'decision_attempts' END,
        CASE WHEN p.decision_failed_by <> '{}' THEN 'decision_failed_by' END,
        CASE WHEN p.decision_error IS NOT NULL THEN 'decision_error' END,
        CASE WHEN p.decision_due_at IS NOT NULL THEN 'decision_due_at' END)
"""
"""SQL: the names of the columns in which a failure of the problem's decision is on record."""


def _filled(row: str, *columns: str) -> str:
    """SQL: the names of the columns that are not NULL in this row (an alias)."""
    cases = ", ".join(f"CASE WHEN {row}.{column} IS NOT NULL THEN '{column}' END" for column in columns)
    return f"concat_ws(', ', {cases})"


_COST_OF_CANDIDATE = _filled(
    "c", "prompt_tokens", "cached_tokens", "propose_seconds", "score_prompt_tokens", "score_seconds", "judgment_seconds"
)
_COST_OF_ANSWER = _filled("j", "answer_prompt_tokens", "answer_seconds", "verdict_prompt_tokens", "verdict_seconds")
"""SQL: the names of filled columns that would make reports count a copy as work of the trimmed run."""

INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "parents",
        "a candidate's parent is an earlier candidate of the same problem, one place before it in the trajectory",
        f"""
        SELECT p.id, format('%s: parent_id: candidate %s is not an earlier one of its problem, one place before it',
                            {_C}, c.parent_id)
        FROM scope p JOIN candidates c ON c.problem_id = p.id LEFT JOIN candidates parent ON parent.id = c.parent_id
        WHERE CASE WHEN c.parent_id IS NULL THEN c.depth <> 1
              ELSE parent.problem_id <> c.problem_id OR parent.step >= c.step
                   OR parent.depth <> CAST(c.depth AS bigint) - 1 END
        """,
    ),
    Invariant(
        "steps",
        "the steps of a problem are numbered from 1 to its current one, its rounds from 0, without a gap",
        """
        SELECT p.id, format('step %s, rounds 0 to %s; the problem is at step %s, round %s',
                            counted.step, counted.last, p.step, p.round)
        FROM scope p JOIN LATERAL (
            SELECT c.step, max(c.round) AS last, count(DISTINCT c.round) AS rounds,
                   row_number() OVER (ORDER BY c.step) AS place, count(*) OVER () AS steps
            FROM candidates c WHERE c.problem_id = p.id GROUP BY c.step
        ) counted ON true
        WHERE NOT p.is_trimmed
          AND (counted.step <> counted.place OR counted.rounds - 1 <> counted.last OR counted.steps <> p.step
               OR (counted.step = p.step AND counted.last <> p.round))
        UNION ALL
        SELECT p.id, format('at step %s without a candidate', p.step) FROM scope p
        WHERE p.step > 0 AND NOT EXISTS (SELECT 1 FROM candidates c WHERE c.problem_id = p.id)
        """,
    ),
    Invariant(
        "samples",
        "samples of one teacher for one parent are numbered without a gap",
        """
        SELECT p.id, format('step %s, round %s, parent %s: samples %s to %s, %s of them',
                            c.step, c.round, c.parent_id, min(c.sample), max(c.sample), count(*))
        FROM scope p JOIN candidates c ON c.problem_id = p.id
        GROUP BY p.id, c.step, c.round, c.parent_id, c.parent_rank, c.teacher_id
        HAVING count(DISTINCT c.sample) <> count(*) OR CAST(max(c.sample) AS bigint) - min(c.sample) <> count(*) - 1
        """,
    ),
    Invariant(
        "teachers",
        "candidates belong to teachers of their own run",
        f"""
        SELECT p.id, format('%s: teacher_id: that teacher is of run %s', {_C}, t.run_id)
        FROM scope p JOIN candidates c ON c.problem_id = p.id JOIN teachers t ON t.id = c.teacher_id
        WHERE t.run_id <> p.run_id
        """,
    ),
    Invariant(
        "ranks",
        "the ranked candidates of a step are valid, and numbered from 0 without a gap",
        f"""
        SELECT p.id, format('%s: rank: %s, though its state is %s', {_C}, c.rank, c.state)
        FROM scope p JOIN candidates c ON c.problem_id = p.id
        WHERE c.rank IS NOT NULL AND c.state NOT IN ('scored', 'unscored')
        UNION ALL
        SELECT p.id, format('step %s: ranks %s to %s, %s of them', c.step, min(c.rank), max(c.rank), count(*))
        FROM scope p JOIN candidates c ON c.problem_id = p.id AND c.rank IS NOT NULL
        GROUP BY p.id, c.step
        HAVING min(c.rank) <> 0 OR max(c.rank) <> count(*) - 1 OR count(DISTINCT c.rank) <> count(*)
        """,
    ),
    Invariant(
        "beams",
        "the slots of a beam are numbered from 0 without a gap, and every step that was decided has a beam",
        """
        SELECT p.id, format('step %s: ranks %s to %s, %s of them', b.step, min(b.rank), max(b.rank), count(*))
        FROM scope p JOIN beams b ON b.problem_id = p.id
        GROUP BY p.id, b.step, p.step
        HAVING min(b.rank) <> 0 OR max(b.rank) <> count(*) - 1 OR b.step > p.step
        UNION ALL
        SELECT p.id, format('step %s has no beam', decided.step)
        FROM scope p CROSS JOIN LATERAL generate_series(1, least(
            CAST(p.step AS bigint) - CASE WHEN p.state IN ('answering', 'verifying', 'done') THEN 0 ELSE 1 END,
            (SELECT count(*) + 1 FROM beams b WHERE b.problem_id = p.id)
        )) AS decided(step)  -- an edit may make p.step huge; with n slots, one of the first n + 1 steps has none
        WHERE NOT p.is_trimmed
          AND NOT EXISTS (SELECT 1 FROM beams b WHERE b.problem_id = p.id AND b.step = decided.step)
        """,
    ),
    Invariant(
        "kept",
        "exactly the candidates of a beam are kept, all of the same problem; none is invalid or lacks its score",
        f"""
        SELECT p.id, format('%s: kept: it holds a slot of step %s but is not kept, is of another problem or came later',
                            {_C}, b.step)
        FROM scope p JOIN beams b ON b.problem_id = p.id JOIN candidates c ON c.id = b.candidate_id
        WHERE c.kept IS NOT TRUE OR c.problem_id <> p.id OR c.step > b.step
        UNION ALL
        SELECT p.id, format('%s: kept: true, though it ', {_C}) ||
               CASE WHEN c.state = 'invalid' THEN 'is invalid' WHEN c.score IS NULL AND p.is_scored THEN
               'has no score' ELSE 'has no text or no slot' END
        FROM scope p JOIN candidates c ON c.problem_id = p.id AND c.kept
        WHERE c.state = 'invalid' OR (c.score IS NULL AND p.is_scored) OR c.text IS NULL
           OR NOT EXISTS (SELECT 1 FROM beams b WHERE b.problem_id = p.id AND b.candidate_id = c.id)
        UNION ALL
        SELECT p.id, format('%s: kept: none, though its step was decided', {_C})
        FROM scope p JOIN candidates c ON c.problem_id = p.id AND c.kept IS NULL
        WHERE p.has_digests AND ((c.step, c.round) < (p.step, p.round) OR p.state IN ('answering', 'verifying', 'done'))
        """,
    ),
    Invariant(
        "scores",
        "a score is exp(sum of log-probabilities / answer tokens), or the mean probability where the run says so, in "
        "the scoring mode of the run; so is a base score, of which all columns are set or none",
        f"""
        SELECT p.id, format('%s: score: %s of a log_prob_sum of %s over %s answer_tokens, mean_probability %s, '
                            'scoring_mode %s', {_C}, c.score, c.log_prob_sum, c.answer_tokens,
                            coalesce(CAST(c.mean_probability AS text), 'none'), c.scoring_mode)
        FROM scope p JOIN candidates c ON c.problem_id = p.id AND c.score IS NOT NULL
        CROSS JOIN LATERAL (SELECT {geometric_mean("c.log_prob_sum", "c.answer_tokens")} AS mean) recomputed
        WHERE c.scoring_mode IS DISTINCT FROM p.scoring_mode
              OR {wrong_score("c.score", "c.mean_probability", "c.answer_tokens")}
        UNION ALL
        SELECT p.id, format('its row: base_score: %s of a base_log_prob_sum of %s over %s base_answer_tokens, '
                            'base_mean_probability %s', p.base_score, p.base_log_prob_sum, p.base_answer_tokens,
                            p.base_mean_probability)
        FROM scope p
        CROSS JOIN LATERAL (
            SELECT {geometric_mean("p.base_log_prob_sum", "p.base_answer_tokens")} AS mean
        ) recomputed
        WHERE p.base_score IS NOT NULL
              AND ({wrong_score("p.base_score", "p.base_mean_probability", "p.base_answer_tokens")})
        UNION ALL
        SELECT p.id, 'its row: base_score: '
                     || CASE WHEN p.is_scored THEN 'set only in part' ELSE 'set, though the run has no scores' END
        FROM scope p CROSS JOIN LATERAL (SELECT num_nonnulls({_BASE_SCORE_COLUMNS}) AS number) set_
        WHERE set_.number > 0 AND (set_.number < {_BASE_SCORE_COLUMNS.count(",") + 1} OR NOT p.is_scored)
        """,
    ),
    Invariant(
        "barrier",
        "a problem counts exactly the candidates of its step that are not final, and those that have no text",
        """
        SELECT p.id, format('its row: outstanding or unproposed: %s and %s, but %s are not final, %s have no text',
                            p.outstanding, p.unproposed, counted.unfinished, counted.unproposed)
        FROM scope p JOIN LATERAL (
            SELECT count(*) AS unfinished, count(*) FILTER (WHERE c.state IN ('pending', 'proposing')) AS unproposed
            FROM candidates c WHERE c.problem_id = p.id AND c.state NOT IN ('scored', 'unscored', 'invalid')
        ) counted ON true
        WHERE (p.state = 'searching' OR p.has_digests)
              AND (p.outstanding, p.unproposed) <> (counted.unfinished, counted.unproposed)
           OR p.state IN ('answering', 'verifying', 'done')
              AND (p.outstanding, p.unproposed, counted.unfinished) <> (0, 0, 0)
        """,
    ),
    Invariant(
        "decided",
        "candidates of earlier steps and rounds are final",
        f"""
        SELECT p.id, format('%s: state: %s, though its step was decided', {_C}, c.state)
        FROM scope p JOIN candidates c ON c.problem_id = p.id
        WHERE (c.step, c.round) < (p.step, p.round) AND c.state NOT IN ('scored', 'unscored', 'invalid')
        """,
    ),
    Invariant(
        "winners",
        "a problem whose search ended has one winner (none where all are samples), others have none",
        """
        SELECT p.id, format('its row: state: %s, with %s winners', p.state, counted.winners)
        FROM scope p JOIN LATERAL (
            SELECT count(*) FILTER (WHERE j.winner) AS winners FROM trajectories j WHERE j.problem_id = p.id
        ) counted ON true
        WHERE p.state IN ('answering', 'verifying', 'done')
              AND counted.winners <> CASE WHEN p.pipeline = 'sample' THEN 0 ELSE 1 END
           OR p.state IN ('queued', 'searching') AND counted.winners <> 0 AND NOT p.is_trimmed
        """,
    ),
    Invariant(
        "winning path",
        "exactly the candidates from the root to the winner's last step are winning",
        f"""
        {_PATHS_OF_WINNERS}
        SELECT path.problem_id, format('%s: winning: false, though it is on the path of the winner', {_C})
        FROM path JOIN candidates c ON c.id = path.id WHERE NOT c.winning
        UNION ALL
        SELECT p.id, format('%s: winning: true, though it is not on the path of the winner', {_C})
        FROM scope p JOIN candidates c ON c.problem_id = p.id AND c.winning
        WHERE NOT EXISTS (SELECT 1 FROM path WHERE path.id = c.id)
        """,
    ),
    Invariant(
        "trajectories",
        "a trajectory is a finished slot of a beam of its problem, with the depth and the score of its last step; it "
        "is not extended, and was dropped by the first later beam without it",
        f"""
        SELECT p.id, format('%s: steps, score or finish: %s, %s and %s; its last step has depth %s and score %s', {_J},
                            j.steps, j.score, j.finish, c.depth, c.score)
        FROM scope p JOIN trajectories j ON j.problem_id = p.id JOIN candidates c ON c.id = j.candidate_id
        WHERE c.problem_id <> p.id OR j.steps <> c.depth OR j.score IS DISTINCT FROM c.score
           OR NOT EXISTS (SELECT 1 FROM beams b WHERE b.problem_id = p.id AND b.candidate_id = j.candidate_id
                          AND b.finish = j.finish)
        UNION ALL
        SELECT p.id, format('%s: finish: %s in the beam of step %s, finished as %s', {_J}, coalesce(b.finish, 'none'),
                            b.step, j.finish)
        FROM scope p JOIN trajectories j ON j.problem_id = p.id CROSS JOIN LATERAL (
            SELECT b.step, b.finish, bool_or(b.finish IS NOT NULL) OVER (ORDER BY b.step) AS is_finished
            FROM beams b WHERE b.problem_id = p.id AND b.candidate_id = j.candidate_id
        ) b
        WHERE b.is_finished AND b.finish IS DISTINCT FROM j.finish
        UNION ALL
        SELECT p.id, format('%s: finish: %s in the beam of step %s, but the next step extends it', {_C}, b.finish,
                            b.step)
        FROM scope p JOIN beams b ON b.problem_id = p.id AND b.finish IS NOT NULL
        JOIN candidates c ON c.id = b.candidate_id
        WHERE EXISTS (SELECT 1 FROM candidates child WHERE child.problem_id = p.id AND child.parent_id = b.candidate_id
                      AND child.step = CASE WHEN b.step < 2147483647 THEN b.step + 1 END)
        UNION ALL
        SELECT p.id, format('%s: finish: it finished at step %s but has no trajectory', {_C}, b.step)
        FROM scope p JOIN beams b ON b.problem_id = p.id AND b.finish IS NOT NULL
        JOIN candidates c ON c.id = b.candidate_id
        WHERE NOT EXISTS (SELECT 1 FROM trajectories j WHERE j.problem_id = p.id AND j.candidate_id = b.candidate_id)
        UNION ALL
        SELECT p.id, format('%s: dropped_at_step: stored %s, recomputed %s', {_J},
                            coalesce(CAST(j.dropped_at_step AS text), 'none'),
                            coalesce(CAST(recomputed.dropped AS text), 'none'))
        FROM scope p JOIN trajectories j ON j.problem_id = p.id CROSS JOIN LATERAL (
            SELECT min(later.step) AS dropped FROM beams later
            WHERE later.problem_id = p.id
              AND later.step > (SELECT min(finished.step) FROM beams finished WHERE finished.problem_id = p.id
                                AND finished.candidate_id = j.candidate_id AND finished.finish IS NOT NULL)
              AND NOT EXISTS (SELECT 1 FROM beams b WHERE b.problem_id = p.id AND b.step = later.step
                              AND b.candidate_id = j.candidate_id)
        ) recomputed
        WHERE j.dropped_at_step IS DISTINCT FROM recomputed.dropped
        """,
    ),
    Invariant(
        "answers",
        "answers are asked for and written when the problem's state says so",
        f"""
        SELECT p.id, format('%s: answer_state: %s, winner %s, in a problem that is %s', {_J}, j.answer_state, j.winner,
                            p.state)
        FROM scope p JOIN trajectories j ON j.problem_id = p.id
        WHERE p.state IN ('queued', 'searching') AND j.answer_state <> 'none'
              AND NOT (p.is_trimmed AND j.answer_state = 'pending')
           OR p.state IN ('verifying', 'done') AND j.answer_state IN ('pending', 'writing')
           OR p.state = 'done'
              AND (j.winner AND j.answer_state = 'none' OR j.answer_state IN ('checking', 'unjudged', 'judging'))
           OR j.answer_state IN ('written', 'checking', 'unjudged', 'judging', 'judged') AND j.answer_text IS NULL
        """,
    ),
    Invariant(
        "verdicts",
        "an answer waits for the LLM judge only if its run has one, and if its comparison did not decide it",
        f"""
        SELECT p.id, format('%s: answer_state, correct or verification: %s, %s, by %s; the run has the judge %s', {_J},
                            j.answer_state, j.correct, j.verification ->> 'method', p.judge_model_id)
        FROM scope p JOIN trajectories j ON j.problem_id = p.id
        WHERE j.answer_state IN ('unjudged', 'judging', 'judged') AND p.judge_model_id IS NULL
           OR j.answer_state IN ('unjudged', 'judging') AND j.correct IS NOT NULL
           OR j.answer_state = 'unjudged' AND j.verification IS NULL
           OR (j.correct IS NOT NULL OR j.answer_state = 'judged') AND j.verification IS NULL
        """,
    ),
    Invariant(
        "checked",
        "the answers of a problem that is done were checked as their method says (cordctl recheck checks them again)",
        f"""
        SELECT p.id, format('%s: verification: the answer was never checked, its method is %s: %s', {_J}, {METHOD},
                            coalesce(j.verification ->> 'detail', 'there is none'))
        FROM scope p JOIN runs r ON r.id = p.run_id JOIN trajectories j ON j.problem_id = p.id
        WHERE p.state = 'done' AND j.answer_state = 'written'
          AND ({METHOD} = 'judge' OR {METHOD} <> 'none'
               AND (j.verification IS NULL OR j.verification ->> 'method' = 'failed'))
        """,
    ),
    Invariant(
        "leases",
        "every lease is held by a known worker",
        f"""
        SELECT p.id, format('%s: state: %s by %s', {_C}, c.state, CASE c.state WHEN 'proposing' THEN c.propose_worker_id
                            WHEN 'scoring' THEN c.score_worker_id ELSE c.judgment_worker_id END)
        FROM scope p JOIN candidates c ON c.problem_id = p.id AND c.state IN ('proposing', 'scoring', 'judging')
        WHERE NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = CASE c.state WHEN 'proposing' THEN c.propose_worker_id
                          WHEN 'scoring' THEN c.score_worker_id ELSE c.judgment_worker_id END)
        UNION ALL
        SELECT p.id, format('%s: answer_state: %s by %s', {_J}, j.answer_state,
                            CASE j.answer_state WHEN 'writing' THEN j.answer_worker_id
                            WHEN 'checking' THEN j.check_worker_id ELSE j.verdict_worker_id END)
        FROM scope p JOIN trajectories j ON j.problem_id = p.id AND j.answer_state IN ('writing', 'checking', 'judging')
        WHERE NOT EXISTS (SELECT 1 FROM workers w
                          WHERE w.id = CASE j.answer_state WHEN 'writing' THEN j.answer_worker_id
                                       WHEN 'checking' THEN j.check_worker_id ELSE j.verdict_worker_id END)
        """,
    ),
    Invariant(
        "duplicates",
        "a candidate that repeats a sibling points at the first one with this text, and only that one is scored",
        f"""
        SELECT p.id, format('%s: duplicate_of: candidate %s is no earlier sibling with this text, or a duplicate too',
                            {_C}, c.duplicate_of)
        FROM scope p JOIN candidates c ON c.problem_id = p.id AND c.duplicate_of IS NOT NULL
        JOIN teachers t ON t.id = c.teacher_id
        JOIN candidates original ON original.id = c.duplicate_of
        JOIN teachers original_teacher ON original_teacher.id = original.teacher_id
        WHERE (original.problem_id, original.step, original.round, original.parent_rank)
              <> (c.problem_id, c.step, c.round, c.parent_rank)
           OR original.parent_id IS DISTINCT FROM c.parent_id OR original.text_key IS DISTINCT FROM c.text_key
           OR (original_teacher.ordinal, original.sample) >= (t.ordinal, c.sample) OR original.duplicate_of IS NOT NULL
        UNION ALL
        SELECT p.id, format('step %s, round %s: text_key: %s candidates with that of candidate %s get a score',
                            c.step, c.round, count(*), min(c.id))
        FROM scope p JOIN candidates c ON c.problem_id = p.id AND c.text_key IS NOT NULL
        WHERE c.state IN ('scoring', 'unjudged', 'judging', 'scored')
        GROUP BY p.id, c.step, c.round, c.parent_id, c.parent_rank, c.text_key HAVING count(*) > 1
        """,
    ),
    Invariant(
        "texts",
        "a proposed candidate has its text and its token counts, an unproposed one none",
        f"""
        SELECT p.id, format('%s: text, finish_reason or completion_tokens: they contradict the state %s', {_C}, c.state)
        FROM scope p JOIN candidates c ON c.problem_id = p.id
        WHERE c.state IN ('pending', 'proposing') AND c.text IS NOT NULL
           OR c.state NOT IN ('pending', 'proposing', 'invalid')
              AND (c.text IS NULL OR c.finish_reason IS NULL OR c.completion_tokens IS NULL)
        """,
    ),
    Invariant(
        "ends",
        "final problems have an end time, failed ones a reason, others neither; those that began were admitted",
        f"""
        SELECT p.id, format('its row: state, finished_at or failure_reason: %s, %s, %s', p.state,
                            coalesce(CAST(p.finished_at AS text), 'none'), coalesce(p.failure_reason, 'none'))
        FROM scope p
        WHERE (p.state IN ('done', 'failed', 'cancelled')) <> (p.finished_at IS NOT NULL)
           OR (p.state = 'failed') <> (p.failure_reason IS NOT NULL)
           OR (p.state = 'queued' AND p.step > 0 AND NOT p.is_trimmed)
        UNION ALL
        SELECT p.id, 'its row: state: failed, though all of its final answers have their verdicts' FROM scope p
        WHERE p.state = 'failed' AND EXISTS (
            SELECT 1 FROM trajectories j WHERE j.problem_id = p.id AND j.answer_state <> 'none'
        ) AND NOT EXISTS (
            SELECT 1 FROM trajectories j JOIN runs r ON r.id = p.run_id WHERE j.problem_id = p.id AND (
                j.answer_state IN ('pending', 'writing', 'checking') OR {WITH_JUDGE}
                OR {OWED_TO_CHECK} AND j.correctness_digest IS NULL)
        )
        UNION ALL
        SELECT p.id, format('its row: admitted_at: none, though it is %s, at step %s', p.state, p.step) FROM scope p
        WHERE p.admitted_at IS NULL
              AND (p.step > 0 AND NOT p.is_trimmed OR p.state IN ('searching', 'answering', 'verifying', 'done'))
        UNION ALL
        SELECT p.id, format('its row: %s: set, though no failed decision is due', wrong.columns) FROM scope p
        CROSS JOIN LATERAL (SELECT {_FAILED_DECISION_COLUMNS} AS columns) wrong
        WHERE wrong.columns <> '' AND (p.decision_due_at IS NULL
                                      OR p.state IN ('queued', 'answering', 'verifying', 'done') OR p.outstanding > 0)
        """,
    ),
    Invariant(
        "trimmed runs",
        "a problem of a trimmed run is the path of one winner, one candidate and one slot for each place; no search is "
        "under way, and only a trajectory that was cut gets a new answer",
        f"""
        WITH trimmed AS MATERIALIZED (SELECT * FROM scope s WHERE s.is_trimmed)  -- empty for most runs
        SELECT p.id, format('its row: state, step or round: %s, at step %s, round %s; the last of %s copied steps is '
                            'step %s, round %s, place %s', p.state, p.step, p.round, copied.steps, copied.step,
                            copied.round, copied.depth)
        FROM trimmed p CROSS JOIN LATERAL (
            SELECT count(*) AS steps, count(DISTINCT c.depth) AS places, min(c.depth) AS first, max(c.depth) AS depth,
                   max(c.step) AS step, (array_agg(c.round ORDER BY c.depth DESC))[1] AS round
            FROM candidates c WHERE c.problem_id = p.id
        ) copied
        WHERE (p.state = 'searching' OR copied.steps = 0 OR copied.first <> 1
              OR copied.steps <> copied.places OR copied.steps <> copied.depth
              OR (p.step, p.round) IS DISTINCT FROM (copied.step, copied.round))
        UNION ALL
        SELECT p.id, format('%s: state, rank, kept or winning: %s, %s, %s, %s; a copied step is scored, first, kept '
                            'and winning', {_C}, c.state, coalesce(CAST(c.rank AS text), 'none'), c.kept, c.winning)
        FROM trimmed p JOIN candidates c ON c.problem_id = p.id
        WHERE (c.state <> 'scored' OR c.rank IS DISTINCT FROM 0 OR c.kept IS NOT TRUE OR NOT c.winning)
        UNION ALL
        SELECT p.id, format('%s: its slots: %s of them, %s of its own step; finish %s, of its trajectory %s', {_C},
                            held.slots, held.own, coalesce(held.finish, 'none'), coalesce(j.finish, 'none'))
        FROM trimmed p JOIN candidates c ON c.problem_id = p.id
        LEFT JOIN trajectories j ON j.candidate_id = c.id AND j.problem_id = p.id AND j.winner AND c.depth = (
            SELECT max(deepest.depth) FROM candidates deepest WHERE deepest.problem_id = p.id
        )
        CROSS JOIN LATERAL (
            SELECT count(*) AS slots, count(*) FILTER (WHERE b.step = c.step AND b.rank = 0) AS own,
                   max(b.finish) AS finish
            FROM beams b WHERE b.problem_id = p.id AND b.candidate_id = c.id
        ) held
        WHERE ((held.slots, held.own) <> (1, 1) OR held.finish IS DISTINCT FROM j.finish)
        UNION ALL
        SELECT p.id, format('its row: its trajectories: %s of them, %s winners', counted.number, counted.winners)
        FROM trimmed p CROSS JOIN LATERAL (
            SELECT count(*) AS number, count(*) FILTER (WHERE j.winner) AS winners
            FROM trajectories j WHERE j.problem_id = p.id
        ) counted WHERE (counted.number, counted.winners) <> (1, 1)
        UNION ALL
        SELECT p.id, format('%s: answer_state or finish: %s, though the trajectory finished as %s', {_J},
                            j.answer_state, j.finish)
        FROM trimmed p JOIN trajectories j ON j.problem_id = p.id
        WHERE j.answer_state = 'none' OR j.finish <> 'trimmed' AND p.state <> 'done'
        UNION ALL
        SELECT p.id, format('%s: finish: trimmed, though its run is not', {_J})
        FROM scope p JOIN trajectories j ON j.problem_id = p.id AND j.finish = 'trimmed' WHERE NOT p.is_trimmed
        UNION ALL
        SELECT p.id, format('%s: %s: set, though it was copied', {_C}, wrong.columns)
        FROM trimmed p JOIN candidates c ON c.problem_id = p.id
        CROSS JOIN LATERAL (SELECT {_COST_OF_CANDIDATE} AS columns) wrong WHERE wrong.columns <> ''
        UNION ALL
        SELECT p.id, format('%s: %s: set, though it was copied', {_J}, wrong.columns)
        FROM trimmed p JOIN trajectories j ON j.problem_id = p.id AND j.finish <> 'trimmed'
        CROSS JOIN LATERAL (SELECT {_COST_OF_ANSWER} AS columns) wrong WHERE wrong.columns <> ''
        """,
    ),
    Invariant(
        "cancelled runs",
        "a cancelled run has no unfinished problem; only its problems are cancelled, all of them at the same time",
        """
        SELECT p.id, format('its row: state: %s', p.state) FROM scope p
        WHERE p.run_state = 'cancelled' AND p.state IN ('queued', 'searching', 'answering', 'verifying')
        UNION ALL
        SELECT p.id, format('its row: state: cancelled, though its run is %s', p.run_state) FROM scope p
        WHERE p.run_state <> 'cancelled' AND p.state = 'cancelled'
        UNION ALL
        SELECT p.id, format('its row: state or finished_at: cancelled at %s, others of the run at %s', p.finished_at,
                            p.last)
        FROM (
            SELECT s.id, s.finished_at, s.has_digests, max(s.finished_at) OVER (PARTITION BY s.run_id) AS last
            FROM scope s WHERE s.state = 'cancelled'
        ) p WHERE p.has_digests AND p.finished_at <> p.last
        """,
    ),
)

_SCOPE = """
    scope AS NOT MATERIALIZED (
        SELECT p.*, r.name AS run, r.state AS run_state, r.scoring_mode, r.prover_model_id IS NOT NULL AS is_scored,
               r.prover_model_id, r.selection_model_id, r.judge_model_id, r.digest IS NOT NULL AS has_digests,
               r.created_at AS run_created_at, r.pipeline, r.prover_score, r.trim_above IS NOT NULL AS is_trimmed
        FROM problems p JOIN runs r ON r.id = p.run_id
        WHERE {chosen}
    )
"""
_QUERY = f"""
    WITH {_SCOPE},
    broken(problem_id, detail) AS ({{broken_by}}),
    counted AS (
        SELECT *, row_number() OVER (PARTITION BY problem_id, row_name ORDER BY detail) AS of_row,
               row_number() OVER (PARTITION BY problem_id, columns ORDER BY detail) AS of_columns
        FROM broken CROSS JOIN LATERAL ({FINDING_PARTS_SQL}) parts
    ),
    placed AS (
        SELECT *, row_number() OVER (PARTITION BY problem_id ORDER BY of_row, of_columns, detail) AS place FROM counted
    )
    SELECT count(*) OVER () AS violations, scope.run, scope.key AS problem, placed.detail
    FROM placed JOIN scope ON scope.id = placed.problem_id
    ORDER BY placed.place, scope.run, scope.position LIMIT :examples
"""
"""One change may have many consequences in its problem, so the first violation of every problem comes first, then the
second one of each. Within a problem, the first violation of each row comes first, then the first of each column."""


_WITHOUT_JIT = sa.text("SELECT set_config('jit', 'off', true)")
"""SQL: turns JIT off until the transaction ends. To compile a statement of so many parts would take seconds; it runs in
milliseconds."""


def check(
    connection: sa.Connection,
    invariant: Invariant,
    run_id: int | None,
    *,
    problem_id: int | None = None,
    examples: int = 3,
) -> InvariantReport:
    """How often `invariant` is broken in the run with this key (None: in all runs), or in one problem; at most
    `examples` violations are listed."""
    chosen, parameters = "true", {"examples": examples}
    if problem_id is not None:
        chosen, parameters = "p.id = :problem_id", {**parameters, "problem_id": problem_id}
    elif run_id is not None:
        chosen, parameters = "r.id = :run_id", {**parameters, "run_id": run_id}
    connection.execute(_WITHOUT_JIT)
    rows = connection.execute(_statement(invariant, chosen), parameters).all()
    return InvariantReport(
        invariant,
        violations=rows[0].violations if rows else 0,
        examples=tuple(Violation(row.run, row.problem, row.detail) for row in rows),
    )


@cache
def _statement(invariant: Invariant, chosen: str) -> sa.TextClause:
    return sa.text(_QUERY.format(broken_by=invariant.broken_by, chosen=chosen))


def first_broken(
    connection: sa.Connection, invariants: tuple[Invariant, ...], problem_ids: Sequence[int]
) -> dict[int, Violation]:
    """For each of these problems (keys) that breaks one of `invariants`: a violation of the first one that it breaks.

    No invariant may be `of_whole_runs`. One statement checks all, and takes little longer for twenty problems than for
    one.
    """
    connection.execute(_WITHOUT_JIT)
    rows = connection.execute(_first_statement(invariants), {"problem_ids": list(problem_ids)})
    return {row.problem_id: Violation(row.run, row.problem, row.detail) for row in rows}


@cache
def _first_statement(invariants: tuple[Invariant, ...]) -> sa.TextClause:
    broken = " UNION ALL ".join(
        f"SELECT {place}, found.* FROM ({invariant.broken_by}) found" for place, invariant in enumerate(invariants)
    )
    return sa.text(
        f"""
        WITH {_SCOPE.format(chosen="p.id = ANY(CAST(:problem_ids AS bigint[]))")},
        broken(place, problem_id, detail) AS ({broken})
        SELECT DISTINCT ON (broken.problem_id) broken.problem_id, scope.run, scope.key AS problem, broken.detail
        FROM broken JOIN scope ON scope.id = broken.problem_id
        ORDER BY broken.problem_id, broken.place, broken.detail
        """
    )
