"""Rows in the form of PubMedQA, TaTQA, multiple choice and datasets in other languages, read and checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from cord_worker.config import JudgeConfig, VerifyConfig
from cord_worker.dataset import FieldMapping, ProblemRecord, read_problems
from cord_worker.verify import Method, Rule, compare
from cord_worker.verify.row_methods import with_known_methods

FOLDER = Path(__file__).resolve().parents[2] / "fixtures"
VERIFY = VerifyConfig(reference_field="final_decision", judge=JudgeConfig(model="judge"))


def rows() -> list[ProblemRecord]:
    found = []
    for path in sorted(FOLDER.glob("*.jsonl")):
        mapping = FieldMapping(answer="long_answer" if path.stem == "pubmedqa_like" else None)
        for record in with_known_methods(read_problems(path, mapping=mapping), VERIFY):
            assert isinstance(record, ProblemRecord), record
            found.append(record)
    return found


@pytest.mark.parametrize("record", rows(), ids=lambda record: record.key)
def test_the_right_answer_is_correct_and_the_wrong_one_is_not(record: ProblemRecord) -> None:
    method = str(record.metadata.get("verify", "math"))
    reference = str(record.metadata.get("final_decision", record.answer))
    rule = Rule(Method.CHOICE if method == "judge" else Method(method), relative=VERIFY.tolerance.relative)
    assert compare(str(record.metadata["right"]), reference, rule).correct is True
    assert compare(str(record.metadata["wrong"]), reference, rule).correct is False


def test_passages_are_joined_and_paragraphs_stay_the_scored_answer() -> None:
    records = {record.key: record for record in rows()}
    first = records["pub-1"]
    assert first.answer.startswith("Walking for thirty minutes")
    assert "\n" in first.answer
    assert first.passage is not None
    assert first.passage.count("\n\n") == 1
    table = records["tat-1"].passage
    assert table is not None
    assert "| Revenue | 12,480 | 14,040 |\n" in table
    assert table.endswith("\n\nRevenue grew mainly because of two new stores.")
