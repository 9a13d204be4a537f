"""What the wheel holds is what the sources build; every page can be read by everybody (axe-core)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.web.browser.conftest import Visit
from tests.support.front_sources import FRONT
from tests.support.made_documents import (
    comparison,
    problem_document,
    problem_list,
    prompt_document,
    run_document,
    run_list,
    summary,
)
from tests.support.web_site import WebSite

pytestmark = pytest.mark.long

STATIC = FRONT.parent / "static"


def test_the_sources_build_the_same_bytes_again_and_have_no_type_errors(sources: Path, tmp_path: Path) -> None:
    subprocess.run(["node", "build.mjs", str(tmp_path)], cwd=sources, check=True, capture_output=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {
        file.name: file.read_bytes() for file in STATIC.iterdir()
    }
    subprocess.run([str(sources / "node_modules" / ".bin" / "tsc"), "--noEmit"], cwd=sources, check=True)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_accessible(visit: Callable[..., Visit], sources: Path, theme: str) -> None:
    # Only colours differ between the themes.
    rules = {"runOnly": ["color-contrast"]} if theme == "dark" else {}
    axe = (sources / "node_modules" / "axe-core" / "axe.min.js").read_text()
    about, other = summary(state="active", done=10), summary("wide")
    problem = problem_document()
    window = visit(
        WebSite(
            documents={
                "runs.json": run_list(about, other),
                "runs/tiles/run.json": run_document(about),
                "runs/tiles/problems.json": problem_list("tiles", 40),
                "runs/tiles/problems/3.json": problem,
                f"runs/tiles/problems/3/prompts/{problem.path[0]}.json": prompt_document(problem, problem.path[0]),
                "compare/tiles/wide.json": comparison(about, other, 30),
            }
        ),
        theme=theme,
    )

    def check(at: str) -> None:
        window.page.evaluate(axe)
        found = window.page.evaluate(
            "async (rules) => (await axe.run(document, { resultTypes: ['violations'], ...rules })).violations", rules
        )
        assert [(at, one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found] == []

    for address, ready in (
        ("/", "table.runs"),
        ("/runs/tiles", ".plot canvas"),
        ("/runs/tiles/problems", ".vt-body .vt-row"),
        ("/compare/tiles/wide", ".vt-body .vt-row"),
        ("/runs/tiles/problems/3", ".cell.active"),
    ):
        window.go(address)
        window.wait(ready)
        check(address)
    window.press("F")
    window.page.click("#cell-1-6")
    check("losers")
    window.press("2")
    window.wait(".trajectory math")
    check("trajectory")
    window.page.click("#cell-0-0")
    window.press("w", "3")
    window.wait(".messages")
    check("prompt")
    window.press("?")
    window.wait("dialog[open]")
    check("help")
    window.go("/runs/tiles")
    window.wait(".plot canvas")
    for button in window.page.locator("role=button[name='Numbers']").all():
        button.click()
    check("numbers")
