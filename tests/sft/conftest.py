"""Training with TRL; all tests are skipped if TRL is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and find_spec("trl") is None:
            item.add_marker(pytest.mark.skip(reason="needs trl: make test-sft"))
