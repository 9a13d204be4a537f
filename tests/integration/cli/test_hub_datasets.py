"""`cordctl enqueue` and `run` with a dataset of the hub: the run keeps the commit, and its card names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cord_worker.store.database import Database
from tests.support.cordctl_process import Cordctl, problem
from tests.support.hub_server import HubServer, hub_server, use_hub, variables


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that the library uses."""
    with hub_server() as server:
        use_hub(monkeypatch, server, str(tmp_path / "cache"))
        yield server


def lines(*numbers: int, **more: object) -> bytes:
    return "".join(json.dumps(problem(number, **more)) + "\n" for number in numbers).encode()


def stored(database: Database) -> list[Any]:
    with database.transaction() as connection:
        return list(connection.execute(sa.text("SELECT datasets FROM runs ORDER BY id")).scalars())


def test_a_run_keeps_the_commit_and_enqueuing_it_again_changes_nothing(
    cordctl: Cordctl, hub: HubServer, database: Database
) -> None:
    commit = hub.put("org/sums", {"train.jsonl": lines(0, 1), "test.jsonl": lines(7)})
    told = json.loads(cordctl("enqueue", "org/sums", "--split", "train", "--json").stdout.splitlines()[-1])
    first = {"id": "org/sums", "revision": commit, "split": "train"}
    assert (told["added"], told["dataset"]) == (2, first)
    assert told["run"].startswith("sums-")
    assert stored(database) == [[first]]
    # The branch moves on; the recorded commit does not.
    later = hub.put("org/sums", {"train.jsonl": lines(0, 1, 2)})
    again = cordctl("enqueue", f"org/sums@{commit}", "--split", "train")
    assert "nothing new (2 already there)" in again.stdout
    assert stored(database) == [[first]]
    assert "1 problem added (2 already there)" in cordctl("enqueue", "org/sums").stdout
    assert stored(database) == [[first, {**first, "revision": later}]]


def test_a_commit_that_changed_a_problem_is_refused_and_not_kept(
    cordctl: Cordctl, hub: HubServer, database: Database
) -> None:
    hub.put("org/sums", {"train.jsonl": lines(0, 1)})
    cordctl("enqueue", "org/sums")
    before = stored(database)
    hub.put("org/sums", {"train.jsonl": lines(0) + lines(1, answer="another")})
    refused = cordctl("enqueue", "org/sums", exits=1)
    assert "already holds another problem with this id" in refused.stderr
    assert stored(database) == before


def test_a_dry_run_and_a_file_keep_nothing(cordctl: Cordctl, hub: HubServer, database: Database) -> None:
    hub.put("org/sums", {"train.jsonl": lines(0, 1)})
    cordctl("enqueue", "org/sums", "--dry-run")
    assert stored(database) == []
    cordctl("enqueue", "problems.jsonl")
    assert stored(database) == [[]]


def test_bad_rows_are_written_to_the_present_folder(cordctl: Cordctl, hub: HubServer) -> None:
    hub.put("org/sums", {"train.jsonl": lines(0) + b'{"id": "bad", "question": ""}\n'})
    told = cordctl("enqueue", "org/sums", "--skip-invalid").stdout
    assert "1 rejected (sums.rejects.jsonl)" in told
    (row,) = (cordctl.folder / "sums.rejects.jsonl").read_text("utf-8").splitlines()
    assert json.loads(row)["location"] == "sums/train.jsonl:2"
    refused = cordctl("run", "org/sums", "-o", "sums.rejects.jsonl", exits=1)
    assert "bad rows are written" in refused.stderr


@pytest.mark.long
def test_a_whole_run_from_the_hub_to_a_card(cordctl: Cordctl, hub: HubServer, tmp_path: Path) -> None:
    commit = hub.put("org/sums", {"data/train.jsonl": lines(0, 1)})
    cordctl.environment.update(variables(hub, str(tmp_path / "home")))
    cordctl("run", "org/sums", "--run", "from-hub", "-o", "out.jsonl")
    assert len((cordctl.folder / "out.jsonl").read_text("utf-8").splitlines()) == 2
    (cordctl.folder / "data").mkdir()
    cordctl("export", "from-hub", "-o", "data/rows.jsonl", "--card")
    card = (cordctl.folder / "data" / "README.md").read_text("utf-8")
    assert f"cordctl enqueue org/sums@{commit} --split train --config cord.toml --run from-hub" in card


def test_a_neither_file_nor_id_is_told_both(cordctl: Cordctl, hub: HubServer) -> None:
    refused = cordctl("enqueue", "org/sums", exits=1)
    assert "no such file or folder" in refused.stderr
    assert "has no dataset" in refused.stderr or "does not exist" in refused.stderr
    assert len(hub.asked) == 1
    assert "org/name" in cordctl("enqueue", "sums.jsonl", exits=1).stderr


@pytest.mark.parametrize("damage", ['{"id": 1}', '[1, {"id": "org/x", "revision": "$(reboot)"}, null]', "7"])
def test_a_card_ignores_what_an_edit_by_hand_stored(cordctl: Cordctl, database: Database, damage: str) -> None:
    cordctl("enqueue", "problems.jsonl", "--run", "edited")
    with database.transaction() as connection:
        connection.execute(sa.text("UPDATE runs SET datasets = CAST(:damage AS jsonb)"), {"damage": damage})
    (cordctl.folder / "data").mkdir()
    cordctl("export", "edited", "-o", "data/rows.jsonl", "--card")
    card = (cordctl.folder / "data" / "README.md").read_text("utf-8")
    assert "cordctl enqueue DATASET" in card
    assert "reboot" not in card
