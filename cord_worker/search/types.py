"""The types that the search reads and decides about: candidates, trajectories, beams
(docs/what-is-computed.md#objects).

A *lineage* names a candidate by its path down the tree (`seeds.lineage`). Two runs of the same configuration differ in
their database ids, but not in their lineages. So seeds are made from lineages, and rows are found by ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from cord_worker.errors import CordError

if TYPE_CHECKING:
    from cord_worker.config import IntegrationConfig, SearchConfig


class SearchError(CordError):
    """The rows given to the search contradict each other; a defect of the caller or a table edited by hand."""


class InvalidReason(StrEnum):
    """Why a candidate never enters a beam (docs/what-is-computed.md#invalid-candidates)."""

    EMPTY = "empty"
    """No text at all."""
    WHITESPACE = "whitespace"
    """Nothing but whitespace."""
    MARKER_ONLY = "marker_only"
    """Step markers, headings or punctuation, and nothing else."""
    LOOP = "loop"
    """The text ends in a loop (`loops`)."""
    THINK_TAG = "think_tag"
    """The text holds `<think>` or `</think>`; a trajectory holds exactly one of each, and not in a step."""
    UNSTORABLE = "unstorable"
    """NUL or lone surrogates, which PostgreSQL cannot store."""
    DUPLICATE = "duplicate"
    """Equal to a sibling after whitespace normalisation; the sibling alone is scored and stands for both."""
    TOO_LONG = "too_long"
    """The prefix or the candidate does not fit a model's context."""
    NOT_FINITE = "not_finite"
    """A model computed NaN or an infinity for it: the number format is too narrow, or the weights are damaged."""
    CONTENT_FILTER = "content_filter"
    """A server's content filter refuses the request, or the model's text."""
    MALFORMED_REQUEST = "malformed_request"
    """The request cannot be sent to the model, or its server rejects it."""
    ENGINE_FAULT = "engine_fault"
    """The engine fails again and again at this request, and at no other."""
    MALFORMED = "malformed"
    """An integrator's reply is not the JSON object that was asked for."""
    UNSCORABLE = "unscorable"
    """The prover gave no score in (0, 1]."""
    UNJUDGEABLE = "unjudgeable"
    """The selection model gave no judgment in [0, 1]."""


class Finish(StrEnum):
    """Why a trajectory's thinking ended (docs/what-is-computed.md#4-end-of-a-trajectory)."""

    THINK_END = "think_end"
    """The teacher wrote `</think>`."""
    EOS = "eos"
    """The teacher ended the sequence, which ends the thinking like `</think>`."""
    THINKING_BUDGET = "thinking_budget"
    """The thinking budget ran out."""
    MAX_STEPS = "max_steps"
    """The step cap was reached."""
    CONTEXT = "context"
    """No model has room for a longer trajectory, the final answer included."""
    TOTAL_TOKENS = "total_tokens"
    """The problem's budget of generated tokens was spent."""
    TRIMMED = "trimmed"
    """A trimmed run holds a shortened copy of the trajectory (`trimming`); no search ends in this way."""


class Criterion(StrEnum):
    """What candidates are ranked by (docs/what-is-computed.md#selection). They are scored under every criterion."""

    PREDICTIVE_PERPLEXITY = "predictive_perplexity"
    """The score: how well it predicts the known answer."""
    RANDOM = "random"
    """A random number from the run's seed."""
    MAX_LENGTH = "max_length"
    """The most thinking tokens."""
    REWARD_MODEL = "reward_model"
    """The judgment: a process reward model's rating of its last step."""
    BINARY_JUDGMENT = "binary_judgment"
    """The judgment: how often the prover's model, told to answer at once, gives the known answer."""

    @property
    def is_judged(self) -> bool:
        """True if candidates need a judgment in addition to their score."""
        return self in (Criterion.REWARD_MODEL, Criterion.BINARY_JUDGMENT)


class FinishedPolicy(StrEnum):
    """What happens to finished trajectories while others are live (docs/what-is-computed.md#finished-trajectories)."""

    COMPETE = "compete"
    """They keep their slots as long as they are among the B best."""
    RESERVE = "reserve"
    """They take none of the B slots, which all go to live ones; B finished ones end the search."""
    FIRST = "first"
    """The first one in the beam ends the search."""


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """The settings of a search. No field has a default, so an option that `of` forgets is a type error."""

    beam_width: int
    samples_per_teacher: int
    max_steps: int
    thinking_tokens: int
    """The thinking budget, in the prover's tokens."""
    step_tokens: int
    """The cap of a step, in the teacher's tokens."""
    loop_ngram: int
    """See `loops`."""
    loop_repeats: int
    """See `loops`."""
    max_rounds: int
    """Rounds of a step whose candidates are all invalid, the first round included."""
    pipeline: str
    trajectories: int
    """Chains (greedy), iterations (mcts), or whole trajectories by each teacher (curation, integration, sample)."""
    exploration: float
    """The weight of exploration in `mcts.UcbTree.ucb`."""
    finished: FinishedPolicy
    length_normalisation: float
    """See `beam.merit`."""
    score_resolution: float
    """See `beam.rounded_merit`."""
    diversity_teacher: float
    """See `diversity`."""
    diversity_text: float
    """See `diversity`."""
    integration_tokens: int
    """The cap of an integrator's reply, in its tokens."""
    total_tokens: int | None
    """The budget of a problem's proposals, in the teachers' own tokens; None without one."""
    selection: Criterion

    @classmethod
    def of(cls, search: SearchConfig, integration: IntegrationConfig | None) -> Self:
        """The settings of a run whose cord.toml has these tables."""
        return cls(
            beam_width=search.beam_width,
            samples_per_teacher=search.samples_per_teacher,
            max_steps=search.max_steps,
            thinking_tokens=search.thinking_tokens,
            step_tokens=search.step_tokens,
            loop_ngram=search.loop_ngram,
            loop_repeats=search.loop_repeats,
            max_rounds=search.max_rounds,
            pipeline=search.pipeline,
            trajectories=search.trajectories,
            exploration=search.exploration,
            finished=FinishedPolicy(search.finished),
            length_normalisation=search.length_normalisation,
            score_resolution=search.score_resolution,
            diversity_teacher=search.diversity_teacher,
            diversity_text=search.diversity_text,
            integration_tokens=0 if integration is None else integration.max_tokens,
            total_tokens=search.total_tokens,
            selection=Criterion(search.selection),
        )

    def is_budget_spent(self, tokens: int) -> bool:
        """True if the `tokens` generated for a problem use up `total_tokens`: then the search ends with the current
        step, as at `max_steps`."""
        return self.total_tokens is not None and tokens >= self.total_tokens


@dataclass(frozen=True, slots=True)
class SeedScope:
    """The fields that all seeds of one problem share. `problem_key` is its id in the dataset, never a database id."""

    run_seed: int
    problem_key: str


@dataclass(frozen=True, slots=True)
class Expansion:
    """One planned candidate: its row before there is a text. `max_tokens` is in the teacher's tokens. A `whole` one is
    the rest of its trajectory up to `</think>`, markers included, as one candidate. `step` counts the decisions of a
    search, `depth` the steps of the trajectory, this one included; they differ only in a tree search. `sources` are the
    candidates, best first, whose trajectories an integrator merges; empty for a teacher."""

    parent_id: int | None
    parent_rank: int
    teacher: int
    sample: int
    step: int
    round: int
    lineage: str
    seed: int
    max_tokens: int
    depth: int
    whole: bool = False
    sources: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trajectory extended by one proposed step, with its row's data once it is scored or known to be invalid.

    `text` is the step's text without marker; `teacher` the teacher's 0-based order in the configuration;
    `parent_rank` the 0-based rank of the parent in the previous beam (0 at step 1, where `parent_id` is None);
    `finish_reason` is "step", "think_end", "eos" or "length"; `thinking_tokens` counts the whole candidate in the
    prover's tokens (the teacher's if nothing is scored). `score` is in (0, 1]; `judgment` is in [0, 1] if the
    criterion needs one. Steps and depths (see `Expansion`) count from 1, rounds and samples from 0.
    """

    id: int
    parent_id: int | None
    step: int
    round: int
    teacher: int
    sample: int
    lineage: str
    text: str | None
    finish_reason: str | None
    score: float | None
    thinking_tokens: int | None
    invalid_reason: str | None
    parent_rank: int
    depth: int
    whole: bool = False
    judgment: float | None = None


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One member of a beam; its last step is the candidate `candidate_id`. `finish` is None while it is live; `score`
    is None if nothing is scored."""

    candidate_id: int
    steps: int
    score: float | None
    finish: Finish | None
    parent_rank: int
    teacher: int
    sample: int
    thinking_tokens: int
    lineage: str
    judgment: float | None = None

    @classmethod
    def of(cls, candidate: Candidate, finish: Finish | None) -> Self:
        """The trajectory that ends in `candidate`. Raises SearchError if it was never scored."""
        if candidate.score is None or candidate.thinking_tokens is None:
            raise SearchError(
                f"candidate {candidate.id} (step {candidate.step}) has no score or no token count and is not marked "
                "invalid: score it before the step is decided"
            )
        return cls.unscored(candidate, finish)

    @classmethod
    def unscored(cls, candidate: Candidate, finish: Finish | None) -> Self:
        """Like `of`, for pipelines whose candidates need no score."""
        if candidate.thinking_tokens is None:
            raise SearchError(
                f"candidate {candidate.id} (step {candidate.step}) has no token count and is not marked invalid: "
                "propose it before the step is decided"
            )
        return cls(
            candidate_id=candidate.id,
            steps=candidate.depth,
            score=candidate.score,
            finish=finish,
            parent_rank=candidate.parent_rank,
            teacher=candidate.teacher,
            sample=candidate.sample,
            thinking_tokens=candidate.thinking_tokens,
            lineage=candidate.lineage,
            judgment=candidate.judgment,
        )


Beam = tuple[Trajectory, ...]
"""At most B trajectories in rank order, best first."""
