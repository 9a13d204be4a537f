"""One long run under a fault every few seconds, and what grows during it: `python -m tests.chaos.soak`.

The run is done once undisturbed and once under faults; the tables must be equal. Memory of every process and of
Redis, locks and connections of PostgreSQL are looked at every few seconds. The last line of the output is one JSON
object; *early* is the second fifth of a run's time, *late* the last. In the undisturbed run every process lives from
its beginning to its end, so that memory that a process never frees shows there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil
import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import enqueue
from tests.chaos.__main__ import PROCESSES, say
from tests.chaos.audit import INSTALL, Audit
from tests.chaos.configurations import EVERYTHING, FAST, configuration, problems
from tests.chaos.fleet import Fleet
from tests.chaos.kinds import KINDS, SLOW, Storm, available
from tests.chaos.servers import Servers
from tests.support.tables import run_id, stream_content, unfinished

_CANDIDATES_A_PROBLEM = 25
"""Candidates of a search of `configuration("cord")`, about."""
_LOOK_SECONDS = 5.0

_COUNTS = """
    SELECT (SELECT count(*) FROM pg_locks) AS locks,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
           (SELECT count(*) FROM workers WHERE stopped_at IS NULL) AS workers
"""


@dataclass(slots=True)
class Looks:
    """Measurements by name, in order of time."""

    seen: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def look(self, storm: Storm) -> None:
        """Measures once."""
        counts = storm.database.run(lambda connection: connection.execute(sa.text(_COUNTS)).one())
        for name, value in counts._mapping.items():
            self.seen[name].append(value)
        with storm.servers.client() as client:
            self.seen["redis_mb"].append(int(client.info("memory")["used_memory"]) / 2**20)
        sizes: dict[str, list[float]] = defaultdict(list)
        for name, member in storm.fleet.members.items():
            with suppress(psutil.NoSuchProcess):  # killed a moment ago
                size = psutil.Process(storm.fleet.pid(name)).memory_info().rss / 2**20
                sizes[member.role].append(size)
        for role, found in sizes.items():
            self.seen[f"{role}_rss_mb"].append(max(found))

    def early_and_late(self) -> dict[str, list[float]]:
        """Medians of the second fifth and of the last."""
        fifths = {name: max(1, len(values) // 5) for name, values in self.seen.items()}
        return {
            name: [
                round(median(values[fifths[name] : 2 * fifths[name]] or values), 1),
                round(median(values[-fifths[name] :]), 1),
            ]
            for name, values in self.seen.items()
        }


def digests(database: Database, run: str) -> dict[str, str]:
    """A digest per problem of all rows that equal runs share; needs little memory for any number of rows."""
    found: dict[str, hashlib._Hash] = defaultdict(hashlib.sha256)
    with database.transaction() as connection:
        for table, row in stream_content(connection, run):
            found[row.key].update(repr((table, tuple(row))).encode())
    return {name: digest.hexdigest() for name, digest in found.items()}


def main() -> int:
    """Does the run twice; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between two faults")
    parser.add_argument("--keep", type=Path, help="folder that the logs of the processes are kept in")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers end and the disk is unmounted
    chance = random.Random(options.seed)
    faults: Counter[str] = Counter()
    looks = {run: Looks() for run in ("undisturbed", "disturbed")}
    # The engines' calls are logged outside the disk that is filled.
    with TemporaryDirectory() as calls, Servers(disk_mib=1024 + options.candidates // 40) as servers:
        logs = options.keep or servers.folder / "fleet"
        logs.mkdir(exist_ok=True, parents=True)
        (logs / "cord.toml").write_text(EVERYTHING, encoding="utf-8")
        environment = {
            **FAST,
            "CORD_DATABASE_URL": servers.postgres.url,
            "CORD_BROKER_URL": servers.redis.url,
            "CORD_INSTANT_LOG": f"{calls}/calls",
            "OMP_NUM_THREADS": "1",
        }
        database = Database(servers.postgres.url, application_name="soak", retry_seconds=60.0)
        database.run(lambda connection: connection.execute(sa.text(INSTALL)))
        audit = Audit(database, Path(environment["CORD_INSTANT_LOG"]))
        config = RunConfig.parse(configuration("cord", seed=options.seed), source="soak", folder=logs)
        size = max(1, options.candidates // _CANDIDATES_A_PROBLEM)
        with Fleet(logs, logs / "cord.toml", environment) as fleet:
            storm = Storm(servers, fleet, database, chance, float(FAST["CORD_WORKER_TIMEOUT_SECONDS"]))
            fleet.start(*PROCESSES)
            seconds = []
            undisturbed: dict[str, str] = {}
            for run, seen in looks.items():
                start = time.monotonic()
                database.run(partial(enqueue, name=run, config=config, records=problems(size)))
                quick = [kind for kind in available(servers) if kind not in SLOW]
                looked = time.monotonic()
                while unfinished(database, run):
                    fleet.revive()
                    servers.heal()
                    if time.monotonic() - looked > _LOOK_SECONDS:
                        looked = time.monotonic()
                        seen.look(storm)
                    if run == "disturbed":
                        kind = chance.choice(quick)
                        KINDS[kind](storm)
                        faults[kind] += 1
                    time.sleep(options.pause * chance.uniform(0.5, 1.5) if run == "disturbed" else 1.0)
                seconds.append(round(time.monotonic() - start))
                say(f"{run}: {seconds[-1]} s")
                undisturbed = undisturbed or digests(database, run)
                audit.take(run_id(database, run))
            disturbed = digests(database, "disturbed")
            for text in fleet.exits:
                say(text)
            exits = len(fleet.exits)
        different = [key for key, digest in undisturbed.items() if disturbed.get(key) != digest]
        again = audit.unexplained(storm.crashes)
        line = {
            "candidates": audit.committed // 2,
            "faults": faults.total(),
            "kinds": len(faults),
            "differences": len(different),
            "lost": len(undisturbed) - len(disturbed),
            "repeated": audit.repeated + len(again),
            "exits": exits,
            "seconds_undisturbed": seconds[0],
            "seconds_disturbed": seconds[1],
            "early_and_late": {run: seen.early_and_late() for run, seen in looks.items()},
            "seed": options.seed,
        }
        database.close()
    print(json.dumps(line))
    return int(any(line[name] for name in ("differences", "lost", "repeated", "exits")))


if __name__ == "__main__":
    sys.exit(main())
