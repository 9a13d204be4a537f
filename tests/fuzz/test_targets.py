"""The fuzzed targets over the corpus (earlier findings, and the start of fuzzing) and over random bytes."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPUS = sorted(path for path in (Path(__file__).parent / "corpus").glob("*/*") if path.is_file())
MARKS = (
    "\n### Step 2.", "### Step", "</think>", "<think>", "\n\n", "Wait", ". wait", "<|im_end|>", "\x1b[2J",
    "{", "}", '"', "[", "\x0crac", "\nu", "\\boxed{", "#### ", "\u200b",
)  # fmt: skip
TEXT = st.lists(st.one_of(st.text(max_size=12), st.sampled_from(MARKS)), max_size=20).map("".join)


def finding(target: str, data: bytes) -> str | None:
    """The traceback of a broken property, or None."""
    try:
        TARGETS[target](data)
    except Exception:  # noqa: BLE001 - any exception is a finding
        return traceback.format_exc()
    return None


def test_every_target_has_a_corpus() -> None:
    assert {path.parent.name for path in CORPUS} == set(TARGETS)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_every_file_of_the_corpus_keeps_the_properties(path: Path) -> None:
    assert finding(path.parent.name, path.read_bytes()) is None


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_random_bytes_keep_the_properties(target: str) -> None:
    @settings(max_examples=150, deadline=None)
    @given(st.one_of(st.binary(max_size=200), TEXT.map(lambda text: text.encode("utf-8", "replace"))))
    def holds(data: bytes) -> None:
        assert finding(target, data) is None

    holds()
