"""Showing a run: hostile text, plain lines, JSON, and the estimate."""

from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from cord_worker.cli.tables import processes_table
from cord_worker.display_text import counted
from cord_worker.operations.eta import EtaClock, TotalsCache
from cord_worker.progress import Condition, JsonView, LineView, Snapshot, line, panel, shown, shown_lines
from cord_worker.store.reports.status import Counts, TeacherTotals, Totals
from cord_worker.store.runs.processes import LiveProcess
from cord_worker.store.runs.spending import Spending


def counts(*, done: int = 0, active: int = 0, queued: int = 0, failed: int = 0, active_steps: int = 0) -> Counts:
    states = {"done": done, "searching": active, "queued": queued, "failed": failed}
    return Counts({k: v for k, v in states.items() if v}, active_steps, {}, 2.0, 30.0, 1.0, steps=7)


def totals(*, teacher: str = "planner", mean_steps: float | None = None) -> Totals:
    totals = TeacherTotals(teacher, 10, 1, 0, 5, 2, 1.0, 0.5, 100, 0.25)
    return Totals(
        1, 0.5, 1, 1, 3, 1.0, mean_steps, {"scored": 9, "invalid": 1}, (totals,), 7, 50, 0.1, None, None, 0, 600.0
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


def test_a_run_that_its_spending_limit_paused_says_why_and_what_it_has_spent() -> None:
    spending = Spending(tokens=1_012, max_tokens=1_000, cost=0.00123, max_cost=5.0, currency="USD\x1b")
    reason = spending.reached_limit()
    paused = Snapshot("run", "paused", counts(queued=1), totals(), {}, [], None, spending=spending, pause_reason=reason)
    for text in (line(paused), drawn(panel(paused, 3.0))):
        assert "spent 1,012 of 1,000 tokens, 0.0012 of 5.00 USD\\x1b" in text
        assert "paused by its spending limit; found at the pause: 1,012 generated tokens, of at most 1,000" in text
    document = paused.to_json()
    assert (document["pause_reason"], document["spending"]["max_cost"]) == (reason, 5.0)
    assert replace(spending, max_tokens=1_013).reached_limit() is None
    assert "(run.max_cost)" in str(replace(spending, max_tokens=None, cost=5.0).reached_limit())


def test_a_run_that_waits_for_workers_names_their_models() -> None:
    halted = Snapshot("run", "active", counts(active=1), totals(), {"planner": 1}, ["closer\x1b", "prover"], None)
    assert line(halted).endswith(
        "ETA -; NO WORKER for closer\\x1b, prover: start one with cordctl up or cordctl worker"
    )
    assert halted.to_json()["missing_workers"] == ["closer\x1b", "prover"]


@pytest.mark.parametrize("view", [line, lambda one: drawn(panel(one, 3.0))])
def test_a_finished_run_shows_no_remaining_time(view: Callable[[Snapshot], str]) -> None:
    under_way = replace(snapshot(counts(done=1, active=1), totals()), eta_seconds=75.0)
    assert "ETA 1:15" in view(under_way)
    assert "ETA" not in view(replace(under_way, counts=counts(done=1, failed=1), state="finished", eta_seconds=0.0))


def drawn(panel: RenderableType) -> str:
    screen = Console(file=io.StringIO(), width=120, markup=False)
    screen.print(panel)
    return screen.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(
    ("number", "told"), [(0, "0 problems"), (1, "1 problem"), (2, "2 problems"), (1000, "1,000 problems")]
)
def test_a_number_and_its_noun_agree(number: int, told: str) -> None:
    assert counted(number, "problem") == told


@pytest.mark.parametrize(("noun", "plural"), [("trajectory", "trajectories"), ("day", "days"), ("pair", "pairs")])
def test_a_noun_has_its_regular_plural(noun: str, plural: str) -> None:
    assert (counted(1, noun), counted(2, noun)) == (f"1 {noun}", f"2 {plural}")


def waiting_snapshot(idle: float, *, proposed: bool = True, missing: Sequence[str] = ()) -> Snapshot:
    still = replace(counts(active=1), idle_seconds=idle)
    begun = totals() if proposed else replace(totals(), teachers=())
    waits = {"qwq\x1b": "loads its model (for 1:05; 3 proposals)", "prover": "has 2 scores, not started yet"}
    return Snapshot("run", "active", still, begun, {}, missing, None, waiting=waits)


def test_a_run_without_results_for_a_minute_says_what_it_waits_for() -> None:
    assert "waiting" not in line(waiting_snapshot(59.0))
    assert line(waiting_snapshot(75.0)).endswith(
        "; nothing for 1:15: waiting for qwq\\x1b, prover: qwq\\x1b loads its model (for 1:05; 3 proposals); "
        "prover has 2 scores, not started yet"
    )
    assert "nothing for 1:15: NO WORKER for prover" in line(waiting_snapshot(75.0, missing=["prover"]))
    assert waiting_snapshot(75.0).to_json()["waiting_for"]["prover"] == "has 2 scores, not started yet"


def test_a_new_run_says_at_once_what_it_waits_for() -> None:
    assert "; waiting for qwq" in line(waiting_snapshot(0.5, proposed=False))


def test_plain_lines_hold_what_was_done_so_far() -> None:
    assert "7 steps, 10 candidates (2.0/s), 107 tokens (30/s)" in line(snapshot(counts(active=1), totals()))


def test_plain_lines_are_not_repeated_while_nothing_happens(capsys: pytest.CaptureFixture[str]) -> None:
    with LineView(seconds=0.0) as view:
        for idle in (61.0, 62.0, 63.0):
            view.show(waiting_snapshot(idle))
        view.show(replace(waiting_snapshot(0.0), totals=replace(totals(), teachers=(replace_tokens(),))))
    assert len(capsys.readouterr().err.splitlines()) == 2


def replace_tokens() -> TeacherTotals:
    return TeacherTotals("planner", 11, 1, 0, 5, 2, 1.0, 0.5, 110, 0.25)


def test_problems_in_flight_count_towards_the_estimate() -> None:
    clock = EtaClock()
    assert clock.observe(counts(active=11), None, now=0.0) is None
    assert (
        clock.observe(counts(active=11), None, now=5.0) is None
    )  # models load: this does not count as time of the work
    assert clock.observe(counts(done=1, active=10, active_steps=20), 4.0, now=15.0) == pytest.approx(5 * 10 / 6)
    assert clock.observe(counts(done=11), 4.0, now=30.0) == 0.0


def test_a_few_short_problems_promise_no_early_end() -> None:
    clock = EtaClock()
    clock.observe(counts(active=100), None, now=0.0)
    assert clock.observe(counts(done=4, active=96, active_steps=500), 2.0, now=10.0) is None
    # Problems in flight have five steps each, more than the done ones had: they count as half done, not nearly done.
    eta = clock.observe(counts(done=5, active=95, active_steps=475), 2.0, now=10.0)
    assert eta == pytest.approx(47.5 * 10 / 52.5)


def test_a_continued_run_says_what_it_waits_for() -> None:
    again = replace(waiting_snapshot(0.5), is_beginning=True)
    assert "waiting for qwq\\x1b (loads its model, for 1:05; 3 proposals)" in line(again)


def test_a_finished_run_that_is_repeated_waits_for_nothing() -> None:
    waits = {"closer": "is being started"}
    again = replace(snapshot(counts(done=40), totals()), waiting=waits, is_beginning=True)
    assert again.is_final
    assert "waiting" not in line(again)
    unfinished = replace(snapshot(counts(done=39, active=1), totals()), waiting=waits, is_beginning=True)
    assert "waiting for closer (is being started)" in line(unfinished)


def test_the_line_before_the_first_proposal_is_short() -> None:
    names = ("planner", "calculator", "closer", "prover")
    waits = dict.fromkeys(names, "is being started (40 proposals)")
    begun = replace(snapshot(counts(active=40), replace(totals(), teachers=())), waiting=waits)
    assert line(begun) == "0/40 done, 40 active; waiting for planner, calculator, closer, prover (is being started)"


def test_expensive_totals_are_read_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    calls: list[float] = []

    def read() -> Totals:
        nonlocal now
        calls.append(now)
        now += 1.0
        return totals()

    monkeypatch.setattr("cord_worker.operations.eta.time.monotonic", lambda: now)
    cache = TotalsCache(read)
    while now < 100.0:
        cache.get()
        now += 0.5
    assert len(calls) <= 100 / 20 + 1
    before = len(calls)
    cache.get(fresh=True)
    assert len(calls) == before + 1


NOW = datetime.now(UTC)
CHECKS = "cannot check answers: its processes end (exit code -9)"


@pytest.mark.parametrize("idle", [0.0, 10.0, 59.0, 60.0, 600.0])
@pytest.mark.parametrize("proposed", [True, False])
def test_every_condition_is_shown_however_long_the_run_makes_no_progress(idle: float, proposed: bool) -> None:
    conditions = [
        Condition("coordinator", "host:1", CHECKS, NOW, 30.0),
        Condition("qwq", "host:2", "waits for its broker at host:6379: it is a replica", NOW, 30.0),
        Condition("qwq", "host:3", "loads its model", NOW, 30.0),
    ]
    waits = {"coordinator": f"{CHECKS} (for 0:30; 3 answers)", "qwq": f"{conditions[1].text} (for 0:30; 2 proposals)"}
    still = replace(waiting_snapshot(idle, proposed=proposed), conditions=conditions, waiting=waits)
    for shown_text in (line(still), " ".join(drawn(panel(still, 3.0)).split())):
        for one in conditions:
            assert shown_text.count(one.text.partition(" (")[0]) == 1


def test_the_table_of_processes_shows_a_condition_in_place_of_works() -> None:
    def process(condition: str | None, *, is_ready: bool = True, was_draining: bool = False) -> LiveProcess:
        since = None if condition is None else NOW
        model = ("path", "f1", "host", 7)
        return LiveProcess("0123456789", "model", *model, "1", NOW, is_ready, was_draining, condition, since)

    table = processes_table(
        [
            process(None),
            process(CHECKS),
            process("loads its model", is_ready=False),
            process("waits", was_draining=True),
        ],
        {"f1": "planner"},
    )
    states = list(table.columns[-1].cells)
    assert [str(state) for state in states] == ["running", CHECKS, "starting: loads its model", "draining: waits"]
