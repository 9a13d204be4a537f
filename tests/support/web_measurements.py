"""How fast pages are in headless Chromium: `python -m tests.support.web_measurements`.

A problem of 10,016 candidates is opened and scrolled with everything unfolded, and so is a list of 100,000 problems.
Milliseconds by the clock, and of processor time of the page's main thread, which other processes do not change.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cord_worker.web.documents import StepTexts
from tests.support.made_documents import problem_document, problem_list, run_document, run_list, summary
from tests.support.web_site import SITE, WebSite, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_OPTIONS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
_CATEGORIES = ["toplevel", "devtools.timeline"]
_SCROLL = """async ([selector, right, down, times]) => {
  const element = document.querySelector(selector);
  const frames = [];
  let before = performance.now();
  for (let time = 0; time < times; time += 1) {
    element.scrollLeft += right;
    element.scrollTop += down;
    await new Promise((drawn) => requestAnimationFrame(drawn));
    frames.push(performance.now() - before);
    before = performance.now();
  }
  return [Math.max(...frames), frames.reduce((sum, frame) => sum + frame, 0) / times];
}"""
_READY = "() => new Promise((drawn) => requestAnimationFrame(() => setTimeout(() => drawn(performance.now()))))"


def made_site() -> WebSite:
    """A run of 100,000 problems, the fourth of which has 10,016 candidates with their texts apart."""
    about = summary("big", total=100_000)
    problem = problem_document("big", steps=40, beam=8, samples=8, texts="by_step", total=100_000)
    documents: dict[str, Any] = {
        "runs.json": run_list(about),
        "runs/big/run.json": run_document(about),
        "runs/big/problems.json": problem_list("big", 100_000),
        "runs/big/problems/3.json": problem,
    }
    for step in range(1, 41):
        first = problem.candidates.step.index(step)
        texts = [
            f"We add $a_{{{number}}} + \\frac12$ to it. " * 12 for number in range(problem.candidates.step.count(step))
        ]
        documents[f"runs/big/problems/3/texts/{step}.json"] = StepTexts(step, first, texts)
    site = WebSite(replace(SITE, is_live=False), documents)
    site.body("runs/big/problems/3.json", "")
    return site


def _traced(browser: Browser, page: Page, act: Callable[[], Any]) -> tuple[Any, float]:
    """What `act` returns, and the longest task of the page's main thread in milliseconds of processor time."""
    browser.start_tracing(page=page, categories=_CATEGORIES)
    result = act()
    events = json.loads(browser.stop_tracing())["traceEvents"]
    names = (event for event in events if event.get("name") == "thread_name")
    mains = {(event["pid"], event["tid"]) for event in names if event["args"]["name"] == "CrRendererMain"}
    tasks = [
        event["tdur"] / 1000
        for event in events
        if event.get("name", "").endswith("RunTask") and "tdur" in event and (event["pid"], event["tid"]) in mains
    ]
    return result, max(tasks, default=0.0)


def main() -> None:
    """Prints a line for each measurement."""
    from playwright.sync_api import sync_playwright

    with serving(made_site()) as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(_OPTIONS))
        page = browser.new_page(viewport={"width": 1440, "height": 900})

        def opened(address: str, selector: str) -> None:
            page.goto("about:blank")
            page.goto(f"{site.url}#{address}")
            page.wait_for_selector(selector)
            print(f"{address}: opened in {page.evaluate(_READY):.0f} ms")

        def scrolled(name: str, *where: object) -> None:
            longest, mean = page.evaluate(_SCROLL, list(where))
            _, task = _traced(browser, page, lambda: page.evaluate(_SCROLL, list(where)))
            print(f"{name}: longest frame {longest:.0f} ms, mean {mean:.0f}; longest task {task:.0f} ms of processor")

        for _ in range(3):
            opened("/runs/big/problems/3", ".cell-slot")
        scrolled("steps", ".beam", 60, 0, 30)
        page.keyboard.press("F")
        page.wait_for_selector(".cell-lost")
        scrolled("losers", ".beam", 0, 100, 50)
        scrolled("both", ".beam", -90, -60, 30)
        opened("/runs/big/problems", ".vt-body [data-index='3']")
        scrolled("problems", ".virtual-table", 0, 400, 60)
        scrolled("problems, a page a frame", ".virtual-table", 0, 1400, 60)
        browser.close()


if __name__ == "__main__":
    main()
