"""Prometheus metrics of one process, and the port that serves them.

Histograms are in seconds. A *task* is one message: all candidates of a step that one model proposes, scores or judges.
Its parts are: `transit` (from sending to receipt by the worker, including the wait in the queue), `start` (from receipt
to running), `room` (until the worker holds few enough leases to claim more), `lease` (claim and read), `engine`,
`write` (commit of the results) and `publish` (sending one message to the broker). A candidate's *overhead* is
`start + lease + write`, its cost besides its model. Its *delay* also includes `transit` and `room`, which contain
publishing and waiting for a busy model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app, start_http_server

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

Probe: TypeAlias = Callable[[], str | None]
"""Says what is wrong with this process in a few words, None if nothing is."""

_BUCKETS_MS = (0.5, 1, 1.5, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 35, 40, 50, 60, 80, 100, 120, 150, 200, 300)
_BUCKETS = (*(round(bucket / 1000, 6) for bucket in _BUCKETS_MS), 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 1800.0)

REGISTRY = CollectorRegistry()

TASK_PARTS = Histogram(
    "cord_task_part_seconds",
    "Parts of a task, by kind of task.",
    ["kind", "part"],
    buckets=_BUCKETS,
    registry=REGISTRY,
)
CANDIDATE_OVERHEAD = Histogram(
    "cord_candidate_overhead_seconds",
    "Overhead of a candidate in its worker, besides its model: start, lease and read, write.",
    ["kind"],
    buckets=_BUCKETS,
    registry=REGISTRY,
)
CANDIDATE_DELAY = Histogram(
    "cord_candidate_delay_seconds",
    "Overhead of a candidate, transit of its message and wait for room; at light load, all that the service adds.",
    ["kind"],
    buckets=_BUCKETS,
    registry=REGISTRY,
)
CANDIDATES = Counter(
    "cord_candidates",
    "Candidates that this process finished, by kind (propose, score, judge, rescore) and outcome (valid, invalid).",
    ["kind", "outcome"],
    registry=REGISTRY,
)
TOKENS = Counter(
    "cord_tokens",
    "Tokens, by kind (propose, score, judge, answer, verdict, rescore): `prompt`, those of them `cached`, and "
    "`completion`.",
    ["kind", "direction"],
    registry=REGISTRY,
)
CHECKED_ANSWERS = Counter(
    "cord_checked_answers",
    "Final answers that this process checked, by outcome (correct, wrong, undecided) and method (exact, math, choice, "
    "numeric, math_verify, unequal, judge; for undecided ones undecided, timeout, crashed, unsupported). An answer "
    "that the judge decides after an undecided comparison counts twice.",
    ["method", "outcome"],
    registry=REGISTRY,
)
TASKS_RUNNING = Gauge("cord_tasks_running", "Tasks that this process is working on.", registry=REGISTRY)
STOLEN_TASKS = Counter(
    "cord_stolen_tasks", "Tasks that this idle replica took over from another replica's shard.", registry=REGISTRY
)
BAD_MESSAGES = Counter(
    "cord_bad_messages", "Messages that this process dropped because it could not read them.", registry=REGISTRY
)
LOST_LEASES = Counter(
    "cord_lost_leases",
    "Leases of lost or stopped workers that this coordinator took back while it led.",
    registry=REGISTRY,
)
RECOVERED_FAULTS = Counter(
    "cord_recovered_faults",
    "Faults that this coordinator recovered from while it led: lost_worker (declared lost), lost_message (owed work "
    "that was sent again), emptied_broker (all messages were lost).",
    ["fault"],
    registry=REGISTRY,
)
for _fault in ("lost_worker", "lost_message", "emptied_broker"):
    RECOVERED_FAULTS.labels(_fault)  # begins at 0, so that the first fault is an increase
GIVEN_UP_WORK = Counter(
    "cord_given_up_work",
    "Pieces of work that used up run.max_attempts and were given up by this coordinator while it led.",
    registry=REGISTRY,
)
PROCESS_INFO = Gauge(
    "cord_process_info",
    "Always 1: what this process does. `role` is model or coordinator; `model` is the path of its model.",
    ["role", "model"],
    registry=REGISTRY,
)


@contextmanager
def timed(kind: str, part: str) -> Iterator[_Elapsed]:
    """Observes the block's duration as this part of a task of this kind; the yielded object holds it afterwards."""
    elapsed = _Elapsed()
    started = time.perf_counter()
    try:
        yield elapsed
    finally:
        elapsed.seconds = time.perf_counter() - started
        TASK_PARTS.labels(kind, part).observe(elapsed.seconds)


def count_checked_answer(method: str, correct: bool | None) -> None:
    """Counts one checked or judged final answer."""
    outcome = "undecided" if correct is None else "correct" if correct else "wrong"
    CHECKED_ANSWERS.labels(method, outcome).inc()


class _Elapsed:
    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0


def serve_metrics(port: int, host: str, probes: Mapping[str, Probe] | None = None) -> int:
    """Serves /metrics, and the paths of `probes`, from a daemon thread; port 0 is any free one. Returns the port.

    A probe says in a few words what is wrong (503), or None (200). Raises OSError if the port is taken.
    """
    server, _ = start_http_server(port, addr=host, registry=REGISTRY)
    server.set_app(_with_probes(make_wsgi_app(REGISTRY), dict(probes or {})))
    return int(server.server_port)


def _with_probes(metrics: WSGIApplication, probes: Mapping[str, Probe]) -> WSGIApplication:
    """`metrics`, and before it the paths of `probes`, which read neither database nor broker."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        probe = probes.get(environ.get("PATH_INFO", ""))
        if probe is None:
            return metrics(environ, start_response)
        wrong = probe()
        status = "200 OK" if wrong is None else "503 Service Unavailable"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{wrong or 'ok'}\n".encode()]

    return answer
