"""The kinds of work. Each is one record of facts.

A piece of work is a row of one of the tables in `_KEYS`. Its state says whether it waits or is leased. Statements that
are alike for all kinds are made from these records: they find work that is due, waiting or exhausted, and return
leases. What differs is in two files for each kind: its SQL in `store/work`, and its handler in
`coordination/model_worker` (docs/how-to-add.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from cord_worker.store.schema.aliases import ALIASES
from cord_worker.store.schema.verification_sql import OWED_TO_CHECK, OWED_TO_JUDGE

ADVANCE, VERIFY = "advance", "verify"
"""Messages to the coordinator: take the problem's decision; verify its final answers."""

_KEYS = {"candidates": "candidate_id", "trajectories": "trajectory_id", "rescores": "rescore_id"}
"""The tables whose rows are pieces of work, and the name that a row's key has in leases and results."""
_HANDLERS = "cord_worker.coordination.model_worker"


def is_comparable(candidate: str, problem: str) -> str:
    """SQL: whether all siblings that this candidate may repeat have their texts; the arguments are aliases.

    A candidate may repeat the siblings before it, by teacher and sample. So a slow teacher delays only the scores of
    the candidates after its own.
    """
    return f"""
        ({problem}.unproposed = 0 OR NOT EXISTS (
            SELECT 1 FROM candidates sibling JOIN teachers sibling_teacher ON sibling_teacher.id = sibling.teacher_id
            JOIN teachers own_teacher ON own_teacher.id = {candidate}.teacher_id
            WHERE sibling.problem_id = {candidate}.problem_id AND sibling.step = {candidate}.step
              AND sibling.round = {candidate}.round AND sibling.parent_rank = {candidate}.parent_rank
              AND sibling.parent_id IS NOT DISTINCT FROM {candidate}.parent_id
              AND sibling.state IN ('pending', 'proposing')
              AND (sibling_teacher.ordinal, sibling.sample) < (own_teacher.ordinal, {candidate}.sample)
        ))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkKind:
    """Facts about one kind of work.

    `name` is also the name of its message (except for `CHECK_ANSWER`, whose message is `VERIFY`). `urgency` orders
    messages in one queue, 0 first. `noun` is the word for a piece of it in reports.

    A piece is a row of `table`. Its column `state` is one of `waiting`, and then `working` while the worker in the
    column `worker` has its lease. `attempts` counts the leases. The work is done while its problem is in
    `problem_state`. `is_waiting` is the SQL for "it waits" if the state alone does not say that. `returned_to` is the
    SQL for the state of a returned lease if that is not the first of `waiting`.

    `model` is the SQL for the key of the model that does the work, over the tables in `joins`; None for work of
    coordinators. `worker_class` names the handler in the model's worker.

    `given_up` is the SQL for the beginning of the failure reason of a problem whose piece used up its attempts. If it
    is None, the problem does not fail.
    """

    name: str
    noun: str
    urgency: int
    table: str
    state: str
    waiting: tuple[str, ...]
    working: str
    worker: str
    attempts: str
    problem_state: str
    is_waiting: str | None = None
    returned_to: str | None = None
    model: str | None = None
    joins: str = ""
    worker_class: str | None = None
    given_up: str | None = None

    @property
    def alias(self) -> str:
        """The alias of its table in every statement."""
        return ALIASES[self.table]

    @property
    def key(self) -> str:
        """The name of the row's key in leases and results."""
        return _KEYS[self.table]

    @property
    def waits(self) -> str:
        """SQL: the piece waits, and no worker has its lease."""
        return self.is_waiting or f"{self.alias}.{self.state} = '{self.waiting[0]}'"

    @property
    def free_state(self) -> str:
        """SQL: the state of the piece after its lease is returned."""
        return self.returned_to or f"'{self.waiting[0]}'"

    @property
    def unfinished(self) -> str:
        """SQL: the tables that hold its unfinished pieces, with their problems `p` and runs `r`."""
        return f"""
            FROM {self.table} {self.alias}
            JOIN problems p ON p.id = {self.alias}.problem_id AND p.state = '{self.problem_state}'
            JOIN runs r ON r.id = p.run_id {self.joins}"""


PROPOSE = WorkKind(
    name="propose",
    noun="proposal",
    urgency=6,
    table="candidates",
    state="state",
    waiting=("pending",),
    working="proposing",
    worker="propose_worker_id",
    attempts="propose_attempts",
    problem_state="searching",
    model="t.model_id",
    joins="JOIN teachers t ON t.id = c.teacher_id",
    worker_class=f"{_HANDLERS}.propose:Propose",
    given_up="'a proposal of teacher ' || t.name || ' for step ' || c.step || ' was given up after '",
)

SCORE = WorkKind(
    name="score",
    noun="score",
    urgency=0,
    table="candidates",
    state="state",
    waiting=("proposed",),
    working="scoring",
    worker="score_worker_id",
    attempts="score_attempts",
    problem_state="searching",
    is_waiting=f"(c.state = 'proposed' AND {is_comparable('c', 'p')})",
    model="r.prover_model_id",
    worker_class=f"{_HANDLERS}.score:Score",
    given_up="'scoring a candidate of step ' || c.step || ' was given up after '",
)

JUDGE_CANDIDATE = WorkKind(
    name="judge_candidate",
    noun="judgment",
    urgency=0,
    table="candidates",
    state="state",
    waiting=("unjudged",),
    working="judging",
    worker="judgment_worker_id",
    attempts="judgment_attempts",
    problem_state="searching",
    model="r.selection_model_id",
    worker_class=f"{_HANDLERS}.judge_candidate:JudgeCandidate",
    given_up="'judging a candidate of step ' || c.step || ' was given up after '",
)

ANSWER = WorkKind(
    name="answer",
    noun="answer",
    urgency=3,
    table="trajectories",
    state="answer_state",
    waiting=("pending",),
    working="writing",
    worker="answer_worker_id",
    attempts="answer_attempts",
    problem_state="answering",
    model="t.model_id",
    joins="JOIN candidates c ON c.id = j.candidate_id JOIN teachers t ON t.id = c.teacher_id",
    worker_class=f"{_HANDLERS}.answer:Answer",
    given_up="'the final answer was given up after '",
)

CHECK_ANSWER = WorkKind(
    name="check_answer",
    noun="check",
    urgency=0,
    table="trajectories",
    state="answer_state",
    waiting=("written",),
    working="checking",
    worker="check_worker_id",
    attempts="check_attempts",
    problem_state="verifying",
    is_waiting=OWED_TO_CHECK,
)
"""Done by coordinators, with the message `VERIFY`. An answer whose check is given up stays undecided."""

JUDGE_ANSWER = WorkKind(
    name="judge_answer",
    noun="verdict",
    urgency=3,
    table="trajectories",
    state="answer_state",
    waiting=("written", "unjudged"),
    working="judging",
    worker="verdict_worker_id",
    attempts="verdict_attempts",
    problem_state="verifying",
    is_waiting=OWED_TO_JUDGE,
    # An answer that a comparison left undecided waits for the judge in its own state.
    returned_to="CASE WHEN j.verification IS NULL THEN 'written' ELSE 'unjudged' END",
    model="r.judge_model_id",
    worker_class=f"{_HANDLERS}.judge_answer:JudgeAnswer",
    given_up="'judging the final answer was given up after '",
)

RESCORE = WorkKind(
    name="rescore",
    noun="rescore",
    urgency=9,
    table="rescores",
    state="state",
    waiting=("pending",),
    working="scoring",
    worker="rescore_worker_id",
    attempts="rescore_attempts",
    problem_state="done",
    model="q.model_id",
    joins="JOIN rescorings q ON q.id = x.rescoring_id",
    worker_class=f"{_HANDLERS}.rescore:Rescore",
)
"""It is the least urgent kind, because the same model may have work of searches to do. A rescore that is given up
becomes invalid; its problem stays done."""

KINDS: list[WorkKind] = [PROPOSE, SCORE, JUDGE_CANDIDATE, ANSWER, CHECK_ANSWER, JUDGE_ANSWER, RESCORE]
"""All kinds of work. A new kind needs a record in this list, and two files."""


def served_by_models() -> list[WorkKind]:
    """The kinds that models do; coordinators do the others."""
    return [kind for kind in KINDS if kind.model is not None]
