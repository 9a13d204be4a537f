"""The example notebook, run by a Jupyter kernel from its first cell to its last one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[3] / "docs" / "examples" / "client.ipynb"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for the kernel, without any service in its environment; paths of sockets must be short."""
    for name in [name for name in os.environ if name.startswith("CORD_")]:
        monkeypatch.delenv(name)
    base = Path(tempfile.mkdtemp(prefix="cord-n-"))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(base / name.lower()))
    try:
        yield base
    finally:
        while base.exists():
            shutil.rmtree(base, ignore_errors=True)


def shown(notebook: Any, cell: str) -> str:
    """What a cell shows as its last value, as text."""
    (found,) = [one for one in notebook.cells if one.id == cell]
    texts = [output["data"]["text/plain"] for output in found.outputs if output["output_type"] == "execute_result"]
    assert len(texts) == 1, found.outputs
    return str(texts[0])


def test_the_notebook_holds_no_output() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.long
def test_the_notebook_runs(elsewhere: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # An error of a cell is an error here.
    NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(elsewhere)}}
    ).execute()
    assert "added=8" in shown(notebook, "run")
    assert "'done': 8" in shown(notebook, "figures")
    assert "demo-heldout-1-00001" in shown(notebook, "table")
    summary = shown(notebook, "candidates")
    assert all(teacher in summary for teacher in ("planner", "calculator", "closer"))
    (text,) = [cell.outputs[0]["text"] for cell in notebook.cells if cell.id == "text"]
    assert "### Step 1." in text
    lines = (elsewhere / "messages.jsonl").read_text(encoding="utf-8").splitlines()
    assert f"{len(lines)} trajectories to messages.jsonl" in shown(notebook, "export")
    assert list(json.loads(lines[0])) == ["id", "messages"]
    services = json.loads((elsewhere / "example-state" / "services.json").read_text(encoding="utf-8"))
    assert services["postgres"] is None
