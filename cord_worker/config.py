"""cord.toml and the environment: what a run is configured by.

`RunConfig` is cord.toml. Its *fingerprint* covers everything that decides what is generated (teachers, prover,
search, seed, templates) and nothing that only decides how fast (batch widths, devices, concurrency), so that a
run can move to other machines without becoming another run. `Settings` is the environment: where the services
are. Secrets live only there.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cord_worker.errors import ConfigError
from cord_worker.service_urls import checked_broker_url, checked_database_url
from cord_worker.suggesting import did_you_mean, unknown

OTHER_VARIABLES = (
    *("CORD_DEBUG", "CORD_HOPELESS_EXIT_CODE", "CORD_POSTGRES_BIN", "CORD_REDIS_SERVER", "CORD_EMBEDDED_PREFER"),
    *("CORD_FAULT", "CORD_INSTANT_LOG", "CORD_INSTANT_SECONDS"),
)
"""Environment variables that are read elsewhere than in `Settings`."""
_TEST_VARIABLES = "CORD_TEST_"
_MISSPELT = 0.8

NAME_PATTERN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
BUNDLED_PREFIX = "bundled:"
_MODEL_IDENTITY = {"path", "revision", "engine", "dtype", "gguf_file", "max_model_len", "trust_remote_code"}

DEFAULT_SCORING_TEMPLATE = "\n</think>\n\nThe final answer is {answer}."
"""Closing part that the prover scores; `{answer}` marks where the known answer stands
(docs/what-is-computed.md#scoring-text)."""

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

DEFAULT_BINARY_TEMPLATE = (
    "\n\nTime is up: I stop thinking now and answer from what I have so far.\n</think>\n\nThe final answer is:"
)
"""Closing part after which the prover's model answers at once, for a binary judgment
(docs/what-is-computed.md#binary-judgment)."""


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

DEFAULT_INTEGRATION_PROMPT = """\
Several attempts were made at the problem below, by different authors. Some may be wrong or unfinished.

=== Problem ===
{question}

{trajectories}

=== Task ===
Merge these attempts into one solution: the best and most careful reasoning of all of them, in order, without
repetitions, with mistakes corrected and every step that the result needs. Write it as one continuous line of thought,
without a word about the attempts or their authors.

Reply with one JSON object and nothing else, in this form, with as many steps as are needed:
{"integrated_step1": "...", "integrated_step2": "...", "integrated_stepN": "...", "answer_part": "..."}
Each step is a text; answer_part is the final answer to the problem, as it is given to the reader.
"""
"""What an integrator is asked (docs/what-is-computed.md#integration); braces but those of the two
placeholders are text."""

INTEGRATOR_NAME = "integrator"
"""The integrator's name beside those of a run's teachers."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VllmOptions(_Section):
    """How vLLM hosts the model: the table [models.NAME.vllm]. Only the first two fields decide what is computed."""

    quantization: str | None = Field(
        None, description="vLLM's name of the quantisation, such as `fp8` or `awq`; what the weights say by default."
    )
    kv_cache_dtype: str = Field("auto", description="Number format of the KV cache, such as `fp8`.")
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share the model.")
    gpu_memory_utilization: float = Field(0.9, gt=0.0, le=1.0, description="Share of a GPU's memory that vLLM takes.")
    kv_cache_gib: float | None = Field(
        None, gt=0.0, description="Memory of the KV cache; what the share above leaves by default, 2 on a CPU."
    )
    max_batched_tokens: int = Field(
        4096,
        ge=64,
        description="Tokens that one engine step computes at most. A score asks for prompt log-probabilities, for "
        "which vLLM builds logits of batched tokens x vocabulary in float32, outside of the memory it plans with "
        "(4,096 tokens of a 152 k vocabulary: 2.3 GiB): raise it for teachers, never for provers.",
    )
    enforce_eager: bool = Field(False, description="No CUDA graphs, no compilation: starts faster, runs slower.")
    engine_args: dict[str, JsonValue] = Field(
        default_factory=dict, description="Further arguments of vLLM's AsyncEngineArgs, passed through as they are."
    )


class OpenAiOptions(_Section):
    """A server that speaks OpenAI's HTTP API: the table [models.NAME.openai].

    `path` of the model then names the tokenizer (a local folder or hub id) with which prompts are rendered and tokens
    are counted; a server that offers chat only needs none, and `path` is its model's name. A hosted teacher:

        [models.r1]
        engine = "openai"
        path = "deepseek-ai/DeepSeek-R1"        # only the tokenizer's files are fetched
        batch_size = 32                         # requests at once
        [models.r1.openai]
        base_url = "https://api.example.com/v1"
        model = "deepseek-r1"                   # its name there
        api_key_env = "EXAMPLE_API_KEY"         # the variable that holds the key, not the key

    Only servers that give log-probabilities of the prompt can host the prover: `vllm serve` does, from its prefix cache
    (`--enable-prompt-tokens-details` makes it say how much of each prompt came from there).
    """

    base_url: str = Field(description="Such as http://127.0.0.1:8000/v1; holds no key, no user and no password.")
    model: str | None = Field(None, description="The model's name at the server; `path` by default.")
    api: Literal["auto", "completions", "chat"] = Field(
        "auto",
        description="`completions` sends raw prompts and can score; `chat` continues an assistant turn, as well as the "
        "server lets it. `auto` takes completions where the server has them; the worker's log says which.",
    )
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="Environment variable that holds the key. Keys never stand in cord.toml."
    )

    @field_validator("api_key_env")
    @classmethod
    def _variable_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError(
                "must be the name of an environment variable, such as OPENAI_API_KEY, never the key itself"
            )
        return value

    timeout_seconds: float = Field(600.0, gt=0.0, description="Longest time that one try of a request may take.")
    max_retries: int = Field(
        6,
        ge=0,
        le=100,
        description="Tries of one request after a 429, a 5xx or a lost connection, backing off; then it fails alone, "
        "or goes back and waits where the server does nothing else well either.",
    )

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be an http(s) URL such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError("must hold no user, password or query: the key comes from the variable `api_key_env`")
        return value.rstrip("/")


class ModelConfig(_Section):
    """One set of weights hosted by one engine; may serve several teachers and the prover.

    The first group of fields decides what the model computes and is part of its fingerprint (but for the system
    prompt, which belongs to the run); the second decides only how fast, and may differ between machines.
    """

    path: str = Field(
        description="Local folder, `bundled:NAME` for a model shipped with the package, or a hub id. A relative "
        "folder is taken from the folder of cord.toml."
    )
    revision: str | None = Field(None, description="Hub revision (commit, tag or branch); pin it for long runs.")
    engine: Literal["transformers", "vllm", "openai", "instant"] = Field(
        "transformers",
        description="Which engine hosts it; `openai` is any server with OpenAI's HTTP API; `instant` loads no weights "
        "and answers at once with seeded text, for measuring and testing the service itself.",
    )
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Number format of weights and activations. float64 makes tiny models deterministic.",
    )
    gguf_file: str | None = Field(None, description="File inside `path` when the weights are GGUF (dequantised).")
    max_model_len: int | None = Field(None, ge=64, description="Context length in tokens; the model's own by default.")
    trust_remote_code: bool = Field(False, description="Run code that comes with the weights. Off unless asked.")
    head: Literal["language", "reward"] = Field(
        "language",
        description="`reward`: a process reward model, a sequence or token classifier with one or two labels, or (vLLM "
        'only) a Qwen2ForProcessRewardModel; it serves search.selection = "reward_model" and nothing else.',
    )
    system_prompt: str | None = Field(None, description="System turn, as the model's card recommends.")
    think_open: str | None = Field(
        None,
        description="What opens the model's thinking, whitespace included, such as `[THINK]`; by default found in its "
        "chat template or among its tokens, `<think>` and a new line where they show none. Needs think_close.",
    )
    think_close: str | None = Field(
        None,
        description="What stands between its thinking and its final answer, such as `[/THINK]`. Its first tag ends the "
        "thinking. Stored and exported text has `<think>` and `</think>` in any case.",
    )
    template_options: dict[str, JsonValue] = Field(
        default_factory=dict,
        description='Further variables of its chat template, such as { reasoning_effort = "high" }.',
    )

    device: str = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:N`.")
    batch_size: int = Field(
        16, ge=1, le=4096, description="Requests that the engine batches at most; a worker leases twice as many."
    )
    gather_seconds: float = Field(
        0.0,
        ge=0.0,
        le=10.0,
        description="Longest wait of a request for others to share its batch with. More than 0 costs latency and saves "
        "forwards: for long runs of small models whose engines share processors (transformers engine only).",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of the engine's process.")
    workers: int = Field(1, ge=1, description="Worker processes of this model that `run` and `up` start.")

    vllm: VllmOptions | None = Field(None, description='Options of `engine = "vllm"`.')
    openai: OpenAiOptions | None = Field(None, description='The server of `engine = "openai"`.')

    @model_validator(mode="after")
    def _options_of_its_engine(self) -> Self:
        for engine, options in (("vllm", self.vllm), ("openai", self.openai)):
            if options is not None and self.engine != engine:
                raise ValueError(f'the table `{engine}` needs engine = "{engine}" (it is "{self.engine}")')
        if (self.think_open is None) != (self.think_close is None):
            raise ValueError("think_open and think_close go together: give both, or leave both to be found")
        if self.think_open is not None and not (self.think_open.strip() and (self.think_close or "").strip()):
            raise ValueError("think_open and think_close must not be blank: a model's thinking is told by them")
        if self.engine == "openai" and self.openai is None:
            raise ValueError('engine = "openai" needs a table [models.NAME.openai] with base_url')
        if self.gather_seconds and (self.engine != "transformers" or self.head != "language"):
            raise ValueError('gather_seconds needs engine = "transformers" and head = "language"; leave it out')
        if self.head == "reward" and self.engine == "openai":
            raise ValueError('head = "reward" needs engine = "transformers" or "vllm" (it is "openai")')
        if self.head == "reward" and self.gguf_file is not None:
            raise ValueError('head = "reward" needs weights with that head; GGUF files hold none')
        return self

    def location(self) -> str:
        """Folder of a bundled model, else `path` as it is. Raises ConfigError for an unknown bundled name."""
        return model_location(self.path)

    def identity(self) -> dict[str, Any]:
        """The fields that decide what the model computes."""
        identity = self.model_dump(mode="json", include=_MODEL_IDENTITY)
        if self.think_open is not None:
            identity["think"] = [self.think_open, self.think_close]
        if self.template_options:
            identity["template_options"] = self.template_options
        if self.vllm is not None:
            identity["vllm"] = self.vllm.model_dump(mode="json", include={"quantization", "kv_cache_dtype"})
        if self.head != "language":
            identity["head"] = self.head
        if self.openai is not None:
            identity["openai"] = self.openai.model_dump(mode="json", include={"model", "api"})
        return identity

    def fingerprint(self) -> str:
        """16 hex digits; names the model's queue, so that a worker with other weights never serves a run."""
        return _digest(self.identity())


class TeacherConfig(_Section):
    """A model with sampling settings: what proposes steps. Several teachers may share one model."""

    name: str = Field(description="Shown in tables and reports; letters, digits, `_`, `.` and `-`.")
    model: str = Field(description="A key of [models].")
    temperature: float = Field(0.6, ge=0.0, le=5.0)
    top_p: float = Field(0.95, gt=0.0, le=1.0)
    top_k: int = Field(0, ge=0, description="0 considers every token.")
    min_p: float = Field(0.0, ge=0.0, le=1.0)
    repetition_penalty: float = Field(1.0, gt=0.0, le=5.0)
    system_prompt: str | None = Field(None, description="Replaces the model's own system turn.")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        return _checked_name(value, "teacher name")


class ProverConfig(_Section):
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


class RewardConfig(_Section):
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


class BinaryConfig(_Section):
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


class IntegrationConfig(_Section):
    """The integrator of `search.pipeline = "integration"`: the model that merges whole trajectories into one."""

    model: str = Field(description="A key of [models].")
    temperature: float = Field(0.6, ge=0.0, le=5.0)
    top_p: float = Field(0.95, gt=0.0, le=1.0)
    max_tokens: int = Field(16_384, ge=1, description="Cap of its reply, in its own tokens.")
    prompt: str = Field(
        DEFAULT_INTEGRATION_PROMPT,
        description="What it is asked; must hold `{question}` and `{trajectories}` once, and ask for a JSON object of "
        "integrated_step1, integrated_step2, … and answer_part. Without answer_part it writes the answer afterwards.",
    )

    @field_validator("prompt")
    @classmethod
    def _holds_what_it_is_about(cls, value: str) -> str:
        for placeholder in ("{question}", "{trajectories}"):
            if value.count(placeholder) != 1:
                raise ValueError(f"must hold the placeholder {placeholder} exactly once")
        return value


class SearchConfig(_Section):
    """Beam search over steps (docs/what-is-computed.md#one-decoding-step) and its budgets, in tokens."""

    pipeline: Literal["cord", "greedy", "curation", "integration", "mcts", "sample"] = Field(
        "cord",
        description="`cord`: beam search over the steps of all teachers; `greedy`: `trajectories` chains side by side, "
        "each with a beam of one; `curation`: every teacher writes `trajectories` whole ones, the best wins; "
        "`integration`: the model of [integration] merges such trajectories into one; `mcts`: tree search by UCB with "
        "`trajectories` full rollouts; `sample`: every teacher writes `trajectories` whole ones, nothing is scored, "
        "and every one is answered and verified (evaluation).",
    )
    selection: Literal["predictive_perplexity", "random", "max_length", "reward_model", "binary_judgment"] = Field(
        "predictive_perplexity",
        description="By what candidates are ranked: how well they predict the answer, by lot, by their thinking "
        "tokens, by a process reward model ([reward]), or by how often the prover's model finds the answer from there "
        "([binary]). They are scored in any case.",
    )
    segmentation: Literal["prompted", "line_break", "phrases"] = Field(
        "prompted",
        description="What ends a step: `prompted`, the next `### Step k.` marker, of which the first is prefilled; "
        "`line_break`, a blank line; `phrases`, a sentence that opens with one of `phrases`, which begins the next "
        "step. The last two write no markers, in whole trajectories neither.",
    )
    phrases: list[str] = Field(
        list(PREFIX_PHRASES),
        min_length=1,
        max_length=1000,
        description="What ends a step before it (`phrases`), in any case, at the start of a sentence or line. "
        "`But wait` is another phrase than `wait`. By default the paper's phrases.",
    )
    finished: Literal["compete", "reserve", "first"] = Field(
        "compete",
        description="What finished trajectories do in `cord`: `compete` for the beam_width slots with the live ones; "
        "`reserve`, they leave the slots to the live ones, and the search ends with beam_width of them or when none is "
        "live; `first`, the search ends as soon as one is in the beam.",
    )
    length_normalisation: float = Field(
        0.0,
        ge=0.0,
        le=4.0,
        description="a: candidates are ranked by S ** (1 / steps ** a) instead of the score S, that is by log S over "
        "steps ** a, so that longer trajectories lose less by what each of their steps costs. 0 is the paper's; the "
        "score itself is stored as it is. Whole trajectories are one step.",
    )
    score_resolution: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Where candidates are ranked, their scores (with length_normalisation, what it makes of them) are "
        "rounded to a multiple of this, so that a smaller difference, which may be the prover's noise, does not "
        "decide. Of those that are tied then, the one with fewer steps, of the better parent, of the teacher that is "
        "named first is ahead. 0 is the paper's: every difference counts. The score itself is stored as it is. Without "
        "effect where something else than scores ranks (selection).",
    )
    diversity_teacher: float = Field(
        0.0,
        ge=0.0,
        description="What a trajectory's merit (by which it is ranked) loses, when the beam is filled, for every one "
        "already in it whose last step the same teacher wrote.",
    )
    diversity_text: float = Field(
        0.0,
        ge=0.0,
        description="The same, times the similarity of its step to the most like one of the step that is already in "
        "it: the share of 4-character pieces that both have, in [0, 1].",
    )
    trajectories: int = Field(
        4,
        ge=1,
        le=1024,
        description="Chains of `greedy`; of each teacher in `curation`, `integration`, `sample`; rollouts of `mcts`.",
    )
    exploration: float = Field(
        1.41,
        ge=0.0,
        le=1000.0,
        description="Weight of what is little known in the UCB of `mcts`: mean + exploration * sqrt(ln N / n). The "
        "default is UCB1's, the root of 2; 0 goes where the mean is highest.",
    )
    beam_width: int = Field(4, ge=1, le=1024, description="B: trajectories kept after every step (`cord`).")
    samples_per_teacher: int = Field(1, ge=1, le=1024, description="Proposals of each teacher per trajectory.")
    max_steps: int = Field(64, ge=1, le=10_000, description="Steps after which the trajectories are closed.")
    step_tokens: int = Field(2048, ge=4, description="Cap of one step, in the teacher's tokens.")
    thinking_tokens: int = Field(
        16_384, ge=8, description="Thinking budget, in the prover's tokens; in the teacher's where nothing is scored."
    )
    total_tokens: int | None = Field(
        None,
        ge=1,
        description="Budget of all proposals for one problem, losers and invalid ones included, in the teachers' own "
        "tokens; final answers and judgments are not counted. Once it is spent, the trajectories end where they are, "
        "as at max_steps: looked at after every step, so that one step's proposals at most go beyond it. For `cord`, "
        "`greedy` and `mcts`; the others propose everything at once. None by default.",
    )
    answer_tokens: int = Field(4096, ge=1, description="Cap of the final answer, in the teacher's tokens.")
    loop_ngram: int = Field(12, ge=1, description="Words that a repetition at a step's end counts as at least.")
    loop_repeats: int = Field(
        8,
        ge=2,
        description="Repeats of one sentence at a step's end that make it a loop, at least loop_ngram times as many "
        "words. Tables, matrices and digits need twice as much, and that the cap cut them; see docs/models.md.",
    )
    max_rounds: int = Field(
        3,
        ge=1,
        le=100,
        description="Tries of a step whose candidates are all invalid, and of a final answer that a content filter "
        "refuses, each with another seed.",
    )

    @field_validator("phrases")
    @classmethod
    def _usable_phrases(cls, value: list[str]) -> list[str]:
        for phrase in value:
            if not any(character.isalnum() for character in phrase) or len(phrase) > 200 or "\n" in phrase:
                raise ValueError(
                    f"{phrase!r:.80} is no phrase: each is one line of at most 200 characters with a letter"
                )
            if "think>" in phrase:
                raise ValueError(f"{phrase!r:.80} holds a think tag, which ends the thinking in any case")
        folded = [" ".join(phrase.casefold().split()) for phrase in value]
        twice = sorted({phrase for phrase in folded if folded.count(phrase) > 1})
        if twice:
            raise ValueError(f"phrases are compared without case; given twice: {', '.join(twice)}")
        return value

    @field_validator("score_resolution")
    @classmethod
    def _resolution_of_a_float(cls, value: float) -> float:
        if 0.0 < value < 1e-9:
            raise ValueError("score_resolution is 0 (off) or at least 1e-9: scores are not more exact than that")
        return value

    @model_validator(mode="after")
    def _options_of_their_search(self) -> Self:
        if self.length_normalisation and self.selection != "predictive_perplexity":
            raise ValueError(
                f'length_normalisation is about scores: it needs selection = "predictive_perplexity" (it is '
                f'"{self.selection}")'
            )
        if self.finished != "compete" and self.pipeline != "cord":
            raise ValueError(f'finished = "{self.finished}" needs pipeline = "cord" (it is "{self.pipeline}")')
        if self.total_tokens is not None and self.pipeline not in ("cord", "greedy", "mcts"):
            raise ValueError(
                'total_tokens is a budget of searches step by step: it needs pipeline = "cord", "greedy" or "mcts", as '
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


class RunSection(_Section):
    """How a run is carried out. Only `seed` and `date` decide what is generated."""

    seed: int = Field(0, ge=0, lt=2**63)
    date: datetime.date | None = Field(
        None,
        description="What chat templates take for today, such as 2025-01-31, on every machine and as long as the run "
        "takes. By default the day on which it is enqueued, stored with it; set it for the same text another day.",
    )
    max_active: int = Field(256, ge=1, description="Problems in flight at once.")
    priority: int = Field(
        0,
        ge=-1000,
        le=1000,
        description="Among runs that share a model, problems of the higher one begin first (cordctl priority RUN N).",
    )
    max_attempts: int = Field(
        5,
        ge=1,
        description="Technical tries of one piece of work before its problem is parked as failed: two beside others, "
        "the rest with nothing else in its worker; at least two are made.",
    )


class ToleranceConfig(_Section):
    """How far from the reference a number may lie: by the larger of the two."""

    relative: float = Field(0.001, ge=0.0, lt=1.0, description="Share of the reference, such as 0.01.")
    absolute: float = Field(0.0, ge=0.0, description="In the reference's own unit.")


class JudgeConfig(_Section):
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


class VerifyConfig(_Section):
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


class RunConfig(_Section):
    """cord.toml."""

    models: dict[str, ModelConfig]
    teachers: Annotated[list[TeacherConfig], Field(min_length=1)]
    prover: ProverConfig | None = Field(None, description="Needed but by `sample`, which leaves it alone.")
    search: SearchConfig = SearchConfig()
    verify: VerifyConfig = VerifyConfig()
    reward: RewardConfig | None = None
    binary: BinaryConfig = BinaryConfig()
    integration: IntegrationConfig | None = None
    run: RunSection = RunSection()

    @model_validator(mode="after")
    def _references_exist(self) -> Self:
        if not self.models:
            raise ValueError("[models] is empty: define at least one model")
        for name in self.models:
            _checked_name(name, "model name")
        for teacher in self.teachers:
            if teacher.model not in self.models:
                raise ValueError(_unknown_model(f"teachers.{teacher.name}.model names", teacher.model, self.models))
        if self.prover is None and self.is_scored:
            raise ValueError(
                f'[prover] is missing: pipeline = "{self.search.pipeline}" has it score the candidates (only "sample" '
                "does without)"
            )
        if self.prover is not None and self.prover.model not in self.models:
            raise ValueError(_unknown_model("prover.model names", self.prover.model, self.models))
        judge = self.verify.judge
        if judge is not None and judge.model not in self.models:
            raise ValueError(_unknown_model("verify.judge.model names", judge.model, self.models))
        names = [teacher.name for teacher in self.teachers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"teacher names must differ; given twice: {', '.join(twice)}")
        if self.search.selection == "binary_judgment" and self.verify.method == "judge":
            raise ValueError(
                'search.selection = "binary_judgment" compares many answers to every candidate, which no LLM judge is '
                "asked for: choose another verify.method, or select by predictive_perplexity"
            )
        self._check_integration(names)
        fingerprints: dict[str, str] = {}
        for name, model in self.models.items():
            other = fingerprints.setdefault(model.fingerprint(), name)
            if other != name:
                servers = (self.models[other].openai, model.openai)
                addresses = {server.base_url for server in servers if server is not None}
                differing = (
                    " (openai.base_url does not tell models apart, openai.model and path do)"
                    if len(addresses) > 1
                    else ""
                )
                raise ValueError(
                    f"models {other!r} and {name!r} are the same model{differing}: define it once and let several "
                    "teachers name it"
                )
        used = {writer.model for writer in self.all_teachers}
        used |= {part.model for part in (self.prover, judge) if part is not None}
        self._check_heads(used)
        used |= set() if self.reward is None else {self.reward.model}
        unused = sorted(set(self.models) - used)
        if unused:
            raise ValueError(f"models that nothing uses: {', '.join(unused)}")
        return self

    def _check_heads(self, writers: set[str]) -> None:
        """`writers` are the models that write and score, all but the reward model."""
        for name in sorted(writers):
            if self.models[name].head == "reward":
                raise ValueError(
                    f"model {name!r} has a reward head, so it can be neither teacher nor prover nor judge of answers: "
                    "name it in [reward] only"
                )
        selects = self.search.selection == "reward_model"
        if self.reward is None:
            if selects:
                raise ValueError('search.selection = "reward_model" needs a table [reward] that names its model')
            return
        if not selects:
            raise ValueError(
                '[reward] is given, but search.selection is not "reward_model": set it or remove the table'
            )
        if self.reward.model not in self.models:
            raise ValueError(_unknown_model("reward.model names", self.reward.model, self.models))
        if self.models[self.reward.model].head != "reward":
            raise ValueError(f'reward.model names {self.reward.model!r}, which lacks head = "reward" in its table')

    def _check_integration(self, names: list[str]) -> None:
        if self.integration is None:
            if self.search.pipeline == "integration":
                raise ValueError('search.pipeline = "integration" needs a table [integration] that names a model')
            return
        if self.search.pipeline != "integration":
            raise ValueError(
                f'[integration] is for search.pipeline = "integration" alone (it is "{self.search.pipeline}"): leave '
                "the table out"
            )
        if self.integration.model not in self.models:
            raise ValueError(_unknown_model("integration.model names", self.integration.model, self.models))
        if INTEGRATOR_NAME in names:
            raise ValueError(f"no teacher may be called {INTEGRATOR_NAME!r} beside an integrator: rename it")

    @property
    def all_teachers(self) -> list[TeacherConfig]:
        """The teachers, and the integrator after them as one more, where there is one."""
        if self.integration is None:
            return self.teachers
        integrator = self.integration.model_dump(include={"model", "temperature", "top_p"})
        return [*self.teachers, TeacherConfig(name=INTEGRATOR_NAME, **integrator)]

    def teacher_model(self, teacher: TeacherConfig) -> ModelConfig:
        """The model that hosts `teacher`."""
        return self.models[teacher.model]

    @property
    def is_scored(self) -> bool:
        """Whether candidates are scored; where not, a prover may be configured but is not used."""
        return self.search.pipeline != "sample"

    @property
    def required_prover(self) -> ProverConfig:
        """The prover. Raises ConfigError where nothing is scored."""
        if self.prover is None or not self.is_scored:
            raise ConfigError(f'there is no prover: pipeline = "{self.search.pipeline}" scores nothing')
        return self.prover

    @property
    def prover_model(self) -> ModelConfig:
        """The model that scores. Raises ConfigError where nothing is scored."""
        return self.models[self.required_prover.model]

    @property
    def served_models(self) -> dict[str, ModelConfig]:
        """The models that the run needs a worker of: all, but for an unused prover's own."""
        used = {writer.model for writer in self.all_teachers}
        if self.is_scored:
            used.add(self.required_prover.model)
            if self.reward is not None:
                used.add(self.reward.model)
        if self.verify.judge is not None:
            used.add(self.verify.judge.model)
        return {name: model for name, model in self.models.items() if name in used}

    @property
    def judge_model(self) -> ModelConfig | None:
        """The LLM that judges final answers; None where they are only compared."""
        return None if self.verify.judge is None else self.models[self.verify.judge.model]

    @property
    def selection_model(self) -> ModelConfig | None:
        """The model that judges candidates; None where judgments do not select."""
        if not self.is_scored:
            return None
        if self.reward is not None:
            return self.models[self.reward.model]
        return self.prover_model if self.search.selection == "binary_judgment" else None

    @property
    def prompt_date(self) -> datetime.date:
        """What chat templates take for today. Raises ConfigError where it was not taken from the run yet."""
        if self.run.date is None:
            raise ConfigError("the configuration has no date; it is stored with the run")
        return self.run.date

    def system_prompt(self, teacher: TeacherConfig) -> str | None:
        """System turn of `teacher`: its own, else its model's."""
        if teacher.system_prompt is not None:
            return teacher.system_prompt
        return self.models[teacher.model].system_prompt

    def fingerprint(self) -> str:
        """16 hex digits over everything that decides what is generated."""
        judging = self.search.selection == "binary_judgment"
        return _digest(
            {
                "integration": None if self.integration is None else self.integration.model_dump(mode="json"),
                "models": {name: model.identity() for name, model in self.served_models.items()},
                "teachers": [teacher.model_dump(mode="json") for teacher in self.teachers],
                "system_prompts": [self.system_prompt(writer) for writer in self.all_teachers],
                "prover": self.required_prover.model_dump(mode="json") if self.is_scored else None,
                "prover_system_prompt": self.prover_model.system_prompt if self.is_scored else None,
                "search": self._search_identity(),
                "seed": self.run.seed,
                **({} if self.run.date is None else {"date": self.run.date.isoformat()}),
                "verify": self._verify_identity(),
                "judge_system_prompt": None if self.judge_model is None else self.judge_model.system_prompt,
                **({"reward": self._reward_identity()} if self.reward is not None else {}),
                **({"binary": self.binary.model_dump(mode="json")} if judging else {}),
            }
        )

    def _search_identity(self) -> dict[str, Any]:
        return _where_set(self.search, self.search.model_dump(mode="json", exclude_none=True), "score_resolution")

    def _verify_identity(self) -> dict[str, Any]:
        return _where_set(self.verify, self.verify.model_dump(mode="json"), "ordered", "undecided")

    def _reward_identity(self) -> dict[str, Any]:
        assert self.reward is not None
        system_prompt = self.models[self.reward.model].system_prompt
        return {**self.reward.model_dump(mode="json"), "system_prompt": system_prompt}

    @classmethod
    def load(cls, path: Path) -> RunConfig:
        """Reads cord.toml; relative model folders are taken from its folder. Raises ConfigError."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file. Write one with: cordctl init --preset tiny > {path}") from None
        except IsADirectoryError:
            raise ConfigError(f"{path}: is a folder: name the cord.toml in it, such as {path / 'cord.toml'}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: is no text in UTF-8, so no cord.toml: was another file meant?") from None
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise ConfigError(f"{path}: cannot be read: {why}") from error
        return cls.parse(text, source=str(path), folder=path.resolve().parent)

    @classmethod
    def parse(cls, text: str, *, source: str, folder: Path) -> RunConfig:
        """Like `load`, from TOML text; `source` is named in errors."""
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{source}: not valid TOML: {error}{_other_kind_of_file(text)}") from error
        models = document.get("models")
        if isinstance(models, dict):
            for model in models.values():
                if isinstance(model, dict) and isinstance(model.get("path"), str):
                    model["path"] = _resolved_path(model["path"], folder)
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise ConfigError(_explained(error, source)) from None

    @classmethod
    def from_stored(cls, document: dict[str, Any]) -> RunConfig:
        """The configuration as a run's row holds it."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise ConfigError(_explained(error, "the stored configuration")) from None


class Settings(BaseSettings):
    """Environment settings (prefix CORD_): where the services are. Never stored, never logged."""

    model_config = SettingsConfigDict(env_prefix="CORD_", extra="ignore", frozen=True)

    database_url: str | None = Field(None, repr=False, description="SQLAlchemy URL of PostgreSQL.")
    broker_url: str | None = Field(None, repr=False, description="Celery broker URL.")
    state_dir: Path = Field(Path(".cord"), description="Folder of the embedded services.")
    key_prefix: str = Field("cord:", description="Prefix of every key in a shared Redis, of every queue in RabbitMQ.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    heartbeat_seconds: float = Field(3.0, gt=0)
    worker_timeout_seconds: float = Field(12.0, gt=0, description="Silence after which a worker counts as dead.")
    resend_seconds: float = Field(20.0, gt=0, description="Age after which unclaimed work is sent again.")
    sweep_seconds: float = Field(2.0, gt=0, description="Pause between two rounds of the sweeper.")
    grace_seconds: float = Field(20.0, gt=0, description="Time that running work gets at shutdown.")
    load_timeout_seconds: float = Field(
        1800.0, gt=0, description="Longest time in which a worker may load its model (not: wait for a server)."
    )
    ready_file: Path | None = Field(None, description="File that a process creates once it takes work.")
    help_seconds: float = Field(
        1.0, gt=0, description="Age at which work that waits for one replica of a model is taken over by an idle one."
    )
    stuck_seconds: float = Field(
        240.0,
        gt=0,
        description="Time after which a thread that is at the same piece of work counts as stuck: the two minutes for "
        "which PostgreSQL is waited for, and as much again.",
    )
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="Port of every process's Prometheus metrics; 0 takes any free one."
    )
    metrics_host: str = Field("127.0.0.1", description="Address that the metrics are served on.")

    @field_validator("database_url")
    @classmethod
    def _postgresql_only(cls, value: str | None) -> str | None:
        return None if value is None else checked_database_url(value)

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: str | None) -> str | None:
        return None if value is None else checked_broker_url(value)

    @classmethod
    def from_environment(cls) -> Settings:
        """Reads the CORD_ variables. Raises ConfigError without repeating any value; one that nothing reads is
        refused, because it is mostly one of these, misspelt."""
        known = {f"CORD_{name.upper()}" for name in cls.model_fields} | set(OTHER_VARIABLES)
        for name in sorted(os.environ):
            if name.startswith("CORD_") and name not in known and not name.startswith(_TEST_VARIABLES):
                near = did_you_mean(name, known, least=_MISSPELT)
                if near:
                    raise ConfigError(f"environment: nothing reads {name}:{near} Correct or unset it")
        try:
            return cls()
        except ValidationError as error:
            lines = []
            for item in error.errors():
                name = f"CORD_{'_'.join(str(part) for part in item['loc']).upper()}"
                lines.append(f"{name}: {item['msg'].removeprefix('Value error, ')}")
            raise ConfigError("environment: " + "; ".join(lines)) from None


def model_location(path: str) -> str:
    """Folder of a bundled model, else `path` as it is. Raises ConfigError for an unknown bundled name."""
    if not path.startswith(BUNDLED_PREFIX):
        return path
    folder = Path(__file__).resolve().parent / "demo" / "models"
    name = path.removeprefix(BUNDLED_PREFIX)
    known = sorted(found.parent.name for found in folder.glob("*/config.json"))
    if name not in known:
        raise ConfigError(unknown("bundled model", name, known))
    return str(folder / name)


def fingerprint_of(identity: dict[str, Any]) -> str:
    """Fingerprint of the model with this stored identity."""
    return _digest(identity)


def _digest(document: Any) -> str:
    canonical = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _where_set(table: BaseModel, document: dict[str, Any], *names: str) -> dict[str, Any]:
    """`document` without these options of `table` that are at their default: they came later, and runs of older
    versions keep their fingerprints."""
    fields = type(table).model_fields
    unset = {name for name in names if getattr(table, name) == fields[name].default}
    return {name: value for name, value in document.items() if name not in unset}


def _checked_name(value: str, what: str) -> str:
    if not NAME_PATTERN.match(value):
        raise ValueError(f"{what} {value!r} may hold letters, digits, '_', '.' and '-' only, at most 63")
    return value


def _other_kind_of_file(text: str) -> str:
    """What to say of a text that was taken for a cord.toml and is plainly something else."""
    begins = text.lstrip("\ufeff \t\r\n")[:1]
    if begins == "{" or (begins == "[" and text.lstrip()[1:2] in {"{", "\n", "\r"}):
        return ". It looks like JSON: is it a dataset? --config takes a cord.toml (cordctl init prints one)"
    return ""


def _unknown_model(who: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = did_you_mean(name, names)
    return f"{who} {name!r}, which is not in [models]{':' if near else '.'}{near} There are: {', '.join(names)}"


def _resolved_path(path: str, folder: Path) -> str:
    if path.startswith(BUNDLED_PREFIX):
        return path
    candidate = Path(path).expanduser()
    if not candidate.is_absolute() and (path.startswith(("./", "../")) or (folder / candidate).is_dir()):
        candidate = folder / candidate
    return str(candidate.resolve()) if candidate.is_absolute() else path


_PLAIN = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text, in quotes",
    "list_type": "must be a list: [ … ]",
    "tuple_type": "must be a list: [ … ]",
    "dict_type": "must be a table of keys and values",
    "model_type": "must be a table of keys and values",
    "model_attributes_type": "must be a table of keys and values",
}
"""What the validator says in a programmer's words, in plain ones."""


def _explained(error: ValidationError, source: str) -> str:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            allowed = _allowed_keys(item["loc"])
            near = did_you_mean(str(item["loc"][-1]), allowed)
            message = f"unknown key{':' if near else '.'}{near} Allowed here: {', '.join(allowed)}"
        elif item["type"] == "missing":
            message = "is missing"
        elif item["type"] == "literal_error":
            allowed = re.findall(r"'([^']+)'", message)
            message = f"{message} (got {item['input']!r:.80})"
            if near := did_you_mean(str(item["input"]), allowed):
                message += f";{near}"
        elif item["type"] not in {"value_error"}:
            message = f"{_PLAIN.get(item['type'], message)} (got {item['input']!r:.80})"
        lines.append(": ".join(part for part in (source, key, message) if part))
    return "\n".join(lines)


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = RunConfig
    named: dict[str, type[BaseModel]] = {
        "models": ModelConfig,
        "teachers": TeacherConfig,
        "prover": ProverConfig,
        "search": SearchConfig,
        "verify": VerifyConfig,
        "reward": RewardConfig,
        "binary": BinaryConfig,
        "integration": IntegrationConfig,
        "run": RunSection,
    }
    nested: dict[str, type[BaseModel]] = {"vllm": VllmOptions, "openai": OpenAiOptions}
    if len(location) > 1:
        section = named.get(str(location[0]), RunConfig)
    if len(location) > 2 and section is VerifyConfig:
        inner: dict[str, type[BaseModel]] = {"tolerance": ToleranceConfig, "judge": JudgeConfig}
        section = inner.get(str(location[1]), section)
    if len(location) > 3 and section is ModelConfig:
        section = nested.get(str(location[2]), section)
    return list(section.model_fields)
