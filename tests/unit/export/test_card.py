"""Hostile text in a card stays text, and the card's front matter stays the one that was written."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import DatasetCard

from cord_worker.config import ProverConfig
from cord_worker.export.card import CardRescoring, card_text, is_unchanged_card
from cord_worker.export.jsonl import provenance_of
from cord_worker.export.markdown import code, code_block, json_block, plain
from cord_worker.export.public_names import public_name
from cord_worker.export.report import SourceCounts
from cord_worker.store.reports.results import Provenance
from tests.support.cards import config, facts

HOSTILE = "`` ``` |\n---\n# Title\n<script>alert(1)</script> \u202eevil\u2066 ![x](http://evil) {{ x }} \x1b[31m ````"


def outside_of_code(card: str) -> str:
    """The card without its blocks and spans of code, as CommonMark delimits them."""
    lines, fence = [], ""
    for line in card.split("\n"):
        marks = re.match("`{3,}", line)
        if not fence and marks:
            fence = marks[0]
        elif fence and re.fullmatch(f"{fence}`*", line):
            fence = ""
        elif not fence:
            lines.append(line)
    assert not fence
    return re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", "\n".join(lines))


def rescoring_by(text: str) -> CardRescoring:
    """A rescoring with this text in each of its own texts."""
    prover = ProverConfig(model="-", scoring_template=f"{text}</think> {{answer}}")
    return CardRescoring(text, text.replace("/", ""), text, text, prover, scored=7, invalid=1)


@pytest.mark.parametrize("where", ["system prompt", "model", "mode", "field", "template option", "rescoring", "source"])
def test_no_text_ends_its_place_in_the_card(where: str) -> None:
    hostile = {
        "system prompt": facts(config(teacher={"system_prompt": HOSTILE})),
        "model": facts(config(model={"path": f"/models/{HOSTILE.replace('/', '')}"})),
        "mode": facts(scoring_mode=HOSTILE),
        "field": facts(fields={"id": "text", "metadata": {HOSTILE: "text"}}),
        "template option": facts(config(model={"template_options": {"x": HOSTILE}})),
        "rescoring": facts(rescoring=rescoring_by(HOSTILE)),
        "source": replace(facts(), report=replace(facts().report, source=SourceCounts(HOSTILE, 1, 2, 3))),
    }[where]
    card = card_text(hostile)
    body = outside_of_code(card.split("---\n", 2)[2])
    assert "<script" not in body
    assert "http://evil" not in body
    assert "# Title" not in body
    assert "\u202e" not in card
    assert "\x1b" not in card
    headings = [line for line in body.split("\n") if line.startswith("#")]
    assert headings == [line for line in outside_of_code(card_text(facts()).split("---\n", 2)[2]).split("\n")
                        if line.startswith("#")]  # fmt: skip
    front = DatasetCard(card).data.to_dict()
    assert (front["license"], front["pretty_name"]) == ("mit", "mine")
    if where == "field":
        (_, metadata) = front["dataset_info"]["features"]
        assert metadata["struct"] == [{"name": HOSTILE, "dtype": "string"}]


def test_the_block_of_the_configuration_is_json_without_paths_and_servers() -> None:
    server = {"engine": "openai", "openai": {"base_url": "http://10.0.0.7:8000/v1", "api_key_env": "MY_KEY"}}
    card = card_text(facts(config(model={**server, "template_options": {"x": HOSTILE}})))
    block = card.split("## Configuration\n\n")[1]
    fence = re.match("`+", block)
    assert fence is not None
    document = json.loads(block.removeprefix(f"{fence[0]}json\n").partition(f"\n{fence[0]}\n")[0])
    assert document["models"]["m"]["template_options"] == {"x": HOSTILE}
    assert document["models"]["m"]["path"] == "model-7b"
    for secret in ("10.0.0.7", "MY_KEY", "someone", "secret"):
        assert secret not in card


def test_a_card_names_the_prover_of_a_rescoring_and_how_it_scored() -> None:
    prover = ProverConfig(model="-", scoring_template="</think>So: {answer}", score="mean_probability")
    rescoring = CardRescoring("small", "/models/prover-7b", "vllm-bf16", "Grade.", prover, scored=1007, invalid=1)
    card = card_text(facts(rescoring=rescoring))
    for row in (
        "| rescoring | `small`, by `prover-7b` |",
        "| scoring mode of the rescoring | `vllm-bf16` |",
        "| score of the rescoring | `mean_probability` |",
        "| candidates of the rescoring | 1,007 scored, 1 could not be scored |",
    ):
        assert row in card
    assert "```text\n</think>So: {answer}\n```" in card
    assert "System prompt of the rescoring `small`:\n\n```text\nGrade.\n```" in card
    assert "/models" not in card


def test_a_card_of_a_trimmed_run_counts_the_problems_that_only_its_source_has() -> None:
    report = replace(facts().report, source=SourceCounts("whole", failed=1, unfinished=2, missing=3))
    card = card_text(replace(facts(), report=report, trimmed_from="whole", trim_above=0.9))
    for row in (
        "| failed in `whole`, not in this run | 1 |",
        "| unfinished in `whole`, not in this run | 2 |",
        "| not trimmed yet, in `whole`, not in this run | 3 |",
    ):
        assert row in card
    assert "the tokens are those of new final answers alone" in card


def test_every_change_of_a_card_is_seen() -> None:
    card = card_text(facts())
    assert is_unchanged_card(card)
    assert not is_unchanged_card(card.replace("mit", "apache-2.0"))
    assert not is_unchanged_card(card + "More.\n")
    assert not is_unchanged_card("More.\n" + card)
    assert not is_unchanged_card("")


def test_files_of_lines_without_a_row_are_not_listed_for_loading() -> None:
    files = {"a.jsonl": ("train", 2), "b.jsonl": ("test", 0)}
    front = yaml.safe_load(card_text(facts(files=files)).split("---\n")[1])
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "a.jsonl"}]
    empty = card_text(facts(files={"a.jsonl": ("train", 0)}))
    assert "configs" not in yaml.safe_load(empty.split("---\n")[1])
    assert "There is no row to load." in empty


@pytest.mark.parametrize(
    ("rows", "size"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**9 - 1, "100M<n<1B"), (10**9, "n>1B")]
)
def test_the_size_is_one_of_the_hubs(rows: int, size: str) -> None:
    front = yaml.safe_load(card_text(facts(files={"a.parquet": ("train", rows)})).split("---\n")[1])
    assert front["size_categories"] == [size]


def test_datasets_of_the_hub_are_in_the_commands() -> None:
    known = replace(facts(), datasets=[{"id": "org/sums", "revision": "a" * 40, "split": "train"}])
    assert f"cordctl enqueue org/sums@{'a' * 40} --split train --config cord.toml --run mine" in card_text(known)


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("/home/me/models/qwen", "qwen"),
        ("/home/me/models/qwen/", "qwen"),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("bundled:student", "bundled:student"),
        ("../mine", "mine"),
        ("C:\\Users\\me\\qwen", "qwen"),
        ("/x/hub/models--Qwen--Qwen3-8B/snapshots/0123abc", "Qwen/Qwen3-8B"),
        ("/", "/"),
    ],
)
def test_a_location_becomes_a_name_without_folders(location: str, name: str) -> None:
    assert public_name(location) == name


def test_rows_name_the_prover_without_its_folder() -> None:
    stored = Provenance("mine", "f", 0, "/home/me/models/qwen", None, "1", {"prover": {}}, [])
    assert provenance_of(stored, None)["prover_model"] == "qwen"


def test_markup_is_plain() -> None:
    assert plain("a_b <i>") == r"a\_b \<i\>"
    assert code("a`b") == "``a`b``"
    assert code("`") == "`` ` ``"
    assert code("a|b") == r"`a\|b`"
    assert code_block("```") == ["````", "```", "````"]
    assert json.loads("\n".join(json_block({"a": "\u202e\x7f\u2028"})[1:-1])) == {"a": "\u202e\x7f\u2028"}
