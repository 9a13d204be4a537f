"""The page of a server, bundle and report: nothing of a text in it becomes markup."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from cord_worker.web.documents import Site, StepTexts
from cord_worker.web.pages import App, AppMissing, in_script, page, report_document, report_end, report_start
from tests.support.web_runs import HOSTILE

APP = App(b'const a = "</scr" + "ipt>";', b"body { color: red }")


def site(size: str, run: str | None = None, left_out: tuple[str, ...] = ()) -> Site:
    return Site(size, "1", run, False, 0.0, False, False, None, left_out, None)


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the contents of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.contents: list[tuple[dict[str, str | None], str]] = []
        self.comments: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in ("script", "style") and data.strip():
            self.contents.append((self.found[-1][1], data))

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    @property
    def policy(self) -> dict[str, list[str]]:
        (content,) = [a["content"] for tag, a in self.found if tag == "meta" and "http-equiv" in a]
        assert content is not None
        return {name: sources for name, *sources in (part.split() for part in content.split(";"))}


def read(attributes: dict[str, str | None], content: str) -> object:
    """A document of a report, as the browser reads it."""
    if attributes.get("data-encoding") == "gzip":
        return json.loads(gzip.decompress(base64.b64decode(content)))
    return json.loads(content)


@pytest.mark.parametrize("repeated", [1, 200], ids=["plain", "compressed"])
def test_a_report_holds_texts_as_data_only(repeated: int) -> None:
    documents = {
        f"texts/{place}.json": StepTexts(1, 0, [text * repeated]) for place, text in enumerate(HOSTILE.values())
    }
    shown = site("report", left_out=tuple(HOSTILE.values()))
    whole = report_start(shown, APP) + "".join(map(report_document, documents, documents.values()))
    elements = Elements(whole + report_end(shown, APP))
    assert elements.comments == []
    assert {tag for tag, _ in elements.found} <= {
        *("html", "head", "meta", "link", "title", "style", "body", "div", "noscript", "script")
    }
    data = [(attributes, content) for attributes, content in elements.contents if "data-path" in attributes]
    assert {attributes["data-path"]: read(attributes, content) for attributes, content in data} == {
        path: {"step": 1, "first": 0, "texts": list(document.texts)} for path, document in documents.items()
    }
    (about,) = [content for attributes, content in elements.contents if attributes.get("id") == "site"]
    assert json.loads(about)["left_out"] == list(HOSTILE.values())


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_json_in_a_page_has_no_character_that_ends_its_element(text: str) -> None:
    written = in_script(json.dumps(text, ensure_ascii=False).encode())
    assert re.search("[<>&\u2028\u2029]", written) is None
    assert json.loads(written) == text


def test_a_report_runs_its_own_script_and_asks_for_nothing() -> None:
    shown = site("report")
    elements = Elements(report_start(shown, APP) + report_end(shown, APP))
    for directive, part in (("script-src", APP.script), ("style-src", APP.style)):
        digest = base64.b64encode(hashlib.sha256(part).digest()).decode()
        assert elements.policy[directive] == [f"'sha256-{digest}'"]
    assert elements.policy["default-src"] == elements.policy["connect-src"] == ["'none'"]
    assert [a[name] for _, a in elements.found for name in ("src", "href") if name in a] == ["data:,"]
    assert APP.script.decode() in [content for _, content in elements.contents]
    assert APP.style.decode() in [content for _, content in elements.contents]


def test_the_page_of_a_bundle_loads_only_files_of_its_folder() -> None:
    elements = Elements(page(site("bundle", run="a~2Fb")))
    assert elements.policy["script-src"] == elements.policy["connect-src"] == ["'self'"]
    assert [a.get("src") for tag, a in elements.found if tag == "script"] == [None, "app.js"]
    assert "unsafe" not in str(elements.policy)
    assert "Content-Security-Policy" not in page(site("server"))  # it sends a header


@pytest.mark.parametrize("script", [b"a = '</script>'", b"</SCRIPT", b"<!-- a"])
def test_a_script_that_would_end_its_element_is_refused(script: bytes) -> None:
    with pytest.raises(AppMissing):
        report_start(site("report"), App(script, b""))


def test_the_built_front_end_can_stand_in_a_report() -> None:
    report_start(site("report"), App.read())
