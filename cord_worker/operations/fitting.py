"""Checks whether the problems of a dataset fit the contexts of a configuration's models; needs only their tokenizers.

A problem fits if its first turn (chat template, system turn, passage, question) leaves room for a step and for the end.
The end is the text after the trajectory. For a teacher it is the final answer (`search.answer_tokens`) with its
opening; for the prover it is the closing part with the known answer. If the room is smaller than
`search.thinking_tokens`, the problem fits, but its thinking may be cut.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cord_worker.config import ModelConfig, RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.display_text import counted
from cord_worker.engines.context_length import own_context
from cord_worker.engines.needed_packages import require_tokenizers
from cord_worker.errors import ConfigError, CordError
from cord_worker.local import limits

if TYPE_CHECKING:
    from cord_worker.engines.text_codec import TextCodec
    from cord_worker.prompting.trajectory import Segmentation

_MOST_NAMED = 5
"""Maximum number of problems that are named of those that do not fit."""
_LEAST_STEP = 16
"""There is room for a step, with its marker, if more tokens than this are left."""


@dataclass(frozen=True, slots=True)
class TooLong:
    """A problem that does not fit; `prompt` and `end` are the tokens of its first turn and of the end."""

    location: str
    key: str
    prompt: int
    end: int


@dataclass(slots=True)
class Fit:
    """The fit of a dataset to one model in one role; sizes are in tokens.

    `overhead` is the first turn without question and passage; `thinking` the thinking budget; `end` and `least_end` the
    longest and the shortest end. `longest` is the longest question with its passage, at the location `longest_at`.
    `misfit_count` problems do not fit; `misfits` are the first few of them. `cut_count` problems fit, but leave less
    room than the thinking budget.
    """

    role: str
    model: str
    context: int
    overhead: int
    thinking: int
    end: int
    least_end: int = 0
    longest: int = 0
    longest_at: str = ""
    misfit_count: int = 0
    cut_count: int = 0
    misfits: list[TooLong] = field(default_factory=list)

    @property
    def room(self) -> int:
        """Tokens that are left for question and passage next to the whole thinking budget and the longest end; negative
        if these two are too large."""
        return self.context - self.overhead - self.thinking - self.end

    @property
    def end_name(self) -> str:
        """The name of the end, for people."""
        return "closing part" if self.role == "prover" else "answer with its opening"

    @property
    def has_room(self) -> bool:
        """Whether the whole thinking budget and the shortest end leave room for a question."""
        return self.context - self.overhead - self.thinking - self.least_end > 0

    @property
    def holds_a_step(self) -> bool:
        """Whether a step and the end fit with an empty question."""
        return self.fits(self.overhead, self.least_end)

    def fits(self, prompt: int, end: int) -> bool:
        """Whether a first turn of `prompt` tokens leaves room for a step and an end of `end` tokens."""
        return self.context - prompt - end > _LEAST_STEP

    @property
    def shortage(self) -> str:
        """The consequence of a lack of room, and what to do; empty if there is room."""
        if self.has_room:
            return ""
        has_answers = self.role != "prover"
        if not self.holds_a_step:
            advice = "lower search.answer_tokens or raise" if has_answers else "raise"
            return f"there is no room for a single step: {advice} max_model_len"
        return (
            f"thinking ends where the context is full, before search.thinking_tokens = {self.thinking:,} is used up: "
            f"lower it{' or search.answer_tokens' if has_answers else ''}, or raise max_model_len"
        )

    @property
    def budget(self) -> str:
        """How the tokens of the context are divided, as a sum in words."""
        taken = f"context {counted(self.context, 'token')} - {self.overhead:,} of the template"
        end = f" - {self.end:,} {self.end_name}"
        if self.has_room:
            return f"{taken} - {self.thinking:,} thinking{end} = {max(0, self.room):,} left for the question"
        left = self.context - self.overhead - self.end
        return f"{taken}{end} = {max(0, left):,} left for question and thinking"

    def line(self) -> str:
        """The whole result, for people."""
        parts = [f"{self.role} (model {self.model!r}): {self.budget}"]
        parts += [self.shortage] if self.shortage else []
        parts += [f"the longest takes {self.longest:,} ({self.longest_at})"] if self.longest_at else []
        if self.misfit_count:
            parts += [f"{self.misfit_count:,} {'does' if self.misfit_count == 1 else 'do'} not fit"]
        if self.cut_count and self.has_room:
            leave = f"{'fits, but leaves' if self.cut_count == 1 else 'fit, but leave'} less room"
            parts += [f"{self.cut_count:,} {leave} than search.thinking_tokens = {self.thinking:,}"]
        if not self.misfit_count and not self.cut_count:
            parts += ["all fit"]
        elif not self.misfit_count and not self.has_room:
            parts += ["all leave room for a step"]
        return "; ".join(parts)

    def misfit_lines(self) -> list[str]:
        """The first problems that do not fit, for people."""
        lines = [
            f"{found.location}: id {found.key!r} does not fit {self.role} (model {self.model!r}): {found.prompt:,} "
            f"prompt + {found.end:,} {self.end_name} = {found.prompt + found.end:,} tokens leave no room for a step "
            f"(more than {_LEAST_STEP}) in a context of {self.context:,}"
            for found in self.misfits
        ]
        more = self.misfit_count - len(lines)
        return [*lines, f"… and {more:,} more"] if more > 0 else lines

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "role": self.role,
            "model": self.model,
            "context": self.context,
            "template": self.overhead,
            "thinking": self.thinking,
            "end": self.end,
            "room": self.room,
            "longest": self.longest,
            "longest_at": self.longest_at or None,
            "too_long": self.misfit_count,
            "cut_short": self.cut_count,
            "first": [{"location": one.location, "id": one.key, "prompt": one.prompt} for one in self.misfits],
        }


class ContextCheck:
    """Counts the tokens of every problem for each teacher and the prover. `skipped` names the models that could not be
    checked, and why."""

    def __init__(self, config: RunConfig) -> None:
        """Loads tokenizers, never weights; models whose files are not on this machine are skipped."""
        from cord_worker.engines.protocol import Turn
        from cord_worker.prompting.trajectory import Segmentation

        self.skipped: list[str] = []
        self._turn_class = Turn
        self._segmentation: Segmentation = Segmentation.of(config.search.segmentation, config.search.phrases)
        self._models: dict[str, tuple[TextCodec, int] | None] = {}
        self._measured: list[tuple[Fit, TextCodec, str | None, Callable[[ProblemRecord], int]]] = []
        search = config.search
        for teacher in config.teachers:
            found = self._load(teacher.model, config.models[teacher.model])
            if found is not None:
                role, system = f"teacher {teacher.name}", config.system_prompt(teacher)
                # The tokens that engines/room_in_context.py keeps free.
                kept = search.answer_tokens + found[0].answer_opening_tokens

                def after_thinking(_: ProblemRecord, kept: int = kept) -> int:
                    return kept

                self._add(role, teacher.model, found, system, search.thinking_tokens, after_thinking)
        if config.is_scored:
            prover = config.required_prover
            found = self._load(prover.model, config.prover_model)
            if found is not None:
                codec = found[0]

                def closing(record: ProblemRecord) -> int:
                    return len(codec.closing(prover.scoring_template, record.answer).ids)

                self._add("prover", prover.model, found, None, search.thinking_tokens, closing)

    @property
    def fits(self) -> list[Fit]:
        """The result for each teacher and the prover."""
        return [fit for fit, *_ in self._measured]

    def measure(self, record: ProblemRecord) -> None:
        """Counts one problem. Raises RequestError if a chat template cannot be rendered."""
        for fit, codec, system, end_of in self._measured:
            prompt, end = self._prompt(codec, record.question, record.passage, system), end_of(record)
            fit.end = max(fit.end, end)
            if prompt - fit.overhead > fit.longest:
                fit.longest, fit.longest_at = prompt - fit.overhead, record.location
            if not fit.fits(prompt, end):
                fit.misfit_count += 1
                if len(fit.misfits) < _MOST_NAMED:
                    fit.misfits.append(TooLong(record.location, record.key, prompt, end))
            elif prompt + fit.thinking + end > fit.context:
                fit.cut_count += 1

    def _add(
        self,
        role: str,
        name: str,
        found: tuple[TextCodec, int],
        system: str | None,
        thinking: int,
        end_of: Callable[[ProblemRecord], int],
    ) -> None:
        codec, context = found
        # The question "x" counts as one token.
        overhead = self._prompt(codec, "x", None, system) - 1
        end = end_of(ProblemRecord("", "x", "x", None, {}, ""))
        self._measured.append((Fit(role, name, context, overhead, thinking, end, least_end=end), codec, system, end_of))

    def _prompt(self, codec: TextCodec, question: str, passage: str | None, system: str | None) -> int:
        turn = self._turn_class(question=question, system=system, passage=passage, segmentation=self._segmentation)
        return sum(map(len, codec.proposal(turn, [])))

    def _load(self, name: str, model: ModelConfig) -> tuple[TextCodec, int] | None:
        if name not in self._models:
            try:
                self._models[name] = _tokenizer_and_context(model)
            except CordError as error:
                self.skipped.append(f"model {name!r}: {error}")
                self._models[name] = None
        return self._models[name]


def _tokenizer_and_context(model: ModelConfig) -> tuple[TextCodec, int]:
    if model.engine == "instant":
        raise CordError("the instant engine has no context")
    location = model.location()
    if not Path(location).is_dir():
        raise CordError(f"{location} is not a folder on this machine, so its tokenizer is not loaded")
    if (shortage := limits.memory_shortage([limits.WORKER])) is not None:
        raise CordError(f"its tokenizer is not loaded: {shortage}")
    require_tokenizers()
    from cord_worker.engines.context_length import max_length_of
    from cord_worker.engines.settings import EngineSettings
    from cord_worker.engines.tokenizer import load_server_tokenizer

    settings = EngineSettings.of(model)
    tokenizer = load_server_tokenizer(settings)
    if tokenizer is None:
        raise CordError(f"{location} holds no tokenizer")
    if model.engine == "openai" and model.max_model_len is not None:
        return tokenizer.codec, model.max_model_len
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(location, **settings.loading_options())
    except Exception as error:  # transformers and remote code raise whatever they like
        raise CordError(f"the configuration in {location} could not be read ({type(error).__name__})") from error
    return tokenizer.codec, max_length_of(settings, config.get_text_config())


def room_remarks(config: RunConfig) -> list[str]:
    """Remarks on models whose declared context is too short for the budgets.

    It is quick, because it loads no tokenizer. So it does not count the tokens of questions; `ContextCheck` does.
    Raises ConfigError if a context has no room for a step and the final answer.
    """
    search, remarks = config.search, []
    readers = [(f"teacher {one.name!r}", one.model, search.answer_tokens) for one in config.teachers]
    readers += [("the prover", config.required_prover.model, 0)] if config.is_scored else []
    for role, name, end in readers:
        context = declared_context(config.models[name])
        if context is None:
            continue
        kept = f"; {end:,} are kept for the final answer (search.answer_tokens)" if end else ""
        facts = f"{role}: the context of model {name!r} holds {counted(context, 'token')}"
        if context - end <= _LEAST_STEP:
            raise ConfigError(
                f"{facts}, which leaves no room for a step{kept}. "
                f"{'Lower search.answer_tokens or raise' if end else 'Raise'} max_model_len"
            )
        if context < search.thinking_tokens + end:
            remarks.append(
                f"{facts}: question and thinking share {counted(context - end, 'token')} of it, so thinking ends "
                f"before search.thinking_tokens = {search.thinking_tokens:,} is used up{kept}"
            )
    return remarks


def declared_context(model: ModelConfig) -> int | None:
    """The context in tokens: the configuration's, else that of the config.json in the model's folder; None if neither
    gives one."""
    if model.engine == "instant":
        return None
    own = None
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((Path(model.location()) / "config.json").read_text(encoding="utf-8"))
        inner = found.get("text_config") if isinstance(found, dict) else None
        for document in (inner, found):
            if isinstance(document, dict) and own is None:
                own = own_context(document.get)
    return model.max_model_len or own
