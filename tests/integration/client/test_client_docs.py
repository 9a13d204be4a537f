"""The examples of docs/python-client.md run in their order, and its tables name what is there."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
from importlib.abc import MetaPathFinder
from pathlib import Path

import pytest

import cord_worker
from cord_worker import Client, EnqueuedRun, Run
from tests.integration.client.conftest import Place

pytestmark = pytest.mark.long

PAGE = (Path(__file__).parents[3] / "docs" / "python-client.md").read_text(encoding="utf-8")
README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
NOT_INSTALLED = ("pandas", "polars", "datasets", "duckdb")
"""Packages that `pip install` of the service does not bring, but the environment of the tests may have."""
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


class Absent(MetaPathFinder):
    """Hides the packages that are not installed with the service. (None in `sys.modules` would not do: pyarrow's
    compiled code takes it for a module.)"""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:  # noqa: ARG002
        if fullname.partition(".")[0] in NOT_INSTALLED:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def test_the_examples_run(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in place.cordctl.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(place.folder)
    for name in [name for name in sys.modules if name.partition(".")[0] in NOT_INSTALLED]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    names: dict[str, object] = {}
    try:
        for number, example in enumerate(EXAMPLES, start=1):
            exec(compile(example, f"example {number}", "exec"), names)
    finally:
        with Client() as client:
            client.down()
    printed = capsys.readouterr().out
    assert "5 of 5 problems are done" in printed
    assert "rows.jsonl:6 question is empty" in printed
    assert "5 trajectories to messages.jsonl" in printed
    assert len(names["trajectories"]) == 5  # type: ignore[arg-type]
    rows = [json.loads(line) for line in (place.folder / "messages.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 5


def test_the_readmes_example_needs_only_what_the_service_installs(place: Place) -> None:
    example = textwrap.dedent(README.split("\nThe same from Python:\n\n")[1].partition("\n\n")[0])
    blocked = (
        "from importlib.abc import MetaPathFinder\nimport sys\n"
        f"NOT_INSTALLED = {NOT_INSTALLED}\n{inspect.getsource(Absent)}\nsys.meta_path.insert(0, Absent())\n"
    )
    # A process of its own: here pyarrow may have found pandas before.
    result = subprocess.run(
        [sys.executable, "-c", f"{blocked}{example}\nprint(table.num_rows, 'rows')"],
        cwd=place.folder,
        env={**os.environ, **place.cordctl.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "5 rows\n"


def test_the_client_prints_no_warning(tmp_path: Path) -> None:
    script = (
        "from cord_worker import Client, StoreError\n"
        f"client = Client({str(tmp_path)!r}, database_url='postgresql://u:secret@127.0.0.1:1/x')\n"
        "try: client.runs()\n"
        "except StoreError: print('refused')\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("refused\n", "")


def test_the_tables_of_methods_name_the_methods() -> None:
    for heading, kinds in (("Client", [Client]), ("Run", [Run, EnqueuedRun])):
        section = PAGE.split(f"\n## {heading}\n")[1].partition("\n## ")[0]
        table = section.split("|---|---|---|\n")[1].partition("\n\n")[0]
        first = [row.split("|")[1] for row in table.splitlines()]
        named = {name for cell in first for name in re.findall(r"`(\w+)\(", cell)}
        there = {name for kind in kinds for name in vars(kind) if not name.startswith("_")}
        assert named == there - {"close", "name", "enqueued"}


def test_every_error_of_the_page_is_offered() -> None:
    section = PAGE.split("\n## Errors\n")[1]
    named = [
        name
        for name in re.findall(r"`(?:cord_worker\.)?(\w+)`", section)
        if name not in ("cord_worker", "logging", "TypeError")
    ]
    assert len(named) > 8
    assert set(named) <= set(cord_worker.__all__)
