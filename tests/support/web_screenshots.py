"""Takes the pictures of the documentation again: `python -m tests.support.web_screenshots`.

The pages show made documents, so the pictures change only if the pages do. Look at each before you commit it. Needs
Chromium, playwright and Pillow, which reduces the colours so that a picture takes a third of the bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.made_documents import (
    problem_document,
    problem_list,
    prompt_document,
    run_document,
    run_list,
    summary,
)
from tests.support.web_site import SITE, WebSite, serving

FOLDER = Path(__file__).parents[2] / "docs" / "images"
_OPTIONS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
_TOTAL, _POSITION, _STEPS, _BEAM = 400, 3, 6, 4
_CHOSEN_STEP = 3
_COLOURS = 128
_NOW = "2026-11-28T14:02:11Z"


@dataclass(frozen=True, slots=True)
class Picture:
    """A page (the part of its address after `#`), what is waited for, and the elements that are clicked then."""

    name: str
    address: str
    awaited: str
    clicked: tuple[str, ...]
    width: int
    height: int
    theme: str


def pictured_site() -> tuple[WebSite, list[Picture]]:
    """A run of 400 problems, and the pictures of its pages."""
    about = summary(total=_TOTAL)
    problem = problem_document(steps=_STEPS, beam=_BEAM, total=_TOTAL)
    chosen = problem.path[_CHOSEN_STEP - 1]
    documents: dict[str, Any] = {
        "runs.json": run_list(about),
        "runs/tiles/run.json": run_document(about),
        "runs/tiles/problems.json": problem_list("tiles", _TOTAL),
        f"runs/tiles/problems/{_POSITION}.json": problem,
        f"runs/tiles/problems/{_POSITION}/prompts/{chosen}.json": prompt_document(problem, chosen),
    }
    return WebSite(replace(SITE, poll_seconds=3600.0), documents), [
        Picture("web-view-run", "/runs/tiles", ".uplot, svg", (), 1160, 760, "light"),
        Picture("web-view-problems", "/runs/tiles/problems", ".vt-body [data-index='3']", (), 1400, 480, "dark"),
        Picture(
            "web-view-problem",
            f"/runs/tiles/problems/{_POSITION}?c={chosen}",
            ".cell-slot",
            ("text=Trajectory",),
            1360,
            660,
            "light",
        ),
    ]


def main() -> None:
    """Writes the pictures."""
    from PIL import Image  # type: ignore[import-not-found,unused-ignore]
    from playwright.sync_api import sync_playwright

    site, pictures = pictured_site()
    with serving(site), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(_OPTIONS))
        for picture in pictures:
            page = browser.new_page(
                viewport={"width": picture.width, "height": picture.height},
                color_scheme=picture.theme,  # type: ignore[arg-type]
                locale="en-GB",
                timezone_id="UTC",
            )
            page.clock.set_fixed_time(_NOW)
            page.goto(f"{site.url}#{picture.address}")
            page.wait_for_selector(picture.awaited)
            for selector in picture.clicked:
                page.click(selector)
            page.wait_for_load_state("networkidle")
            file = io.BytesIO(page.screenshot())
            page.close()
            with Image.open(file) as image:
                image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(
                    FOLDER / f"{picture.name}.png", optimize=True
                )
        browser.close()


if __name__ == "__main__":
    main()
