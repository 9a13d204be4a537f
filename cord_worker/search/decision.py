"""The decisions that a search can make, and the one interface of all pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cord_worker.search.types import (
    Beam,
    Candidate,
    Expansion,
    InvalidReason,
    SearchSettings,
    SeedScope,
    Trajectory,
)


@dataclass(frozen=True, slots=True)
class Expand:
    """Continue: propose `expansions`, the candidates of `step`, from `beam`. `ranking` and `invalid` describe the
    candidates from which the beam was chosen."""

    step: int
    round: int
    beam: Beam
    ranking: tuple[int, ...]
    invalid: dict[int, InvalidReason]
    expansions: tuple[Expansion, ...]

    @classmethod
    def first(cls, expansions: tuple[Expansion, ...]) -> Expand:
        """The first decision of a search: step 1, from the empty trajectory."""
        return cls(step=1, round=0, beam=(), ranking=(), invalid={}, expansions=expansions)


@dataclass(frozen=True, slots=True)
class Resample:
    """All candidates are invalid: propose the same step again, in a new `round`, with new seeds."""

    round: int
    invalid: dict[int, InvalidReason]
    expansions: tuple[Expansion, ...]


@dataclass(frozen=True, slots=True)
class EndSearch:
    """The search is over: every trajectory of `beam` is finished, and `winner` is the best one. It is None in the
    pipeline `sample`, where every trajectory is a result."""

    beam: Beam
    ranking: tuple[int, ...]
    invalid: dict[int, InvalidReason]
    winner: Trajectory | None

    @property
    def to_answer(self) -> Beam:
        """The trajectories that get a final answer: the winner, or all of them if there is no winner."""
        return self.beam if self.winner is None else (self.winner,)


@dataclass(frozen=True, slots=True)
class Fail:
    """The search is over without a trajectory; `reason` gives the cause in one sentence."""

    invalid: dict[int, InvalidReason]
    reason: str


Decision = Expand | Resample | EndSearch | Fail


class Pipeline(Protocol):
    """A way to search: a pure module with two functions and one constant. Rows in, decision out."""

    READS_EARLIER: bool
    """True if `decide` also gets the candidates of all earlier steps, because the search may return to them."""

    def initial(self, settings: SearchSettings, scope: SeedScope, teachers: Sequence[str]) -> Expand:
        """The first proposals; `teachers` are names, in the configuration's order."""
        ...

    def decide(
        self,
        settings: SearchSettings,
        scope: SeedScope,
        teachers: Sequence[str],
        *,
        step: int,
        round: int,
        beam: Beam,
        candidates: Sequence[Candidate],
        spent: int,
    ) -> Decision:
        """The decision on the `candidates` of one step and round, which were expanded from `beam` (empty at step 1).

        `spent` counts the tokens generated for the problem so far: the proposals of all steps and rounds up to this
        one, including losing and invalid ones. Once it reaches `total_tokens`, nothing more is proposed. A pipeline
        that proposes everything at once ignores this budget.

        If the pipeline `READS_EARLIER`, `candidates` also holds those of all earlier steps, of every round, without
        their texts. Every candidate must be scored or marked invalid. Raises SearchError if the candidates of the step
        are not exactly those that the last decision expanded, or if one of them is neither scored nor invalid.
        """
        ...
