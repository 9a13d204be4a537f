"""What a row says about its own verification is checked before anything is enqueued."""

from __future__ import annotations

import pytest

from cord_worker.config import VerifyConfig
from cord_worker.dataset import ProblemRecord, RejectedRecord
from cord_worker.dataset.records import Json
from cord_worker.verify.row_methods import with_known_methods


def record(**metadata: Json) -> ProblemRecord:
    return ProblemRecord("p", "What?", "12", None, dict(metadata), "x.jsonl:1")


@pytest.mark.parametrize("method", ["math", "exact", "choice", "numeric", "none", "", None])
def test_a_row_may_name_its_method_or_leave_it_empty(method: str | None) -> None:
    kept = record(verify=method)
    assert list(with_known_methods([kept, record()], VerifyConfig())) == [kept, record()]


@pytest.mark.parametrize("method", ["sympy", True, 3, ["math"]])
def test_a_row_with_an_unknown_method_is_refused_by_its_field(method: Json) -> None:
    (refused,) = with_known_methods([record(verify=method)], VerifyConfig())
    assert isinstance(refused, RejectedRecord)
    assert refused.field == "verify"
    assert "numeric" in refused.reason


def test_the_field_may_have_another_name_or_none() -> None:
    row = record(verify="sympy", how="exact")
    assert list(with_known_methods([row], VerifyConfig(field="how"))) == [row]
    assert list(with_known_methods([row], VerifyConfig(field=None))) == [row]


def test_a_reference_of_the_row_must_be_text_or_a_number() -> None:
    verify = VerifyConfig(reference_field="final_decision")
    kept = [record(final_decision="yes"), record(final_decision=3), record(final_decision=None), record()]
    assert list(with_known_methods(kept, verify)) == kept
    (refused,) = with_known_methods([record(final_decision=["yes"])], verify)
    assert isinstance(refused, RejectedRecord)
    assert refused.field == "final_decision"
