"""Which work must be done alone, so that a problem that kills its worker takes no other problem with it.

A worker that dies loses every lease that it holds, and nothing tells which of them killed it. So a lost attempt counts
towards giving a problem up only where the problem was alone in its worker. A piece of work is tried beside others at
most `COMPANIONS` times, then with nothing else in its worker (`model_worker.isolation_gate`). A harmless piece succeeds
on its first attempt alone.
"""

from __future__ import annotations

COMPANIONS = 2
"""Attempts beside others. The first loss is mostly a machine's; a second one makes every companion suspect."""

MOST_ATTEMPTS = "greatest(r.max_attempts, 2)"
"""SQL: attempts after which the run `r` gives a piece of work up; the last one is always alone."""


def must_be_alone(attempts: str) -> str:
    """SQL: whether a piece of work of the run `r` that was tried so often (a column) may only be done alone."""
    return f"({attempts} >= least({COMPANIONS}, {MOST_ATTEMPTS} - 1))"
