"""Runs that `cordctl bench engine` refuses."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from cord_worker.bench.engine import EngineBench, measure
from cord_worker.bench.workspace import Workspace
from cord_worker.config import RunConfig
from cord_worker.errors import ConfigError
from cord_worker.operations.enqueue import DatasetSource
from tests.support.configurations import REWARD, SMALL

JUDGE = '[verify]\nmethod = "judge"\n[verify.judge]\nmodel = "judge"\n'


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ('[search]\npipeline = "mcts"\n', "search.pipeline"),
        (JUDGE, "verify.judge"),
        (f'[search]\nselection = "reward_model"\n{REWARD}', "repeats no selection judgments"),
        ('[search]\nselection = "binary_judgment"\n', "repeats no selection judgments"),
    ],
)
def test_a_run_whose_requests_cannot_be_repeated_is_refused(tables: str, told: str) -> None:
    config = RunConfig.parse(SMALL + tables, source="test", folder=Path.cwd())
    bench = EngineBench(DatasetSource(Path("none.jsonl")), config, Path("cord.toml"))
    with pytest.raises(ConfigError, match=told):
        measure(bench, cast(Workspace, None), print)
