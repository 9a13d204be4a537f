"""Rollups: what the rows of a problem that ended add up to, so that statistics of a run need not read its candidates.

They are written when a problem ends (`schema.rollups`) and read through the views `current_…`, which compute a missing
rollup from the problem's rows. So a rollup may be missing, but it is never wrong; `cordctl verify-db` checks this.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Double, ForeignKey, Integer, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB, TSTZMULTIRANGE
from sqlalchemy.dialects.postgresql.ranges import MultiRange
from sqlalchemy.orm import Mapped, mapped_column

from cord_worker.store.schema.base import Base


class ProblemRollup(Base):
    """What the rows of a problem add up to, written when it ended; a problem without one is computed from its rows."""

    __tablename__ = "problem_rollups"
    __table_args__ = (
        {
            "comment": "What the rows of a problem add up to, written when it ended; a problem without one is computed "
            "from its rows."
        },
    )

    problem_id: Mapped[int] = mapped_column(
        BigInteger,
        ForeignKey("problems.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
        comment="Its problem.",
    )
    run_id: Mapped[int] = mapped_column(BigInteger, index=True, comment="The problem's run.")
    state: Mapped[str] = mapped_column(Text, comment="The problem's state.")
    candidates: Mapped[int] = mapped_column(Integer, comment="Candidates.")
    kept: Mapped[int] = mapped_column(Integer, comment="Of these, those that entered a beam.")
    invalid: Mapped[int] = mapped_column(Integer, comment="Of these, invalid ones without duplicates.")
    duplicates: Mapped[int] = mapped_column(Integer, comment="Of these, duplicates.")
    step_tokens: Mapped[int] = mapped_column(
        BigInteger, comment="Tokens that teachers generated for its steps, without copies."
    )
    answer_tokens: Mapped[int] = mapped_column(
        BigInteger, comment="Tokens that teachers generated for its final answers, without copies."
    )
    scored_tokens: Mapped[int] = mapped_column(
        BigInteger, comment="The prover's prompt tokens, those of the base score included."
    )
    prover_seconds: Mapped[float] = mapped_column(
        Double, comment="Sum of the seconds of its scores in the prover's engine."
    )
    answers: Mapped[int] = mapped_column(
        Integer, comment="Trajectories that got a final answer: the winner, or every sample."
    )
    scored_answers: Mapped[int] = mapped_column(Integer, comment="Of these, those with a score.")
    score_sum: Mapped[float] = mapped_column(Double, comment="Sum of their scores.")
    answer_steps: Mapped[int] = mapped_column(
        BigInteger, comment="Sum of the steps of the trajectories that got a final answer."
    )
    checked: Mapped[int] = mapped_column(Integer, comment="Final answers whose correctness was decided.")
    correct: Mapped[int] = mapped_column(Integer, comment="Of these, right ones.")
    undecided: Mapped[int] = mapped_column(Integer, comment="Final answers that were checked without a decision.")
    without_result: Mapped[int] = mapped_column(Integer, comment="Of these, those whose check failed or took too long.")
    cut_answers: Mapped[int] = mapped_column(Integer, comment="Final answers that reached their token limit.")
    full_contexts: Mapped[int] = mapped_column(
        Integer, comment="Trajectories with a final answer for which no model had more room."
    )
    result_tokens: Mapped[float | None] = mapped_column(
        Double, comment="Mean tokens of a trajectory with its final answer, as a student reads them."
    )
    winner_score: Mapped[float | None] = mapped_column(Double, comment="Score of the winner.")
    winner_steps: Mapped[int | None] = mapped_column(Integer, comment="Steps of the winner.")
    lead: Mapped[float | None] = mapped_column(
        Double,
        comment="Smallest lead of the winner: over its steps, the least value of the step's score minus the best "
        "score among the losers of that step.",
    )
    nearest_loser_id: Mapped[int | None] = mapped_column(
        BigInteger, comment="The best loser of the step with that smallest lead."
    )
    first_request_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="When its first request reached an engine."
    )
    generation_seconds: Mapped[float] = mapped_column(
        Double, comment="Seconds in which at least one teacher worked on the problem's steps or final answers."
    )
    scoring_seconds: Mapped[float] = mapped_column(
        Double, comment="Seconds in which the prover or the selection model worked on the problem."
    )


class TeacherRollup(Base):
    """What the candidates of one teacher in one tenth of a problem add up to, written with its problem_rollups row."""

    __tablename__ = "teacher_rollups"
    __table_args__ = (
        {
            "comment": "What the candidates of one teacher in one tenth of a problem add up to, written with its "
            "problem_rollups row."
        },
    )

    problem_id: Mapped[int] = mapped_column(
        BigInteger,
        ForeignKey("problems.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
        comment="The problem.",
    )
    run_id: Mapped[int] = mapped_column(BigInteger, index=True, comment="The problem's run.")
    teacher_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, comment="The teacher.")
    tenth: Mapped[int] = mapped_column(
        Integer,
        primary_key=True,
        autoincrement=False,
        comment="Tenth (1-10) of the decoding position, (depth - 0.5) / steps of the winner; 0 without a winner.",
    )
    planned: Mapped[int] = mapped_column(Integer, comment="Candidates.")
    proposed: Mapped[int] = mapped_column(Integer, comment="Of these, those with a text.")
    scored: Mapped[int] = mapped_column(Integer, comment="Candidates in the state scored.")
    unscored: Mapped[int] = mapped_column(Integer, comment="Candidates in the state unscored.")
    invalid: Mapped[int] = mapped_column(Integer, comment="Invalid candidates, without duplicates.")
    duplicates: Mapped[int] = mapped_column(Integer, comment="Duplicates.")
    shared: Mapped[int] = mapped_column(
        Integer, comment="Candidates whose text another candidate of the same step has too."
    )
    kept: Mapped[int] = mapped_column(Integer, comment="Candidates that entered a beam, or duplicates of one that did.")
    winning: Mapped[int] = mapped_column(Integer, comment="Candidates on the winning path, or duplicates of one.")
    winning_parts: Mapped[float] = mapped_column(
        Double, comment="Like winning, but where N candidates have the text of a winning step, each counts 1/N."
    )
    scores: Mapped[int] = mapped_column(
        Integer, comment="Candidates with a score; a duplicate has that of its sibling."
    )
    score_sum: Mapped[float] = mapped_column(Double, comment="Sum of these scores.")
    gains: Mapped[int] = mapped_column(Integer, comment="Candidates with a gain.")
    gain_sum: Mapped[float] = mapped_column(Double, comment="Sum of these gains.")
    winning_gain: Mapped[float] = mapped_column(
        Double,
        comment="Sum of the gains on the winning path; where N candidates have the text of a step, each counts 1/N of"
        " it.",
    )
    tokens: Mapped[int] = mapped_column(BigInteger, comment="Tokens of the texts, with copies.")
    generated_tokens: Mapped[int] = mapped_column(
        BigInteger, comment="Tokens that the teacher generated, without copies."
    )
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, comment="The teacher's prompt tokens.")
    cached_tokens: Mapped[int] = mapped_column(BigInteger, comment="Of these, tokens from its prefix cache.")
    request_seconds: Mapped[float] = mapped_column(
        Double, comment="Sum of the seconds of its proposals, which overlap in batches."
    )
    scored_tokens: Mapped[int] = mapped_column(BigInteger, comment="The prover's prompt tokens for these candidates.")
    prover_seconds: Mapped[float] = mapped_column(
        Double, comment="Sum of the seconds of their scores in the prover's engine."
    )
    invalid_reasons: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB, comment="Number of invalid candidates by reason, duplicates included."
    )


class RequestRollup(Base):
    """What the requests to one worker for a problem add up to, by kind, written with its problem_rollups row."""

    __tablename__ = "request_rollups"
    __table_args__ = (
        {
            "comment": "What the requests to one worker for a problem add up to, by kind, written with its "
            "problem_rollups row."
        },
    )

    problem_id: Mapped[int] = mapped_column(
        BigInteger,
        ForeignKey("problems.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
        comment="The problem.",
    )
    run_id: Mapped[int] = mapped_column(BigInteger, index=True, comment="The problem's run.")
    model_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, comment="The model.")
    kind: Mapped[str] = mapped_column(
        Text,
        primary_key=True,
        autoincrement=False,
        comment="propose, score, answer, judge (of a candidate) or verdict (on an answer).",
    )
    worker_id: Mapped[uuid.UUID] = mapped_column(
        Uuid, primary_key=True, autoincrement=False, comment="The worker's id; all zeros if it is not known."
    )
    requests: Mapped[int] = mapped_column(Integer, comment="Requests.")
    at_home: Mapped[int] = mapped_column(
        Integer, comment="Of these, those to the worker that served most of the problem's requests to this model."
    )
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, comment="Prompt tokens.")
    cached_tokens: Mapped[int | None] = mapped_column(
        BigInteger, comment="Of these, tokens from the prefix cache; NULL if not known."
    )
    completion_tokens: Mapped[int] = mapped_column(BigInteger, comment="Generated tokens.")
    request_seconds: Mapped[float] = mapped_column(
        Double, comment="Sum of the seconds of the requests, which overlap in batches."
    )
    busy: Mapped[MultiRange[datetime]] = mapped_column(
        TSTZMULTIRANGE, comment="Periods in which at least one of the requests was in the engine."
    )
