"""`cordctl bench` as users run it, small: which figures there are and their source, never their size."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cord_worker.bench.control_plane import ControlPlaneBench, service_rate
from cord_worker.bench.workspace import open_workspace
from cord_worker.config import Settings
from cord_worker.errors import ConfigError
from cord_worker.store.database import Database

BUNDLED = Path(__file__).parents[3] / "cord_worker" / "demo" / "problems.jsonl"

TINY = """
[models.planner]
path = "bundled:planner"
dtype = "float64"
threads = 1
[models.prover]
path = "bundled:prover"
dtype = "float64"
threads = 1
[[teachers]]
name = "planner"
model = "planner"
[[teachers]]
name = "planner-hot"
model = "planner"
temperature = 0.9
[prover]
model = "prover"
[search]
beam_width = 2
max_steps = 3
step_tokens = 48
thinking_tokens = 192
answer_tokens = 24
[run]
max_active = 2
"""

Bench = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith("CORD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CORD_DATABASE_URL", database_url)
    monkeypatch.setenv("CORD_BROKER_URL", broker_url)
    monkeypatch.setenv("CORD_SWEEP_SECONDS", "0.3")
    monkeypatch.setenv("CORD_GRACE_SECONDS", "3")
    return Settings.from_environment()


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Bench:
    """Runs `cordctl bench …` on the tests' servers and returns the last line's object."""
    (tmp_path / "cord.toml").write_text(TINY, encoding="utf-8")
    del settings

    def run(*arguments: str) -> dict[str, Any]:
        external = [] if arguments[0] == "scoring" else ["--external"]
        done = subprocess.run(
            [sys.executable, "-m", "cord_worker.cli", "bench", *arguments, *external, "--json"],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return document

    return run


def databases(url: str) -> set[str]:
    database = Database(url, pool_size=1)
    try:
        return set(
            database.run(lambda connection: connection.execute(sa.text("SELECT datname FROM pg_database")).scalars())
        )
    finally:
        database.close()


@pytest.mark.long
def test_enqueue_reports_speed_and_memory_of_each_size_and_leaves_nothing_behind(
    bench: Bench, database_url: str
) -> None:
    before = databases(database_url)
    found = bench("enqueue", "--rows", "20", "--rows", "200", "--row-bytes", "300")
    assert found["rows"] == [20, 200]
    values = found["figures"]["200-rows: whole command"]["values"]
    assert found["rows_per_second"] == statistics.median(values)
    assert len(values) == found["rounds"] == 3
    by_rows = found["peak_rss_mb_by_rows"]
    assert found["peak_rss_mb"] == by_rows["200"]
    assert found["rss_growth"] == pytest.approx(by_rows["200"] / by_rows["20"])
    left = {name for name in databases(database_url) - before if name.startswith("cord_bench")}
    assert not left


@pytest.mark.long
def test_export_writes_every_trajectory_of_its_own_runs(bench: Bench) -> None:
    found = bench("export", "--rows", "20", "--rows", "60", "--steps", "2")
    assert found["rows"] == [20, 60]
    for kind in ("jsonl", "parquet"):
        values = found["figures"][f"{kind}, 60 rows: whole command"]["values"]
        assert found[f"{kind}_rows_per_second"] == statistics.median(values)
        assert len(values) == found["rounds"] == 3
        peaks = [
            statistics.median(found["figures"][f"{kind}, {rows} rows: peak memory"]["values"]) for rows in (20, 60)
        ]
        assert found[f"{kind}_rss_growth"] == pytest.approx(peaks[1] / peaks[0])


def test_external_is_refused_without_its_variables(settings: Settings, tmp_path: Path) -> None:
    del settings
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CORD_")}
    done = subprocess.run(
        [sys.executable, "-m", "cord_worker.cli", "bench", "enqueue", "--rows", "5", "--external"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "CORD_DATABASE_URL" in done.stderr


@pytest.mark.long
def test_control_plane_compares_with_a_bare_worker_and_watches_its_processes(bench: Bench) -> None:
    found = bench(
        *("control-plane", "--problems", "3", "--max-active", "2", "--noop-tasks", "100", "--light-problems", "1"),
        *("--noop-concurrency", "4", "--soak-tasks", "60"),
    )
    measured = {name: entry["values"] for name, entry in found["figures"].items()}
    fractions = [
        rate / reference
        for rate, reference in zip(
            measured["service, instant engine"], measured["reference (two tasks a candidate)"], strict=True
        )
    ]
    assert found["fraction_of_ceiling"] == pytest.approx(statistics.median(fractions))
    for load in ("light", "full"):
        assert 0 < found[f"overhead_{load}_p50_ms"] <= found[f"overhead_{load}_p95_ms"]
        assert found[f"overhead_{load}_p50_ms"] <= found[f"delay_{load}_p50_ms"]
    assert set(found["soak"]) == {"worker-alpha", "worker-beta", "worker-prover"}
    assert all(figures["tasks_late"] >= 60 for figures in found["soak"].values())
    assert {"rss_growth", "threads_growth", "files_growth"} <= set(found)


@pytest.mark.long
def test_the_rate_is_that_of_the_tables_and_a_soak_of_too_few_tasks_is_refused(settings: Settings) -> None:
    from cord_worker.bench.control_plane import instant_config
    from cord_worker.bench.fleet import running_fleet
    from cord_worker.bench.soak import soak

    bench = ControlPlaneBench(beam_width=2)
    with open_workspace(settings, external=True) as workspace:
        config, path = instant_config(workspace, bench.beam_width, 2)
        with running_fleet(workspace, config, path) as fleet:
            rate = service_rate(workspace, fleet, bench, "one", 3, 2)
            with pytest.raises(ConfigError, match="too few for a soak: worker-"):
                soak(workspace, fleet, 1, lambda _: None)
        rows = workspace.database.run(
            lambda connection: connection.execute(
                sa.text(
                    "SELECT (SELECT count(*) FROM candidates WHERE state IN ('scored', 'invalid')), "
                    "(SELECT extract(epoch FROM max(finished_at) - min(admitted_at)) FROM problems)"
                )
            ).one()
        )
    assert rate == pytest.approx(rows[0] / float(rows[1]))


@pytest.mark.long
def test_the_engine_alone_gets_the_requests_of_the_service(bench: Bench) -> None:
    found = bench("engine", str(BUNDLED), "--problems", "1", "--warm-up", "1")
    measured = {name: entry["values"] for name, entry in found["figures"].items()}
    ratios = [ours / alone for ours, alone in zip(measured["service"], measured["engine alone"], strict=True)]
    assert found["service_over_engine"] == pytest.approx(statistics.median(ratios))
    # In float64 these engines give equal scores to equal requests of any caller.
    assert measured["largest difference of a score"] == [0.0, 0.0, 0.0]
    for kind in ("propose", "score"):
        use = found["cache"][f"{'planner' if kind == 'propose' else 'prover'}:{kind}"]
        assert 0 < use["cached"] <= use["prompt_tokens"]
        assert 0 < use["ideal"] <= use["prompt_tokens"]


@pytest.mark.long
def test_scores_with_and_without_the_cache_are_the_same(bench: Bench) -> None:
    found = bench("scoring", "--lengths", "400", "--lengths", "600", "--reference")
    assert found["max_difference_uncached"] < 1e-6
    assert found["max_difference_reference"] < 1e-3
    assert found["max_abs_difference"] == max(found["max_difference_uncached"], found["max_difference_reference"])
    assert found["repeat_difference"] == 0.0
    assert {"cached_over_uncached", "flatness"} <= set(found)
