"""`cordctl export` in every format: what is written is what the search stored, and libraries load it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow.json
import pyarrow.parquet as pq
import pytest

from cord_worker.export.format import Need
from cord_worker.export.formats import FORMATS
from tests.support.configurations import config_of
from tests.support.cordctl_process import CONFIG, Cordctl, prepared, problem

STUDENT = ("--student", "bundled:closer")
SAMPLES = CONFIG.replace("[search]\n", '[search]\npipeline = "sample"\ntrajectories = 3\n').replace(
    "beam_width = 2\nmax_steps = 4\n", ""
)


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Callable[[], AbstractContextManager[str]],
    broker_url: str,
    fresh_keys: Callable[[], AbstractContextManager[str]],
) -> Iterator[Cordctl]:
    """A finished search `done` of five problems, and samples of them, `samples`."""
    folder = tmp_path_factory.mktemp("formats")
    with migrated_database() as url, fresh_keys() as prefix:
        cordctl = prepared(folder, {"CORD_DATABASE_URL": url, "CORD_BROKER_URL": broker_url, "CORD_KEY_PREFIX": prefix})
        (folder / "samples.toml").write_text(SAMPLES, encoding="utf-8")
        cordctl("run", "problems.jsonl", "--run", "done", "-o", "out.jsonl")
        cordctl("run", "problems.jsonl", "--run", "first", "--config", "samples.toml", "-o", "first.jsonl")
        # No teacher reads the known answer: the same samples are written again, and now one of each problem is right.
        right = {line["id"]: line["verification"]["extracted"] for line in lines(cordctl, "first.jsonl")}
        cordctl.write_problems(
            *(problem(number, answer=right[f"p{number}"]) for number in range(5)), name="again.jsonl"
        )
        cordctl("run", "again.jsonl", "--run", "samples", "--config", "samples.toml", "-o", "samples.jsonl")
        yield cordctl


def lines(cordctl: Cordctl, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (cordctl.folder / name).read_text(encoding="utf-8").splitlines()]


def key_of(row: dict[str, Any]) -> str:
    """The id of the problem of which a row is made."""
    key = row["id"] if "id" in row else row["extra_info"]["id"]
    assert isinstance(key, str)
    return key


def exported(cordctl: Cordctl, form: str, *options: str, run: str | None = None) -> list[dict[str, Any]]:
    """The rows of an export, with the options that the format cannot do without."""
    name = f"{form}.jsonl"
    chosen = FORMATS[form]
    needed = STUDENT if Need.STUDENT in chosen.needs and "--student" not in options else ()
    run = run or ("samples" if Need.SEVERAL in chosen.needs else "done")
    cordctl("export", run, "-o", name, "--format", form, *needed, *options)
    return lines(cordctl, name)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.long
def test_every_format_is_the_same_rows_in_lines_and_in_parquet(runs: Cordctl, form: str) -> None:
    rows = exported(runs, form)
    run = "samples" if Need.SEVERAL in FORMATS[form].needs else "done"
    needed = STUDENT if Need.STUDENT in FORMATS[form].needs else ()
    runs("export", run, "-o", f"{form}.parquet", "--format", form, *needed)
    assert pq.read_table(runs.folder / f"{form}.parquet").to_pylist() == rows
    assert rows


@pytest.mark.parametrize("form", FORMATS)
def test_a_reader_without_a_schema_finds_one_type_a_field(runs: Cordctl, form: str) -> None:
    rows = exported(runs, form)
    assert len({json.dumps(list(row)) for row in rows}) == 1
    assert pyarrow.json.read_json(runs.folder / f"{form}.jsonl").num_rows == len(rows)


@pytest.mark.parametrize("form", FORMATS)
def test_decontaminating_leaves_out_all_rows_of_the_problem_and_counts_it_once(runs: Cordctl, form: str) -> None:
    everything = exported(runs, form)
    key = key_of(everything[len(everything) // 2])
    question = next(line["question"] for line in lines(runs, "out.jsonl") if line["id"] == key)
    (runs.folder / "benchmark.jsonl").write_text(json.dumps({"question": question.upper()}), encoding="utf-8")
    run = "samples" if Need.SEVERAL in FORMATS[form].needs else "done"
    needed = STUDENT if Need.STUDENT in FORMATS[form].needs else ()
    options = ("--format", form, *needed, "--decontaminate", "benchmark.jsonl")
    report = json.loads(runs("export", run, "-o", "clean.jsonl", *options, "--json").stdout)
    kept = [row for row in everything if key_of(row) != key]
    assert lines(runs, "clean.jsonl") == kept
    assert (report["exported"], report["contaminated"]) == (len(kept), 1)


def test_a_contaminated_problem_of_several_samples_counts_once(runs: Cordctl) -> None:
    question = lines(runs, "samples.jsonl")[0]["question"]
    (runs.folder / "benchmark.jsonl").write_text(json.dumps({"question": question}), encoding="utf-8")
    options = ("--decontaminate", "benchmark.jsonl")
    report = json.loads(runs("export", "samples", "-o", "clean.jsonl", *options, "--json").stdout)
    left_out = [line for line in lines(runs, "samples.jsonl") if line["question"] == question]
    assert len(left_out) > 1
    assert (report["contaminated"], report["left_out"]) == (1, len(left_out))


def test_the_formats_of_results_say_the_same_of_each_trajectory(runs: Cordctl) -> None:
    known = lines(runs, "out.jsonl")
    for row, line in zip(exported(runs, "messages"), known, strict=True):
        user, assistant = row["messages"]
        assert (user["role"], user["content"]) == ("user", line["question"])
        assert line["trajectory"] == f"<think>\n{assistant['reasoning_content']}\n</think>\n\n{assistant['content']}"
    inline = [row["messages"][1]["content"] for row in exported(runs, "messages", "--think", "inline")]
    assert inline == [line["trajectory"] for line in known]
    assert inline == [row["conversations"][1]["value"] for row in exported(runs, "sharegpt")]
    assert inline == [row["output"] for row in exported(runs, "alpaca")]
    assert inline == [
        "".join(part["text"] for part in row["messages"][1]["content"]) for row in exported(runs, "axolotl")
    ]
    assert [row["reward_model"]["ground_truth"] for row in exported(runs, "verl")] == [row["answer"] for row in known]


def test_axolotl_does_not_train_the_steps_whose_score_fell(runs: Cordctl) -> None:
    for row, line in zip(exported(runs, "axolotl", "--think", "field"), lines(runs, "out.jsonl"), strict=True):
        parts = row["messages"][1]["reasoning_content"]
        scores = [step["score"] for step in line["steps"]]
        written = [step for step in line["steps"] if step["text"].strip()]
        assert len(parts) == len(written)
        falls = [place > 0 and scores[place] < scores[place - 1] for place in range(len(parts))]
        assert [part["train"] for part in parts] == [not fall for fall in falls]


def test_candidates_are_all_rows_of_the_table(runs: Cordctl) -> None:
    rows = exported(runs, "candidates")
    named = {(row["id"], row["lineage"]): row for row in rows}
    assert len(named) == len(rows)
    assert all(row["parent"] is None or named[row["id"], row["parent"]]["depth"] == row["depth"] - 1 for row in rows)
    for line in lines(runs, "out.jsonl"):
        path = [row for row in rows if row["id"] == line["id"] and row["winning"]]
        assert [row["text"] for row in path] == [step["text"] for step in line["steps"]]
        assert path[-1]["final_answer"].strip() == line["final_answer"]
        losers = [row for row in rows if row["id"] == line["id"] and not row["winning"]]
        assert len(losers) > len(path)
    for row in rows:
        if row["log_prob_sum"] is not None:
            assert row["score"] == pytest.approx(math.exp(row["log_prob_sum"] / row["answer_tokens"]))


def test_pairs_of_steps_share_their_prompt_and_the_chosen_one_is_on_the_winning_path(runs: Cordctl) -> None:
    rows = exported(runs, "step-dpo")
    candidates = exported(runs, "candidates")
    winning = {(row["id"], row["depth"]): row for row in candidates if row["winning"]}
    for row in rows:
        step = winning[row["id"], row["step"]]
        assert row["chosen"].startswith(step["text"].rstrip())
        assert row["chosen_score"] == step["score"] > row["rejected_score"]
        assert row["prompt"].endswith(f"### Step {row['step']}.")
        assert row["margin"] == pytest.approx(math.log(step["score"] / row["rejected_score"]))
        siblings = [one for one in candidates if one["parent"] == step["parent"] and one["id"] == row["id"]]
        assert any(row["rejected"].startswith(one["text"].rstrip()) for one in siblings if not one["winning"])
    least = sorted(row["margin"] for row in rows)[len(rows) // 2]
    fewer = exported(runs, "step-dpo", "--min-margin", str(least))
    assert fewer == [row for row in rows if row["margin"] >= least]
    one_each = exported(runs, "step-dpo", "--top-k", "1")
    assert [row["margin"] for row in one_each] == [
        max(row["margin"] for row in rows if row["id"] == key) for key in dict.fromkeys(row["id"] for row in rows)
    ]


def test_a_label_for_every_valid_candidate(runs: Cordctl) -> None:
    rows = exported(runs, "prm")
    valid = [row for row in exported(runs, "candidates") if row["state"] == "scored" and row["text"].strip()]
    assert {(row["id"], step) for row in rows for step in row["completions"]} == {
        (row["id"], row["text"].strip()) for row in valid
    }
    assert all(len(row["labels"]) == len(row["completions"]) for row in rows)
    least = sorted(row["score"] for row in valid)[len(valid) // 2]
    strict = exported(runs, "prm", "--labels", "threshold", "--threshold", str(least))
    assert [row["completions"] for row in strict] == [row["completions"] for row in rows]
    assert {label for row in strict for label in row["labels"]} == {True, False}


def test_samples_become_pairs_and_labels(runs: Cordctl) -> None:
    known = lines(runs, "samples.jsonl")
    labelled = exported(runs, "kto", run="samples")
    assert [row["label"] for row in labelled] == [line["correct"] for line in known if line["correct"] is not None]
    assert {row["label"] for row in labelled} == {True, False}
    pairs = exported(runs, "dpo")
    counts = {
        key: min(sum(line["correct"] is flag for line in known if line["id"] == key) for flag in (True, False))
        for key in {line["id"] for line in known}
    }
    assert {key: sum(row["id"] == key for row in pairs) for key in counts} == counts


@pytest.mark.parametrize(
    ("run", "options", "said"),
    [
        ("done", ("--format", "dpo", *STUDENT), "step-dpo"),
        ("samples", ("--format", "step-dpo", *STUDENT), "has no scores"),
        ("samples", ("--format", "axolotl"), "has no scores"),
        ("samples", ("--format", "messages", "--min-score", "0.5"), "has no scores"),
        ("done", ("--format", "prm", *STUDENT, "--labels", "right-share"), "no binary judgments"),
        ("done", ("--teachers", "alpha-hat"), "no teacher is called 'alpha-hat': did you mean 'alpha-hot'?"),
    ],
)
def test_a_run_that_lacks_what_the_format_needs_is_refused(
    runs: Cordctl, run: str, options: tuple[str, ...], said: str
) -> None:
    assert said in runs("export", run, "-o", "no.jsonl", *options, exits=1).stderr
    assert not (runs.folder / "no.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "sft"), "needs --student"),
        (("--format", "sft", *STUDENT, "--think", "inline"), "it belongs to messages, axolotl"),
        (("--format", "kto", *STUDENT, "--only-correct"), "no meaning with --format kto"),
        (("--format", "messages", "--max-tokens", "100"), "needs --student"),
        (("--format", "prm", *STUDENT, "--labels", "threshold"), "needs --threshold"),
        (("--format", "prm", *STUDENT, "--threshold", "0.5"), "--threshold belongs to"),
        (("--split", "train=0.9"), "add up to 0.9"),
        (("--split", "train:1"), "train=0.9,test=0.1"),
        (("--format", "alpaca", "-o", "no.jsonl.gz", "--dataset-info"), "LLaMA-Factory cannot read"),
        (("--teachers", ","), "names no teacher"),
    ],
)
def test_an_option_that_would_be_ignored_or_is_wrong_is_refused(
    runs: Cordctl, options: tuple[str, ...], said: str
) -> None:
    assert said in runs("export", "done", "-o", "no.jsonl", *options, exits=2).stderr
    assert not (runs.folder / "no.jsonl").exists()


def test_rows_that_are_too_long_are_left_out_and_counted(runs: Cordctl) -> None:
    whole = json.loads(
        runs(
            "export", "done", "-o", "all.jsonl", "--format", "sft", *STUDENT, "--max-tokens", "100000", "--json"
        ).stdout
    )
    assert whole["too_long"] == 0
    limit = whole["longest"] - 1
    report = json.loads(
        runs(
            "export", "done", "-o", "short.jsonl", "--format", "sft", *STUDENT, "--max-tokens", str(limit), "--json"
        ).stdout
    )
    assert report["too_long"] >= 1
    assert report["longest"] == whole["longest"]
    assert report["exported"] + report["too_long"] == whole["exported"] == 5
    said = runs("export", "done", "-o", "short.jsonl", "--format", "sft", *STUDENT, "--max-tokens", str(limit)).stderr
    assert f"the longest has {whole['longest']} tokens" in said


@pytest.mark.parametrize("form", [name for name, one in FORMATS.items() if "max_tokens" in one.options])
def test_every_trainers_format_counts_tokens(runs: Cordctl, form: str) -> None:
    name = f"counted-{form}.jsonl"
    run = "samples" if Need.SEVERAL in FORMATS[form].needs else "done"
    report = json.loads(
        runs("export", run, "-o", name, "--format", form, *STUDENT, "--max-tokens", "1", "--json").stdout
    )
    assert report["exported"] == 0
    assert report["longest"] > 10
    assert report["too_long"] > 0


def test_a_split_divides_by_problem_and_the_parts_are_the_whole(runs: Cordctl) -> None:
    whole = exported(runs, "candidates")
    report = runs(
        "export", "done", "-o", "parts.jsonl", "--format", "candidates", "--split", "train=0.5,dev=0.25,test=0.25"
    ).stderr
    parts = {name: lines(runs, f"parts-{name}.jsonl") for name in ("train", "dev", "test")}
    assert not (runs.folder / "parts.jsonl").exists()
    keys = {name: {row["id"] for row in rows} for name, rows in parts.items()}
    assert sum(map(len, keys.values())) == len({row["id"] for row in whole})
    assert sorted(row["lineage"] for rows in parts.values() for row in rows) == sorted(row["lineage"] for row in whole)
    assert f"{len(parts['train'])} candidates to parts-train.jsonl" in report
    samples = [
        runs("export", "samples", "-o", "s.jsonl", "--split", "train=0.5,dev=0.25,test=0.25"),
        *(lines(runs, f"s-{name}.jsonl") for name in keys),
    ]
    for rows, name in zip(samples[1:], keys, strict=True):
        assert isinstance(rows, list)
        assert {row["id"] for row in rows} == keys[name]


def test_only_what_the_named_teachers_wrote_goes_out(runs: Cordctl) -> None:
    rows = exported(runs, "jsonl", "--teachers", "alpha-hot", run="samples")
    assert 0 < len(rows) < len(lines(runs, "samples.jsonl"))
    assert {step["teacher"] for row in rows for step in row["steps"]} == {"alpha-hot"}
    assert {row["teacher"] for row in exported(runs, "candidates", "--teachers", "alpha")} == {"alpha"}


def test_at_most_k_samples_of_a_problem_go_out(runs: Cordctl) -> None:
    rows = exported(runs, "messages", "--top-k", "2", run="samples")
    assert [row["id"] for row in rows] == [key for number in range(5) for key in [f"p{number}"] * 2]


def test_llama_factory_finds_the_file_by_its_entry(runs: Cordctl) -> None:
    folder = runs.folder / "factory"
    folder.mkdir()
    (folder / "dataset_info.json").write_text('{"mine": {"file_name": "mine.json"}}', encoding="utf-8")
    for form in ("sharegpt", "alpaca"):
        runs("export", "done", "-o", f"factory/{form}.jsonl", "--format", form, "--dataset-info")
    entries = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    assert list(entries) == ["mine", "sharegpt", "alpaca"]
    for form in ("sharegpt", "alpaca"):
        assert (folder / entries[form]["file_name"]).is_file()
        assert set(entries[form]["columns"].values()) <= set(lines(runs, f"factory/{form}.jsonl")[0])
    (folder / "dataset_info.json").write_text("[1]", encoding="utf-8")
    refused = runs("export", "done", "-o", "factory/x.jsonl", "--format", "alpaca", "--dataset-info", exits=1).stderr
    assert "dataset_info.json holds no JSON object" in refused
    assert not (folder / "x.jsonl").exists()


@pytest.mark.parametrize("search", ["greedy", "curation", "integration", "mcts", "line break"])
@pytest.mark.long
def test_every_pipeline_has_pairs_labels_and_candidates(runs: Cordctl, search: str) -> None:
    name = search.replace(" ", "-")
    (runs.folder / f"{name}.toml").write_text(config_of(search), encoding="utf-8")
    runs("run", "problems.jsonl", "--run", name, "--config", f"{name}.toml", "--limit", "3", "-o", f"{name}.jsonl")
    candidates = exported(runs, "candidates", run=name)
    texts = {(row["id"], row["text"]): row for row in candidates if row["state"] == "scored"}
    labelled = exported(runs, "prm", run=name)
    assert {(row["id"], step) for row in labelled for step in row["completions"]} == {
        (key, text.strip()) for key, text in texts if text.strip()
    }
    pairs = exported(runs, "step-dpo", run=name)
    assert pairs or search == "integration"  # what an integrator writes has no sibling
    for pair in pairs:
        assert pair["prompt"].count("<think>") == 1
        assert pair["chosen_score"] > pair["rejected_score"]
    winners = lines(runs, f"{name}.jsonl")
    assert [sum(one["winning"] for one in candidates if one["id"] == line["id"]) for line in winners] == [
        len(line["steps"]) for line in winners
    ]
    messages = exported(runs, "messages", "--think", "inline", run=name)
    assert [row["messages"][1]["content"] for row in messages] == [line["trajectory"] for line in winners]


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_run_gives_the_same_bytes(runs: Cordctl, form: str) -> None:
    exported(runs, form)
    before = (runs.folder / f"{form}.jsonl").read_bytes()
    exported(runs, form)
    assert (runs.folder / f"{form}.jsonl").read_bytes() == before


def test_the_datasets_library_loads_every_format(runs: Cordctl, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for form, chosen in FORMATS.items():
        rows = exported(runs, form)
        for kind, ending in (("json", "jsonl"), ("parquet", "parquet")):
            needed = STUDENT if Need.STUDENT in chosen.needs else ()
            run = "samples" if Need.SEVERAL in chosen.needs else "done"
            name = f"loaded-{form}.{ending}"
            runs("export", run, "-o", name, "--format", form, *needed)
            loaded = datasets.load_dataset(
                kind, data_files=str(runs.folder / name), split="train", cache_dir=str(tmp_path)
            )
            assert len(loaded) == len(rows)
            assert loaded.column_names == list(rows[0])
            assert loaded[0] == rows[0]
