"""The tables. A problem's candidates *are* its search tree: every candidate points at its parent, kept or not.

Every table and column has a comment, so that `\\d+` in psql is the data dictionary.
"""

from __future__ import annotations

import uuid
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from cord_worker.store.schema.base import Base as Base
from cord_worker.store.schema.rollup_tables import ProblemRollup as ProblemRollup
from cord_worker.store.schema.rollup_tables import RequestRollup as RequestRollup
from cord_worker.store.schema.rollup_tables import TeacherRollup as TeacherRollup


class RunState(StrEnum):
    """Whether a run's problems are worked on."""

    ACTIVE = "active"
    PAUSED = "paused"
    CANCELLED = "cancelled"


class ProblemState(StrEnum):
    """Where a problem stands; `done`, `failed` and `cancelled` are final, but a retry can reopen `failed`."""

    QUEUED = "queued"
    SEARCHING = "searching"
    ANSWERING = "answering"
    VERIFYING = "verifying"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CandidateState(StrEnum):
    """Where a candidate stands; `scored`, `unscored` and `invalid` are final."""

    PENDING = "pending"
    PROPOSING = "proposing"
    PROPOSED = "proposed"
    SCORING = "scoring"
    UNJUDGED = "unjudged"
    JUDGING = "judging"
    SCORED = "scored"
    UNSCORED = "unscored"
    INVALID = "invalid"


class AnswerState(StrEnum):
    """Where the final answer of a trajectory stands.

    Beaten trajectories stay at `none`. An answer is `pending`, then `writing`, then `written`. During its check it is
    `checking`; then it is `written` again, with its verification. If `verify.undecided` is `judge`, an undecided answer
    becomes `unjudged`, which waits for the LLM judge. Answers of the method `judge` wait for the judge as `written`.
    The judge makes them `judging`, then `judged`.
    """

    NONE = "none"
    PENDING = "pending"
    WRITING = "writing"
    WRITTEN = "written"
    CHECKING = "checking"
    UNJUDGED = "unjudged"
    JUDGING = "judging"
    JUDGED = "judged"


class RescoreState(StrEnum):
    """Where a rescore stands; `scored` and `invalid` are final.

    A `queued` rescore needs no message yet. Only the rescores of a limited number of problems are `pending` at a time.
    """

    QUEUED = "queued"
    PENDING = "pending"
    SCORING = "scoring"
    SCORED = "scored"
    INVALID = "invalid"


class TeacherRole(StrEnum):
    """Whether a row of `teachers` is a teacher or the integrator."""

    TEACHER = "teacher"
    INTEGRATOR = "integrator"


class WorkerRole(StrEnum):
    """Whether a worker process hosts a model or is a coordinator."""

    MODEL = "model"
    COORDINATOR = "coordinator"


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """The constraint that the column has one of these values."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _key(comment: str) -> Mapped[int]:
    """A primary key that PostgreSQL numbers."""
    return mapped_column(BigInteger, Identity(always=True), primary_key=True, comment=comment)


def _digest(of: str, *, also: str = "") -> Mapped[bytes | None]:
    return mapped_column(
        LargeBinary, comment=f"Digest of {of}, written at the same time; NULL in rows of older versions.{also}"
    )


def _instant(comment: str, *, default: bool = False) -> Any:
    """A time with its zone. With `default` it is never NULL, and is now() in a new row."""
    return mapped_column(
        DateTime(timezone=True),
        server_default=func.now() if default else None,
        nullable=not default,
        comment=comment,
    )


class Run(Base):
    """One configuration applied to one dataset."""

    __tablename__ = "runs"
    __table_args__ = (_one_of("state", RunState), {"comment": "One configuration applied to one dataset."})

    id: Mapped[int] = _key("Key.")
    name: Mapped[str] = mapped_column(Text, unique=True, comment="Name of the run in commands.")
    state: Mapped[str] = mapped_column(
        Text, server_default=RunState.ACTIVE.value, comment="active, paused or cancelled."
    )
    priority: Mapped[int] = mapped_column(
        Integer,
        server_default="0",
        comment="Problems of a run begin before those of lower-priority runs that share a model with it.",
    )
    config: Mapped[dict[str, Any]] = mapped_column(
        JSONB, comment="The whole cord.toml, defaults filled in; no secrets."
    )
    config_fingerprint: Mapped[str] = mapped_column(
        Text,
        comment="Hash of everything in the configuration that decides what is computed; that of a trimmed run also "
        "covers trim_above.",
    )
    pause_reason: Mapped[str | None] = mapped_column(
        Text,
        comment="Which spending limit paused the run, in a sentence; NULL if it is not paused, or if a command paused"
        " it.",
    )
    max_tokens: Mapped[int | None] = mapped_column(
        BigInteger,
        comment="Spending limit in generated tokens (run.max_tokens, cordctl resume --max-tokens); NULL: none.",
    )
    max_cost: Mapped[float | None] = mapped_column(
        Double,
        comment="Spending limit in money, at the run's prices (run.max_cost, cordctl resume --max-cost); NULL: none.",
    )
    prices: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True),
        comment="Prices of the run's models ([prices], cordctl resume --prices); NULL if none were given.",
    )
    pipeline: Mapped[str] = mapped_column(Text, comment="The method of the search (search.pipeline).")
    max_active: Mapped[int] = mapped_column(Integer, comment="Maximum number of problems in flight (run.max_active).")
    max_attempts: Mapped[int] = mapped_column(
        Integer, comment="Leases of a piece of work after which it is given up (run.max_attempts)."
    )
    verify_method: Mapped[str] = mapped_column(Text, comment="How final answers are checked (verify.method).")
    verify_field: Mapped[str | None] = mapped_column(
        Text, comment="Field of a dataset row that names the method for this row (verify.field)."
    )
    reference_field: Mapped[str | None] = mapped_column(
        Text,
        comment="Field of a dataset row that holds its reference (verify.reference_field); NULL: the answer is the "
        "reference.",
    )
    prover_score: Mapped[str] = mapped_column(
        Text,
        server_default="geometric_mean",
        comment="Which mean of the answer tokens' probabilities is the score (prover.score).",
    )
    judges_undecided: Mapped[bool] = mapped_column(
        Boolean, comment="Whether the LLM judge decides what a check left undecided (verify.undecided)."
    )
    prover_model_id: Mapped[int | None] = mapped_column(
        ForeignKey("models.id"),
        index=True,
        comment="The model that scores its candidates; NULL in a run without scores.",
    )
    selection_model_id: Mapped[int | None] = mapped_column(
        ForeignKey("models.id"),
        comment="The model that gives selection judgments: the reward model, or the prover in binary judgment; "
        "NULL if the score selects.",
    )
    judge_model_id: Mapped[int | None] = mapped_column(
        ForeignKey("models.id"), comment="The model that judges its final answers; NULL if none is asked."
    )
    seed: Mapped[int] = mapped_column(BigInteger, comment="Run seed; every sampling seed is derived from it.")
    scoring_mode: Mapped[str | None] = mapped_column(
        Text, comment="Numerical path of the scores; set by the first claim of a score, the same for the whole run."
    )
    prompt_date: Mapped[date] = mapped_column(
        Date,
        server_default="2025-01-01",
        comment="The date that chat templates use as today, on every machine and however long the run takes.",
    )
    code_version: Mapped[str] = mapped_column(Text, comment="Version of cord-worker that created the run.")
    datasets: Mapped[list[dict[str, str]]] = mapped_column(
        JSONB,
        server_default="[]",
        comment="Datasets of the hub that were enqueued: id, revision (a commit) and split of each; files are not "
        "listed.",
    )
    digest: Mapped[bytes | None] = _digest(
        "name, fingerprint, seed, date and version", also=" If it is not NULL, every result of the run has a digest."
    )
    trimmed_from: Mapped[str | None] = mapped_column(
        Text, comment="Name of the run whose winners this run shortens (cordctl trim); NULL if it is not a trimmed run."
    )
    source_run_id: Mapped[int | None] = mapped_column(
        ForeignKey("runs.id", ondelete="SET NULL"),
        comment="Key of the run in trimmed_from; NULL once that run is removed, or if there is none.",
    )
    trim_above: Mapped[float | None] = mapped_column(
        Double,
        comment="A winner ends at the first step from which every score is above this number; NULL if this is not a "
        "trimmed run.",
    )
    created_at: Mapped[datetime] = _instant("When it was first enqueued.", default=True)


class Model(Base):
    """One set of weights with its engine; the fingerprint names its queues."""

    __tablename__ = "models"
    __table_args__ = ({"comment": "One set of weights with its engine; the fingerprint names its queues."},)

    id: Mapped[int] = _key("Key.")
    fingerprint: Mapped[str] = mapped_column(
        Text, unique=True, comment="Hash of everything in its configuration that decides what it computes."
    )
    path: Mapped[str] = mapped_column(Text, comment="Folder, bundled name or hub id of the weights.")
    identity: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="The configuration behind the fingerprint.")
    weights_digest: Mapped[str | None] = mapped_column(
        Text,
        comment="Hash of names, sizes and contents of the model's files (of large weight files only the first and last "
        "MiB), set by the first worker; a worker with another hash is refused.",
    )
    digest: Mapped[bytes | None] = _digest("fingerprint and weights_digest")
    created_at: Mapped[datetime] = _instant("When a run or a worker first named it.", default=True)


class Teacher(Base):
    """A model with sampling settings that writes steps and final answers, or merges trajectories."""

    __tablename__ = "teachers"
    __table_args__ = (
        UniqueConstraint("run_id", "name"),
        UniqueConstraint("run_id", "ordinal"),
        _one_of("role", TeacherRole),
        {"comment": "A model with sampling settings that writes steps and final answers, or merges trajectories."},
    )

    id: Mapped[int] = _key("Key.")
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), comment="Its run.")
    ordinal: Mapped[int] = mapped_column(Integer, comment="0-based order in cord.toml; breaks ties.")
    name: Mapped[str] = mapped_column(Text, comment="Name in cord.toml.")
    role: Mapped[str] = mapped_column(
        Text,
        server_default=TeacherRole.TEACHER.value,
        comment="teacher, or integrator (merges the teachers' trajectories; comes last).",
    )
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), index=True, comment="Its model.")
    sampling: Mapped[dict[str, Any]] = mapped_column(
        JSONB, comment="temperature, top_p, top_k, min_p, repetition_penalty."
    )
    system_prompt: Mapped[str | None] = mapped_column(Text, comment="System turn, if any.")


class Problem(Base):
    """A question with its known answer, and where its search stands."""

    __tablename__ = "problems"
    __table_args__ = (
        UniqueConstraint("run_id", "key"),
        UniqueConstraint("run_id", "position"),
        _one_of("state", ProblemState),
        CheckConstraint("outstanding >= 0", name="outstanding"),
        CheckConstraint("unproposed >= 0", name="unproposed"),
        CheckConstraint("base_score > 0 AND base_score <= 1", name="base_score"),
        CheckConstraint("base_mean_probability >= 0 AND base_mean_probability <= 1", name="base_mean_probability"),
        CheckConstraint("base_answer_tokens >= 1", name="base_answer_tokens"),
        Index("ix_problems_run_id_state", "run_id", "state"),
        Index("ix_problems_queued", "run_id", "position", postgresql_where=text("state = 'queued'")),
        Index(
            "ix_problems_working",
            "state",
            postgresql_where=text("state IN ('searching', 'answering', 'verifying')"),
        ),
        Index("ix_problems_decision_due_at", "decision_due_at", postgresql_where=text("decision_due_at IS NOT NULL")),
        {"comment": "A question with its known answer, and where its search stands."},
    )

    id: Mapped[int] = _key("Key.")
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), comment="Its run.")
    position: Mapped[int] = mapped_column(BigInteger, comment="0-based order in the dataset; exports follow it.")
    key: Mapped[str] = mapped_column(Text, comment="Id in the dataset, or a hash of the content.")
    content_hash: Mapped[str] = mapped_column(Text, comment="Hash of question, answer and passage.")
    question: Mapped[str] = mapped_column(Text, comment="The question; it is the user turn of the prompts.")
    answer: Mapped[str] = mapped_column(
        Text, comment="The known answer; scores and, by default, checks use it. No teacher reads it."
    )
    passage: Mapped[str | None] = mapped_column(Text, comment="Supporting text before the question, if any.")
    attributes: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="The other fields of the dataset's row.")
    digest: Mapped[bytes | None] = _digest("key, content_hash, attributes and position")
    state: Mapped[str] = mapped_column(
        Text,
        server_default=ProblemState.QUEUED.value,
        comment="queued, searching, answering, verifying, done, failed or cancelled.",
    )
    step: Mapped[int] = mapped_column(Integer, server_default="0", comment="Present step; 0 before the first.")
    round: Mapped[int] = mapped_column(
        Integer,
        server_default="0",
        comment="Resampling round of that step; above 0 after rounds with only invalid candidates.",
    )
    outstanding: Mapped[int] = mapped_column(
        Integer, server_default="0", comment="Candidates of the step that are not final yet: the barrier."
    )
    unproposed: Mapped[int] = mapped_column(
        Integer,
        server_default="0",
        comment="Candidates of the step without a text; when it reaches 0, messages ask for the scores of the step.",
    )
    base_score: Mapped[float | None] = mapped_column(
        Double,
        comment="The prover's score of the known answer before any step; NULL if nothing was scored, if the prover "
        "refused it, or in rows of older versions.",
    )
    base_log_prob_sum: Mapped[float | None] = mapped_column(
        Double, comment="Of the base score: sum of the answer tokens' log-probabilities (nats)."
    )
    base_mean_probability: Mapped[float | None] = mapped_column(
        Double, comment="Of the base score: arithmetic mean of the answer tokens' probabilities, in [0, 1]."
    )
    base_answer_tokens: Mapped[int | None] = mapped_column(
        Integer, comment="Of the base score: answer tokens M in the prover's tokenizer."
    )
    base_prompt_tokens: Mapped[int | None] = mapped_column(
        Integer, comment="Of the base score: the prover's prompt tokens."
    )
    base_cached_tokens: Mapped[int | None] = mapped_column(
        Integer, comment="Of these, tokens from the prover's prefix cache."
    )
    base_score_seconds: Mapped[float | None] = mapped_column(
        Double, comment="Of the base score: seconds in the prover's engine."
    )
    base_scored_by: Mapped[uuid.UUID | None] = mapped_column(Uuid, comment="The worker that computed the base score.")
    base_scored_at: Mapped[datetime | None] = _instant("When the base score was committed.")
    base_score_digest: Mapped[bytes | None] = _digest("the key and of the base score")
    failure_reason: Mapped[str | None] = mapped_column(Text, comment="Why it failed.")
    decision_attempts: Mapped[int] = mapped_column(
        Integer,
        server_default="0",
        comment="Failures of the due decision; those of a coordinator that fails at every problem do not count.",
    )
    decision_failed_by: Mapped[list[uuid.UUID]] = mapped_column(
        ARRAY(Uuid),
        server_default="{}",
        comment="Coordinators that failed at the decision or passed it on; others try it first.",
    )
    decision_error: Mapped[str | None] = mapped_column(Text, comment="Why the decision last failed.")
    decision_due_at: Mapped[datetime | None] = _instant(
        "When a decision that failed or was passed on is tried again; NULL if none waits."
    )
    created_at: Mapped[datetime] = _instant("When it was enqueued.", default=True)
    admitted_at: Mapped[datetime | None] = _instant("When its search began.")
    touched_at: Mapped[datetime] = _instant(
        "Last state change or message sent for it; 1970 after a retry or a check that was given up.", default=True
    )
    finished_at: Mapped[datetime | None] = _instant("When it was done, failed or cancelled.")


class Candidate(Base):
    """One proposed step: a node of the search tree, kept or not."""

    __tablename__ = "candidates"
    __table_args__ = (
        UniqueConstraint("problem_id", "lineage"),
        _one_of("state", CandidateState),
        CheckConstraint("score > 0 AND score <= 1", name="score"),
        CheckConstraint("mean_probability >= 0 AND mean_probability <= 1", name="mean_probability"),
        CheckConstraint("judgment >= 0 AND judgment <= 1", name="judgment"),
        CheckConstraint("answer_tokens >= 1", name="answer_tokens"),
        CheckConstraint("(state = 'invalid') = (invalid_reason IS NOT NULL)", name="invalid_reason"),
        CheckConstraint("state <> 'scored' OR score IS NOT NULL", name="scored"),
        CheckConstraint("duplicate_of IS NULL OR invalid_reason = 'duplicate'", name="duplicate_of"),
        Index("ix_candidates_duplicate_of", "duplicate_of", postgresql_where=text("duplicate_of IS NOT NULL")),
        Index("ix_candidates_problem_id_step", "problem_id", "step"),
        Index(
            "ix_candidates_unfinished",
            "state",
            postgresql_where=text("state IN ('pending', 'proposing', 'proposed', 'scoring', 'unjudged', 'judging')"),
        ),
        {"comment": "One proposed step: a node of the search tree, kept or not."},
    )

    id: Mapped[int] = _key("Key.")
    problem_id: Mapped[int] = mapped_column(ForeignKey("problems.id", ondelete="CASCADE"), comment="Its problem.")
    parent_id: Mapped[int | None] = mapped_column(
        ForeignKey("candidates.id", ondelete="CASCADE"),
        index=True,
        comment="The candidate it extends; NULL at step 1.",
    )
    parent_rank: Mapped[int] = mapped_column(Integer, comment="0-based rank of the parent in its beam; 0 at step 1.")
    step: Mapped[int] = mapped_column(Integer, comment="1-based number of the decision that it was planned for.")
    depth: Mapped[int] = mapped_column(
        Integer, comment="1-based place in its trajectory; equal to step except in a tree search."
    )
    round: Mapped[int] = mapped_column(Integer, comment="Resampling round, 0 unless earlier ones were all invalid.")
    teacher_id: Mapped[int] = mapped_column(
        ForeignKey("teachers.id"), index=True, comment="The teacher that writes it."
    )
    sample: Mapped[int] = mapped_column(Integer, comment="0-based proposal number of the teacher for this parent.")
    lineage: Mapped[str] = mapped_column(
        Text,
        comment="Hash of the path of (step, round, teacher, sample) from the root; the same in another run of this "
        "configuration on this dataset.",
    )
    seed: Mapped[int] = mapped_column(BigInteger, comment="Sampling seed.")
    max_tokens: Mapped[int] = mapped_column(Integer, comment="Token limit of its text.")
    whole: Mapped[bool] = mapped_column(
        Boolean, comment="True if it is the whole remaining trajectory rather than one step."
    )
    sources: Mapped[list[int] | None] = mapped_column(
        ARRAY(BigInteger), comment="Candidates whose trajectories the integrator merged into it; NULL for a teacher's."
    )
    state: Mapped[str] = mapped_column(
        Text,
        server_default=CandidateState.PENDING.value,
        comment="pending, proposing, proposed, scoring, unjudged, judging, scored, unscored or invalid.",
    )
    text: Mapped[str | None] = mapped_column(Text, comment="The step, without its marker.")
    text_key: Mapped[uuid.UUID | None] = mapped_column(
        Uuid, comment="Equal for equal texts (whitespace normalised); NULL if the text itself was invalid."
    )
    duplicate_of: Mapped[int | None] = mapped_column(
        ForeignKey("candidates.id", ondelete="CASCADE"),
        comment="The earlier sibling with the same text, whose score counts for both; NULL if none.",
    )
    reply: Mapped[str | None] = mapped_column(Text, comment="The integrator's whole reply, unchanged.")
    answer_part: Mapped[str | None] = mapped_column(Text, comment="The final answer in the integrator's reply.")
    finish_reason: Mapped[str | None] = mapped_column(
        Text, comment="Why the text ended: step (next marker), think_end, eos or length (token limit)."
    )
    invalid_reason: Mapped[str | None] = mapped_column(
        Text,
        comment="Why it cannot enter the beam. Its text is empty, whitespace, marker_only, loop, think_tag, "
        "unstorable, duplicate or malformed; or it is unscorable or unjudgeable; or a model refused it: "
        "too_long, content_filter, not_finite, malformed_request or engine_fault.",
    )
    prompt_tokens: Mapped[int | None] = mapped_column(Integer, comment="Teacher's prompt tokens.")
    completion_tokens: Mapped[int | None] = mapped_column(Integer, comment="Teacher's generated tokens.")
    cached_tokens: Mapped[int | None] = mapped_column(Integer, comment="Prompt tokens from the teacher's prefix cache.")
    score: Mapped[float | None] = mapped_column(
        Double,
        comment="How well this candidate predicts the known answer, in (0, 1]: exp(mean log-probability of the "
        "answer's tokens), or mean_probability if runs.prover_score says so.",
    )
    log_prob_sum: Mapped[float | None] = mapped_column(
        Double, comment="Sum of the answer tokens' log-probabilities (nats)."
    )
    mean_probability: Mapped[float | None] = mapped_column(
        Double,
        comment="Arithmetic mean of the answer tokens' probabilities, in [0, 1]; NULL in rows of older versions.",
    )
    answer_tokens: Mapped[int | None] = mapped_column(Integer, comment="Answer tokens M in the prover's tokenizer.")
    thinking_tokens: Mapped[int | None] = mapped_column(
        Integer,
        comment="Tokens of the trajectory so far, in the prover's tokenizer (the teacher's in a run without scores).",
    )
    scoring_mode: Mapped[str | None] = mapped_column(Text, comment="Numerical path of the score.")
    score_prompt_tokens: Mapped[int | None] = mapped_column(Integer, comment="Prover's prompt tokens.")
    score_cached_tokens: Mapped[int | None] = mapped_column(
        Integer, comment="Of these, tokens from the prover's prefix cache."
    )
    judgment: Mapped[float | None] = mapped_column(
        Double, comment="Step reward of the reward model, or share of right answers in a binary judgment; 0 to 1."
    )
    judgment_detail: Mapped[dict[str, Any] | None] = mapped_column(JSONB, comment="The parts of the judgment.")
    judgment_prompt_tokens: Mapped[int | None] = mapped_column(Integer, comment="Selection model's prompt tokens.")
    judgment_completion_tokens: Mapped[int | None] = mapped_column(Integer, comment="Its generated tokens.")
    judgment_cached_tokens: Mapped[int | None] = mapped_column(Integer, comment="Prompt tokens from its prefix cache.")
    rank: Mapped[int | None] = mapped_column(Integer, comment="0-based rank in its step; NULL if invalid or duplicate.")
    kept: Mapped[bool | None] = mapped_column(Boolean, comment="Whether it entered the beam; NULL before the decision.")
    winning: Mapped[bool] = mapped_column(
        Boolean, server_default=false(), comment="Whether it is on the winning path: a step of the problem's winner."
    )
    propose_attempts: Mapped[int] = mapped_column(Integer, server_default="0", comment="Leases taken to propose it.")
    score_attempts: Mapped[int] = mapped_column(Integer, server_default="0", comment="Leases taken to score it.")
    judgment_attempts: Mapped[int] = mapped_column(Integer, server_default="0", comment="Leases taken to judge it.")
    propose_worker_id: Mapped[uuid.UUID | None] = mapped_column(Uuid, comment="Worker that proposes or proposed it.")
    score_worker_id: Mapped[uuid.UUID | None] = mapped_column(Uuid, comment="Worker that scores or scored it.")
    judgment_worker_id: Mapped[uuid.UUID | None] = mapped_column(Uuid, comment="Worker that judges or judged it.")
    created_at: Mapped[datetime] = _instant("When it was planned.", default=True)
    touched_at: Mapped[datetime] = _instant(
        "Last state change or message sent for it; 1970 after its lease was returned or its problem retried.",
        default=True,
    )
    proposed_at: Mapped[datetime | None] = _instant("When the text was committed.")
    scored_at: Mapped[datetime | None] = _instant("When the score was committed.")
    judged_at: Mapped[datetime | None] = _instant("When the judgment was committed.")
    proposal_digest: Mapped[bytes | None] = _digest("the lineage and of the teacher's or integrator's result")
    score_digest: Mapped[bytes | None] = _digest("the lineage and of the prover's result")
    judgment_digest: Mapped[bytes | None] = _digest("the lineage and of the selection judgment")
    propose_seconds: Mapped[float | None] = mapped_column(Double, comment="Seconds in the teacher's engine.")
    score_seconds: Mapped[float | None] = mapped_column(Double, comment="Seconds in the prover's engine.")
    judgment_seconds: Mapped[float | None] = mapped_column(Double, comment="Seconds in the selection model's engine.")


class BeamMember(Base):
    """One slot of the beam chosen after a step."""

    __tablename__ = "beams"
    __table_args__ = ({"comment": "The beam chosen after each step; a finished trajectory keeps its slot."},)

    problem_id: Mapped[int] = mapped_column(
        ForeignKey("problems.id", ondelete="CASCADE"), primary_key=True, comment="Its problem."
    )
    step: Mapped[int] = mapped_column(Integer, primary_key=True, comment="The step after which it was chosen.")
    rank: Mapped[int] = mapped_column(Integer, primary_key=True, comment="0-based; 0 is the best.")
    candidate_id: Mapped[int] = mapped_column(
        ForeignKey("candidates.id", ondelete="CASCADE"),
        index=True,
        comment="Last step of the trajectory in the slot.",
    )
    finish: Mapped[str | None] = mapped_column(
        Text, comment="Why the trajectory is finished; NULL while it is extended."
    )


class Trajectory(Base):
    """A finished trajectory that held a slot in a beam; the winner, or every sample, gets a final answer."""

    __tablename__ = "trajectories"
    __table_args__ = (
        _one_of("answer_state", AnswerState),
        Index("uq_trajectories_winner", "problem_id", unique=True, postgresql_where=text("winner")),
        Index(
            "ix_trajectories_unanswered",
            "answer_state",
            postgresql_where=text("answer_state IN ('pending', 'writing', 'checking', 'unjudged', 'judging')"),
        ),
        {"comment": "Finished trajectories that held a slot in a beam; the winner, or every sample, gets an answer."},
    )

    id: Mapped[int] = _key("Key.")
    problem_id: Mapped[int] = mapped_column(
        ForeignKey("problems.id", ondelete="CASCADE"), index=True, comment="Its problem."
    )
    candidate_id: Mapped[int] = mapped_column(
        ForeignKey("candidates.id", ondelete="CASCADE"), unique=True, comment="Its last step."
    )
    steps: Mapped[int] = mapped_column(Integer, comment="Number of steps.")
    score: Mapped[float | None] = mapped_column(Double, comment="Score of its last step; NULL in a run without scores.")
    finish: Mapped[str] = mapped_column(
        Text,
        comment="think_end, eos, thinking_budget, max_steps, context (no model has room for more), total_tokens or "
        "trimmed (it was longer in the run that this run was trimmed from).",
    )
    winner: Mapped[bool] = mapped_column(
        Boolean, server_default=false(), comment="Whether it is the problem's winner; a run of samples has none."
    )
    dropped_at_step: Mapped[int | None] = mapped_column(
        Integer, comment="Step at which a better trajectory took its slot; NULL if it kept the slot."
    )
    answer_state: Mapped[str] = mapped_column(
        Text,
        server_default=AnswerState.NONE.value,
        comment="none, pending, writing, written, checking, unjudged (compared without a decision), judging or judged.",
    )
    answer_seed: Mapped[int | None] = mapped_column(BigInteger, comment="Sampling seed of the final answer.")
    answer_text: Mapped[str | None] = mapped_column(Text, comment="The text after </think>.")
    answer_finish_reason: Mapped[str | None] = mapped_column(
        Text,
        comment="eos, length, or why a model refused it: too_long, content_filter, not_finite, malformed_request or "
        "engine_fault.",
    )
    answer_prompt_tokens: Mapped[int | None] = mapped_column(Integer, comment="Teacher's prompt tokens.")
    answer_completion_tokens: Mapped[int | None] = mapped_column(Integer, comment="Teacher's generated tokens.")
    answer_cached_tokens: Mapped[int | None] = mapped_column(
        Integer, comment="Prompt tokens of the answer from the prefix cache."
    )
    answer_seconds: Mapped[float | None] = mapped_column(Double, comment="Seconds in the teacher's engine.")
    answer_attempts: Mapped[int] = mapped_column(Integer, server_default="0", comment="Leases taken to write it.")
    answer_worker_id: Mapped[uuid.UUID | None] = mapped_column(Uuid, comment="Worker that writes or wrote the answer.")
    check_attempts: Mapped[int] = mapped_column(Integer, server_default="0", comment="Leases taken to check it.")
    check_worker_id: Mapped[uuid.UUID | None] = mapped_column(Uuid, comment="Coordinator that checks or checked it.")
    verdict_attempts: Mapped[int] = mapped_column(Integer, server_default="0", comment="Leases taken by the LLM judge.")
    verdict_worker_id: Mapped[uuid.UUID | None] = mapped_column(Uuid, comment="Worker that judges or judged it.")
    verdict_prompt_tokens: Mapped[int | None] = mapped_column(Integer, comment="LLM judge's prompt tokens.")
    verdict_completion_tokens: Mapped[int | None] = mapped_column(Integer, comment="LLM judge's generated tokens.")
    verdict_seconds: Mapped[float | None] = mapped_column(Double, comment="Seconds in the LLM judge's engine.")
    correct: Mapped[bool | None] = mapped_column(
        Boolean, comment="Whether the final answer is right; NULL if not checked, or undecided."
    )
    verification: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB,
        comment="How correctness was decided: method (what decided: exact, math, choice, numeric, math_verify, judge, "
        "or unequal if all found a difference; undecided, timeout, crashed, failed or unsupported without a decision), "
        "extracted answer, detail, type, readings.",
    )
    answer_digest: Mapped[bytes | None] = _digest("the final answer and of the identity of its trajectory")
    correctness_digest: Mapped[bytes | None] = _digest(
        "whether the answer is correct, of how that was decided, and of the identity of its trajectory"
    )
    created_at: Mapped[datetime] = _instant("When its thinking ended.", default=True)
    touched_at: Mapped[datetime] = _instant(
        "Last state change or message sent for it; 1970 after its lease was returned or its problem retried.",
        default=True,
    )
    answered_at: Mapped[datetime | None] = _instant("When the answer was committed.")
    judged_at: Mapped[datetime | None] = _instant("When the LLM judge's verdict was committed.")


class Rescoring(Base):
    """A second set of scores of a run's candidates, by another prover or in another way."""

    __tablename__ = "rescorings"
    __table_args__ = (
        UniqueConstraint("run_id", "name"),
        {"comment": "A second set of scores of a run's candidates, by another prover or in another way."},
    )

    id: Mapped[int] = _key("Key.")
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), comment="Its run.")
    name: Mapped[str] = mapped_column(Text, comment="Name in commands, as RUN@NAME; unique within the run.")
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), index=True, comment="The prover's model.")
    prover: Mapped[dict[str, Any]] = mapped_column(
        JSONB, comment="Settings of [prover] that it scores with, without the model."
    )
    system_prompt: Mapped[str | None] = mapped_column(Text, comment="The prover's system turn, if any.")
    scoring_mode: Mapped[str | None] = mapped_column(
        Text, comment="Numerical path of its scores; set by the first claim, the same for the whole rescoring."
    )
    code_version: Mapped[str] = mapped_column(Text, comment="Version of cord-worker that created it.")
    digest: Mapped[bytes | None] = _digest("run, name, model, settings and version")
    created_at: Mapped[datetime] = _instant("When it was first asked for.", default=True)


class Rescore(Base):
    """The score of one candidate in a rescoring."""

    __tablename__ = "rescores"
    __table_args__ = (
        UniqueConstraint("rescoring_id", "candidate_id"),
        _one_of("state", RescoreState),
        CheckConstraint("score > 0 AND score <= 1", name="score"),
        CheckConstraint("mean_probability >= 0 AND mean_probability <= 1", name="mean_probability"),
        Index("ix_rescores_queued", "rescoring_id", "problem_id", postgresql_where=text("state = 'queued'")),
        Index("ix_rescores_unfinished", "state", postgresql_where=text("state IN ('pending', 'scoring')")),
        {"comment": "The scores of candidates in rescorings."},
    )

    id: Mapped[int] = _key("Key.")
    rescoring_id: Mapped[int] = mapped_column(ForeignKey("rescorings.id", ondelete="CASCADE"), comment="Its rescoring.")
    candidate_id: Mapped[int] = mapped_column(
        ForeignKey("candidates.id", ondelete="CASCADE"), index=True, comment="The candidate that is scored."
    )
    problem_id: Mapped[int] = mapped_column(
        ForeignKey("problems.id", ondelete="CASCADE"), index=True, comment="The candidate's problem."
    )
    state: Mapped[str] = mapped_column(
        Text, server_default=RescoreState.QUEUED.value, comment="queued, pending, scoring, scored or invalid."
    )
    invalid_reason: Mapped[str | None] = mapped_column(
        Text,
        comment="Why it has no score: unscorable, or the model refused it (too_long, content_filter, not_finite, "
        "malformed_request or engine_fault), or given_up (its worker was lost or failed at every attempt).",
    )
    score: Mapped[float | None] = mapped_column(
        Double,
        comment="How well the candidate predicts the known answer, in (0, 1], by the mean that the rescoring's prover "
        "names.",
    )
    log_prob_sum: Mapped[float | None] = mapped_column(
        Double, comment="Sum of the answer tokens' log-probabilities (nats)."
    )
    mean_probability: Mapped[float | None] = mapped_column(
        Double, comment="Arithmetic mean of the answer tokens' probabilities, in [0, 1]."
    )
    answer_tokens: Mapped[int | None] = mapped_column(Integer, comment="Answer tokens M in this prover's tokenizer.")
    thinking_tokens: Mapped[int | None] = mapped_column(
        Integer, comment="Tokens of the trajectory up to the candidate, in this prover's tokenizer."
    )
    scoring_mode: Mapped[str | None] = mapped_column(Text, comment="Numerical path of the score.")
    prompt_tokens: Mapped[int | None] = mapped_column(Integer, comment="Prover's prompt tokens.")
    cached_tokens: Mapped[int | None] = mapped_column(
        Integer, comment="Of these, tokens from the prover's prefix cache."
    )
    seconds: Mapped[float | None] = mapped_column(Double, comment="Seconds in the prover's engine.")
    rescore_attempts: Mapped[int] = mapped_column(Integer, server_default="0", comment="Leases taken to score it.")
    rescore_worker_id: Mapped[uuid.UUID | None] = mapped_column(Uuid, comment="Worker that scores or scored it.")
    created_at: Mapped[datetime] = _instant("When it was asked for.", default=True)
    touched_at: Mapped[datetime] = _instant(
        "Last state change or message sent for it; 1970 after its lease was returned or it was retried.", default=True
    )
    scored_at: Mapped[datetime | None] = _instant("When its result was committed, or when it was given up.")
    digest: Mapped[bytes | None] = _digest("the names of rescoring and candidate and of the prover's result")


class Worker(Base):
    """One start of one process; its leases are valid while its heartbeat continues."""

    __tablename__ = "workers"
    __table_args__ = (
        _one_of("role", WorkerRole),
        {"comment": "One start of one process; its leases are valid while its heartbeat continues."},
    )

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, comment="Random, new at every start.")
    role: Mapped[str] = mapped_column(Text, comment="model or coordinator.")
    model_id: Mapped[int | None] = mapped_column(ForeignKey("models.id"), comment="The model it hosts.")
    hostname: Mapped[str] = mapped_column(Text, comment="Host name of its machine.")
    pid: Mapped[int] = mapped_column(Integer, comment="Process id on that machine.")
    shard: Mapped[int | None] = mapped_column(
        Integer, comment="Number of the replica among those of its model, from 0; NULL once it takes no more work."
    )
    metrics_port: Mapped[int | None] = mapped_column(Integer, comment="Port of its Prometheus metrics on the machine.")
    version: Mapped[str] = mapped_column(Text, comment="Version of cord-worker.")
    started_at: Mapped[datetime] = _instant("When it registered.", default=True)
    ready_at: Mapped[datetime | None] = _instant("When it began to take work.")
    heartbeat_at: Mapped[datetime] = _instant("Last heartbeat.", default=True)
    drain_requested_at: Mapped[datetime | None] = _instant(
        "When it was asked to take no new work, finish what it holds and leave."
    )
    stopped_at: Mapped[datetime | None] = _instant("When it left, or was declared lost.")
    stop_reason: Mapped[str | None] = mapped_column(Text, comment="shutdown, lost, or `failed: ERROR`.")
    condition: Mapped[str | None] = mapped_column(
        Text, comment="What keeps it from its work, in a sentence, such as a server that it waits for; NULL if nothing."
    )
    condition_since: Mapped[datetime | None] = _instant("Since when the condition holds.")
    steps_back_until: Mapped[datetime | None] = _instant(
        "Until when this coordinator takes no decisions, because all of them failed; NULL if it never stepped back."
    )
    dropped_results: Mapped[int] = mapped_column(
        BigInteger, server_default="0", comment="Late or duplicate results that were dropped."
    )
