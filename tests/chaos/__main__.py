"""`python -m tests.chaos --faults 500 --seed 1`: faults of every kind, in a seeded order, under every pipeline in turn.

Own servers, several coordinators, two processes for every model but the judge's; the instant engine answers. Runs are
enqueued while faults strike, each ends and is compared with an undisturbed run of the same configuration, row for row,
and checked as `cordctl replay` and `verify-db` do. The last line of the output is one JSON object; the exit code is 1
if anything was different, found, lost or repeated, if a process ended that was not killed, or if work continued too
late after a fault: the limit is `recovery.longest_recovery`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import sqlalchemy as sa

from cord_worker.config import RunConfig, Settings
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import enqueue
from tests.chaos.audit import INSTALL, Audit
from tests.chaos.configurations import CHECKED, FAST, SEARCHES, configuration, problems
from tests.chaos.fleet import COORDINATOR, Fleet
from tests.chaos.kinds import KINDS, SLOW, Storm, available
from tests.chaos.model_server import ModelServer
from tests.chaos.recovery import Watch, late, longest_recovery, look
from tests.chaos.servers import Servers, take_own_shared_memory
from tests.support.tables import Content, content, differences, findings, run_id, unfinished

_TWICE = (COORDINATOR, "alpha", "beta", "prover")
PROCESSES = (*_TWICE, *(f"{name}-2" for name in _TWICE), "critic", "referee")
HOSTED_PROCESSES = ("gamma", "gamma-2")
"""Workers of the teacher on a model server."""
_STUCK_SECONDS = 180.0
_CALL_SECONDS = 0.15
"""Seconds of every call of a model."""
_SECOND_FAULT = 0.25
"""Probability that a second fault is injected before the first one has recovered."""
_SLOW_SECONDS = 20.0
"""After such a recovery the ends of the logs are printed, while they still show what was slow."""
_SHOWN_SECONDS = 5.0
"""How often the work that has not recovered yet is printed."""


@dataclass(slots=True)
class Report:
    """The totals of a run of faults."""

    seed: int
    watches: list[Watch] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)
    runs: int = 0
    undisturbed_seconds: list[float] = field(default_factory=list)
    recovery_limit: float = 0.0

    def line(self, audit: Audit, repeated: int, seconds: float) -> dict[str, object]:
        """The object that the output ends with."""
        taken = sorted(watch.seconds for watch in self.watches if watch.seconds is not None)
        return {
            "faults": len(self.watches),
            "kinds": len({watch.kind for watch in self.watches}),
            "differences": len(self.differences),
            "findings": len(self.findings),
            "lost": len(self.lost),
            "repeated": repeated,
            "exits": len(self.exits),
            "recovery_seconds_p50": _quantile(taken, 0.5),
            "recovery_seconds_p95": _quantile(taken, 0.95),
            "recovery_seconds_max": _quantile(taken, 1.0),
            "recovery_limit_seconds": round(self.recovery_limit, 2),
            "recovered_late": len(late(self.watches, self.recovery_limit)),
            "not_recovered": sum(watch.seconds is None for watch in self.watches),
            "runs": self.runs,
            "candidates": audit.committed,
            "engine_calls": audit.calls(),
            "seed": self.seed,
            "seconds": round(seconds),
        }

    def table(self) -> str:
        """Recovery by kind."""
        kinds: dict[str, list[float]] = defaultdict(list)
        for watch in self.watches:
            kinds[watch.kind].append(_STUCK_SECONDS if watch.seconds is None else watch.seconds)
        lines = ["| fault | times | seconds until recovered: median | most |", "|---|---|---|---|"]
        lines += [
            f"| {kind} | {len(all_)} | {median(all_):.1f} | {max(all_):.1f} |" for kind, all_ in sorted(kinds.items())
        ]
        return "\n".join(lines)


@dataclass(slots=True)
class Runs:
    """Runs in progress, at most one of each pipeline."""

    database: Database
    folder: Path
    size: int
    seed: int
    audit: Audit
    report: Report
    undisturbed: dict[str, Content] = field(default_factory=dict)
    active: dict[str, str] = field(default_factory=dict)
    hosted: str | None = None
    _turn: Iterator[str] = field(default_factory=lambda: itertools.cycle(SEARCHES))
    _number: Iterator[int] = field(default_factory=itertools.count)

    def begin(self, search: str) -> str:
        """Enqueues a run of this pipeline."""
        name = f"{search}-{next(self._number)}"
        config = RunConfig.parse(
            configuration(search, seed=self.seed, hosted=self.hosted), source=search, folder=self.folder
        )
        records = problems(self.size, exact=search in CHECKED)
        self.database.run(lambda connection: enqueue(connection, name, config, records))
        self.active[search] = name
        return name

    def feed(self) -> None:
        """Keeps enough runs in progress."""
        while len(self.active) < 3 or self._left() < 2 * self.size:
            search = next(search for search in self._turn if search not in self.active)
            self.begin(search)

    def is_over(self, name: str) -> bool:
        """Whether every problem of this run has ended."""
        return unfinished(self.database, name) == 0

    def _left(self) -> int:
        return sum(unfinished(self.database, run) for run in self.active.values())

    def harvest(self) -> None:
        """Compares the runs that are finished."""
        for search, name in list(self.active.items()):
            if self.is_over(name):
                del self.active[search]
                self.take(search, name)

    def take(self, search: str, name: str) -> None:
        """Compares a run with the undisturbed one, the first run of its pipeline."""
        holds = content(self.database, name)
        key = run_id(self.database, name)
        self.audit.take(key)
        found = findings(self.database, name)
        for line in found[:5]:
            say(f"FOUND {name}: {line}")
        self.report.findings += found
        if search not in self.undisturbed:
            self.undisturbed[search] = holds
        else:
            self.report.runs += 1
            different = differences(self.undisturbed[search], holds)
            for line in different[:5]:
                say(f"DIFFERENT {name}: {line}")
            self.report.differences += different
            if different:
                return
        self.audit.forget(key)


def say(text: str) -> None:
    """Prints a line about the progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def plan(kinds: list[str], faults: int, chance: random.Random) -> list[list[str]]:
    """Each kind equally often, in random order; some strike together with the next."""
    order: list[str] = []
    while len(order) < faults:
        order += chance.sample(kinds, len(kinds))
    groups: list[list[str]] = []
    for name in order[:faults]:
        joins = groups and len(groups[-1]) == 1 and not SLOW & {name, *groups[-1]} and chance.random() < _SECOND_FAULT
        if joins:
            groups[-1].append(name)
        else:
            groups.append([name])
    return groups


def main() -> int:
    """Runs the faults; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=_count, default=0, help="how many, or `each`: one of every kind, the default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--problems", type=int, default=12, help="problems of a run")
    parser.add_argument("--only", action="append", choices=list(KINDS), help="only this kind of fault; repeatable")
    parser.add_argument("--fast", action="store_true", help="short timeouts instead of the defaults")
    parser.add_argument("--keep", type=Path, help="folder that the logs of the processes are kept in")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers end and the disk is unmounted
    take_own_shared_memory()
    start = time.monotonic()
    chance = random.Random(options.seed)
    report = Report(options.seed)
    # The engines' calls are logged outside the disk that is filled.
    with TemporaryDirectory() as calls, Servers() as servers, ModelServer(_CALL_SECONDS) as model_server:
        servers.model_server = model_server
        logs = options.keep or servers.folder / "fleet"
        logs.mkdir(exist_ok=True, parents=True)
        (logs / "cord.toml").write_text(configuration("rewarded", hosted=model_server.url), encoding="utf-8")
        environment = {
            **(FAST if options.fast else {}),
            "CORD_DATABASE_URL": servers.postgres.url,
            "CORD_BROKER_URL": servers.redis.url,
            "CORD_INSTANT_LOG": f"{calls}/calls",
            "CORD_INSTANT_SECONDS": str(_CALL_SECONDS),
            "OMP_NUM_THREADS": "1",
        }
        database = Database(servers.postgres.url, application_name="chaos", retry_seconds=60.0)
        database.run(lambda connection: connection.execute(sa.text(INSTALL)))
        audit = Audit(database, Path(environment["CORD_INSTANT_LOG"]))
        runs = Runs(database, logs, options.problems, options.seed, audit, report, hosted=model_server.url)
        with Fleet(logs, logs / "cord.toml", environment) as fleet:
            fleet.start(*PROCESSES, *HOSTED_PROCESSES)
            for search in SEARCHES:
                undisturbed(fleet, runs, search, report)
            del report.undisturbed_seconds[0]  # it holds the start of the processes
            say(f"undisturbed after {time.monotonic() - start:.0f} s")
            timeout = float(environment.get("CORD_WORKER_TIMEOUT_SECONDS", Settings().worker_timeout_seconds))
            storm = Storm(servers, fleet, database, chance, timeout)
            kinds = options.only or available(servers)
            for group in plan(kinds, options.faults or len(kinds), chance):
                strike(storm, runs, group, report)
            deadline = time.monotonic() + _STUCK_SECONDS
            while runs.active and time.monotonic() < deadline:
                fleet.revive()
                servers.heal()
                runs.harvest()
                time.sleep(0.1)
            for name in runs.active.values():
                report.lost += [f"{name}: a problem is stuck"] * unfinished(database, name)
            for line in report.lost:
                say(line)
            if not report.lost:
                undisturbed(fleet, runs, next(iter(SEARCHES)), report)
            report.recovery_limit = longest_recovery(timeout, report.undisturbed_seconds)
            for watch in late(report.watches, report.recovery_limit):
                say(f"LATE {watch.kind}: {watch.after:.1f} s after its end, at most {report.recovery_limit:.1f} s")
            report.exits = fleet.exits
            for line in report.exits:
                say(line)
            if report.lost or report.exits:
                say(fleet.last_words())
        again = audit.unexplained(storm.crashes)
        for key in again[:5]:
            say(f"COMPUTED TWICE {key}")
        found = report.line(audit, audit.repeated + len(again), time.monotonic() - start)
        database.close()
    print(report.table())
    print(json.dumps(found))
    wrong = ("differences", "findings", "lost", "repeated", "exits", "recovered_late", "not_recovered")
    return int(any(found[what] for what in wrong))


def undisturbed(fleet: Fleet, runs: Runs, search: str, report: Report) -> None:
    """Does a run of this pipeline without faults, and notes its seconds."""
    began = time.monotonic()
    name = runs.begin(search)
    fleet.wait_until(partial(runs.is_over, name), 300, f"the undisturbed {search}")
    report.undisturbed_seconds.append(time.monotonic() - began)
    runs.harvest()


def _count(text: str) -> int:
    return 0 if text == "each" else int(text)


def strike(storm: Storm, runs: Runs, group: list[str], report: Report) -> None:
    """Injects one fault or two, and measures the time until the work that they hit continues."""
    runs.harvest()
    runs.feed()
    deadline = time.monotonic() + storm.chance.uniform(0.2, 1.0)
    while time.monotonic() < deadline:
        storm.fleet.revive()
        time.sleep(0.05)
    watches = []
    for kind in group:
        storm.fleet.revive()
        watches.append(KINDS[kind](storm))
    for watch in watches:
        watch.over = time.monotonic()
    deadline = time.monotonic() + _STUCK_SECONDS
    shown_at = time.monotonic() + _SHOWN_SECONDS
    while any(watch.seconds is None for watch in watches) and time.monotonic() < deadline:
        storm.fleet.revive()
        storm.servers.heal()
        look(storm.database, watches)
        if time.monotonic() > shown_at:
            shown_at += _SHOWN_SECONDS
            for watch in watches:
                say(f"{watch.kind}: still unchanged: {dict(list(watch.marks.items())[:5])}")
        time.sleep(0.05)
    report.watches += watches
    for watch in watches:
        if watch.seconds is None:
            say(f"unchanged: {watch.marks}")
        say(
            f"{len(report.watches)}: {watch.kind}: "
            + ("NOT RECOVERED" if watch.seconds is None else f"{watch.seconds:.1f} s")
        )
    if any(watch.after is None or watch.after > _SLOW_SECONDS for watch in watches):
        say(storm.fleet.last_words(6000))


def _quantile(values: list[float], share: float) -> float | None:
    return round(values[min(len(values) - 1, int(share * len(values)))], 2) if values else None


if __name__ == "__main__":
    sys.exit(main())
