"""The jobs of deploy/slurm on a Slurm of their own: what is taken away comes back, and nothing is lost.

Needs root and Debian's slurm-wlm; skipped elsewhere.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import sqlalchemy as sa

from cord_worker.local.binaries import find_postgres, find_redis
from cord_worker.store.database import Database
from tests.support import slurm
from tests.support.cluster import FAST, Cluster
from tests.support.slurm import Slurm
from tests.support.tables import Content, content, count, differences
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
PROBLEMS = 12

pytestmark = [pytest.mark.long, pytest.mark.skipif(slurm.missing() is not None, reason=str(slurm.missing()))]


@pytest.fixture
def cluster() -> Iterator[Slurm]:
    folder = Path(tempfile.mkdtemp(prefix="cord-slurm-"))  # short, because sockets lie in it
    try:
        with slurm.slurm(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def undisturbed(
    tmp_path: Path,
    migrated_database: Callable[[], AbstractContextManager[str]],
    broker_url: str,
) -> Content:
    """The results of the problems, without Slurm."""
    with migrated_database() as url, Cluster(tmp_path, url, broker_url) as plain:
        database = Database(url)
        plain.enqueue(database, PROBLEMS)
        plain.start()
        plain.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 120)
        found = content(database)
        database.close()
        return found


class Kit:
    """The files of deploy/slurm, filled in for this machine, and what they have started."""

    def __init__(self, cluster: Slurm, home: Path) -> None:
        self.cluster = cluster
        self.home = home
        self.folder = cluster.folder / "kit"
        shutil.copytree(ROOT / "deploy" / "slurm", self.folder, ignore=shutil.ignore_patterns("environment"))
        lines = [
            f"export CORD_HOME={home} CORD_CONFIG={home}/cord.toml",
            f"export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={ROOT}",
            f"export POSTGRES_BIN={self._postgres_for_root()} BROKER_SERVER={find_redis().path}",
            "export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1",
            *(f"export {name}={value}" for name, value in FAST.items()),
        ]
        (self.folder / "environment").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _postgres_for_root(self) -> Path:
        """PostgreSQL's programs, which refuse root, each in a user namespace of its own."""
        folder = self.cluster.folder / "postgres-bin"
        folder.mkdir()
        for name in ("initdb", "pg_ctl", "psql", "createdb"):
            program = find_postgres().bin_dir / name
            if not program.exists():
                pytest.skip(f"PostgreSQL has no {name} here")
            wrapper = folder / name
            wrapper.write_text(f'#!/bin/sh\nexec unshare --user --map-user=1000 --map-group=1000 {program} "$@"\n')
            wrapper.chmod(0o755)
        return folder

    def submit(self, *models: str) -> dict[str, str]:
        """Calls deploy/slurm/submit; returns the ids of the jobs by name."""
        called = subprocess.run(
            [self.folder / "submit", "--partition=low", *models],
            env=self.cluster.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert called.returncode == 0, called.stderr
        named = [line.partition(": job ") for line in called.stdout.splitlines() if ": job " in line]
        return {name: rest.partition(",")[0] for name, _, rest in named}

    def database_url(self) -> str:
        """What the jobs have written for users."""
        assert wait_until(lambda: (self.home / "endpoints").exists(), 240), self.logs()
        words = (self.home / "endpoints").read_text(encoding="utf-8").split()
        return next(word.partition("=")[2] for word in words if word.startswith("CORD_DATABASE_URL="))

    def come_back(self, job: str) -> None:
        """Waits until the job is queued again, and lets it start soon: Slurm would wait two minutes.

        Not within the second in which its node has revoked the rights of the first start: those of the next one would
        be refused too.
        """
        assert wait_until(lambda: self.cluster.facts(job)["JobState"] == "PENDING", 120), self.logs()
        queued = time.time()
        assert wait_until(lambda: time.time() > queued + 3, 60)
        self.cluster.call("scontrol", "update", f"JobId={job}", "StartTime=now")
        assert wait_until(lambda: self.cluster.facts(job)["JobState"] == "RUNNING", 120), self.logs()
        assert self.cluster.facts(job)["Restarts"] == "1"

    def log_of(self, name: str) -> str:
        return (self.home / "logs" / f"{name}.log").read_text(errors="replace")

    def logs(self) -> str:
        """The ends of the jobs' logs."""
        logs = [*sorted((self.home / "logs").glob("*.log")), self.cluster.folder / "slurmd.log"]
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-1000:]}" for path in logs)


def test_jobs_that_are_taken_away_come_back_and_no_result_differs(
    cluster: Slurm, undisturbed: Content, tmp_path: Path
) -> None:
    home = cluster.folder / "home"
    home.mkdir()
    shutil.copy(tmp_path / "cord.toml", home / "cord.toml")
    kit = Kit(cluster, home)
    jobs = kit.submit("alpha", "beta=2")
    database = Database(kit.database_url())
    try:
        _a_run_through_interruptions(kit, jobs, database, undisturbed, tmp_path)
    finally:
        database.close()


def _a_run_through_interruptions(
    kit: Kit, jobs: dict[str, str], database: Database, undisturbed: Content, folder: Path
) -> None:
    cluster = kit.cluster
    running = "ready_at IS NOT NULL AND stopped_at IS NULL"

    def wait(condition: str, number: int, table: str) -> None:
        assert wait_until(lambda: count(database, condition, table) == number, 180), f"{condition}: {kit.logs()}"

    wait(running, 4, "workers")
    Cluster(folder, "postgresql://unused", "redis://unused").enqueue(database, PROBLEMS)
    # Without a prover, the run stops where every candidate of the first step has its text.
    wait("state = 'proposed'", 3 * PROBLEMS, "candidates")

    # What Slurm sends before the time limit.
    alpha = f"{jobs['alpha']}_1"
    cluster.call("scancel", "--signal=USR1", "--batch", alpha)
    kit.come_back(alpha)
    assert "the worker ended with exit code 0" in kit.log_of(f"alpha-{jobs['alpha']}-1")
    wait(f"{running} AND model_id = (SELECT id FROM models WHERE path = 'alpha')", 1, "workers")

    # The services are moved: database, broker and coordinator end in order, and come back with what they held.
    before = content(database)
    database.close()
    cluster.call("scontrol", "requeue", jobs["services"])
    assert wait_until(lambda: not (kit.home / "endpoints").exists(), 120), kit.logs()
    kit.come_back(jobs["services"])
    database = Database(kit.database_url())
    try:
        assert differences(before, content(database)) == []
        wait(running, 4, "workers")
        options = ("--parsable", "--partition=low", "--job-name=cord-judge")
        judge = cluster.call("sbatch", *options, f"--output={kit.home}/logs/judge.log",
                             f"--export=ALL,CORD_SLURM_FOLDER={kit.folder}",
                             str(kit.folder / "worker.sbatch"), "judge").strip()  # fmt: skip
        wait("state = 'done'", PROBLEMS, "problems")
        assert differences(undisturbed, content(database)) == []

        # A drained worker's job ends for good.
        of_judge = "model_id = (SELECT id FROM models WHERE path = 'judge')"
        drain = f"UPDATE workers SET drain_requested_at = now() WHERE {of_judge}"
        database.run(lambda connection: connection.execute(sa.text(drain)))
        assert wait_until(lambda: cluster.facts(judge)["JobState"] == "COMPLETED", 60), kit.logs()
        # So do the others once the file `stop` is there.
        (kit.home / "stop").touch()
        cluster.call("scancel", "--signal=USR1", "--batch", alpha)
        assert wait_until(lambda: cluster.facts(alpha)["JobState"] == "COMPLETED", 60), kit.logs()
    finally:
        database.close()
