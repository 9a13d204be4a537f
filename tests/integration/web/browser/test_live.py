"""A page beside a run that goes on: it follows without being asked, and stops when nothing can change."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.integration.web.browser.conftest import Visit
from tests.support.made_documents import problem_document, problem_list, run_document, run_list, summary
from tests.support.web_site import WebSite

RUN = "runs/tiles/run.json"


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_run_is_followed_until_it_has_ended(visit: Callable[..., Visit]) -> None:
    def state(done: int, name: str) -> None:
        about = summary(state=name, done=done)
        site.documents.update({"runs.json": run_list(about), RUN: run_document(about)})
        site.documents["runs/tiles/problems.json"] = problem_list("tiles", 40 if name == "finished" else 39)

    site = WebSite()
    state(10, "active")
    window = visit(site)
    window.go("/runs/tiles")
    window.wait(".progress-text", "12 of 40")
    window.page.click("text=Steps and scores")
    state(20, "active")
    window.wait(".progress-text", "22 of 40")
    assert window.page.get_attribute("text=Steps and scores", "aria-pressed") == "true"

    window.page.click("nav >> text=Problems")
    window.wait(".filters .hint", "39 problems")
    state(38, "finished")
    window.wait(".filters .hint", "40 problems")
    window.page.click("text=Overview")
    window.wait(".state-finished")
    asked = site.asked.count(RUN)
    window.go("/")  # another page that goes on asking: then the run's page would have asked too
    seen = site.asked.count("runs.json")
    _until(lambda: site.asked.count("runs.json") > seen + 3)
    assert site.asked.count(RUN) <= asked + 1


def test_a_search_grows_step_by_step_and_keeps_what_the_reader_chose(visit: Callable[..., Visit]) -> None:
    path = "runs/tiles/problems/3.json"

    def search(steps: int) -> object:
        made = problem_document(steps=steps)
        object.__setattr__(made, "state", "done" if steps == 4 else "searching")
        return made

    site = WebSite(documents={path: search(2)})
    window = visit(site)
    window.go("/runs/tiles/problems/3")
    window.page.click("#cell-1-2")
    site.documents[path] = search(3)
    window.wait("#cell-2-0")
    assert "active" in (window.page.get_attribute("#cell-1-2", "class") or "")
    site.documents[path] = search(4)
    window.wait("#cell-3-0")
    window.wait(".correct-right")


def test_a_missing_document_is_no_outage(visit: Callable[..., Visit]) -> None:
    about = summary()
    window = visit(WebSite(documents={"runs.json": run_list(about), RUN: run_document(about)}))
    for address in ("/runs/nosuch", "/runs/tiles/problems/99999", "/runs/nosuch/problems"):
        window.go(address)
        window.wait(".trouble", "Not found.")
        window.wait(".fresh.live", "Live")
        assert window.page.locator(".fresh.lost").count() == 0
    assert all("404" in trouble for trouble in window.troubles)
    window.troubles.clear()


def test_a_run_that_its_limit_paused_says_why_on_every_page(visit: Callable[..., Visit]) -> None:
    about = summary(state="paused", done=10, pause_reason="12 generated tokens, of at most 10 (run.max_tokens)")
    site = WebSite(documents={"runs.json": run_list(about), RUN: run_document(about)})
    site.documents["runs/tiles/problems.json"] = problem_list("tiles", 40)
    window = visit(site)
    for address in ("/", "/runs/tiles", "/runs/tiles/problems"):
        window.go(address)
        window.wait(".pause-reason", "found at the pause: 12 generated tokens, of at most 10 (run.max_tokens)")


def test_a_server_that_is_away_is_said_and_what_was_read_stays(visit: Callable[..., Visit]) -> None:
    about = summary(state="active", done=10)
    site = WebSite(documents={"runs.json": run_list(about), RUN: run_document(about)})
    window = visit(site)
    window.go("/runs/tiles")
    window.wait(".fresh.live")
    site.is_down = True
    window.wait(".fresh.lost", "No answer since")
    assert "12 of 40" in window.said(".progress-text")
    site.is_down = False
    window.wait(".fresh.live")
    assert all("503" in trouble for trouble in window.troubles)
    window.troubles.clear()
