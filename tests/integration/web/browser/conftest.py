"""Headless Chromium, and what must never happen in a page: messages, dialogs, requests to elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.front_sources import installed_sources
from tests.support.web_site import WebSite
from tests.support.web_site import serving as served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser of the system; the library's own is not installed.

    Of one file: while it is there, its library has an event loop in this thread, in which other tests start theirs.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium on this machine (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_OPTIONS))
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page in a browser window of its own. `troubles`: what the browser complained of, and everything that a page
    must not do."""

    page: Page
    home: str = ""
    troubles: list[str] = field(default_factory=list)

    def go(self, address: str) -> None:
        """Opens the page at this address, the part after `#`; the one before is left."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.home}#{address}")

    def said(self, selector: str) -> str:
        """The text of the first such element, which is waited for."""
        return self.page.locator(selector).first.inner_text()

    def wait(self, selector: str, text: str | None = None) -> None:
        """Until there is such an element, with this text in it."""
        self.page.locator(selector, has_text=text).first.wait_for()

    def press(self, *keys: str) -> None:
        """One after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    @property
    def address(self) -> str:
        """The part after `#`."""
        return self.page.url.partition("#")[2]


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Visit]]:
    """Opens windows: `visit(site)` of made documents, or `visit(home="http://…")`. At the end, nothing may have gone
    wrong in any of them."""
    visits: list[Visit] = []
    with ExitStack() as stack:

        def open_window(site: WebSite | None = None, *, home: str | None = None, theme: str = "light") -> Visit:
            if site is not None:
                home = stack.enter_context(served(site)).url
            assert home is not None
            page = chromium.new_page(viewport={"width": 1280, "height": 800}, color_scheme=theme, locale="en-GB")  # type: ignore[arg-type]
            stack.callback(page.close)
            page.set_default_timeout(20_000)
            visit = Visit(page, home)
            page.on("console", lambda message: visit.troubles.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: visit.troubles.append(f"error: {error}"))
            page.on("dialog", lambda dialog: _note_dialog(visit, dialog))
            page.on("popup", lambda _: visit.troubles.append("another window"))
            page.on("request", lambda request: _note_foreign(visit, request.url))
            visits.append(visit)
            return visit

        yield open_window
        for visit in visits:
            assert visit.troubles == []


def _note_dialog(visit: Visit, dialog: Dialog) -> None:
    visit.troubles.append(f"dialog: {dialog.message}")
    dialog.dismiss()


def _note_foreign(visit: Visit, url: str) -> None:
    if not url.startswith((visit.home.partition("#")[0], "about:", "data:,")):
        visit.troubles.append(f"request: {url}")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the front end's sources with its packages."""
    return installed_sources(tmp_path_factory)
