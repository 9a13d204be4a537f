"""How final answers are checked: the table [verify]."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from cord_worker.config.base import Section

DEFAULT_JUDGE_TEMPLATE = """\
You are given a question, its reference answer and a student's answer. Decide whether the student's answer is correct: \
whether it comes to what the reference answer says. Wording, order and further detail do not matter; a contradiction, \
another conclusion or a missing part that was asked for makes it incorrect.

Passage:
{passage}

Question:
{question}

Reference answer:
{reference}

Student's answer:
{answer}

Reply with one JSON object and nothing else: {"correctness": "True"} where the student's answer is correct, \
{"correctness": "False"} where it is not."""
"""What an LLM judge is asked; see `JudgeConfig.template`."""


class ToleranceConfig(Section):
    """How far from the reference a number may lie: by the larger of the two."""

    relative: float = Field(0.001, ge=0.0, lt=1.0, description="Share of the reference, such as 0.01.")
    absolute: float = Field(0.0, ge=0.0, description="In the reference's own unit.")


class JudgeConfig(Section):
    """An LLM that judges final answers: the table [verify.judge]. It replies `{"correctness": "True"}` or `"False"`."""

    model: str = Field(description="A key of [models]; it may serve nothing else.")
    template: str = Field(
        DEFAULT_JUDGE_TEMPLATE,
        description="User turn; must hold `{reference}` and `{answer}`, and may hold `{question}` and `{passage}`. The "
        "paragraph that holds `{passage}` is left out where a problem has none.",
    )
    temperature: float = Field(0.0, ge=0.0, le=5.0)
    retry_temperature: float = Field(
        0.6, ge=0.0, le=5.0, description="Of the tries after a malformed reply, which 0 would only repeat."
    )
    top_p: float = Field(0.95, gt=0.0, le=1.0)
    tokens: int = Field(1024, ge=8, description="Cap of a reply, its thinking included, in the judge's tokens.")
    max_rounds: int = Field(
        3,
        ge=1,
        le=100,
        description="Tries, each with a seed of its own, until a reply holds a verdict; then undecided.",
    )

    @field_validator("template")
    @classmethod
    def _holds_both_answers(cls, value: str) -> str:
        for placeholder in ("{reference}", "{answer}"):
            if placeholder not in value:
                raise ValueError(f"must hold the placeholder {placeholder}")
        return value


class VerifyConfig(Section):
    """How a final answer is checked against its reference; only binary judgments let it enter the search."""

    method: Literal["math", "exact", "choice", "numeric", "judge", "none"] = Field(
        "math",
        description="`math`: equal as text or as mathematics; `exact`: equal as text after normalisation; `choice`: "
        "the same letter A-J, or the same of yes, no and maybe; `numeric`: a number within `tolerance`, with units, "
        "thousands separators and percent; `judge`: an LLM decides ([verify.judge]); `none`: not checked.",
    )
    field: str | None = Field(
        "verify",
        description="Field of a dataset row that names its own method; rows without it take `method`.",
    )
    reference_field: str | None = Field(
        None,
        description="Field of a dataset row that holds what the final answer is checked against, where that is not the "
        "answer that the prover scores, such as PubMedQA's `final_decision`; rows without it take the answer.",
    )
    ordered: bool | None = Field(
        None,
        description="Whether the order of a list counts: true, false, or absent, where the reference's type and the "
        "question say so (`find all` asks for a set, a tuple is ordered).",
    )
    undecided: Literal["keep", "judge"] = Field(
        "keep",
        description="An answer that its comparison leaves undecided (no final answer found, several that contradict "
        "each other, or too long a comparison) stays so (`keep`), or is given to the LLM of [verify.judge] (`judge`).",
    )
    tolerance: ToleranceConfig = ToleranceConfig()
    judge: JudgeConfig | None = None

    @model_validator(mode="after")
    def _judge_is_there(self) -> Self:
        if self.undecided == "judge" and self.judge is None:
            raise ValueError(
                'undecided = "judge" needs a table [verify.judge] with the judge\'s `model` (undecided = "keep" leaves '
                "undecided answers as they are)"
            )
        if self.method == "judge" and self.judge is None:
            raise ValueError('method = "judge" needs a table [verify.judge] with the judge\'s `model`')
        return self

    def identity(self) -> dict[str, Any]:
        """What the fingerprint of a run covers of it."""
        return self.without_defaults_of("ordered", "undecided")
