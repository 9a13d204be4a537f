"""A `datasets.Dataset` is enqueued as it is: with its own selection and order."""

from __future__ import annotations

from typing import Any

import pytest

from cord_worker.dataset import ProblemRecord, read_problems
from cord_worker.errors import DatasetError
from cord_worker.operations.given_datasets import dataset_path

ROWS = [{"id": str(number), "question": f"What is {number}?", "answer": str(number)} for number in range(5)]


def keys(dataset: object) -> list[str]:
    with dataset_path(dataset) as path:
        return [one.key for one in read_problems(path) if isinstance(one, ProblemRecord)]


@pytest.mark.parametrize("kind", ["whole", "selected", "filtered", "iterable", "formatted"])
def test_a_dataset_is_read_in_its_own_order(kind: str) -> None:
    from datasets import Dataset

    whole = Dataset.from_list(ROWS)
    expected: dict[str, tuple[Any, list[str]]] = {
        "whole": (whole, ["0", "1", "2", "3", "4"]),
        "selected": (whole.select([3, 1]), ["3", "1"]),
        "filtered": (whole.filter(lambda row: int(row["id"]) > 2), ["3", "4"]),
        "iterable": (whole.to_iterable_dataset(), ["0", "1", "2", "3", "4"]),
        "formatted": (whole.with_format("numpy"), ["0", "1", "2", "3", "4"]),
    }
    dataset, found = expected[kind]
    assert keys(dataset) == found


def test_of_several_splits_one_must_be_given() -> None:
    from datasets import Dataset, DatasetDict

    with pytest.raises(DatasetError, match="give one of them"):
        keys(DatasetDict(train=Dataset.from_list(ROWS)))
