"""The models that rate candidates: the tables [prover], [reward] and [binary]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from cord_worker.config.base import Table
from cord_worker.config.models import ModelConfig, require_model

DEFAULT_SCORING_TEMPLATE = "\n</think>\n\nThe final answer is {answer}."
"""Closing part that the prover scores; `{answer}` is replaced by the known answer
(docs/what-is-computed.md#scoring-text)."""

DEFAULT_BINARY_TEMPLATE = (
    "\n\nTime is up: I stop thinking now and answer from what I have so far.\n</think>\n\nThe final answer is:"
)
"""Closing part of a binary judgment; after it, the prover's model answers at once
(docs/what-is-computed.md#binary-judgment)."""


ScoreKind = Literal["geometric_mean", "mean_probability"]
"""Which mean of the probabilities of the answer's tokens is the score (docs/what-is-computed.md#2-score)."""
DEFAULT_SCORE: ScoreKind = "geometric_mean"


class ProverConfig(Table):
    """The prover (the paper's meta-prover): it scores candidates, and only it reads the known answer in the search."""

    model: str = Field(description="A key of [models].")
    scoring_template: str = Field(
        DEFAULT_SCORING_TEMPLATE, description="Closing part after the candidate; must contain `{answer}` once."
    )
    score: ScoreKind = Field(
        DEFAULT_SCORE,
        description="Which mean of the probabilities of the answer's tokens is the score. `geometric_mean` is the "
        "paper's; `mean_probability` is the arithmetic mean, which one improbable token lowers less. Both are stored.",
    )
    score_full_stop: bool = Field(
        False,
        description="Whether the text after `{answer}` in scoring_template, the full stop, is scored as part of the "
        "answer. It makes 12 score lower where 120 is expected. The paper's score ends with the answer.",
    )

    @field_validator("scoring_template")
    @classmethod
    def _holds_answer_once(cls, value: str) -> str:
        if value.count("{answer}") != 1:
            raise ValueError("must contain the placeholder {answer} exactly once")
        if "</think>" not in value:
            raise ValueError("must close the thinking with </think>")
        return value

    @model_validator(mode="after")
    def _something_follows_the_answer(self) -> Self:
        if self.score_full_stop and not self.scoring_template.partition("{answer}")[2].strip():
            raise ValueError(
                "score_full_stop scores the text after {answer}, and scoring_template has none: end it with a full "
                "stop, or remove score_full_stop"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """The options that decide the scores, the model's name included."""
        return self.without_defaults_of("score", "score_full_stop")


class RewardConfig(Table):
    """The process reward model of `search.selection = "reward_model"`.

    It rates a candidate's last step in [0, 1]: the sigmoid of one label, or the probability of the second of two. It
    never sees the answer.
    """

    model: str = Field(description='A key of [models], with head = "reward".')
    step_separator: str | None = Field(
        None,
        min_length=1,
        description="Text after every step, such as Qwen2.5-Math-PRM's `<extra_0>`; the head is read at its last "
        "token, and the model reads plain steps without `<think>` and step markers. Without a separator the model "
        "reads what the prover reads, and the head is read at the candidate's last token.",
    )


class BinaryConfig(Table):
    """Binary judgment (docs/what-is-computed.md#binary-judgment): the prover's model answers after each candidate.

    The judgment is the share of right answers among `judgments` sampled ones. They are compared as [verify] says; by
    `math` if the problem is not checked or its row requests a judge.
    """

    judgments: int = Field(10, ge=1, le=1024, description="Answers sampled per candidate.")
    tokens: int = Field(64, ge=1, description="Token limit of one such answer, in the prover's tokens.")
    temperature: float = Field(0.6, ge=0.0, le=5.0, description="Sampling temperature.")
    top_p: float = Field(0.95, gt=0.0, le=1.0, description="Nucleus sampling: share of the probability mass.")
    template: str = Field(
        DEFAULT_BINARY_TEMPLATE, description="Closing part after the candidate, which the model continues."
    )

    @field_validator("template")
    @classmethod
    def _closes_the_thinking(cls, value: str) -> str:
        if value.count("</think>") != 1:
            raise ValueError("must close the thinking with </think>, once")
        return value


def require_prover(
    prover: ProverConfig | None, models: Mapping[str, ModelConfig], *, pipeline: str, is_scored: bool
) -> None:
    """Raises ValueError if candidates are scored but there is no prover, or if the prover names an unknown model."""
    if prover is None:
        if is_scored:
            raise ValueError(
                f'[prover] is missing: pipeline = "{pipeline}" needs it to score candidates (only "sample" does not)'
            )
        return
    require_model("prover.model", prover.model, models)


def require_reward(reward: RewardConfig | None, models: Mapping[str, ModelConfig], *, selection: str) -> None:
    """Raises ValueError if a reward model is needed and missing, is given and not used, or has no reward head."""
    selects = selection == "reward_model"
    if reward is None:
        if selects:
            raise ValueError('search.selection = "reward_model" needs a table [reward] that names its model')
        return
    if not selects:
        raise ValueError('[reward] is given, but search.selection is not "reward_model": set it or remove the table')
    require_model("reward.model", reward.model, models)
    if models[reward.model].head != "reward":
        raise ValueError(f'reward.model names {reward.model!r}, which lacks head = "reward" in its table')
