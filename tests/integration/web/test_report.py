"""`cordctl report`: the file within its budget, the folder, and that both hold the documents of the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cord_worker.errors import RunNotFound, StoreError
from cord_worker.export.files import ExportError
from cord_worker.store.database import Database
from cord_worker.web import problems as web_problems
from cord_worker.web import report
from cord_worker.web.bundle import MARK, write_bundle
from cord_worker.web.paths import segment
from cord_worker.web.report import MIB, write_report
from tests.integration.web.conftest import OTHER, RUN, Browser
from tests.support.web_runs import HOSTILE
from tests.unit.web.test_pages import Elements, read

FOLDER = f"runs/{segment(RUN)}"
NUMBER = len(HOSTILE)


def contents(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The documents of a report by path, and what its page says about itself."""
    elements = Elements(file.read_text(encoding="utf-8"))
    documents = {str(a["data-path"]): read(a, text) for a, text in elements.contents if "data-path" in a}
    (site,) = [json.loads(text) for a, text in elements.contents if a.get("id") == "site"]
    return documents, site


def of_server(browser: Browser, path: str) -> Any:
    """The same document; a bundle has one run and all problems."""
    document = browser.get(f"/{path}").document
    return {"runs": [one for one in document["runs"] if one["name"] == RUN]} if path == "runs.json" else document


def test_a_bundle_holds_the_documents_of_the_server(
    hostile: Database, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write_bundle(hostile, RUN, str(tmp_path / "bundle"))
    files = {str(path.relative_to(tmp_path / "bundle")) for path in (tmp_path / "bundle").rglob("*") if path.is_file()}
    documents = {"runs.json", f"{FOLDER}/run.json", f"{FOLDER}/problems.json"}
    documents |= {f"{FOLDER}/problems/{place}.json" for place in range(NUMBER)}
    assert files - {"THIRD-PARTY-LICENCES.txt"} == documents | {"index.html", "app.js", "app.css", MARK}
    assert (written.problems, written.files) == (NUMBER, len(files))
    for path in documents - {"runs.json"}:
        assert (tmp_path / "bundle" / path).read_bytes() == browser.get(f"/{path}").body, path
    site = json.loads((tmp_path / "bundle" / "index.html").read_text().split('id="site">')[1].split("</script>")[0])
    assert (site["size"], site["run"], site["is_live"], site["has_prompts"]) == ("bundle", segment(RUN), False, False)

    inline = of_server(browser, f"{FOLDER}/problems/2.json")["candidates"]["text"]
    keys = [key_of(browser, 2), key_of(browser, 5)]
    monkeypatch.setattr(web_problems, "INLINE_CHARACTERS", 10)
    write_bundle(hostile, RUN, str(tmp_path / "bundle"), keys=keys)
    folder = tmp_path / "bundle" / FOLDER / "problems"
    assert sorted(path.name for path in folder.iterdir()) == ["2", "2.json", "5", "5.json"]
    apart = json.loads((folder / "2.json").read_text())
    assert apart["texts"] == "by_step"
    assert set(apart["candidates"]["text"]) == {None}
    texts = [json.loads((folder / "2" / "texts" / f"{step}.json").read_text()) for step in (1, 2, 3)]
    assert [one["first"] for one in texts] == [0, 5, 10]
    assert [text for one in texts for text in one["texts"]] == inline
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def key_of(browser: Browser, position: int) -> str:
    """The id of a problem."""
    key: str = browser.get(f"/{FOLDER}/problems/{position}.json").document["id"]
    return key


def test_a_bundle_replaces_nothing_else_and_is_whole_or_not_there(hostile: Database, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep")
    (tmp_path / f".gone.{2**22 + 1}.part").mkdir()
    for folder in (str(mine), str(tmp_path / "nowhere" / "bundle"), str(mine / "notes.txt"), ""):
        with pytest.raises(ExportError):
            write_bundle(hostile, RUN, folder)
    with pytest.raises(RunNotFound):
        write_bundle(hostile, "nobody", str(tmp_path / "gone"))
    with pytest.raises(StoreError, match="no problem is called"):
        write_bundle(hostile, RUN, str(tmp_path / "gone"), keys=["none"])
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (mine / "notes.txt").read_text() == "keep"


def test_a_report_holds_the_run_chosen_searches_and_all_winners(
    hostile: Database, browser: Browser, tmp_path: Path
) -> None:
    written = write_report(hostile, RUN, str(tmp_path / "report.html"), trees=4)
    documents, site = contents(tmp_path / "report.html")
    assert written.bytes == (tmp_path / "report.html").stat().st_size
    assert (written.whole, written.winners, written.left_out) == (4, NUMBER - 4, [])
    assert site["whole_problems"][0] == 1  # the first one with a wrong answer
    assert documents[f"{FOLDER}/run.json"] == of_server(browser, f"{FOLDER}/run.json")
    assert documents[f"{FOLDER}/problems.json"] == of_server(browser, f"{FOLDER}/problems.json")
    for place in range(NUMBER):
        document, whole = (
            documents[f"{FOLDER}/problems/{place}.json"],
            of_server(browser, f"{FOLDER}/problems/{place}.json"),
        )
        if place in site["whole_problems"]:
            assert document == whole
            continue
        assert not document["is_whole"]
        assert document["path_texts"] == document["candidates"]["text"] == whole["path_texts"]
        assert [column["lost"] for column in document["columns"]] == [[], [], []]
        assert document["answers"][0]["text"] == whole["answers"][0]["text"]


def test_a_report_names_what_does_not_fit_into_its_budget(hostile: Database, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    with pytest.raises(ExportError, match=r"does not fit into --budget 0\.001: it needs --budget 0\.\d+") as error:
        write_report(hostile, RUN, str(file), budget_mib=0.001)
    assert not file.exists()
    needed = float(str(error.value).split("it needs --budget ")[1].split()[0])
    assert write_report(hostile, RUN, str(file), budget_mib=needed).run == RUN
    with pytest.raises(ExportError):
        write_report(hostile, RUN, str(file), budget_mib=needed - 0.01)
    everything = write_report(hostile, RUN, str(file), trees=3)
    budget = everything.bytes - 1_500
    written = write_report(hostile, RUN, str(file), trees=3, budget_mib=budget / MIB)
    documents, site = contents(file)
    missing = NUMBER - 3 - written.winners
    assert written.bytes <= budget
    assert missing > 0
    assert len(documents) == 3 + 3 + written.winners
    (sentence,) = site["left_out"]
    assert sentence == written.left_out[0]
    assert sentence.startswith(f"{missing} winner")


def test_a_problem_without_an_answer_is_no_missing_winner(
    hostile: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_MAX_MISFITS", 1)
    file = tmp_path / "report.html"
    everything = write_report(hostile, OTHER, str(file), trees=0)
    assert (everything.winners, everything.left_out) == (9, [])
    needed = 0.0
    try:
        write_report(hostile, OTHER, str(file), trees=0, budget_mib=0.001)
    except ExportError as error:
        needed = float(str(error).split("it needs --budget ")[1].split()[0])
    written = write_report(hostile, OTHER, str(file), trees=0, budget_mib=needed)
    assert written.winners < 9
    assert written.left_out[0].startswith(f"{9 - written.winners} winner")


def test_a_report_replaces_only_a_report(hostile: Database, tmp_path: Path) -> None:
    (tmp_path / "problems.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(ExportError, match="is not a report"):
        write_report(hostile, RUN, str(tmp_path / "problems.jsonl"))
    write_report(hostile, OTHER, str(tmp_path / "report.html"), trees=0)
    _, site = contents(tmp_path / "report.html")
    assert site["run"] == OTHER
    write_report(hostile, RUN, str(tmp_path / "report.html"), trees=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["problems.jsonl", "report.html"]
