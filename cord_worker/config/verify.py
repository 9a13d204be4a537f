"""How final answers are checked: the table [verify]."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from cord_worker.config.base import Table

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
"""The judge's prompt; see `JudgeConfig.template`."""


class ToleranceConfig(Table):
    """Largest distance of a number from the reference; the larger of the two tolerances applies."""

    relative: float = Field(0.001, ge=0.0, lt=1.0, description="As a share of the reference, such as 0.01.")
    absolute: float = Field(0.0, ge=0.0, description="As a number in the reference's own unit.")


class JudgeConfig(Table):
    """An LLM that judges final answers: the table [verify.judge]. It replies `{"correctness": "True"}` or `"False"`."""

    model: str = Field(description="A key of [models]. It need not be a teacher or the prover; it may be either.")
    template: str = Field(
        DEFAULT_JUDGE_TEMPLATE,
        description="User turn; must contain `{reference}` and `{answer}`, and may contain `{question}` and "
        "`{passage}`. The paragraph with `{passage}` is left out if a problem has none.",
    )
    temperature: float = Field(0.0, ge=0.0, le=5.0, description="Sampling temperature of the first round.")
    retry_temperature: float = Field(
        0.6,
        ge=0.0,
        le=5.0,
        description="Temperature after a malformed reply, because temperature 0 would give the same reply.",
    )
    top_p: float = Field(0.95, gt=0.0, le=1.0, description="Nucleus sampling: share of the probability mass.")
    tokens: int = Field(1024, ge=8, description="Token limit of a reply, its thinking included, in the judge's tokens.")
    max_rounds: int = Field(
        3,
        ge=1,
        le=100,
        description="Rounds, each with its own seed, to get a reply with a verdict; after them the answer is "
        "undecided.",
    )

    @field_validator("template")
    @classmethod
    def _has_both_answers(cls, value: str) -> str:
        for placeholder in ("{reference}", "{answer}"):
            if placeholder not in value:
                raise ValueError(f"must contain the placeholder {placeholder}")
        return value


class VerifyConfig(Table):
    """How a final answer is checked against its reference; it affects the search only with binary judgments."""

    method: Literal["math", "exact", "choice", "numeric", "math_verify", "judge", "none"] = Field(
        "math",
        description="`math`: equal as text or as mathematics; `exact`: equal as text after normalisation; `choice`: "
        "the same letter A-J, or the same of yes, no and maybe; `numeric`: a number within `tolerance`, also with "
        "units, thousands separators or percent; `math_verify`: equal according to the package math-verify alone, as "
        "in published figures (extra `math-verify`); `judge`: an LLM decides ([verify.judge]); `none`: not checked.",
    )
    field: str | None = Field(
        "verify",
        description="Field of a dataset row that names the row's own method; rows without it use `method`.",
    )
    reference_field: str | None = Field(
        None,
        description="Field of a dataset row that holds the reference, if that is not the answer that the prover "
        "scores, such as PubMedQA's `final_decision`; rows without it use the answer.",
    )
    ordered: bool | None = Field(
        None,
        description="Whether the order of a list counts. By default the type of the reference and the question decide "
        "(`find all` asks for a set, a tuple is ordered).",
    )
    undecided: Literal["keep", "judge"] = Field(
        "keep",
        description="What happens to an answer that its comparison leaves undecided (no final answer found, several "
        "that contradict each other, or too long a comparison): `keep` leaves it undecided, `judge` asks "
        "[verify.judge].",
    )
    tolerance: ToleranceConfig = ToleranceConfig()
    judge: JudgeConfig | None = None

    @model_validator(mode="after")
    def _has_needed_judge(self) -> Self:
        if self.undecided == "judge" and self.judge is None:
            raise ValueError(
                'undecided = "judge" needs a table [verify.judge] with the judge\'s `model` (undecided = "keep" leaves '
                "undecided answers as they are)"
            )
        if self.method == "judge" and self.judge is None:
            raise ValueError('method = "judge" needs a table [verify.judge] with the judge\'s `model`')
        return self

    def identity(self) -> dict[str, Any]:
        """The options that the fingerprint of a run covers."""
        return self.without_defaults_of("ordered", "undecided")
