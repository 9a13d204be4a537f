"""`cordctl doctor` looks for the packages that the extras install."""

from __future__ import annotations

import importlib.metadata
import re

import pytest

from cord_worker.operations.doctor import _ENGINE_PACKAGES


@pytest.mark.parametrize(("extra", "package"), [(extra, found[0]) for extra, found in _ENGINE_PACKAGES.items()])
def test_doctor_looks_for_the_package_that_the_engines_extra_installs(extra: str, package: str) -> None:
    requirements = importlib.metadata.requires("cord-worker") or []
    of_extra = [line for line in requirements if re.search(rf"extra == ['\"]{extra}['\"]", line)]
    assert any(re.match(rf"{re.escape(package)}\b", line) for line in of_extra), of_extra
