"""`python -m cord_worker.cli`: how supervised processes are started."""

from __future__ import annotations

from cord_worker.cli import main

main()
