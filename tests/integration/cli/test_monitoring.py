"""Watching a run, its metrics and its traces: one finished run, and one that waits and has hostile texts."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import socket
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from textual.pilot import Pilot
from textual.widgets import Static

from cord_worker.cli import cli
from cord_worker.cli.watch_app import WatchApp
from cord_worker.coordination.coordinator import table_metrics
from cord_worker.coordination.coordinator.table_metrics import OTHER, TABLE_METRICS, TableMetrics, labels_of
from cord_worker.operations.live_watch import LiveWatch
from cord_worker.store.database import Database
from cord_worker.store.reports.recent import recent_rates
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.work import workers
from cord_worker.store.work.workers import Condition
from tests.support.cordctl_process import Cordctl
from tests.support.tables import run_id
from tests.support.two_postgres import Address

WAITING = "waiting"
_TEXT = "[@click=app.quit]x[/] \x1b[31m\u202eabc\n]8;;http://evil/\x07 ![a](b) {0} %s"
PROBLEMS = 5
Scenario = Callable[[WatchApp, Pilot[Any]], Awaitable[None]]


@pytest.fixture(scope="module")
def database(finished: Cordctl) -> Iterator[Database]:
    """The database of the finished run `done`, and of the run `WAITING`: a worker of it has a hostile condition, and a
    problem failed for a hostile reason."""
    finished("enqueue", "problems.jsonl", "--run", WAITING)
    database = Database(finished.environment["CORD_DATABASE_URL"], retry_seconds=0.2)

    def spoil(connection: sa.Connection) -> None:
        worker = uuid.uuid4()
        model = connection.execute(sa.text("SELECT id FROM models WHERE path = 'alpha'")).scalar_one()
        workers.register(connection, worker, WorkerRole.MODEL, hostname="[red]h", pid=1, model_id=model)
        workers.mark_ready(connection, worker, Condition(_TEXT, 5.0))
        connection.execute(sa.text("UPDATE workers SET stopped_at = now() WHERE id <> :id"), {"id": worker})
        connection.execute(sa.text("UPDATE workers SET heartbeat_at = now() + interval '1 h'"))
        connection.execute(
            sa.text(
                "UPDATE problems SET state = 'failed', failure_reason = :text, finished_at = now(), key = key || :text "
                "WHERE run_id = (SELECT id FROM runs WHERE name = :run) AND position = 0"
            ),
            {"text": _TEXT, "run": WAITING},
        )

    database.run(spoil)
    yield database
    database.close()


def ask(database: Database, statement: str, **parameters: object) -> Any:
    return database.run(lambda connection: connection.execute(sa.text(statement), parameters).scalar_one())


def change(database: Database, statement: str, **parameters: object) -> None:
    database.run(lambda connection: connection.execute(sa.text(statement), parameters))


def screen(app: WatchApp) -> list[str]:
    """The lines on the terminal."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips]


def watch(database: Database, run: str, scenario: Scenario, size: tuple[int, int] = (80, 24)) -> WatchApp:
    """Runs the screen through the scenario, from its first look on."""
    app = WatchApp(LiveWatch(database, run, worker_timeout_seconds=5.0), interval_seconds=0.2)

    async def go() -> None:
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.state is not None)
            await scenario(app, pilot)

    asyncio.run(go())
    return app


async def until(pilot: Pilot[Any], condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await pilot.pause(0.02)
    await pilot.pause()


SCREEN = """\
waiting   active   priority 0   - so far   ETA -   at HH:MM:SS
████░░░░░░░░░░░░░░░░ 20 %   0 done, 0 active, 4 queued, 1 failed of 5
score -, accuracy - of 0, 0 candidates, 0 tokens
trajectories/min
0 (most 0)
candidates/min
0 (most 0)
tokens/min
0 (most 0)
model                     workers   waiting   leased    cached
alpha                           1         0        0         -
  alpha [@click=app.quit]x[/] \\x1b[31m\\u202eabc\\n]8;;http://evil/\\x07 ![a](b)
{0} %s (for M:SS)
judge                        NONE         0        0         -
coordinator                  NONE         0        0         -





newest failures
HH:MM:SS p0[@click=app.quit]x[/…  [@click=app.quit]x[/] \\x1b[31m\\u202eabc\\n]8;;…

 p Pause  r Resume  o Priority  q Quit"""


@pytest.mark.long
def test_80_columns_and_24_lines_show_the_run_and_hostile_texts_as_plain_text(database: Database) -> None:
    async def scenario(app: WatchApp, _: Pilot[Any]) -> None:
        lines = screen(app)
        assert len(lines) == 24
        text = re.sub(r"\d\d:\d\d:\d\d", "HH:MM:SS", "\n".join(lines))
        shown = re.sub(r"for \d+:\d\d", "for M:SS", text)
        assert shown == SCREEN
        clickable = [
            segment.text
            for strip in app.screen._compositor.render_strips()
            for segment in strip
            if segment.style is not None and "@click" in segment.style.meta
        ]
        assert clickable == []

    watch(database, WAITING, scenario)


def test_a_finished_run_shows_its_results_and_curves(database: Database) -> None:
    async def scenario(app: WatchApp, _: Pilot[Any]) -> None:
        text = "\n".join(screen(app))
        assert "finished" in text
        assert f"100 %   {PROBLEMS} done" in text
        assert "no failed problems" in text

    app = watch(database, "done", scenario, (100, 30))
    assert app.state is not None
    proposed = ask(
        database,
        "SELECT count(c.proposed_at) FROM candidates c JOIN problems p ON p.id = c.problem_id WHERE p.run_id = :run",
        run=run_id(database, "done"),
    )
    assert app.state.snapshot.totals.proposed == proposed


def test_rates_are_not_invented_for_candidates_that_were_not_read(database: Database) -> None:
    run = run_id(database, "done")
    everything = database.run(lambda connection: recent_rates(connection, run, bins=1, bin_seconds=86400.0))
    assert everything.trajectories == [PROBLEMS]
    assert everything.candidates == [ask(database, "SELECT count(proposed_at) FROM candidates")]
    assert everything.tokens == [ask(database, "SELECT sum(completion_tokens) FROM candidates")]
    partly = database.run(
        lambda connection: recent_rates(connection, run, bins=1, bin_seconds=86400.0, newest_candidates=3)
    )
    assert partly.candidates == partly.tokens == [None]


def test_keys_change_the_run_only_after_a_confirmation(database: Database) -> None:
    def stored() -> tuple[str, int]:
        row = "SELECT state || ' ' || priority FROM runs WHERE name = :run"
        state, priority = str(ask(database, row, run=WAITING)).split()
        return state, int(priority)

    async def scenario(app: WatchApp, pilot: Pilot[Any]) -> None:
        def notice() -> str:
            return str(app.screen_stack[0].query_one("#notice", Static).render())

        await pilot.press("p")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        assert "Pause run waiting?" in " ".join(" ".join(screen(app)).replace("│", " ").split())
        await pilot.press("n")
        await until(pilot, lambda: len(app.screen_stack) == 1)
        assert stored() == ("active", 0)
        await pilot.press("p", "y")
        await until(pilot, lambda: stored()[0] == "paused" and app.state and app.state.snapshot.state == "paused")
        assert "paused" in screen(app)[0]
        assert "is paused" in notice()
        await pilot.press("r", "y")
        await until(pilot, lambda: stored()[0] == "active" and app.state and app.state.snapshot.state == "active")
        await pilot.press("o", "x", "enter")
        assert "whole number" in str(app.screen.query_one("#hint", Static).render())
        await pilot.press("escape", "o", *"-12", "enter")
        await until(pilot, lambda: stored() == ("active", -12) and app.state and app.state.priority == -12)
        assert "priority -12" in screen(app)[0]
        await pilot.press("q")

    assert watch(database, WAITING, scenario).return_value is None


def test_an_outage_is_shown_until_it_is_over(database: Database, finished: Cordctl) -> None:
    url = sa.make_url(finished.environment["CORD_DATABASE_URL"])
    if url.port is None:
        pytest.skip("the database has no port that could lead elsewhere")
    end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'watched'"

    def refuse() -> None:
        while True:
            deaf.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as deaf, Address(url.port) as address:
        threading.Thread(target=refuse, daemon=True).start()

        async def scenario(app: WatchApp, pilot: Pilot[Any]) -> None:
            def is_out() -> bool:
                return any("NOT UP TO DATE" in line for line in screen(app))

            assert not is_out()
            address.leads_to = deaf.getsockname()[1]
            assert ask(database, end) > 0
            await until(pilot, is_out)
            assert screen(app)[0].startswith(WAITING)
            address.leads_to = url.port or 0
            await until(pilot, lambda: not is_out())

        to = url.set(host="127.0.0.1", port=address.port).render_as_string(hide_password=False)
        reached = Database(to, application_name="watched", retry_seconds=0.2)
        watch(reached, WAITING, scenario)
        reached.close()


def test_the_command_needs_a_terminal_and_quits_by_a_key(finished: Cordctl, database: Database) -> None:  # noqa: ARG001
    refused = CliRunner().invoke(cli, ["watch"])
    assert refused.exit_code == 2
    assert "there is none" in refused.output
    assert "Traceback" not in refused.output
    parent, terminal = pty.openpty()
    process = subprocess.Popen(
        finished.command("watch", "done"),
        cwd=finished.folder,
        env={**finished.variables(), "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    seen = b""
    while b"finished" not in seen:
        assert select.select([parent], [], [], 120)[0], seen
        seen += os.read(parent, 65536)
    os.write(parent, b"q")
    ended = threading.Event()

    def drain() -> None:
        while not ended.is_set():
            try:
                os.read(parent, 65536)
            except OSError:
                return

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    try:
        assert process.wait(timeout=120) == 0
    finally:
        process.kill()
        ended.set()
        os.close(parent)


def scraped(collector: TableMetrics) -> dict[tuple[str, ...], float]:
    """Values by name and label values, as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(collector)
    known = {metric.name: metric.labels for metric in TABLE_METRICS}
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            assert set(sample.labels) == set(known[sample.name])
            key = (sample.name, *(sample.labels[label] for label in known[sample.name]))
            assert key not in found
            found[key] = sample.value
    return found


def test_only_the_leader_has_the_metrics_of_runs_and_reads_them_rarely(database: Database) -> None:
    now, leads = 0.0, True
    collector = TableMetrics(database, lambda: leads, worker_timeout_seconds=5.0, clock=lambda: now)
    first = scraped(collector)
    label = WAITING
    assert first["cord_leading",] == 1
    assert first["cord_problems", label, "queued"] == PROBLEMS - 1
    assert first["cord_problems", label, "failed"] == 1
    assert not any(key[:2] == ("cord_problems", "done") for key in first)  # it ended before this leader began
    assert first["cord_run_active", label] == 1
    assert first["cord_workers", "alpha", "degraded"] == 1
    assert not any(key[0] == "cord_work" for key in first)
    plan = """
        INSERT INTO candidates (problem_id, parent_rank, step, depth, round, teacher_id, sample, lineage, seed,
                                max_tokens, whole, state, proposed_at, propose_seconds, prompt_tokens, cached_tokens,
                                completion_tokens)
        SELECT p.id, 0, 1, 1, 0, t.id, 0, CAST(s.state AS text), 0, 8, false, s.state, now(), 1.0, 600, 300, 120
        FROM problems p JOIN teachers t ON t.run_id = p.run_id AND t.ordinal = 0
        JOIN runs r ON r.id = p.run_id AND r.name = :run
        CROSS JOIN (VALUES ('pending'), ('proposing'), ('proposed')) AS s(state) WHERE p.position = 1
    """
    searching = "UPDATE problems SET state = 'searching', outstanding = 3 WHERE position = 1 AND state = 'queued'"
    run = {"run": WAITING}
    try:
        change(database, searching)
        change(database, plan, **run)
        now = 9.0
        assert scraped(collector) == first
        now = 1000.0
        second = scraped(collector)
        assert second["cord_problems", label, "searching"] == 1
        assert second["cord_work", "alpha", "proposal", "waiting"] == 1
        assert second["cord_work", "alpha", "proposal", "leased"] == 1
        assert second["cord_work", "judge", "score", "waiting"] == 1
        assert second["cord_model_tokens_per_second", "alpha", "proposal", "cached"] >= 3 * 300 / 60
        assert second["cord_model_request_seconds_per_second", "alpha", "proposal"] >= 3 / 60
        change(database, "UPDATE runs SET state = 'paused' WHERE name = :run", **run)
        now = 2000.0
        third = scraped(collector)
        assert third["cord_run_active", label] == 0
        assert third["cord_work", "alpha", "proposal", "leased"] == 1
        assert third["cord_work", "alpha", "proposal", "waiting"] == 0
    finally:
        change(database, "UPDATE runs SET state = 'active' WHERE name = :run", **run)
        change(database, "DELETE FROM candidates WHERE state IN ('pending', 'proposing', 'proposed')")
        change(database, "UPDATE problems SET state = 'queued', outstanding = 0 WHERE state = 'searching'")
    leads = False
    assert scraped(collector) == {("cord_leading",): 0}


PRICES = """{"currency": "EUR", "models": {
    "alpha": {"input": 2, "cached": 1, "output": 10, "gpu_hour": 3.5}, "judge": {"input": 0.5, "output": 0}
}}"""


@pytest.fixture
def done_goes_on(database: Database) -> Iterator[None]:
    """The run `done` has an unfinished problem."""
    one = "(SELECT min(p.id) FROM problems p JOIN runs r ON r.id = p.run_id WHERE r.name = 'done')"
    change(database, f"UPDATE problems SET state = 'verifying' WHERE id = {one}")
    yield
    change(database, f"UPDATE problems SET state = 'done' WHERE id = {one}")
    change(database, "UPDATE runs SET prices = NULL WHERE name = 'done'")


@pytest.mark.usefixtures("done_goes_on")
def test_tokens_and_cost_of_a_run_are_those_of_the_cost_command(
    database: Database, finished: Cordctl, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    collector = TableMetrics(database, lambda: True, worker_timeout_seconds=5.0, clock=lambda: now)
    without = scraped(collector)
    assert not any(key[0] == "cord_run_cost" for key in without)

    def set_prices(prices: str) -> dict[tuple[str, ...], float]:
        nonlocal now
        change(database, "UPDATE runs SET prices = CAST(:prices AS jsonb) WHERE name = 'done'", prices=prices)
        now += 1000.0
        return scraped(collector)

    found = set_prices(PRICES)
    cost = json.loads(finished("cost", "done", "--json").stdout)
    for model in ("alpha", "judge"):
        rows = [row for row in cost["models"] if row["model"] == model]
        for direction in ("prompt", "cached", "completion"):
            tokens = sum(row[f"{direction}_tokens"] for row in rows)
            assert found.get(("cord_run_tokens", "done", model, direction), 0) == tokens
    assert found["cord_run_tokens", "done", "alpha", "completion"] > 0
    money = {one["model"]: one["total"] for one in cost["money"]["models"]}
    assert {key[2]: value for key, value in found.items() if key[0] == "cord_run_cost"} == pytest.approx(money)
    assert {key[1::2] for key in found if key[0] == "cord_run_cost"} == {("done", "EUR")}
    assert not any(key[:2] == ("cord_run_tokens", WAITING) for key in found)  # nothing was asked for it

    caplog.clear()
    unknown = set_prices(PRICES.replace("judge", "beta"))
    assert not any(key[0] == "cord_run_cost" for key in unknown)
    assert unknown["cord_run_tokens", "done", "alpha", "completion"] > 0
    assert "no metric of the cost of run done" in caplog.text


def test_labels_are_few_short_and_printable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_metrics, "MAX_LABEL_VALUES", 3)
    labels = labels_of(["a\n", "b" * 500, "c", "d", "c"])
    assert labels["a\n"] == "a\\n"
    assert len(labels["b" * 500]) < 150
    assert (labels["c"], labels["d"]) == ("c", OTHER)


@dataclass
class Receiver:
    """A receiver of OTLP over HTTP on loopback."""

    url: str
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    status: int = 200

    def spans(self) -> list[Any]:
        of_all = [of for one in self.requests for of in one.resource_spans]
        return [span for of in of_all for scope in of.scope_spans for span in scope.spans]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        found: ClassVar[Receiver]

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            self.found.bodies.append(body)
            self.found.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(self.found.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.found = Receiver(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Handler.found
        server.shutdown()


def traced(finished: Cordctl, *arguments: str, exits: int = 0) -> str:
    ended = CliRunner().invoke(cli, ["trace", *arguments], env=finished.environment)
    assert ended.exit_code == exits, ended.output
    return ended.output


def attributes_of(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_a_trace_is_the_search_tree_with_times_and_the_same_ids_again(
    finished: Cordctl, database: Database, receiver: Receiver
) -> None:
    told = json.loads(traced(finished, "done", "--otlp", receiver.url, "--json"))
    spans = receiver.spans()
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    assert len(by_id) == len(spans) == told["spans"]
    assert told["traces"] == len({span.trace_id for span in spans}) == PROBLEMS + 1
    names = Counter(span.name.partition(" ")[0] for span in spans)
    run = run_id(database, "done")

    def number(what: str, table: str, condition: str) -> int:
        join = "JOIN problems p ON p.id = c.problem_id" if table != "problems" else ""
        key = "c" if table == "problems" else "p"
        statement = f"SELECT {what} FROM {table} c {join} WHERE {key}.run_id = :run AND {condition}"
        return int(ask(database, statement, run=run))

    assert names["run"] == 1
    assert names["problem"] == 2 * PROBLEMS
    assert names["candidate"] == number("count(*)", "candidates", "true")
    assert names["propose"] == number("count(*)", "candidates", "c.propose_seconds IS NOT NULL")
    assert names["score"] == number("count(*)", "candidates", "c.score_seconds IS NOT NULL")
    assert names["base"] == number("count(*)", "problems", "c.base_score IS NOT NULL")
    assert names["answer"] == number("count(*)", "trajectories", "c.answer_seconds IS NOT NULL")
    assert names["step"] == number("count(DISTINCT (c.problem_id, c.step, c.round))", "candidates", "true")
    parents = {"step": "problem", "candidate": "step", "answer": "problem"} | dict.fromkeys(
        ("propose", "score"), "candidate"
    )
    for span in spans:
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        if span.parent_span_id:
            parent = by_id[span.trace_id, span.parent_span_id]
            assert parent.start_time_unix_nano <= span.start_time_unix_nano
            assert parent.end_time_unix_nano >= span.end_time_unix_nano
            kind = span.name.partition(" ")[0]
            assert parent.name.partition(" ")[0] == parents.get(kind, parent.name.partition(" ")[0])
        for link in span.links:
            assert (link.trace_id, link.span_id) in by_id
    winning = [span for span in spans if attributes_of(span).get("cord.winning")]
    assert len(winning) == number("count(*)", "candidates", "c.winning")
    proposal = next(span for span in spans if span.name == "propose")
    assert attributes_of(proposal)["gen_ai.request.model"] == "alpha"
    assert attributes_of(proposal)["gen_ai.usage.output_tokens"] > 0
    question = ask(database, "SELECT question FROM problems ORDER BY id LIMIT 1")
    assert not any(question.encode() in body for body in receiver.bodies)
    before, receiver.requests = {*by_id}, []
    traced(finished, "done", "--otlp", receiver.url + "/v1/traces")
    assert {(span.trace_id, span.span_id) for span in receiver.spans()} == before


def test_a_failed_problem_is_an_error_with_its_reason_as_plain_text(
    finished: Cordctl, database: Database, receiver: Receiver
) -> None:
    def admit(when: str) -> None:
        change(database, f"UPDATE problems SET admitted_at = {when} WHERE failure_reason IS NOT NULL")

    admit("finished_at - interval '1 min'")
    try:
        traced(finished, WAITING, "--otlp", receiver.url)
    finally:
        admit("NULL")
    run, *problems = sorted(receiver.spans(), key=lambda span: not span.name.startswith("run"))
    assert (run.name, run.status.code) == (f"run {WAITING}", 0)
    assert len(problems) == 2  # in its own trace, and in that of the run; the others have not begun
    for span in problems:
        assert span.status.code == 2
        assert span.status.message.isprintable()
        assert "app.quit" in span.status.message
        assert span.end_time_unix_nano - span.start_time_unix_nano == 60 * 10**9


def test_one_problem_and_a_file(finished: Cordctl, database: Database, receiver: Receiver, tmp_path: Path) -> None:
    key = ask(database, "SELECT key FROM problems WHERE run_id = :run AND position = 0", run=run_id(database, "done"))
    output = tmp_path / "spans.jsonl"
    traced(finished, "done", "--problem", key, "--otlp", receiver.url)
    for _ in range(2):
        traced(finished, "done", "--problem", key, "-o", str(output))
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    written = [
        span for line in lines for of in line["resourceSpans"] for scope in of["scopeSpans"] for span in scope["spans"]
    ]
    sent = receiver.spans()
    assert [span["spanId"] for span in written] == [span.span_id.hex() for span in sent]
    assert {span.name for span in sent if span.name.startswith("problem")} == {f"problem {key}"}
    other = tmp_path / "other.jsonl"
    other.write_text('{"question": "mine"}\n')
    assert "would be lost" in traced(finished, "done", "-o", str(other), exits=1)
    assert "no problem called 'absent'" in traced(finished, "done", "--problem", "absent", "-o", "-", exits=1)


def test_a_receiver_that_refuses_and_wrong_usage_are_named(finished: Cordctl, receiver: Receiver) -> None:
    receiver.status = 400
    with_password = receiver.url.replace("//", "//user:secret@")
    refused = traced(finished, "done", "--otlp", with_password, exits=1)
    assert "did not take the spans" in refused
    assert "secret" not in refused
    for arguments in ([], ["--otlp", receiver.url, "-o", "x"], ["--otlp", "ftp://a"], ["--otlp", "localhost:4318"]):
        assert "Traceback" not in traced(finished, "done", *arguments, exits=2)


def test_without_the_packages_one_line_says_what_to_install(
    finished: Cordctl, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    assert "pip install 'cord-worker[trace]'" in traced(finished, "done", "--otlp", receiver.url, exits=1)
