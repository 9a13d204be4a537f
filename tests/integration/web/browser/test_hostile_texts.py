"""Texts that attack the page, in a real browser under the page's own content security policy: they are seen as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cord_worker.store.database import Database
from cord_worker.web.report import write_report
from tests.integration.web.browser.conftest import Visit
from tests.support.made_documents import problem_document, prompt_document, run_document, run_list, summary
from tests.support.web_runs import HOSTILE
from tests.support.web_site import WebSite

pytestmark = pytest.mark.long

_MATHS = (
    r"$\href{javascript:alert(1)}{x}$",
    r"$\url{javascript:alert(1)}$",
    r"$\includegraphics{https://example.org/x.png}$",
    r"$\htmlStyle{position:fixed}{x} \htmlId{app}{x} \htmlClass{top}{x}$",
    r"$\def\a{\a\a}\a$",
    r"$\gdef\b{x}\b$ and then $\b$",
    r"$\rule{9999999em}{9999999em}$",
    r"$\kern{-99999em}x$",
    r"$\textcolor{white}{hidden} \colorbox{red}{x}$",
    "$\\text{\u202egnp.exe}$",
    r"$\text{</annotation></math><script>alert(1)</script>}$",
    r"$\unicode{x202e} \char\"202e$",
    "$" + "{" * 900 + "x" + "}" * 900 + "$",
    "$" + r"\frac{1}{" * 200 + "1" + "}" * 200 + "$",
    "$" + "x" * 100_000 + "$",
    "$" * 5_000,
    r"\[" * 3_000,
    r"\begin{array}{" + "c" * 1_500 + r"} 1 \end{array}",
)

_OWN = """() => {
  const allowed = new Set(["class", "title", "dir", "type", "tabindex"]);
  const found = [];
  for (const element of document.querySelectorAll(".model-text *, .name *, bdi *")) {
    const isMaths = element.namespaceURI.endsWith("MathML");
    if (!isMaths && !["SPAN", "CODE", "BUTTON"].includes(element.tagName)) found.push(element.outerHTML);
    for (const { name } of element.attributes) {
      const isKnown = isMaths ? !/^(on|href|src|style|xlink)/.test(name) : allowed.has(name);
      if (!isKnown) found.push(`${element.tagName} ${name}`);
    }
  }
  for (const link of document.querySelectorAll("a")) {
    if (!link.getAttribute("href").startsWith("#")) found.push(link.outerHTML);
  }
  const others = "iframe, img, object, embed, foreignObject, form, link:not([rel=icon], [rel=stylesheet])";
  return [...found, ...[...document.querySelectorAll(others)].map((element) => element.outerHTML)];
}"""


def _texts_of(window: Visit, text: str) -> None:
    """Every tab of the problem that is open; nothing in it is an element of the text's making."""
    page = window.page
    window.wait(".detail .model-text")
    assert page.evaluate(_OWN) == []
    window.press("2")
    window.wait(".trajectory .near .model-text")
    assert page.evaluate(_OWN) == []
    window.press("3")
    window.wait(".messages .model-text")
    page.locator("details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
    assert page.evaluate(_OWN) == []
    shown = "".join(page.locator(".messages .model-text").all_inner_texts())
    start = text.strip()[:12]
    if start.isprintable() and start.isascii():
        assert start in shown


def test_texts_from_the_tables_are_only_text(
    visit: Callable[..., Visit], browser: Any, hostile: Database, tmp_path: Path
) -> None:
    window = visit(home=f"http://127.0.0.1:{browser.port}/")
    window.go("/")
    window.page.click("a.row-link >> nth=-1")
    window.wait(".cards")
    assert window.page.evaluate(_OWN) == []
    run = window.address
    window.go(f"{run}/problems")
    window.wait(".vt-body .vt-row")
    assert window.page.evaluate(_OWN) == []
    window.go(f"/compare/{run.rpartition('/')[2]}/second")
    window.wait(".vt-body .vt-row")
    assert window.page.evaluate(_OWN) == []
    for position, text in enumerate(HOSTILE.values()):
        window.go(f"{run}/problems/{position}")
        _texts_of(window, text)

    report = tmp_path / "report.html"
    write_report(hostile, 'the <b>first</b> "run"', str(report))
    offline = visit(home=report.as_uri())
    offline.go(f"{run}/problems")
    offline.wait(".vt-body .vt-row")
    for position in range(len(HOSTILE)):
        offline.go(f"{run}/problems/{position}")
        offline.wait(".detail .model-text")
        assert offline.page.evaluate(_OWN) == []


def test_formulas_are_drawn_or_shown_as_their_source(visit: Callable[..., Visit]) -> None:
    site = WebSite()
    text = "\n".join(_MATHS)
    about = summary()
    problem = problem_document(text=text, steps=2)
    site.documents = {
        "runs.json": run_list(about),
        "runs/tiles/run.json": run_document(about),
        "runs/tiles/problems/3.json": problem,
        f"runs/tiles/problems/3/prompts/{problem.path[0]}.json": prompt_document(problem, problem.path[0], text),
    }
    window = visit(site)
    window.go("/runs/tiles/problems/3")
    _texts_of(window, text)
    window.press("1")
    window.wait(".detail .tex", r"\def\a{\a\a}\a")
    assert window.page.locator(".detail .escape", has_text="\\u202e").count() > 0
    widest = window.page.evaluate("Math.max(...[...document.querySelectorAll('math *')].map((one) => one.scrollWidth))")
    assert widest < 5_000
    shown = problem_document(text=r"Then $x^2$ costs $5 or $6, \(\frac12\), \[\boxed{7}\] and $\mathbb{R}$.")
    site.documents["runs/tiles/problems/3.json"] = shown
    window.go("/runs/tiles/problems/3")
    window.wait(".detail .model-text math")
    assert window.page.locator(".detail .model-text math").count() == 4
    assert "costs $5 or $6," in window.said(".detail .model-text")
    assert "ℝ" in window.said(".detail .model-text")


def test_invisible_characters_are_seen_and_move_nothing(visit: Callable[..., Visit]) -> None:
    text = "a\u202eb\u2066c\u200bd\x00e\u00ade\ufe0f\U000e0041f\x85g"
    window = visit(WebSite(documents={"runs/tiles/problems/3.json": problem_document(text=text, steps=2)}))
    window.go("/runs/tiles/problems/3")
    window.wait(".detail .model-text")
    escapes = window.page.locator(".detail .model-text >> nth=0").locator(".escape").all_inner_texts()
    assert escapes == [
        *("\\u202e", "\\u2066", "\\u200b", "\\x00", "\\xad", "\\ufe0f", "\\U000e0041", "\\x85"),
    ]
    assert (
        window.page.locator(".detail .model-text >> nth=0").evaluate("(one) => getComputedStyle(one).unicodeBidi")
        == "isolate"
    )


def test_an_untrusted_command_is_shown_whole_as_its_source(visit: Callable[..., Visit]) -> None:
    commands = _MATHS[:4]
    problem = problem_document(text="\n".join(commands), steps=1)
    window = visit(WebSite(documents={"runs/tiles/problems/3.json": problem}))
    window.go("/runs/tiles/problems/3")
    window.wait(".detail .tex")
    assert window.page.locator(".detail .tex").all_inner_texts() == list(commands)
    assert window.page.locator(".detail math").count() == 0


def test_joiners_that_a_script_needs_are_ordinary_text_and_others_are_seen(visit: Callable[..., Visit]) -> None:
    ordinary = (
        "\U0001f469\u200d\U0001f469\u200d\U0001f467",  # a family
        "\U0001f469\U0001f3fd\u200d\U0001f52c",  # with the colour of a skin
        "\u2764\ufe0f\u200d\U0001f525",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian
        "\u0915\u094d\u200d\u0937",  # Devanagari
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # the flag of England
    )
    hiding = {
        "a\u200db": "a\\u200db",
        "a\ufe0fb": "a\\ufe0fb",
        "\U0001f469\u200d b": "\U0001f469\\u200d b",
        "a\U000e0067": "a\\U000e0067",
        "\u202eb": "\\u202eb",
    }
    problem = problem_document(text="\n".join([*ordinary, *hiding]), steps=1)
    window = visit(WebSite(documents={"runs/tiles/problems/3.json": problem}))
    window.go("/runs/tiles/problems/3")
    window.wait(".detail .model-text")
    shown = window.page.locator(".detail .model-text").first.text_content() or ""
    assert shown.split("\n") == [*ordinary, *hiding.values()]
