"""The commands of docs/tutorial-api-teachers.md, one after the other, with a server of the tests in place of an API.

Of the other tutorials, tests/unit/docs/test_snippets.py checks every call. What they do is run by
tests/integration/coordination (processes of a cluster), tests/sft (training) and
tests/integration/cli/test_evaluating.py (measuring).
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from cord_worker.config import model_location
from tests.support.cordctl_process import Cordctl, Ended
from tests.support.doc_snippets import blocks, fenced, text_of

PAGE = text_of("docs/tutorial-api-teachers.md")
TEACHER = "deepseek-chat"
API, PROVER = "https://api.example.com/v1", "Qwen/Qwen2.5-0.5B-Instruct"


def command(beginning: str) -> list[str]:
    """The words of the page's only call that begins so, without what is redirected."""
    lines = [line.strip() for block in blocks(PAGE) for line in block.splitlines()]
    (found,) = {line for line in lines if line.startswith(f"cordctl {beginning}")}
    words = shlex.split(found, comments=True)[1:]
    return words[: words.index(">")] if ">" in words else words


def edited(config: str) -> str:
    """The written cord.toml with the page's own lines: its prover, its budgets and its limit."""
    prover, budgets, _ = [content for language, content in fenced(PAGE) if language == "toml"]
    config = re.sub(r"^# \[models\.prover\](?:\n#.*)+", prover.replace(PROVER, "bundled:prover"), config, flags=re.M)
    for key, value in re.findall(r"^(\w+) = (\S+)", budgets, re.MULTILINE):
        config, count = re.subn(rf"^#? ?{key} = \S+", f"{key} = {value}", config, count=1, flags=re.MULTILINE)
        assert count == 1, key
    return config


@pytest.mark.long
def test_the_tutorial_leads_from_nothing_to_a_training_file(cordctl: Cordctl) -> None:
    pytest.importorskip("httpx2")
    from tests.support.example_server import example_server

    cordctl.environment["EXAMPLE_API_KEY"] = "a-key-of-the-tests"
    (written,) = [block for block in blocks(PAGE) if block.startswith("cat > problems.jsonl")]
    subprocess.run(["bash", "-c", written.partition("\ncordctl ")[0]], cwd=cordctl.folder, check=True)

    def does(beginning: str, *more: str) -> Ended:
        return cordctl(*(word.replace(API, hosted) for word in command(beginning)), *more)

    with example_server(Path(model_location("bundled:prover"))).running() as server:
        hosted = server.url.removesuffix("/v1") + "/hosted"
        assert "2 problems, 0 invalid rows" in does("validate").stdout
        made = does("init", "--model", TEACHER)
        assert "a-key-of-the-tests" not in made.stdout
        (cordctl.folder / "cord.toml").write_text(edited(made.stdout), encoding="utf-8")
        assert "EXAMPLE_API_KEY set, accepts connections" in does("doctor").stdout
        does("run")
        assert len((cordctl.folder / "out.jsonl").read_text(encoding="utf-8").splitlines()) == 2
        does("show best")
        does("stats")
        prices = [content for language, content in fenced(PAGE) if language == "toml"][2]
        (cordctl.folder / "prices.toml").write_text(prices, encoding="utf-8")
        assert "USD" in does("cost").stdout
        does("export")
        rows = [json.loads(line) for line in (cordctl.folder / "train.jsonl").read_text(encoding="utf-8").splitlines()]
        assert all(row["messages"][-1]["role"] == "assistant" for row in rows)
