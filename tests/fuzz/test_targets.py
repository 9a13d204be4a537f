"""The fuzzed targets over the corpus (what fuzzing found once, and where it begins) and over random bytes."""

from __future__ import annotations

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


def test_every_target_has_a_corpus() -> None:
    assert {path.parent.name for path in CORPUS} == set(TARGETS)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_once_holds(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_random_bytes_hold(target: str) -> None:
    @settings(max_examples=150, deadline=None)
    @given(st.one_of(st.binary(max_size=200), TEXT.map(lambda text: text.encode("utf-8", "replace"))))
    def holds(data: bytes) -> None:
        TARGETS[target](data)

    holds()
