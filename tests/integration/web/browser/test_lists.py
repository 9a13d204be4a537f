"""Runs, long lists of problems, and comparisons in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cord_worker.web.documents import Histogram
from tests.integration.web.browser.conftest import Visit
from tests.support.made_documents import comparison, problem_document, problem_list, run_document, run_list, summary
from tests.support.waiting import wait_until
from tests.support.web_site import SITE, WebSite

MANY = 100_000
LIST = "/runs/tiles/problems"


@pytest.fixture(scope="module")
def documents() -> dict[str, object]:
    """A run of many problems, and another one to compare with."""
    about, other = summary(total=MANY), summary("wide")
    return {
        "runs.json": run_list(other, about),
        "runs/tiles/run.json": run_document(about),
        "runs/wide/run.json": run_document(other),
        "runs/tiles/problems.json": problem_list("tiles", MANY),
        "runs/tiles/problems/3.json": problem_document(),
        "compare/tiles/wide.json": comparison(about, other, 300),
    }


@pytest.mark.parametrize("size", ["server", "bundle"])
def test_a_hundred_thousand_problems_are_sorted_filtered_and_searched(
    visit: Callable[..., Visit], documents: dict[str, object], size: str
) -> None:
    site = WebSite(replace(SITE, size=size, is_live=False, has_comparisons=size == "server"), documents)
    window = visit(site)
    window.go(LIST)
    window.wait("[data-index='0']", "tiles-0")
    assert window.said(".filters .hint") == "100,000 problems"
    assert window.page.locator(".vt-body .vt-row").count() < 60

    window.page.locator(".virtual-table").evaluate("(table) => table.scrollTo(0, 1e9)")
    window.wait("[data-index='99999']", "tiles-99999")
    assert window.page.locator(".vt-body .vt-row").count() < 60

    window.page.click("role=button[name='Score']")
    window.wait("[aria-sort=descending]", "Score")
    window.wait("[data-index='0'] .col-score", "0.99")
    assert window.address == f"{LIST}?sort=score&order=desc"

    window.press("/")
    window.page.keyboard.type("TILES-9998")
    window.wait(".filters .hint", "11 of 100,000 problems")
    window.page.click("role=button[name='Failed']")
    window.wait(".filters .hint", "of 100,000 problems")
    window.wait("[data-index='0'] .state-failed")
    window.press("Escape")
    assert window.address.startswith(f"{LIST}?")
    if size == "server":
        assert not any("limit" not in path for path in site.asked if path.startswith("runs/tiles/problems.json"))


@pytest.mark.parametrize("size", ["server", "bundle"])
def test_the_list_names_nearest_losers_and_leaves_out_those_of_the_same_text(
    visit: Callable[..., Visit], documents: dict[str, object], size: str
) -> None:
    site = WebSite(replace(SITE, size=size, is_live=False), documents)
    window = visit(site)
    window.go(LIST)
    window.wait("[data-index='1'] .col-loser", "2 calculator The tiles of one row")
    window.wait("[data-index='0'] .col-loser", "= The tiles of one row")
    assert "least difference" in (window.page.get_attribute("role=button[name='Lead']", "title") or "")
    window.page.click("role=button[name='Other text']")
    window.wait("[data-index='0']", "tiles-1")
    assert window.address == f"{LIST}?loser=other_text"
    window.page.click("role=button[name='Winner tokens']")
    window.wait("[data-index='0'] .col-result_tokens", "2,213")
    assert window.address == f"{LIST}?loser=other_text&sort=result_tokens&order=desc"


def test_a_run_names_its_cost_by_model_and_the_lengths_of_its_winners(visit: Callable[..., Visit]) -> None:
    about = summary()
    made = run_document(about)
    histogram = Histogram([160, 162, 164], [3, 1], 161.25, 160, 162)
    few = [replace(one, winners=replace(one.winners, count=40 - 3 * one.step)) for one in made.scores[:5]]
    site = WebSite(
        documents={
            "runs.json": run_list(about),
            "runs/tiles/run.json": replace(made, tokens=histogram, scores=few),
        }
    )
    window = visit(site)
    window.go("/runs/tiles")
    window.wait("table.cost")
    rows = window.page.locator("table.cost tbody tr.total").all_inner_texts()
    assert len(rows) == len(made.cost.models) + 1
    total = sum(one.money or 0.0 for one in made.cost.models)
    assert rows[-1].startswith("All models")
    assert f"\t{total:.2f}\t100.0 %" in rows[-1]
    lengths = window.page.locator(".histogram").nth(1)
    assert lengths.locator(".histogram-axis").inner_text().split("\n") == [
        "160",
        "4 winners, mean 161.3, longest 162",
        "162",
    ]
    card = window.page.locator("section.card", has=window.page.locator("h2", has_text="Score by step"))
    assert "from step 2 on, shorter ones are missing (37 at step 1, 28 at step 4)" in card.inner_text()
    card.locator("role=button[name='Numbers']").click()
    assert card.locator("th").all_inner_texts()[:5] == ["Step", "Winners", "mean", "median", "middle half"]

    unpriced = replace(made.cost, currency=None, models=[replace(one, money=None) for one in made.cost.models])
    site.documents["runs/tiles/run.json"] = replace(made, cost=unpriced)
    window.go("/runs/tiles")
    window.wait(".card-note", "cordctl cost RUN --prices FILE")
    assert "GPU hours" not in window.said("table.cost thead")


@pytest.mark.parametrize("address", [LIST, "/compare/tiles/wide"])
def test_the_end_of_a_long_id_is_in_view(visit: Callable[..., Visit], address: str) -> None:
    about, other = summary(), summary("wide")
    problems, both = problem_list("tiles", 40), comparison(about, other, 30)
    long = [f"a-long-name-of-a-held-out-dataset-{place:05}" for place in range(40)]
    site = WebSite(
        documents={
            "runs.json": run_list(other, about),
            "runs/tiles/run.json": run_document(about),
            "runs/tiles/problems.json": replace(problems, rows=replace(problems.rows, id=long)),
            "compare/tiles/wide.json": replace(both, rows=replace(both.rows, id=long[:30])),
        }
    )
    window = visit(site)
    window.go(address)
    end = "[data-index='7'] .id-end"
    window.wait(end, "00007")
    is_in_cell = "(end) => end.getBoundingClientRect().right <= end.closest('.vt-cell').getBoundingClientRect().right"
    assert window.page.locator(end).evaluate(is_in_cell)
    assert window.page.locator("[data-index='7'] .id-start").evaluate(
        "(start) => start.scrollWidth > start.clientWidth"
    )


def test_a_short_id_stands_in_line_with_its_row_and_has_no_gap(visit: Callable[..., Visit]) -> None:
    problems = problem_list("tiles", 40)
    ids = ["tiles-0", "itiles-0000", "iitiles-0000", *problems.rows.id[3:]]
    site = WebSite(
        documents={
            "runs.json": run_list(summary()),
            "runs/tiles/run.json": run_document(summary()),
            "runs/tiles/problems.json": replace(problems, rows=replace(problems.rows, id=ids)),
        }
    )
    window = visit(site)
    window.go(LIST)
    lines = """(rows) => rows.slice(0, 3).map((row) => {
      const range = document.createRange();
      const boxes = [".col-id a", ".col-outcome, .col-correct"].map((selector) => {
        range.selectNodeContents(row.querySelector(selector));
        return range.getBoundingClientRect();
      });
      const cell = row.querySelector(".col-id");
      const parts = [...row.querySelectorAll(".id span")].map((part) => part.getBoundingClientRect());
      const written = parts.map((part) => {
        range.selectNodeContents(row.querySelectorAll(".id span")[parts.indexOf(part)]);
        return range.getBoundingClientRect().width - part.width;
      });
      const left = cell.getBoundingClientRect().left + parseFloat(getComputedStyle(cell).paddingLeft);
      return [parts[0].left - left, boxes[0].bottom - boxes[1].bottom, Math.min(...written)];
    })"""
    window.wait("[data-index='2'] .id-end")
    for left, below, narrower in window.page.locator(".vt-body [data-index]").evaluate_all(lines):
        assert abs(left) < 1
        assert abs(below) < 2
        assert narrower > -1


def test_the_numbers_of_a_run_name_their_times_sums_and_intervals(visit: Callable[..., Visit]) -> None:
    about = summary()
    made = run_document(about)
    short = replace(made, timeline=replace(made.timeline, bucket_seconds=10.0))
    window = visit(WebSite(documents={"runs.json": run_list(about), "runs/tiles/run.json": short}))
    window.go("/runs/tiles")
    window.wait(".plot-head .hint", "per second, from the numbers in each 10 s")
    assert "95 % interval (Wilson) " in window.said(".figure-note")
    cards = window.page.locator(".card")
    for title in ("Over time", "Who writes which part", "Length of the winners"):
        cards.filter(has_text=title).first.get_by_role("button", name="Numbers").click()
    times = cards.filter(has_text="Over time").locator("tbody th").all_inner_texts()
    assert len(set(times)) == len(times)
    window.wait("caption", "Numbers in each 10 s")
    parts = cards.filter(has_text="Who writes which part").first.locator("tbody tr").first.locator("td")
    inside = [cell for cell in made.selection if cell.tenth <= 3]
    own = sum(cell.credit for cell in inside if cell.teacher == made.teachers[0].name)
    assert parts.first.inner_text() == f"{100 * own / sum(cell.credit for cell in inside):.1f} %"
    heights = window.page.locator(".side-by-side tbody tr").evaluate_all(
        "(rows) => rows.map((row) => row.offsetHeight)"
    )
    assert max(heights) - min(heights) <= 1


_RECORD = """() => {
  window.drawn = [];
  const draw = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, x, y, ...more) {
    const plots = [...document.querySelectorAll(".card.wide canvas")];
    const number = plots.indexOf(this.canvas);
    if (number >= 0 && !text.includes(":")) window.drawn.push([number, text, Math.round(y)]);
    return draw.call(this, text, x, y, ...more);
  };
}"""


@pytest.mark.parametrize("rates", [[3, 1, 0, 2], [0, 0, 0, 0], [30_100, 30_300, 30_500, 30_200], [1, 0, 0, 0]])
def test_no_two_labels_of_an_axis_are_the_same(visit: Callable[..., Visit], rates: list[int]) -> None:
    about = summary()
    nothing = [0] * len(rates)
    made = run_document(about)
    timeline = replace(
        made.timeline,
        bucket_seconds=1.0,
        finished=rates,
        failed=nothing,
        steps=nothing,
        scores=nothing,
        tokens=nothing,
        queued=nothing,
        active=[min(number, 2) for number in rates],
    )
    document = replace(made, timeline=timeline)
    window = visit(WebSite(documents={"runs.json": run_list(about), "runs/tiles/run.json": document}))
    window.page.add_init_script(f"({_RECORD})()")
    window.go("/runs/tiles")
    assert wait_until(lambda: window.page.evaluate("new Set(window.drawn.map(([plot]) => plot)).size === 2"))
    labels = {tuple(one) for one in window.page.evaluate("window.drawn")}
    for plot in (0, 1):
        texts = [text for number, text, _ in labels if number == plot]
        assert len(texts) >= 2
        assert len(set(texts)) == len(texts), texts
        if max(rates) == 0:
            assert max(float(text) for text in texts) <= 1


def test_keys_open_a_problem_and_the_browser_goes_back_to_the_list(
    visit: Callable[..., Visit], documents: dict[str, object]
) -> None:
    window = visit(WebSite(documents=documents))
    window.go(f"{LIST}?q=tiles-3")
    window.wait("[data-index='0']", "tiles-3")
    window.press("j", "j", "k", "Enter")
    window.wait("h1", "tiles-3")
    assert window.address.startswith(f"{LIST}/3")
    window.page.go_back()
    window.wait(".vt-row", "tiles-3")
    assert window.page.input_value("input[type=search]") == "tiles-3"
    window.press("g")
    window.wait(".cards", "Who writes which part")
    window.press("?")
    window.wait("dialog[open]", "next, previous row")
    window.press("Escape")
    assert window.page.locator("dialog").count() == 0


def test_two_runs_are_chosen_and_compared(visit: Callable[..., Visit], documents: dict[str, object]) -> None:
    window = visit(WebSite(documents=documents))
    window.go("/")
    window.page.check("role=checkbox[name='Compare wide']")
    window.page.check("role=checkbox[name='Compare tiles']")
    window.page.click("text=Compare the two")
    window.wait("h1", "Compare")
    assert window.address == "/compare/tiles/wide"  # the older one first
    found = documents["compare/tiles/wide.json"]
    window.wait(".totals", "+15.0 %")
    window.page.click(".outcome-only_b")
    window.wait(".filters .hint", f"{found.outcomes['only_b']} problems")  # type: ignore[attr-defined]
    assert "outcome=only_b" in window.address
    assert "right" in window.said("[data-index='0'] .col-correct_b")
    assert "wrong" in window.said("[data-index='0'] .col-correct_a")


def test_what_is_not_there_is_said(visit: Callable[..., Visit]) -> None:
    window = visit(WebSite(replace(SITE, is_live=False), {"runs.json": run_list()}))
    window.go("/")
    window.wait("main", "There is no run yet")
    window.go("/nowhere/at/all")
    window.wait("main", "There is no page at this address")
    window.go("/runs/gone")
    window.wait("[role=alert]", "There is nothing at this address")
    assert all("404" in trouble for trouble in window.troubles)
    window.troubles.clear()
