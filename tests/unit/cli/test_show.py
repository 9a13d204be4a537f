"""`cordctl show` refuses a step that does not exist, in every form of output."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from cord_worker.cli.show import show
from cord_worker.errors import StoreError
from cord_worker.operations import database as operations
from cord_worker.operations.search_grid import SearchGrid, grid_of
from cord_worker.store.reports.search_trees import Search
from tests.support.exported import tree


class _Stored:
    """A database with one problem, which has no step yet."""

    def run(self, _: Callable[..., Any]) -> SearchGrid:
        return grid_of("mine", Search(tree(state="queued", score=None, correct=None), (), ("a",), None))


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--text"]])
def test_a_step_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setattr(operations, "open_database", lambda _: contextlib.nullcontext(_Stored()))
    result = CliRunner().invoke(show, ["p", "--step", "1", *arguments])
    assert isinstance(result.exception, StoreError)
    assert "it has no step yet" in str(result.exception)
