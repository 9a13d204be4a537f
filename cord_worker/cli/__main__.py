"""`python -m cord_worker.cli`: the command with which supervised processes are started."""

from __future__ import annotations

from cord_worker.cli import main

main()
