"""`cordctl export --card` and `--push`, against a hub on loopback."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard, hf_hub_download

import cord_worker.demo
from cord_worker.export.card import is_unchanged_card
from cord_worker.export.files import held_folder
from cord_worker.operations import hub_push
from tests.support.cordctl_process import Cordctl, Ended
from tests.support.hub_server import READER, STRANGER, WRITER, Fault, HubServer, hub_server, use_hub, variables

PUSH = ("--push", "org/sums", "--license", "cc-by-4.0")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that the library uses with the token of a writer."""
    monkeypatch.setattr(hub_push, "_WAITS_SECONDS", (0.0, 0.0))
    with hub_server() as server:
        use_hub(monkeypatch, server, str(tmp_path / "cache"), WRITER)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """An empty folder for exports."""
    (tmp_path / "data").mkdir()
    return str(tmp_path / "data")


def export(cordctl: Cordctl, output: str, *options: str, exits: int = 0) -> Ended:
    ended = cordctl("export", "done", "-o", output, *options, exits=exits)
    for token in (WRITER, READER, STRANGER):
        assert token not in ended.stdout + ended.stderr
    return ended


def card_of(folder: str) -> str:
    return (Path(folder) / "README.md").read_text("utf-8")


def front_of(card: str) -> dict[str, Any]:
    found = yaml.safe_load(card.split("---\n")[1])
    assert isinstance(found, dict)
    return found


# The card.


@pytest.mark.long
def test_a_card_describes_the_run_and_the_export(finished: Cordctl, folder: str) -> None:
    export(finished, f"{folder}/rows.jsonl", "--card", "--license", "CC-BY-4.0", "--min-score", "0.0")
    row = json.loads((Path(folder) / "rows.jsonl").read_text("utf-8").splitlines()[0])
    card = card_of(folder)
    front = front_of(card)
    assert front["license"] == "cc-by-4.0"
    assert front["task_categories"] == ["text-generation"]
    assert front["size_categories"] == ["n<1K"]
    assert front["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": "rows.jsonl"}]}]
    assert [one["name"] for one in front["dataset_info"]["features"]] == list(row)
    provenance = row["provenance"]
    for said in (provenance["config_fingerprint"], provenance["run_digest"], provenance["code_version"]):
        assert f"`{said}`" in card
    assert "| `rows.jsonl` | `train` | 5 |" in card
    assert "--min-score 0.0" in card
    assert "| done | 5 |" in card
    steps = [json.loads(line)["steps"] for line in (Path(folder) / "rows.jsonl").read_text("utf-8").splitlines()]
    assert f"| mean steps of a result | {sum(map(len, steps)) / 5:.2f} |" in card
    assert DatasetCard.load(Path(folder) / "README.md").data.license == "cc-by-4.0"


def test_the_card_of_the_same_export_is_the_same_and_replaces_the_old_one(finished: Cordctl, folder: str) -> None:
    export(finished, f"{folder}/rows.jsonl", "--card")
    first = card_of(folder)
    assert is_unchanged_card(first)
    assert "licence is to be filled in" in first
    export(finished, f"{folder}/rows.jsonl", "--card")
    assert card_of(folder) == first


def test_a_card_of_splits_lists_each_file(finished: Cordctl, folder: str) -> None:
    export(finished, f"{folder}/rows.parquet", "--card", "--split", "train=0.6,test=0.4")
    (config,) = front_of(card_of(folder))["configs"]
    assert config["data_files"] == [
        {"split": "train", "path": "rows-train.parquet"},
        {"split": "test", "path": "rows-test.parquet"},
    ]


def test_no_path_of_this_machine_is_in_a_card(finished: Cordctl, folder: str) -> None:
    (Path(folder) / "benchmark.jsonl").write_text('{"question": "Something else?"}\n', encoding="utf-8")
    # A folder whose path looks like a hub id.
    student = finished.folder / "me" / "student"
    student.parent.mkdir(exist_ok=True)
    shutil.copytree(Path(cord_worker.demo.__file__).parent / "models" / "closer", student)
    out = Path(folder) / "out"
    out.mkdir()
    options = ("--student", "me/student", "--max-tokens", "9000", "--decontaminate", f"{folder}/benchmark.jsonl")
    export(finished, f"{out}/rows.jsonl", "--card", "--format", "sft", *options)
    card = card_of(str(out))
    assert "--student student" in card
    assert "--decontaminate benchmark.jsonl" in card
    assert "longest text has" in card
    for part in (folder, str(finished.folder), str(Path.home()), "/tmp"):
        assert part not in card


@pytest.mark.parametrize("change", ["by hand", "# Mine\n"])
def test_a_readme_that_somebody_wrote_or_changed_stays(finished: Cordctl, folder: str, change: str) -> None:
    export(finished, f"{folder}/rows.jsonl", "--card")
    readme = Path(folder) / "README.md"
    text = (
        change if change.startswith("#") else readme.read_text("utf-8").replace("Known limits", "Known limits (mine)")
    )
    readme.write_text(text, encoding="utf-8")
    (Path(folder) / "rows.jsonl").unlink()
    refused = export(finished, f"{folder}/rows.jsonl", "--card", exits=1)
    assert "changed by hand" in refused.stderr
    assert readme.read_text("utf-8") == text
    assert not (Path(folder) / "rows.jsonl").exists()
    export(finished, f"{folder}/rows.jsonl", "--card", "--replace-card")
    assert is_unchanged_card(card_of(folder))


@pytest.mark.parametrize(
    ("output", "options", "told"),
    [
        ("-", ("--card",), "describes files"),
        ("rows*.jsonl", ("--card",), "patterns"),
        ("rows.jsonl", ("--license", "mit"), "goes with --card"),
        ("rows.jsonl", ("--card", "--license", "my own"), "short name"),
        ("rows.jsonl", ("--card", "--license", "bogus"), "--license other is for one"),
        ("rows.jsonl", ("--card", "--license", "apache2.0"), "did you mean 'apache-2.0'?"),
        ("rows.jsonl", ("--card", "--public"), "go with --push"),
        ("rows.jsonl", ("--revision", "main"), "goes with --push"),
        ("rows.jsonl", ("--push", "sums", "--license", "mit"), "ORG/NAME"),
        ("rows.jsonl", ("--push", "org/sums"), "needs --license"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_any_work(
    finished: Cordctl, folder: str, output: str, options: tuple[str, ...], told: str
) -> None:
    target = output if output == "-" else f"{folder}/{output}"
    code = 1 if told == "patterns" else 2
    assert told in " ".join(export(finished, target, *options, exits=code).stderr.split())
    assert not list(Path(folder).iterdir())


# The push.


def test_a_push_is_one_commit_of_files_and_card(finished: Cordctl, folder: str, hub: HubServer) -> None:
    output = f"{folder}/rows.parquet"
    pushed = json.loads(export(finished, output, *PUSH, "--split", "train=0.6,test=0.4", "--json").stdout)["pushed"]
    repository = hub.repositories["org/sums"]
    assert repository.private
    assert (pushed["commit"], pushed["private"], pushed["changed"]) == (repository.branches["main"], True, True)
    assert repository.messages == ["put", "Export of the run done"]
    names = {"rows-train.parquet", "rows-test.parquet", "README.md"}
    assert set(hub.files("org/sums")) == {".gitattributes", *names}
    for name in names:
        there = hf_hub_download("org/sums", name, repo_type="dataset", revision=pushed["commit"])
        assert Path(there).read_bytes() == (Path(folder) / name).read_bytes()
    # Parquet goes as large files, the card in the commit.
    assert len(hub.large_files) == 2
    again = json.loads(export(finished, output, *PUSH, "--split", "train=0.6,test=0.4", "--json").stdout)["pushed"]
    assert (again["commit"], again["changed"]) == (pushed["commit"], False)


def test_the_repository_can_be_public_and_the_branch_new(finished: Cordctl, folder: str, hub: HubServer) -> None:
    options = ("--public", "--revision", "v1/a", "--commit-message", "First")
    assert "(public, commit" in export(finished, f"{folder}/rows.jsonl", *PUSH, *options).stderr
    assert not hub.repositories["org/sums"].private
    assert set(hub.files("org/sums", "v1/a")) == {".gitattributes", "rows.jsonl", "README.md"}
    assert set(hub.files("org/sums")) == {".gitattributes"}
    assert hub.repositories["org/sums"].messages[-1] == "First"


@pytest.mark.parametrize(
    ("private", "asked", "told"),
    [(True, "--public", "org/sums is private"), (False, "--private", "org/sums is public")],
)
@pytest.mark.parametrize("branch", [(), ("--revision", "v1")], ids=["main", "new branch"])
def test_the_visibility_of_an_existing_repository_is_never_changed_silently(
    finished: Cordctl, folder: str, hub: HubServer, private: bool, asked: str, told: str, branch: tuple[str, ...]
) -> None:
    before = hub.put("org/sums", {"theirs.jsonl": b"1\n"}, private=private)
    refused = export(finished, f"{folder}/rows.jsonl", *PUSH, asked, *branch, exits=1)
    assert told in refused.stderr
    assert f"complete in {folder}" in refused.stderr
    assert hub.repositories["org/sums"].branches == {"main": before}
    assert hub.repositories["org/sums"].private == private


def test_another_export_with_a_card_in_the_same_folder_is_refused_meanwhile(finished: Cordctl, folder: str) -> None:
    with held_folder(Path(folder)):
        refused = export(finished, f"{folder}/rows.jsonl", "--card", exits=1)
        assert f"writes to the folder {folder} now" in refused.stderr
        assert not list(Path(folder).iterdir())
        export(finished, f"{folder}/others.jsonl")
    export(finished, f"{folder}/rows.jsonl", "--card")
    assert is_unchanged_card(card_of(folder))


def test_a_card_of_somebody_elses_hand_is_not_replaced_at_the_hub(
    finished: Cordctl, folder: str, hub: HubServer
) -> None:
    hub.put("org/sums", {"README.md": b"# My own words\n", "old.jsonl": b"{}\n"})
    refused = export(finished, f"{folder}/rows.jsonl", *PUSH, exits=1)
    assert "written or changed by hand" in refused.stderr
    assert "same command again" in refused.stderr
    assert hub.files("org/sums") == {"README.md": b"# My own words\n", "old.jsonl": b"{}\n"}
    assert (Path(folder) / "rows.jsonl").exists()
    said = export(finished, f"{folder}/rows.jsonl", *PUSH, "--replace-card").stderr
    assert "1 other file there (old.jsonl)" in said
    assert hub.files("org/sums")["old.jsonl"] == b"{}\n"
    assert hub.files("org/sums")["README.md"].decode() == card_of(folder)
    # Now the card there is ours.
    export(finished, f"{folder}/rows.jsonl", *PUSH, "--only-correct")
    assert "--only-correct" in hub.files("org/sums")["README.md"].decode()


@pytest.mark.parametrize(
    ("token", "told"),
    [
        (STRANGER, "it is wrong or has expired"),
        (READER, "lacks the right"),
        (None, "no token is set"),
    ],
)
def test_a_wrong_token_is_named_and_never_printed(
    finished: Cordctl,
    folder: str,
    hub: HubServer,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
    told: str,
) -> None:
    # The hub's own words hold the token that it was sent.
    use_hub(monkeypatch, hub, f"{folder}/cache", token)
    refused = export(finished, f"{folder}/rows.jsonl", *PUSH, exits=1)
    assert told in refused.stderr
    assert f"complete in {folder}" in refused.stderr
    assert len(refused.stderr.splitlines()) == 2
    assert hub.repositories == {}
    assert (Path(folder) / "rows.jsonl").exists()


@pytest.mark.parametrize(
    ("fault", "commits"),
    [
        (Fault("POST .*/commit/", status=503), 1),
        (Fault("POST .*/commit/", status=429), 1),
        (Fault("POST /api/repos/create", status=500), 1),
        (Fault("POST .*/commit/", lost=True), 1),
        (Fault("PUT /lfs/", status=500), 1),
    ],
    ids=["overloaded", "too many", "at the beginning", "lost reply", "large file"],
)
def test_faults_that_pass_are_repeated_and_the_commit_is_made_once(
    finished: Cordctl, folder: str, hub: HubServer, fault: Fault, commits: int
) -> None:
    hub.faults.append(fault)
    assert "pushed to" in export(finished, f"{folder}/rows.parquet", *PUSH).stderr
    assert fault.times == 0
    assert len(hub.repositories["org/sums"].messages) == 1 + commits
    assert hub.files("org/sums")["rows.parquet"] == (Path(folder) / "rows.parquet").read_bytes()


def test_a_hub_that_stays_overloaded_is_given_up(finished: Cordctl, folder: str, hub: HubServer) -> None:
    hub.faults.append(Fault("POST .*/commit/", status=503, times=99))
    refused = export(finished, f"{folder}/rows.jsonl", *PUSH, exits=1)
    assert "does not answer for org/sums at present (HTTP 503)" in refused.stderr
    assert sum("/commit/" in one for one in hub.asked) == 3
    assert set(hub.files("org/sums")) == {".gitattributes"}


@pytest.mark.parametrize("request_", ["POST .*/preupload/", "PUT /lfs/", "POST .*/commit/"])
def test_nothing_is_visible_if_the_hub_dies_in_the_middle(
    finished: Cordctl, folder: str, hub: HubServer, monkeypatch: pytest.MonkeyPatch, request_: str
) -> None:
    _without_waits_of_the_library(monkeypatch)
    hub.faults.append(Fault(request_, ends=True))
    refused = export(finished, f"{folder}/rows.parquet", *PUSH, exits=1)
    assert "has not confirmed the push" in refused.stderr
    assert "cannot be reached" in refused.stderr
    assert f"complete in {folder}" in refused.stderr
    assert set(hub.files("org/sums")) == {".gitattributes"}
    assert (Path(folder) / "README.md").exists()


def _without_waits_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)


def test_a_commit_of_somebody_else_in_between_is_not_undone(finished: Cordctl, folder: str, hub: HubServer) -> None:
    hub.put("org/sums", {"theirs.jsonl": b"1\n"})
    hub.faults.append(Fault("POST .*/commit/", status=412, message="A commit has happened since."))
    refused = export(finished, f"{folder}/rows.jsonl", *PUSH, exits=1)
    assert "something else" in refused.stderr
    assert set(hub.files("org/sums")) == {"theirs.jsonl"}


def test_a_file_that_the_repository_ignores_is_refused(finished: Cordctl, folder: str, hub: HubServer) -> None:
    hub.put("org/sums", {".gitignore": b"rows.jsonl\n"})
    refused = export(finished, f"{folder}/rows.jsonl", *PUSH, exits=1)
    assert ".gitignore of org/sums leaves out rows.jsonl" in refused.stderr
    assert set(hub.files("org/sums")) == {".gitignore"}


def test_a_licence_that_the_hub_does_not_know_is_refused_with_its_words(
    finished: Cordctl, folder: str, hub: HubServer
) -> None:
    refused = export(finished, f"{folder}/rows.jsonl", "--push", "org/sums", "--license", "no-such", exits=1)
    assert '"license" must be one of' in refused.stderr
    assert set(hub.files("org/sums")) == {".gitattributes"}


def test_offline_mode_is_refused_before_any_work_and_the_token_stays_out_of_the_log(
    finished: Cordctl, folder: str, hub: HubServer
) -> None:
    command = finished.command("--debug", "export", "done", "-o", f"{folder}/rows.jsonl", *PUSH)

    def run(**changed: str) -> subprocess.CompletedProcess[str]:
        environment = {**finished.variables(), **variables(hub, f"{folder}/cache", WRITER), **changed}
        return subprocess.run(
            command, cwd=finished.folder, env=environment, capture_output=True, text=True, check=False
        )

    offline = run(HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in offline.stderr
    assert offline.returncode == 1
    assert not (Path(folder) / "rows.jsonl").exists()
    pushed = run(HF_HUB_VERBOSITY="debug")
    assert pushed.returncode == 0, pushed.stderr
    assert re.search(r"pushed to http://127.0.0.1:\d+/datasets/org/sums \(private, commit", pushed.stderr)
    assert WRITER not in pushed.stdout + pushed.stderr
