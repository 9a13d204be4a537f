"""`cordctl view`: what the server answers, to whom, and that no text of a model becomes part of a page."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
import sqlalchemy as sa

from cord_worker.store.database import Database
from cord_worker.web import document_cache, document_requests
from cord_worker.web.access import COOKIE, Access
from cord_worker.web.documents import Site
from cord_worker.web.paths import segment
from tests.integration.web.conftest import OTHER, RUN, Browser, Got, serving_runs
from tests.support.waiting import wait_until
from tests.support.web_runs import HOSTILE, enqueue_hostile

FOLDER = f"/runs/{segment(RUN)}"
TOKEN = "the-token-of-this-test"
PAGE = Site("server", "1", None, True, 1.0, True, True, None, (), None)
DOCUMENTS = [
    "/runs.json",
    f"{FOLDER}/run.json",
    f"{FOLDER}/problems.json",
    f"{FOLDER}/problems/0.json",
    f"{FOLDER}/problems/0/texts/2.json",
    f"{FOLDER}/problems/0/prompts/5.json",
    f"/compare/{segment(RUN)}/{OTHER}.json",
]


def is_locked(answer: Got) -> bool:
    """Whether the answer has every header that keeps it to this page."""
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    return (
        answer.headers["x-content-type-options"] == "nosniff"
        and answer.headers["referrer-policy"] == "no-referrer"
        and answer.headers["cross-origin-resource-policy"] == "same-origin"
        and answer.headers["x-frame-options"] == "DENY"
        and "server" not in answer.headers
        and "access-control-allow-origin" not in answer.headers
    )


@pytest.mark.parametrize("path", DOCUMENTS)
def test_documents_are_json_whatever_the_models_wrote(browser: Browser, path: str) -> None:
    answer = browser.get(path)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert is_locked(answer)
    assert isinstance(answer.document, dict)


def test_texts_arrive_as_they_were_written(browser: Browser) -> None:
    for place, text in enumerate(HOSTILE.values()):
        document = browser.get(f"{FOLDER}/problems/{place}.json").document
        assert document["question"] == f"What is {text}?"
        assert document["path_texts"] == [f" {text} {step}." for step in (1, 2, 3)]
        assert document["answers"][0]["text"] == f"It is {text}."
        assert document["attributes"] == {"note": text, "n": "1"}


def test_the_page_holds_nothing_of_a_model_and_no_name_as_html(browser: Browser) -> None:
    page = browser.get("/")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert is_locked(page)
    assert b"<b>" not in page.body
    assert b"<script>" not in page.body  # only elements with a type or source


def test_an_unchanged_document_is_not_sent_again(browser: Browser) -> None:
    for path in ("/", "/app.js", f"{FOLDER}/problems.json"):
        first = browser.get(path)
        again = browser.get(path, If_None_Match=first.headers["etag"])
        assert (again.status, again.body) == (304, b"")
        assert browser.get(path, If_None_Match='"other"').body == first.body
    packed = browser.get(f"{FOLDER}/run.json", Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == browser.get(f"{FOLDER}/run.json").body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"])
def test_nothing_but_get_is_answered(browser: Browser, method: str) -> None:
    for path in ("/", "/runs.json", "/app.js", "/nothing"):
        answer = browser.get(path, method=method)
        assert answer.status == 405
        assert is_locked(answer)


_NOWHERE = (
    "/app.css.map",
    "/documents.py",
    "/../documents.py",
    "/static/app.js",
    "/%2e%2e/documents.py",
    "/app.js/../documents.py",
    "//etc/passwd",
    "/runs/../runs.json",
    f"{FOLDER}/problems/../run.json",
    f"{FOLDER}/problems/%2e%2e/run.json",
    "/runs/%2Fetc%2Fpasswd/run.json",
    "/runs/~2E~2E/run.json",
    "/runs/~00/run.json",
    "/runs/%00/run.json",
    "/runs//run.json",
    f"{FOLDER}/problems/99.json",
    f"{FOLDER}/problems/00.json",
    f"{FOLDER}/problems/-1.json",
    f"{FOLDER}/problems/999999999999999999.json",
    f"{FOLDER}/problems/9999999999999999999999.json",
    f"{FOLDER}/problems/0/texts/9.json",
    f"{FOLDER}/problems/0/prompts/99.json",
    f"/compare/{OTHER}/nobody.json",
    "/runs/<script>alert(1)</script>.json",
)


@pytest.mark.parametrize("path", _NOWHERE)
def test_what_is_missing_is_said_in_a_sentence(browser: Browser, path: str) -> None:
    text = browser.get(path).body.decode().strip()
    assert text.startswith(("There is no", "There is nothing", "The run ", "These runs "))
    assert text.endswith(".")
    assert ".json" not in text or "document" in text


def test_a_missing_problem_is_named_by_its_position_and_a_run_by_its_name(browser: Browser) -> None:
    problem = browser.get(f"{FOLDER}/problems/99999.json").body.decode()
    assert problem == f"The run {RUN!r} has no problem at position 99999.\n"
    assert browser.get("/runs/no~20one/run.json").body.decode() == "There is no run 'no one'.\n"


@pytest.mark.parametrize("path", _NOWHERE)
def test_nothing_but_documents_is_there(browser: Browser, path: str) -> None:
    answer = browser.get(path)
    assert answer.status == 404
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert is_locked(answer)


@pytest.mark.parametrize(
    "query",
    [
        "limit=5001",
        "limit=-1",
        "limit=1e3",
        "offset=x",
        "sort=question",
        "sort=1;drop%20table%20runs",
        "order=up",
        "state=lost",
        "correct=maybe",
        "q=%00",
        "q=%ff",
        f"q={'x' * 501}",
        "limit=1&limit=2",
        "what=1",
    ],
)
def test_a_parameter_without_meaning_is_refused(browser: Browser, query: str) -> None:
    answer = browser.get(f"{FOLDER}/problems.json?{query}")
    assert answer.status == 400
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_foreign_names_and_pages_get_nothing(browser: Browser) -> None:
    here = f"127.0.0.1:{browser.port}"
    for path in ("/", "/app.js", "/runs.json"):
        assert browser.get(path, host="evil.example").status == 421
        assert browser.get(path, host="").status in (400, 421)
        assert browser.get(path, Origin="http://evil.example").status == 403
        assert browser.get(path, Origin=f"http://{here}").status == 200
        assert browser.get(path, Sec_Fetch_Site="cross-site").status == 403
    refused = browser.get("/runs.json", host="evil.example")
    assert is_locked(refused)
    assert b"evil" not in refused.body
    assert browser.get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200


def test_a_server_with_a_token_shows_runs_to_nobody_without_it(
    hostile: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving_runs(hostile, Access.of([], TOKEN)) as browser:
        for path in ("/", *DOCUMENTS):
            answer = browser.get(path)
            assert answer.status == 401
            assert is_locked(answer)
            assert "set-cookie" not in answer.headers
        assert browser.get("/?token=wrong-token-wrong-token").status == 401
        first = browser.get(f"/?token={TOKEN}")
        assert (first.status, first.headers["location"]) == (303, "/")
        cookie = first.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        sent = cookie.partition(";")[0]
        assert sent.startswith(f"{COOKIE}=")
        for path in ("/", *DOCUMENTS):
            assert browser.get(path, Cookie=sent).status == 200
            assert browser.get(path, Authorization=f"Bearer {TOKEN}").status == 200
        assert browser.get(f"/runs.json?token={TOKEN}").status == 401  # the address of a document is no place for it
        assert browser.get("/", Cookie=sent, host="evil.example").status == 421
    logged = capfd.readouterr()
    assert TOKEN not in logged.out + logged.err


def test_problems_are_filtered_searched_and_sorted(browser: Browser) -> None:
    def asked(query: str, run: str = FOLDER) -> dict[str, Any]:
        document = browser.get(f"{run}/problems.json?{query}").document
        return {**document, **document["rows"]}

    everything = asked("")
    number = len(HOSTILE)
    assert (everything["total"], everything["matching"], everything["offset"]) == (number, number, 0)
    assert everything["position"] == list(range(number))
    page = asked("offset=2&limit=3&sort=position&order=desc")
    assert page["position"] == [number - 3, number - 4, number - 5]
    wrong = asked("correct=wrong")
    assert wrong["position"] == [place for place in range(number) if place % 3 == 1]
    assert wrong["matching"] == len(wrong["position"])
    assert asked("q=ALERT(1)&limit=1")["matching"] == sum("alert(1)" in text for text in HOSTILE.values())
    assert asked("q=%25")["matching"] == 0  # a percent sign is no wildcard
    for sort in ("id", "score", "gain", "correct", "steps", "tokens", "result_tokens", "lead", "seconds"):
        values = asked(f"sort={sort}&order=desc")[sort]
        assert values == sorted(values, reverse=True)
    problem = browser.get(f"{FOLDER}/problems/0.json").document
    scores, columns = problem["candidates"]["score"], problem["columns"]
    leads = [scores[column["beam"][0]["candidate"]] - scores[column["lost"][0]] for column in columns]
    assert everything["lead"][0] == pytest.approx(min(leads), abs=1e-6)
    nearest = problem["nearest"]
    assert nearest["candidate"] == columns[leads.index(min(leads))]["lost"][0]
    assert (nearest["lead"], nearest["repeats"]) == (everything["lead"][0], False)
    in_list = [everything[f"loser_{name}"][0] for name in ("step", "teacher", "text", "repeats")]
    assert in_list == [nearest[name] for name in ("step", "teacher", "text", "repeats")]
    assert problem["result_tokens"] == everything["result_tokens"][0] == 3 * 5 + 7
    assert asked("loser=other_text")["position"] == everything["position"]
    waiting = asked("state=queued", f"/runs/{OTHER}")
    assert waiting["score"] == [None] * (number - 9)
    last = asked("sort=score&order=desc", f"/runs/{OTHER}")["score"]
    assert last[-1] is None
    assert last[0] is not None


def test_the_grid_shows_what_was_kept_and_why_the_rest_lost(browser: Browser) -> None:
    document = browser.get(f"{FOLDER}/problems/0.json").document
    table = document["candidates"]
    first = document["columns"][0]
    assert [cell["rank"] for cell in first["beam"]] == [0, 1]
    kept, lost = [cell["candidate"] for cell in first["beam"]], first["lost"]
    assert sorted(kept + lost) == [place for place, step in enumerate(table["step"]) if step == 1]
    assert [table["kept"][place] for place in kept + lost] == [True, True, False, False, False]
    assert [table["reason"][place] for place in lost] == ["rank 2", "repeats alpha/0", "empty"]
    assert table["duplicate_of"][lost[1]] == kept[0]
    assert table["behind"][lost[0]] == pytest.approx(table["score"][kept[1]] - table["score"][lost[0]], abs=1e-6)
    assert table["gain"][kept[0]] == pytest.approx(table["score"][kept[0]] - document["base_score"], abs=1e-6)
    assert all(isinstance(seed, str) for seed in table["seed"])
    assert [table["step"][place] for place in document["path"]] == [1, 2, 3]
    assert (document["previous"], document["next"]) == (None, 1)


def test_the_figures_of_a_run_add_up(browser: Browser) -> None:
    document = browser.get(f"{FOLDER}/run.json").document
    number = len(HOSTILE)
    assert document["run"]["problems"]["done"] == number
    assert document["run"]["checked"] == number
    assert document["run"]["correct"] == sum(place % 3 != 1 for place in range(number))
    assert sum(teacher["share"] for teacher in document["teachers"]) == pytest.approx(1.0, abs=1e-5)
    for tenth in {cell["tenth"] for cell in document["selection"]}:
        shares = [cell["share"] for cell in document["selection"] if cell["tenth"] == tenth]
        assert sum(share for share in shares if share is not None) in (pytest.approx(1.0, abs=1e-5), 0)
    assert [one["step"] for one in document["scores"]] == [0, 1, 2, 3]
    assert [one["winners"]["count"] for one in document["scores"]] == [number] * 4
    assert [one["kept"]["count"] for one in document["scores"]] == [number] + [2 * number] * 3
    assert sum(document["steps"]["counts"]) == sum(document["tokens"]["counts"]) == number
    assert len(document["steps"]["edges"]) == len(document["steps"]["counts"]) + 1
    timeline = document["timeline"]
    assert sum(timeline["finished"]) == number
    assert sum(timeline["steps"]) == 5 * 3 * number
    assert (timeline["queued"][-1], timeline["active"][-1]) == (0, 0)
    assert max(timeline["active"]) > 0
    assert document["invalid"] == [
        {"teacher": "beta-hot", "reason": reason, "count": 3 * number} for reason in ("duplicate", "empty")
    ]
    assert document["run"]["tokens"] == sum(line["completion_tokens"] for line in document["cost"]["lines"])


def test_the_prompt_is_composed_as_it_was_asked(browser: Browser) -> None:
    problem = browser.get(f"{FOLDER}/problems/3.json").document
    last = problem["path"][2]
    prompt = browser.get(f"{FOLDER}/problems/3/prompts/{last}.json").document
    asked, text = prompt["teacher_messages"], HOSTILE["style"]
    assert asked[-2] == {"role": "user", "text": f"What is {text}?"}
    steps = f"### Step 1. {text} 1.\n### Step 2. {text} 2."
    assert asked[-1] == {"role": "assistant", "text": f"<think>\n{steps}\n### Step 3."}
    scored = prompt["prover_messages"]
    assert scored[-1] == {"role": "answer", "text": f"it is {text}"}
    assert scored[-2]["text"] == f"<think>\n{steps}\n### Step 3. {text} 3.\n</think>\n\nThe final answer is "
    assert prompt["seed"] == problem["candidates"]["seed"][last]


def test_two_runs_are_compared_problem_by_problem(browser: Browser) -> None:
    path = f"/compare/{segment(RUN)}/{OTHER}.json"
    document = browser.get(path).document
    assert (document["shared"], document["matching"], document["other_content"]) == (9, 9, 0)
    assert document["outcomes"] == {"both": 6, "only_a": 0, "only_b": 0, "neither": 3, "undecided": 0}
    assert document["b"]["score_difference"]["mean"] == pytest.approx(0.05, abs=1e-5)
    assert document["a"]["score_difference"] is None
    rows = document["rows"]
    assert rows["difference"] == [
        pytest.approx(b - a, abs=1e-6) for a, b in zip(rows["score_a"], rows["score_b"], strict=True)
    ]
    some = browser.get(f"{path}?outcome=neither&sort=difference&order=desc&offset=1&limit=1").document
    assert (some["matching"], len(some["rows"]["id"])) == (3, 1)


def test_a_page_that_asks_again_sees_what_has_changed(database: Database) -> None:
    database.run(lambda connection: enqueue_hostile(connection, OTHER, done=2))
    path = f"/runs/{OTHER}/problems.json?state=done"
    with serving_runs(database, Access.of([], None)) as browser:
        before = browser.get(path)
        finish = sa.text("UPDATE problems SET state = 'failed', failure_reason = 'no' WHERE position = 2")
        database.run(lambda connection: connection.execute(finish))
        database.run(
            lambda connection: connection.execute(sa.text("UPDATE problems SET state = 'done' WHERE position = 3"))
        )
        assert wait_until(lambda: browser.get(path, If_None_Match=before.headers["etag"]).status == 200)
        assert browser.get(path).document["rows"]["position"] == [0, 1, 3]


def test_a_database_that_is_away_is_said_without_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_cache, "_RETRY_SECONDS", 0.0)
    away = Database("postgresql+psycopg://someone:secret@127.0.0.1:1/nowhere", retry_seconds=0.0)
    with serving_runs(away, Access.of([], None), PAGE) as browser:
        answer = browser.get("/runs.json")
    assert answer.status == 503
    assert is_locked(answer)
    assert answer.body == b"The database does not answer at present. The page asks again.\n"
    away.close()


def test_an_unexpected_error_is_in_the_log_and_not_in_the_answer(
    hostile: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a detail")

    monkeypatch.setattr(document_requests, "read_document", fail)
    with serving_runs(hostile, Access.of([], None), PAGE) as browser:
        answer = browser.get(f"{FOLDER}/problems.json?q=private")
    assert answer.status == 500
    assert is_locked(answer)
    assert b"detail" not in answer.body
    assert "a detail" in caplog.text
    assert "private" not in caplog.text
