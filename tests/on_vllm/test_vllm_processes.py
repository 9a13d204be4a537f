"""Real workers and vLLM engines: what ends their processes, and that no process or file is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from cord_worker.store.database import Database
from tests.support.cluster import Cluster
from tests.support.forking import Forked
from tests.support.tables import count

CONFIG = """
[models.smollm2]
path = '{path}'
engine = "vllm"
dtype = "float32"
device = "cpu"
batch_size = 4
max_model_len = 2048

[models.smollm2.vllm]
enforce_eager = true
kv_cache_gib = 0.5

[[teachers]]
name = "warm"
model = "smollm2"
temperature = 1.0

[prover]
model = "smollm2"

[search]
beam_width = 1
max_steps = {max_steps}
step_tokens = {step_tokens}
thinking_tokens = 1200
answer_tokens = 64

[run]
max_active = 8
max_attempts = 20
"""
LEASED = "state IN ('proposing', 'scoring')"
_LOADING_SECONDS = 600
_ENDING_SECONDS = 60


@dataclass(frozen=True)
class Footprint:
    """What a worker's engine uses on the machine: processes, shared memory, temporary files."""

    processes: list[psutil.Process]
    files: set[Path]

    def remaining(self) -> list[str]:
        """Its processes that still run and its files that still exist."""
        alive = [process for process in self.processes if process.is_running() and not _is_zombie(process)]
        return [f"{process.pid}: {process.name()}" for process in alive] + [
            str(path) for path in self.files if path.exists()
        ]


def footprint_of(worker: subprocess.Popen[bytes] | Forked) -> Footprint:
    """All descendants of the process, and the files that only it and they use."""
    children = psutil.Process(worker.pid).children(recursive=True)
    files: set[Path] = set()
    for process in [psutil.Process(worker.pid), *children]:
        with contextlib.suppress(psutil.Error):
            files |= {Path(mapping.path) for mapping in process.memory_maps() if mapping.path.startswith("/dev/shm/")}
            files |= {Path(folder) for folder in [process.environ().get("VLLM_RPC_BASE_PATH")] if folder}
    return Footprint(children, {path for path in files if path.exists()})


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def cluster(
    tmp_path: Path, database_url: str, broker_url: str, key_prefix: str, model_folder: Path
) -> Iterator[Cluster]:
    """A coordinator and a worker that hosts SmolLM2, not started yet. Steps are long, so that the worker is always
    busy."""
    config = CONFIG.format(path=model_folder, max_steps=2, step_tokens=1000)
    with Cluster(tmp_path, database_url, broker_url, config) as cluster:
        cluster.environment["CORD_KEY_PREFIX"] = key_prefix
        yield cluster


def engine_at_work(cluster: Cluster, database: Database) -> Footprint:
    """Starts both processes, waits until the engine has work or its worker has ended, and returns its footprint."""
    cluster.enqueue(database, 6)
    cluster.start()
    worker = cluster.processes["smollm2"]
    cluster.wait_until(lambda: worker.poll() is not None or count(database, LEASED, "candidates") > 0, _LOADING_SECONDS)
    footprint = footprint_of(worker)
    names = [process.name() for process in footprint.processes]
    assert any("EngineCore" in name for name in names), names
    return footprint


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /dev/shm and /proc")
class TestNoProcessOrFileIsLeft:
    """No process, shared memory or socket is left after any end."""

    def test_nothing_is_left_after_kill_9_of_the_worker(self, cluster: Cluster, database: Database) -> None:
        footprint = engine_at_work(cluster, database)

        cluster.kill("smollm2")

        cluster.wait_until(lambda: not footprint.remaining(), _ENDING_SECONDS)
        assert footprint.remaining() == []

    def test_nothing_is_left_after_sigterm_and_the_leases_are_returned(
        self, cluster: Cluster, database: Database
    ) -> None:
        footprint = engine_at_work(cluster, database)

        assert cluster.stop("smollm2", _ENDING_SECONDS) == 0

        cluster.wait_until(lambda: not footprint.remaining(), _ENDING_SECONDS)
        assert count(database, LEASED, "candidates") == 0

    def test_nothing_is_left_after_ctrl_c_that_reaches_the_engines_processes_too(
        self, cluster: Cluster, database: Database
    ) -> None:
        footprint = engine_at_work(cluster, database)
        worker = cluster.processes["smollm2"]

        for process in (*footprint.processes, worker):
            process.send_signal(signal.SIGINT)

        assert worker.wait(_ENDING_SECONDS) == 0
        cluster.wait_until(lambda: not footprint.remaining(), _ENDING_SECONDS)
        assert count(database, LEASED, "candidates") == 0

    def test_nothing_is_left_after_the_engine_died_and_ended_the_worker(
        self, cluster: Cluster, database: Database, tmp_path: Path
    ) -> None:
        footprint = engine_at_work(cluster, database)

        next(process for process in footprint.processes if "EngineCore" in process.name()).kill()

        assert cluster.processes["smollm2"].wait(_ENDING_SECONDS) == 1
        cluster.wait_until(lambda: not footprint.remaining(), _ENDING_SECONDS)
        assert count(database, LEASED, "candidates") == 0, "its leases were not returned"
        assert count(database, "state = 'failed'") == 0
        log = (tmp_path / "smollm2.log").read_text(errors="replace")
        assert "vLLM's engine of model" in log
        assert "Start the worker again" in log


def test_a_small_run_ends_with_every_candidate_scored(
    tmp_path: Path, database_url: str, database: Database, broker_url: str, key_prefix: str, model_folder: Path
) -> None:
    (tmp_path / "cord.toml").write_text(CONFIG.format(path=model_folder, max_steps=3, step_tokens=48))
    problems = [("What is 12 + 30?", "42"), ("What is half of 48?", "24")]
    (tmp_path / "problems.jsonl").write_text(
        "".join(f'{{"question": "{question}", "answer": "{answer}"}}\n' for question, answer in problems)
    )
    environment: dict[str, Any] = {
        **os.environ,
        "CORD_DATABASE_URL": database_url,
        "CORD_BROKER_URL": broker_url,
        "CORD_KEY_PREFIX": key_prefix,
    }

    command = "run problems.jsonl --config cord.toml --state-dir state --output out.jsonl"
    finished = subprocess.run(
        [sys.executable, "-m", "cord_worker.cli", *command.split()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_LOADING_SECONDS,
    )

    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    assert count(database, "state = 'done'") == 2
    assert count(database, "text IS NOT NULL AND invalid_reason IS NULL AND score IS NULL", "candidates") == 0
    assert count(database, "score > 0 AND scoring_mode LIKE 'vllm-%-cpu-float32-cached'", "candidates") > 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
