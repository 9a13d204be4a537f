"""A problem in a real browser: the beam grid by mouse and by keys, links to candidates, what is told of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from cord_worker.web.documents import CandidateTable, StepTexts
from tests.integration.web.browser.conftest import Visit
from tests.support.made_documents import TEACHERS, problem_document, prompt_document, run_document, run_list, summary
from tests.support.web_site import WebSite

HERE = "/runs/tiles/problems/3"


@pytest.fixture
def site() -> WebSite:
    """A run with two problems, one of them with its texts apart."""
    about = summary()
    problem = problem_document()
    documents = {
        "runs.json": run_list(about),
        "runs/tiles/run.json": run_document(about),
        "runs/tiles/problems/3.json": problem,
        "runs/tiles/problems/4.json": problem_document(position=4),
    }
    for candidate in problem.path[:2]:
        documents[f"runs/tiles/problems/3/prompts/{candidate}.json"] = prompt_document(problem, candidate)
    return WebSite(documents=documents)


def test_a_click_on_a_cell_shows_its_candidate(visit: Callable[..., Visit], site: WebSite) -> None:
    window = visit(site)
    problem = site.documents["runs/tiles/problems/3.json"]
    candidate = problem.columns[1].beam[2].candidate
    window.go(HERE)
    window.page.click("#cell-1-2")
    window.wait(".detail h2", TEACHERS[problem.candidates.teacher[candidate]])
    assert f"{problem.candidates.score[candidate]:.3f}" in window.said(".detail-facts")
    assert window.address == f"{HERE}?c={candidate}"
    assert window.page.get_attribute("#cell-1-2", "aria-selected") == "true"
    assert window.page.get_attribute("[role=grid]", "aria-activedescendant") == "cell-1-2"


def test_losers_are_folded_and_say_why_they_lost(visit: Callable[..., Visit], site: WebSite) -> None:
    window = visit(site)
    problem = site.documents["runs/tiles/problems/3.json"]
    window.go(HERE)
    assert window.said("#cell-1-4").startswith(f"+{len(problem.columns[1].lost)}\n")
    assert window.page.locator(".cell-lost").count() == 0
    window.page.click("#cell-1-4")
    window.page.click("#cell-1-5")
    loser = problem.columns[1].lost[0]
    assert problem.candidates.reason[loser] in window.said(".why")
    assert f"{problem.candidates.behind[loser]:.3f} below" in window.said(".why")
    window.page.click("#cell-1-4")
    assert window.page.locator(".cell-lost").count() == 0


def test_the_nearest_loser_is_named_and_marked(visit: Callable[..., Visit]) -> None:
    problem = problem_document()
    assert problem.nearest is not None
    nearest = replace(problem.nearest, lead=-0.0213, repeats=True)
    window = visit(WebSite(documents={"runs/tiles/problems/3.json": replace(problem, nearest=nearest)}))
    window.go(HERE)
    window.wait(".nearest-line", f"{nearest.teacher} at step {nearest.step}")
    assert "lead \N{MINUS SIGN}0.021, with the text of the winning step" in window.said(".nearest-line")
    column = nearest.step - 1
    assert "the nearest loser among them" in (window.page.locator(f"#cell-{column}-4").text_content() or "")
    window.page.click(".nearest-line button")
    window.wait(".cell-lost.nearest.active", "not kept, the nearest loser")
    assert window.said(".detail .fate") == "nearest loser"
    assert window.address == f"{HERE}?c={nearest.candidate}"


def test_a_tie_says_what_decided_it_and_a_duplicate_is_not_called_invalid(visit: Callable[..., Visit]) -> None:
    problem = problem_document(steps=2)
    table = problem.candidates
    kept, (tied, repeated) = problem.columns[1].beam[0].candidate, problem.columns[1].lost[:2]
    sentence = "0.194 and the 0.173 of slot 3 are a tie at resolution 0.1: planner is named before closer"
    ties, states, originals = list(table.tie), list(table.state), list(table.duplicate_of)
    ties[tied] = ties[kept] = sentence
    states[repeated], originals[repeated] = "invalid", kept
    table = replace(table, tie=ties, state=states, duplicate_of=originals, score=[*table.score])
    table = replace(table, score=[None if place == repeated else one for place, one in enumerate(table.score)])
    window = visit(WebSite(documents={"runs/tiles/problems/3.json": replace(problem, candidates=table)}))
    window.go(f"{HERE}?c={tied}")
    window.wait(".cell-lost.active")
    assert window.said(".why").startswith("Why it lost: rank 4")
    assert window.said(".why").endswith(sentence)
    window.page.click("#cell-1-0")
    window.wait(".why", f"Why it ranks higher: {sentence}")
    window.go(f"{HERE}?c={repeated}")
    window.wait(".cell-lost.duplicate.active", "duplicate")
    assert window.said(".detail .fate") == "duplicate"


def test_keys_walk_through_the_search(visit: Callable[..., Visit], site: WebSite) -> None:
    window = visit(site)
    problem = site.documents["runs/tiles/problems/3.json"]
    window.go(HERE)
    window.wait(".cell.active")

    def chosen() -> int:
        return int(window.address.partition("c=")[2])

    window.press("ArrowRight", "ArrowDown")
    assert chosen() == problem.columns[1].beam[1].candidate
    window.press("p")
    assert chosen() == problem.candidates.parent[problem.columns[1].beam[1].candidate]
    window.press("End", "w")
    assert chosen() == problem.path[-1]
    window.wait("#cell-11-0.active")
    window.press("Home", "w")
    assert chosen() == problem.path[0]
    window.press("ArrowRight", "f")
    window.wait(".cell-lost")
    window.press("F")
    window.wait("#cell-0-0")
    window.press("F")
    assert window.page.locator(".cell-lost").count() == 0
    window.press("2")
    window.wait(".trajectory")
    window.press("j")
    window.wait("h1", "tiles-4")
    window.press("k")
    window.wait("h1", "tiles-3")


def test_a_fold_and_an_empty_slot_keep_the_candidate_of_the_address(visit: Callable[..., Visit], site: WebSite) -> None:
    window = visit(site)
    problem = site.documents["runs/tiles/problems/3.json"]
    last = problem.columns[1].beam[3].candidate
    window.go(HERE)
    window.wait(".cell.active")
    window.press("F")
    window.page.click("#cell-1-3")
    window.press("ArrowDown")
    window.wait("#cell-1-4.cell-fold.active")
    assert window.address == f"{HERE}?c={last}"
    assert f"{problem.candidates.score[last]:.3f}" in window.said(".detail-facts")
    window.press("ArrowDown")
    window.wait("#cell-1-5.active")
    assert window.address == f"{HERE}?c={problem.columns[1].lost[0]}"


def test_arrows_end_at_the_last_slot_of_a_step_in_which_nothing_lost(visit: Callable[..., Visit]) -> None:
    problem = problem_document(steps=2)
    assert problem.columns[0].lost == []
    window = visit(WebSite(documents={"runs/tiles/problems/3.json": problem}))
    window.go(HERE)
    window.wait(".cell.active")
    window.press("F", *["ArrowDown"] * 6)
    window.wait("#cell-0-3.active")


@pytest.mark.parametrize(
    ("method", "extracted", "detail", "sentence"),
    [
        ("exact", "4900", "the same text", "Equal as text, read as “4900”: the same text"),
        ("unequal", "14, 19", "an element is missing", "Found unequal, read as “14, 19”: an element is missing"),
        ("undecided", "", "no final answer was found", "Not decided: no final answer was found"),
    ],
)
def test_a_checked_answer_says_what_the_check_found(
    visit: Callable[..., Visit], method: str, extracted: str, detail: str, sentence: str
) -> None:
    problem = problem_document(steps=2)
    answers = [replace(one, method=method, extracted=extracted, detail=detail) for one in problem.answers]
    window = visit(WebSite(documents={"runs/tiles/problems/3.json": replace(problem, answers=answers)}))
    window.go(HERE)
    window.wait(".answer .sub")
    assert window.said(".answer .sub") == sentence


def test_a_link_opens_its_candidate_wherever_it_is(visit: Callable[..., Visit], site: WebSite) -> None:
    window = visit(site)
    problem = site.documents["runs/tiles/problems/3.json"]
    loser = problem.columns[-1].lost[-1]
    window.go(f"{HERE}?c={loser}")
    window.wait(".cell-lost.active")
    assert problem.candidates.seed[loser] in window.said(".detail-body")
    window.page.reload()
    window.wait(".cell-lost.active")
    assert window.page.locator(".cell.active").evaluate("(cell) => cell.getBoundingClientRect().right < innerWidth")
    window.go(f"{HERE}?c=1000000")
    window.wait(".cell.active")


def test_trajectory_and_prompt_are_those_of_the_candidate(visit: Callable[..., Visit], site: WebSite) -> None:
    window = visit(site)
    problem = site.documents["runs/tiles/problems/3.json"]
    window.go(f"{HERE}?c={problem.path[1]}")
    window.page.click("text=Trajectory")
    assert window.page.locator(".trajectory > li").count() == 2
    window.wait(".trajectory math")
    window.press("3")
    window.wait(".messages", "The final answer is 4900")
    assert "temperature 0.6" in window.said(".prompt")
    assert "before the model's chat template puts its own markers" in window.said(".prompt-note")
    window.press("1", "m")
    assert window.page.locator(".detail-body math").count() == 0


def test_texts_that_are_apart_are_asked_for_when_they_are_read(visit: Callable[..., Visit]) -> None:
    problem = problem_document(texts="by_step")
    steps = problem.candidates.step
    first = steps.index(2)
    texts = [f"text of {index}" for index in range(first, first + steps.count(2))]
    site = WebSite()
    site.documents = {
        "runs/tiles/problems/3.json": problem,
        "runs/tiles/problems/3/texts/2.json": StepTexts(2, first, texts),
    }
    window = visit(site)
    loser = problem.columns[1].lost[0]
    window.go(HERE)
    window.wait(".detail .model-text")
    assert not any("texts" in path for path in site.asked)
    window.go(f"{HERE}?c={loser}")
    window.wait(".detail .model-text", f"text of {loser}")


def test_a_problem_without_a_search_or_a_winner_says_so(visit: Callable[..., Visit]) -> None:
    whole = problem_document(steps=2)
    nothing = CandidateTable(**{field.name: [] for field in fields(CandidateTable)})
    parts: dict[str, Any] = {"path": [], "path_texts": [], "answers": [], "score": None, "correct": None}
    queued = replace(whole, state="queued", position=0, candidates=nothing, columns=[], base_score=None, **parts)
    failed = replace(whole, state="failed", position=1, failure_reason="propose: refused 3 times", **parts)
    site = WebSite(documents={"runs/tiles/problems/0.json": queued, "runs/tiles/problems/1.json": failed})
    window = visit(site)
    window.go("/runs/tiles/problems/0")
    window.wait(".beam-card", "The search has not begun")
    window.press("ArrowRight", "f", "F", "w", "p", "c", "2")
    window.wait(".answers", "There is none yet")
    window.go("/runs/tiles/problems/1")
    window.wait(".trouble", "propose: refused 3 times")
    window.press("ArrowDown", "w")
    window.wait("#cell-0-1.active")
