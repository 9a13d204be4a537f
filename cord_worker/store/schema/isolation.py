"""Decides which work must be exclusive, so that a problem that kills its worker does not harm other problems.

A worker that dies loses all its leases, and nothing tells which piece of work killed it. The first `SHARED_ATTEMPTS`
attempts at a piece of work are shared, later ones are exclusive (`model_worker.isolation_gate`). Every lost attempt
counts. The last attempt is always exclusive, so work is never given up because of other work in the same worker. A
harmless piece succeeds on its first exclusive attempt.
"""

from __future__ import annotations

SHARED_ATTEMPTS = 2
"""Attempts that are shared. A first loss is usually the machine's fault. After a second one, all work that the worker
had is suspected."""

MAX_ATTEMPTS = "greatest(r.max_attempts, 2)"
"""SQL: the number of attempts after which the run `r` gives a piece of work up. At least 2, so that the last one is
exclusive."""


def must_be_exclusive(attempts: str) -> str:
    """SQL: whether a piece of work of the run `r` with this many `attempts` (a column) must be exclusive."""
    return f"({attempts} >= least({SHARED_ATTEMPTS}, {MAX_ATTEMPTS} - 1))"
