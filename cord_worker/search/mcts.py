"""Monte Carlo tree search (docs/what-is-computed.md#mcts): UCB expansion, rollouts, the same score,
`trajectories` iterations.

    `trajectories` times:
        from the root, go to the child with the highest UCB until a node without children is reached
        every teacher proposes the node's next step                         the new nodes, scored by the prover
        the best new node's teacher writes the rest of its trajectory       the rollout, scored whole
        the rollout's score counts at every node on its path
    the best finished trajectory wins

An iteration takes two decisions, and so two steps of the problem; `depth` counts the steps of the trajectory. The
paper leaves these points open; they are decided here:

- The value of a node is the mean of its own score and the scores of all finished trajectories through it. Its own
  score is its first visit, so a new node can be compared without a rollout. `UCB = mean + exploration * sqrt(ln N / n)`
  with n the visits of the node and N those of its parent; the root's first visit has the value 0.
- The mean is that of merits (`search.selection`). A merit that is a number of tokens is divided by the thinking budget.
- The new node's own teacher writes the rollout: it wrote the best step here and has the prefix in its cache.
- A new node that ends the thinking is a finished trajectory and counts as one on its path. If it is the best new
  node, it replaces the rollout. A rollout is one candidate: its steps are not nodes of the tree.
- If no model has room for a node's next steps or its rollout, the node is a finished trajectory too.
- An iteration counts whatever its result. A node whose next steps are all invalid in the last round is never expanded
  again; a rollout that is invalid in the last round contributes nothing; the search ends early if no node is left.
- If the problem's token budget is spent, the newest nodes are finished, as at the step cap; no rollout follows.

The beam between two decisions holds all finished trajectories and the node that is extended.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

from cord_worker.search.beam import RankKey, finish_of, merit, rank_all, rank_key, winner, without_room
from cord_worker.search.decision import Decision, EndSearch, Expand, Fail, Resample
from cord_worker.search.expanding import (
    EMPTY_TRAJECTORY,
    check_complete,
    expansions,
    failure_reason,
    live_parents,
    may_resample,
)
from cord_worker.search.types import (
    Beam,
    Candidate,
    Criterion,
    Expansion,
    Finish,
    SearchError,
    SearchSettings,
    SeedScope,
    Trajectory,
)

READS_EARLIER = True


def initial(settings: SearchSettings, scope: SeedScope, teachers: Sequence[str]) -> Expand:
    """Every teacher proposes a first step: the root's children."""
    return Expand.first(_expansions(settings, scope, teachers, step=1, round=0, beam=(), whole=False))


def decide(
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
    """Proposes a rollout after new nodes, and new nodes after a rollout, until all iterations are done; see
    `decision.Pipeline.decide`."""
    earlier = [candidate for candidate in candidates if candidate.step < step]
    current = [candidate for candidate in candidates if candidate.step >= step]
    whole = any(candidate.whole for candidate in current)
    check_complete(_expansions(settings, scope, teachers, step=step, round=round, beam=beam, whole=whole), current)
    is_last = settings.is_budget_spent(spent)
    selection = rank_all(current, settings, scope, is_last=is_last)
    if not selection.ranking and may_resample(settings, round, current, is_last=is_last):
        again = _expansions(settings, scope, teachers, step=step, round=round + 1, beam=beam, whole=whole)
        return Resample(round=round + 1, invalid=selection.invalid, expansions=again)

    tree = UcbTree(settings, scope, earlier, current, selection.beam)
    finished = tree.finished()
    needs_rollout = not whole and bool(selection.beam) and selection.beam[0].finish is None
    if needs_rollout:
        node: Trajectory | None = selection.beam[0]
    elif tree.iterations < settings.trajectories and not is_last:
        node = tree.next_node()
    else:
        node = None
    if node is not None:
        chosen = tuple(sorted([*finished, node], key=tree.order))
        return Expand(
            step=step + 1,
            round=0,
            beam=chosen,
            ranking=selection.ranking,
            invalid=selection.invalid,
            expansions=_expansions(settings, scope, teachers, step=step + 1, round=0, beam=chosen, whole=needs_rollout),
        )
    if not finished:
        return Fail(
            invalid=selection.invalid,
            reason=failure_reason(current, step, round, selection.invalid, is_budget_spent=is_last),
        )
    return EndSearch(
        beam=finished,
        ranking=selection.ranking,
        invalid=selection.invalid,
        winner=winner(finished, settings, scope),
    )


class UcbTree:
    """The valid candidates of a problem as a tree, with the values of the finished trajectories at each node.

    `earlier` are the candidates of earlier steps, `current` those of this step, and `new` the trajectories of the valid
    ones among `current`. Nothing depends on the order of the rows.
    """

    def __init__(
        self,
        settings: SearchSettings,
        scope: SeedScope,
        earlier: Sequence[Candidate],
        current: Sequence[Candidate],
        new: Sequence[Trajectory],
    ) -> None:
        self._settings = settings
        self._scope = scope
        all_candidates = [*earlier, *current]
        steps = [candidate for candidate in all_candidates if not candidate.whole]
        self._parents = {candidate.id: candidate.parent_id for candidate in all_candidates}
        self._extended = {candidate.parent_id for candidate in steps}
        self._step_ids = {candidate.id for candidate in steps}
        full = without_room(all_candidates)
        self._trajectories = {trajectory.candidate_id: trajectory for trajectory in new} | {
            candidate.id: Trajectory.of(
                candidate, Finish.CONTEXT if candidate.id in full else finish_of(candidate, settings)
            )
            for candidate in earlier
            if candidate.invalid_reason is None
        }
        self._values: dict[int | None, list[float]] = defaultdict(list)
        self._values[None].append(0.0)
        self._children: dict[int | None, list[Trajectory]] = defaultdict(list)
        for id, trajectory in self._trajectories.items():
            value = self._value(trajectory)
            self._values[id].append(value)
            if id in self._step_ids:
                self._children[self._parents[id]].append(trajectory)
            if trajectory.finish is not None:
                for ancestor in self._ancestors(id):
                    self._values[ancestor].append(value)

    @property
    def iterations(self) -> int:
        """How often a node was expanded, the root included."""
        return len(self._extended)

    def finished(self) -> Beam:
        """All finished trajectories, best first."""
        found = (trajectory for trajectory in self._trajectories.values() if trajectory.finish is not None)
        return tuple(sorted(found, key=self.order))

    def order(self, trajectory: Trajectory) -> tuple[RankKey, str]:
        """Sorts best first, by `rank_key` and then by lineage: trajectories of two iterations may have equal rank
        keys."""
        return rank_key(trajectory, self._settings, self._scope), trajectory.lineage

    def next_node(self) -> Trajectory | None:
        """The node to expand, found by UCB from the root down; None if no node can be expanded any more."""
        expandable = self._expandable()
        at: int | None = None
        while True:
            children = [child for child in self._children[at] if child.candidate_id in expandable]
            if not children:
                return None if at is None else self._trajectories[at]
            at = min(children, key=lambda child: (-self.ucb(child.candidate_id), self.order(child))).candidate_id

    def mean(self, id: int | None) -> float:
        """The value of the node."""
        return math.fsum(self._values[id]) / self.visits(id)

    def visits(self, id: int | None) -> int:
        """One, plus the finished trajectories that continue from the node."""
        return len(self._values[id])

    def ucb(self, id: int) -> float:
        """Upper confidence bound of the node among its siblings."""
        parent_visits = self.visits(self._parents[id])
        return self.mean(id) + self._settings.exploration * math.sqrt(math.log(parent_visits) / self.visits(id))

    def _value(self, trajectory: Trajectory) -> float:
        value = merit(trajectory, self._settings, self._scope)
        return value / self._settings.thinking_tokens if self._settings.selection == Criterion.MAX_LENGTH else value

    def _expandable(self) -> set[int | None]:
        """The nodes that can be expanded, and their ancestors."""
        found: set[int | None] = set()
        for id, trajectory in self._trajectories.items():
            if id in self._step_ids and trajectory.finish is None and id not in self._extended:
                found |= {id, *self._ancestors(id)}
        return found

    def _ancestors(self, id: int) -> Iterator[int | None]:
        at: int | None = id
        while at is not None:
            if at not in self._parents:
                raise SearchError(f"the parent of candidate {id} is missing: give the candidates of all earlier steps")
            at = self._parents[at]
            yield at


def _expansions(
    settings: SearchSettings,
    scope: SeedScope,
    teachers: Sequence[str],
    *,
    step: int,
    round: int,
    beam: Beam,
    whole: bool,
) -> tuple[Expansion, ...]:
    """One step by every teacher of the beam's live node, or the `whole` rest by the node's own teacher."""
    planned = expansions(
        settings,
        scope,
        teachers,
        step=step,
        round=round,
        parents=live_parents(beam) if step > 1 else [EMPTY_TRAJECTORY],
        samples=1 if whole else settings.samples_per_teacher,
        whole=whole,
    )
    if not whole:
        return planned
    own = {trajectory.teacher for trajectory in beam if trajectory.finish is None}
    return tuple(expansion for expansion in planned if expansion.teacher in own)
