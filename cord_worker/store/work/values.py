"""Values that all kinds of work share: owed messages, the result of a claim, and the outcome of finished work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Due:
    """A message that is owed. `kind` is the name of a kind of work, or of a coordinator's message (`schema.kinds`).
    `model` is the fingerprint of the model that serves it; None for a coordinator."""

    kind: str
    problem_id: int
    step: int
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """The result of a claim for several problems.

    `held_back` are problems with work that may be done, but only in the other mode: exclusive instead of shared, or the
    reverse (`schema.isolation`). `due` are messages for decisions: a claim of scores finds duplicates, and if all
    candidates that a problem still waited for are duplicates, its decision is due.
    """

    leases: list[Any] = field(default_factory=list)
    held_back: frozenset[int] = frozenset()
    due: tuple[Due, ...] = ()
    _untaken: dict[int, list[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, leases: Iterable[Any], held_back: Iterable[int] = (), due: Iterable[Due] = ()) -> Claimed:
        """The result of a claim that took these leases, in this order."""
        claimed = cls(list(leases), frozenset(held_back), tuple(due))
        claimed._untaken.update((group[0].problem_id, group) for group in claimed.by_problem())
        return claimed

    def by_problem(self) -> list[list[Any]]:
        """The leases, grouped by problem."""
        groups: dict[int, list[Any]] = {}
        for lease in self.leases:
            groups.setdefault(lease.problem_id, []).append(lease)
        return list(groups.values())

    def take(self, problem_id: int) -> list[Any]:
        """The leases of this problem, for the first caller only; a second task of the same problem gets none. Safe for
        use from several threads."""
        return self._untaken.pop(problem_id, [])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What followed when results were written: the messages that are due now, and how many results were dropped."""

    due: tuple[Due, ...]
    dropped: int
