"""What rates candidates: the tables [prover], [reward] and [binary]."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, field_validator

from cord_worker.config.base import Section
from cord_worker.config.models import ModelConfig, require_model

DEFAULT_SCORING_TEMPLATE = "\n</think>\n\nThe final answer is {answer}."
"""Closing part that the prover scores; `{answer}` marks where the known answer stands
(docs/what-is-computed.md#scoring-text)."""

DEFAULT_BINARY_TEMPLATE = (
    "\n\nTime is up: I stop thinking now and answer from what I have so far.\n</think>\n\nThe final answer is:"
)
"""Closing part after which the prover's model answers at once, for a binary judgment
(docs/what-is-computed.md#binary-judgment)."""


class ProverConfig(Section):
    """The meta-prover: the model that scores candidates and alone sees the answer."""

    model: str = Field(description="A key of [models].")
    scoring_template: str = Field(
        DEFAULT_SCORING_TEMPLATE, description="Closing part after the candidate; must hold `{answer}` once."
    )

    @field_validator("scoring_template")
    @classmethod
    def _holds_answer_once(cls, value: str) -> str:
        if value.count("{answer}") != 1:
            raise ValueError("must hold the placeholder {answer} exactly once")
        if "</think>" not in value:
            raise ValueError("must close the thinking with </think>")
        return value


class RewardConfig(Section):
    """The process reward model of `search.selection = "reward_model"`: it judges a candidate's last step, in [0, 1]
    (sigmoid of one label, or probability of the second of two). It never sees the answer."""

    model: str = Field(description='A key of [models], with head = "reward".')
    step_separator: str | None = Field(
        None,
        min_length=1,
        description="Text after every step, at the last token of which the head is read, such as Qwen2.5-Math-PRM's "
        "`<extra_0>`; the model then reads plain steps, without `<think>` and step markers. Without it, it reads what "
        "the prover reads, and the head is read at the candidate's last token.",
    )


class BinaryConfig(Section):
    """Binary judgment (docs/what-is-computed.md#binary-judgment): the prover's model, made to answer after every
    candidate at once. The judgment is
    the share of `judgments` answers that are right, compared as [verify] says (by `math` the answers
    to problems that are not checked, or whose row asks for a judge)."""

    judgments: int = Field(10, ge=1, le=1024, description="Answers to each candidate.")
    tokens: int = Field(64, ge=1, description="Cap of one such answer, in the prover's tokens.")
    temperature: float = Field(0.6, ge=0.0, le=5.0)
    top_p: float = Field(0.95, gt=0.0, le=1.0)
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
    """Raises ValueError where the pipeline has candidates scored and there is no prover, or it names no model."""
    if prover is None:
        if is_scored:
            raise ValueError(
                f'[prover] is missing: pipeline = "{pipeline}" has it score the candidates (only "sample" does without)'
            )
        return
    require_model("prover.model", prover.model, models)


def require_reward(reward: RewardConfig | None, models: Mapping[str, ModelConfig], *, selection: str) -> None:
    """Raises ValueError where a reward model selects and there is none, or the reverse, or it is none."""
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
