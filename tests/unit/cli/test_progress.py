"""Showing a run: hostile text, plain lines, JSON, and the estimate."""

from __future__ import annotations

import io
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cord_worker.progress import EtaClock, JsonView, LineView, Snapshot, TotalsCache, line, panel, shown, shown_lines
from cord_worker.store.status import Counts, TeacherTotals, Totals


def counts(*, done: int = 0, active: int = 0, queued: int = 0, failed: int = 0, active_steps: int = 0) -> Counts:
    states = {"done": done, "searching": active, "queued": queued, "failed": failed}
    return Counts({k: v for k, v in states.items() if v}, active_steps, {}, 2.0, 30.0, 1.0)


def totals(*, teacher: str = "planner", mean_steps: float | None = None) -> Totals:
    totals = TeacherTotals(teacher, 10, 1, 0, 5, 2, 1.0, 0.5, 100, 0.25)
    return Totals(
        1, 0.5, 1, 1, 1.0, mean_steps, {"scored": 9, "invalid": 1}, (totals,), 7, 50, 0.1, None, None, 0, 600.0
    )


def snapshot(counts: Counts, totals: Totals, name: str = "run") -> Snapshot:
    return Snapshot(name, "active", counts, totals, {"planner": 1}, [], None)


@given(st.text())
def test_shown_text_is_one_printable_line(text: str) -> None:
    result = shown(text)
    assert "\n" not in result
    assert all(character.isprintable() or unicodedata.category(character) == "Zs" for character in result)
    result.encode("utf-8")


def test_shown_text_keeps_what_is_harmless() -> None:
    assert shown("三 é \\frac{1}{2} [bold]") == "三 é \\frac{1}{2} [bold]"
    assert shown_lines("a\tb\n\x1b[31mc") == "a    b\n\\x1b[31mc"


def test_names_from_outside_are_not_read_as_markup_or_control_sequences() -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120, markup=False)
    hostile = "[red]x[/red]\x1b]0;owned\x07"
    screen.print(panel(snapshot(counts(done=1), totals(teacher=hostile), name=hostile), 3.0))
    output = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]x[/red]" in output
    assert "\x1b]0" not in output
    assert "\x07" not in output


def test_plain_lines_come_at_their_pace_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with LineView(seconds=1000.0) as view:
        for done in range(5):
            view.show(snapshot(counts(done=done, active=4 - done), totals()))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "0/4 done" in lines[0]
    assert "4/4 done" in lines[1]


def test_json_lines_hold_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonView() as view:
        view.show(snapshot(counts(done=2, failed=1), totals()))
        view.say("an event")
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["problems"] == {"total": 3, "active": 0, "done": 2, "failed": 1}
    assert document["tokens"] == 107
    assert document["teachers"]["planner"]["share"] == 1.0
    assert captured.err == "an event\n"


def test_a_paused_run_says_so() -> None:
    paused = Snapshot("run", "paused", counts(queued=1), totals(), {}, [], None)
    assert line(paused).startswith("paused, ")


def test_a_run_that_waits_for_a_worker_says_for_whose() -> None:
    halted = Snapshot("run", "active", counts(active=1), totals(), {"planner": 1}, ["closer\x1b", "prover"], None)
    assert line(halted).endswith(
        "ETA -, NO WORKER for closer\\x1b, prover: what needs it waits (cordctl up, or cordctl worker)"
    )
    assert halted.to_json()["missing_workers"] == ["closer\x1b", "prover"]


def test_problems_in_flight_count_towards_the_estimate() -> None:
    clock = EtaClock()
    assert clock.observe(counts(active=10), None, now=0.0) is None
    assert clock.observe(counts(active=10, active_steps=10), 4.0, now=10.0) is None
    # 2.5 problems' worth of steps at 10 s, 5 at 20 s: the other 5 take 20 s more.
    assert clock.observe(counts(active=10, active_steps=20), 4.0, now=20.0) == pytest.approx(20.0)
    assert clock.observe(counts(done=10), 4.0, now=30.0) == 0.0


def test_expensive_totals_are_asked_for_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    calls: list[float] = []

    def read() -> Totals:
        nonlocal now
        calls.append(now)
        now += 1.0
        return totals()

    monkeypatch.setattr("cord_worker.progress.time.monotonic", lambda: now)
    cache = TotalsCache(read)
    while now < 100.0:
        cache.get()
        now += 0.5
    assert len(calls) <= 100 / 20 + 1
    before = len(calls)
    cache.get(fresh=True)
    assert len(calls) == before + 1
