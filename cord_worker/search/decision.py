"""What a search can decide, and the one interface of every way to search."""

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
    """Go on: propose `expansions`, the candidates of `step`, from `beam`. `ranking` and `invalid` are about the
    candidates that the beam was chosen from."""

    step: int
    round: int
    beam: Beam
    ranking: tuple[int, ...]
    invalid: dict[int, InvalidReason]
    expansions: tuple[Expansion, ...]

    @classmethod
    def first(cls, expansions: tuple[Expansion, ...]) -> Expand:
        """What a search begins with: step 1, from the empty trajectory."""
        return cls(step=1, round=0, beam=(), ranking=(), invalid={}, expansions=expansions)


@dataclass(frozen=True, slots=True)
class Retry:
    """Every candidate is invalid: propose the same step again, in a new `round`, with new seeds."""

    round: int
    invalid: dict[int, InvalidReason]
    expansions: tuple[Expansion, ...]


@dataclass(frozen=True, slots=True)
class EndSearch:
    """The search is over: every trajectory of `beam` is finished, and `winner` is the best; None where all of them are
    results."""

    beam: Beam
    ranking: tuple[int, ...]
    invalid: dict[int, InvalidReason]
    winner: Trajectory | None

    @property
    def answered(self) -> Beam:
        """The trajectories that get a final answer: the winner, or all where there is none."""
        return self.beam if self.winner is None else (self.winner,)


@dataclass(frozen=True, slots=True)
class Fail:
    """The search is over without a trajectory; `reason` says so in one sentence."""

    invalid: dict[int, InvalidReason]
    reason: str


Decision = Expand | Retry | EndSearch | Fail


class Pipeline(Protocol):
    """A way to search: a pure module with these two functions and one fact. Rows in, decision out."""

    READS_EARLIER: bool
    """Whether `decide` is given the candidates of all earlier steps too: a search that may go back to them."""

    def initial(self, settings: SearchSettings, scope: SeedScope, teachers: Sequence[str]) -> Expand:
        """What to propose first; teachers by name, in the configuration's order."""
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
        """What follows from the `candidates` of one step and round, which were expanded from `beam` (empty at step 1).

        `spent` counts the tokens generated for the problem so far: the proposals of all steps and rounds up to this
        one, losers and invalid ones included. Once they reach `total_tokens` nothing more is proposed; a pipeline that
        proposes everything at once has no such budget.

        Where the pipeline `READS_EARLIER`, those of all steps before are among them, of every round and without their
        texts. Every candidate must be scored or marked invalid. Raises SearchError where those of the step are not
        exactly those that the last decision expanded, or where one of them is neither.
        """
        ...
