"""What is leased, and what comes of it: the values that `leases` reads and writes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Lease = TypeVar("Lease")


@dataclass(frozen=True, slots=True)
class Claimed(Generic[Lease]):
    """What a claim came to. Problems are `held_back` that have work which may be done, but in other company: alone
    instead of beside others, or the other way round (`isolation`). Problems are `complete` whose last unfinished
    candidates proved to be duplicates: their next decision is due."""

    leases: Sequence[Lease]
    held_back: frozenset[int] = frozenset()
    complete: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Source:
    """A trajectory that an integrator is to merge with others."""

    candidate_id: int
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LeasedProposal:
    """A candidate to be proposed; `steps` is the text of the trajectory that it extends, and a `whole` one is the rest
    of it. `sources`, best first, are what an integrator merges; a teacher has none."""

    candidate_id: int
    attempt: int
    problem_id: int
    run_id: int
    teacher_id: int
    question: str
    passage: str | None
    steps: tuple[str, ...]
    seed: int
    max_tokens: int
    whole: bool
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class ProposalResult:
    """What became of a leased proposal; `invalid_reason` set means it never enters the beam.

    `text_key` is what equal texts share (`search.validity`); None where it may not enter the beam in any case, or where
    equal texts are no duplicates. An integrator's has its `reply` as it was written, the `answer_part` in it, and the
    number of sources that were `merged`, the best ones.
    """

    candidate_id: int
    attempt: int
    text: str
    finish_reason: str | None
    invalid_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    seconds: float | None
    reply: str | None = None
    answer_part: str | None = None
    merged: int | None = None
    text_key: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class LeasedScore:
    """A candidate to be scored; `steps` is its whole trajectory."""

    candidate_id: int
    attempt: int
    problem_id: int
    run_id: int
    question: str
    passage: str | None
    answer: str
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """What became of a leased score; either all figures or an `invalid_reason`."""

    candidate_id: int
    attempt: int
    invalid_reason: str | None
    score: float | None
    log_prob_sum: float | None
    answer_tokens: int | None
    thinking_tokens: int | None
    prompt_tokens: int | None
    cached_tokens: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class LeasedAnswer:
    """A trajectory whose final answer is to be written."""

    trajectory_id: int
    attempt: int
    problem_id: int
    run_id: int
    teacher_id: int
    question: str
    passage: str | None
    steps: tuple[str, ...]
    seed: int
    key: str
    lineage: str


@dataclass(frozen=True, slots=True)
class AnswerResult:
    """A final answer, as generated; without tokens where the context had no room for it. `seed` is what it was drawn
    with, None for that of the lease."""

    trajectory_id: int
    attempt: int
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    seconds: float
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Next:
    """A problem whose candidates wait for the next model (a fingerprint): the prover, or the one that judges."""

    problem_id: int
    step: int
    model: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a group of finishes led to: problems whose next decision is due, the number of results that were late or
    duplicate, and problems (of runs that go on) whose candidates now wait for their score or judgment."""

    to_advance: frozenset[int]
    dropped: int
    to_pass_on: frozenset[Next] = frozenset()
