"""RUN@NAME names a rescoring of a run."""

from __future__ import annotations

import pytest

from cord_worker.operations.rescoring_comparison import runs_of, split_label


@pytest.mark.parametrize(
    ("labels", "runs"),
    [
        (["a"], ["a"]),
        (["a@x"], ["a"]),
        (["a", "a@x", "a@y"], ["a"]),
        (["a@x", "a"], ["a"]),
        (["a", "a"], ["a", "a"]),
        (["a@x", "b", "b@y", "c@z"], ["a", "b", "c"]),
    ],
)
def test_the_runs_of_labels_are_named_in_order(labels: list[str], runs: list[str]) -> None:
    assert runs_of(labels) == runs


@pytest.mark.parametrize(("label", "parts"), [("a", ("a", None)), ("a@x", ("a", "x")), ("a@", ("a", ""))])
def test_a_label_has_a_run_and_perhaps_a_rescoring(label: str, parts: tuple[str, str | None]) -> None:
    assert split_label(label) == parts
