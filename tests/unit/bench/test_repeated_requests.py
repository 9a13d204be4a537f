"""The requests of a run as `cordctl bench engine` repeats them."""

from __future__ import annotations

import datetime
from pathlib import Path

from cord_worker.bench.repeated_requests import RecordedRequests
from cord_worker.config import RunConfig
from cord_worker.store.reports.measurements import CandidateRequests
from tests.support.configurations import SMALL


def test_repeated_prompts_print_the_date_of_the_run() -> None:
    config = RunConfig.parse(SMALL, source="test", folder=Path.cwd())
    teacher = config.teachers[0].name
    row = CandidateRequests(
        1, None, 0, "How many?", None, "4", 1, 0, teacher, 7, 32, " Four.", 3, 9, 0, 0.5, 12, 0, 1.0, 2.0
    )
    today = datetime.date(2026, 3, 4)
    recorded = RecordedRequests(config, [row], [], today)
    assert (recorded.teacher_turn(row).date, recorded.prover_turn(row).date) == (today, today)
