"""The search and its budgets: the table [search]."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from cord_worker.config.base import Table

PREFIX_PHRASES = (
    "let me check",
    "let me verify",
    "double-check",
    "going back to",
    "wait",
    "alternatively",
    "another way",
    "let's try a different approach",
    "using another method",
    "we can also verify",
    "this is wrong",
    "the mistake was",
    "that's impossible",
    "this contradicts",
    "the error is",
)
"""Phrases of verification, of other methods and of correction (docs/what-is-computed.md#prefix-phrases)."""


class SearchConfig(Table):
    """Beam search over steps (docs/what-is-computed.md#one-decoding-step) and its budgets, in tokens."""

    pipeline: Literal["cord", "greedy", "curation", "integration", "mcts", "sample"] = Field(
        "cord",
        description="`cord`: beam search over the steps of all teachers; `greedy`: `trajectories` independent chains, "
        "each with a beam of one; `curation`: every teacher writes `trajectories` whole trajectories, the best wins; "
        "`integration`: the model of [integration] merges such trajectories into one; `mcts`: tree search by UCB with "
        "`trajectories` rollouts; `sample`: every teacher writes `trajectories` whole trajectories, nothing is "
        "scored, and each gets a final answer, which is checked (evaluation).",
    )
    selection: Literal["predictive_perplexity", "random", "max_length", "reward_model", "binary_judgment"] = Field(
        "predictive_perplexity",
        description="How candidates are ranked: by how well they predict the answer, at random, by their thinking "
        "tokens, by a process reward model ([reward]), or by how often the prover's model finds the answer from there "
        "([binary]). They are always scored, except in `sample`.",
    )
    segmentation: Literal["prompted", "line_break", "phrases"] = Field(
        "prompted",
        description="What ends a step: `prompted`, the next `### Step k.` marker (the first one is prefilled); "
        "`line_break`, a blank line; `phrases`, a sentence that opens with one of `phrases` and begins the next step. "
        "The last two write no markers, not even in whole trajectories.",
    )
    phrases: list[str] = Field(
        list(PREFIX_PHRASES),
        min_length=1,
        max_length=1000,
        description="For segmentation `phrases`: a step ends before each of them at the start of a sentence or line, "
        "in upper or lower case. `But wait` is not `wait`. By default the paper's phrases.",
    )
    finished: Literal["compete", "reserve", "first"] = Field(
        "compete",
        description="What finished trajectories do in `cord`. `compete`: they keep a slot while they are good enough. "
        "`reserve`: they use no slot; the search ends once beam_width have finished or none is live. `first`: the "
        "first finished one in the beam ends the search.",
    )
    length_normalisation: float = Field(
        0.0,
        ge=0.0,
        le=4.0,
        description="a: candidates are ranked by S ** (1 / steps ** a) instead of the score S, that is by log S / "
        "steps ** a, so that longer trajectories lose less for each of their steps. 0 is the paper's; the score "
        "itself is stored unchanged. Whole trajectories count as one step.",
    )
    score_resolution: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="For ranking, scores (after length_normalisation) are rounded to a multiple of this, so that a "
        "smaller difference, which may be the prover's noise, does not decide. Ties go to fewer steps, then to the "
        "better parent, then to the teacher named first. 0 is the paper's: every difference counts. The score itself "
        "is stored unchanged. Without effect if selection ranks by something other than scores.",
    )
    diversity_teacher: float = Field(
        0.0,
        ge=0.0,
        description="The slots of the beam are filled one after the other. For that, this is subtracted from a "
        "trajectory's merit (by which it is ranked) for each trajectory already in the beam whose last step is by the "
        "same teacher.",
    )
    diversity_text: float = Field(
        0.0,
        ge=0.0,
        description="Like diversity_teacher, but this times a similarity in [0, 1] is subtracted. The similarity is "
        "the share of 4-character pieces that the trajectory's last step has in common with the most similar last step "
        "in the beam so far.",
    )
    trajectories: int = Field(
        4,
        ge=1,
        le=1024,
        description="Chains of `greedy`; trajectories of each teacher in `curation`, `integration`, `sample`; "
        "rollouts of `mcts`.",
    )
    exploration: float = Field(
        1.41,
        ge=0.0,
        le=1000.0,
        description="Weight of exploration in the UCB of `mcts`: mean + exploration * sqrt(ln N / n). The default is "
        "UCB1's, the square root of 2; 0 always chooses the highest mean.",
    )
    beam_width: int = Field(4, ge=1, le=1024, description="B: trajectories kept after every step (`cord`).")
    samples_per_teacher: int = Field(1, ge=1, le=1024, description="Proposals of each teacher per trajectory.")
    max_steps: int = Field(64, ge=1, le=10_000, description="Steps after which the trajectories end.")
    step_tokens: int = Field(2048, ge=4, description="Token limit of one step, in the teacher's tokens.")
    thinking_tokens: int = Field(
        16_384, ge=8, description="Thinking budget, in the prover's tokens; in the teacher's if nothing is scored."
    )
    total_tokens: int | None = Field(
        None,
        ge=1,
        description="Budget of all proposals for one problem, losers and invalid ones included, in the teachers' own "
        "tokens; final answers and judgments are not counted. Once it is spent, the trajectories end where they are, "
        "as at max_steps. It is checked after every step, so at most one step's proposals exceed it. For `cord`, "
        "`greedy` and `mcts`; the other pipelines propose everything at once. None by default.",
    )
    answer_tokens: int = Field(4096, ge=1, description="Token limit of the final answer, in the teacher's tokens.")
    loop_ngram: int = Field(
        12, ge=1, description="A repeated part of fewer words than this counts as this many (see loop_repeats)."
    )
    loop_repeats: int = Field(
        8,
        ge=2,
        description="A step is a loop if it ends with this many repeats of a sentence, which together have at least "
        "loop_ngram * loop_repeats words. Four are enough for a long sentence in a step that step_tokens cut. Tables, "
        "matrices and digits need twice as many words, and count only if step_tokens cut the step; see docs/models.md.",
    )
    max_rounds: int = Field(
        3,
        ge=1,
        le=100,
        description="Attempts at a step whose candidates are all invalid, and at a final answer that a content filter "
        "refuses, each with another seed.",
    )

    @field_validator("phrases")
    @classmethod
    def _usable_phrases(cls, value: list[str]) -> list[str]:
        for phrase in value:
            if not any(character.isalnum() for character in phrase) or len(phrase) > 200 or "\n" in phrase:
                raise ValueError(
                    f"{phrase!r:.80} is not a phrase: each is one line of at most 200 characters with a letter or digit"
                )
            if "think>" in phrase:
                raise ValueError(f"{phrase!r:.80} holds a think tag, which always ends the thinking")
        folded = [" ".join(phrase.casefold().split()) for phrase in value]
        twice = sorted({phrase for phrase in folded if folded.count(phrase) > 1})
        if twice:
            raise ValueError(f"phrases are compared without case; given twice: {', '.join(twice)}")
        return value

    @field_validator("score_resolution")
    @classmethod
    def _not_finer_than_1e_9(cls, value: float) -> float:
        if 0.0 < value < 1e-9:
            raise ValueError("score_resolution is 0 (off) or at least 1e-9: scores are not more exact than that")
        return value

    @model_validator(mode="after")
    def _options_fit_the_search(self) -> Self:
        if self.length_normalisation and self.selection != "predictive_perplexity":
            raise ValueError(
                f'length_normalisation is about scores: it needs selection = "predictive_perplexity" (it is '
                f'"{self.selection}")'
            )
        if self.finished != "compete" and self.pipeline != "cord":
            raise ValueError(f'finished = "{self.finished}" needs pipeline = "cord" (it is "{self.pipeline}")')
        if self.total_tokens is not None and self.pipeline not in ("cord", "greedy", "mcts"):
            raise ValueError(
                'total_tokens is a budget of step-by-step searches: it needs pipeline = "cord", "greedy" or "mcts"; '
                f'"{self.pipeline}" proposes everything at once (there, lower `trajectories` or thinking_tokens)'
            )
        for name in ("diversity_teacher", "diversity_text"):
            if getattr(self, name) and self.pipeline != "cord":
                raise ValueError(f'{name} is about a beam: it needs pipeline = "cord" (it is "{self.pipeline}")')
        return self

    @model_validator(mode="after")
    def _budgets_fit(self) -> Self:
        if self.step_tokens > self.thinking_tokens:
            raise ValueError(
                f"step_tokens ({self.step_tokens}) must not exceed thinking_tokens ({self.thinking_tokens})"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """The options that the fingerprint of a run covers."""
        return self.without_defaults_of("score_resolution", "total_tokens")
