"""`cordctl bench scoring`: how much faster the prefix cache makes scores, by the length of the prefix."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cord_worker.bench.direct import DirectEngine, direct_engine
from cord_worker.bench.report import Figure, Report, check_rounds, quotients
from cord_worker.config import RunConfig
from cord_worker.engines.protocol import Turn
from cord_worker.errors import ConfigError

_WORDS = (
    "we",
    "add",
    "the",
    "apples",
    "of",
    "each",
    "box",
    "then",
    "divide",
    "by",
    "two",
    "so",
    "that",
    "half",
    "stay",
)
_QUESTION = "Four boxes hold 17 apples each and 19 apples are sold. How many apples are left?"
_ANSWER = "The 49 apples that are left"
_STEP_WORDS = 40
_COMPARED_AT = 2000
"""`cached_over_uncached` is measured at the length nearest to this number of tokens."""
_FLAT_FROM, _FLAT_TO = 500, 3500
"""`flatness` compares the lengths nearest to these numbers of tokens."""


@dataclass(frozen=True, slots=True)
class ScoringBench:
    """The parameters of the measurement: the prover of `config`, at prefixes of these lengths in its own tokens."""

    config: RunConfig
    config_path: Path
    lengths: Sequence[int] = (500, 1000, 2000, 3500)
    rounds: int = 3
    reference: bool = False


@dataclass(slots=True)
class _AtLength:
    """The results at one length of the prefix, a value for each round. `cached` and `uncached` are seconds of a score.
    `differences` are between the cached score and the uncached one, `repeats` between two cached scores, `to_reference`
    between the cached score and the reference's. `hits` are shares of the prompt that came from the cache."""

    tokens: int
    cached: list[float] = field(default_factory=list)
    uncached: list[float] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)
    repeats: list[float] = field(default_factory=list)
    to_reference: list[float] = field(default_factory=list)
    hits: list[float] = field(default_factory=list)


def measure(bench: ScoringBench, folder: Path, say: Callable[[str], None]) -> Report:
    """Runs the measurement; `folder` gets the engine's log. Raises ConfigError, EngineError, RequestError."""
    check_rounds(bench.rounds)
    if bench.config.prover_model.engine == "instant":
        raise ConfigError("the instant engine has no prefix cache, so there is nothing to measure; name another prover")
    return asyncio.run(_measure(bench, folder, say))


async def _measure(bench: ScoringBench, folder: Path, say: Callable[[str], None]) -> Report:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(_engine_of(bench, folder, reference=False))
        about = await engine.ask("describe")
        reference = (
            await stack.enter_async_context(_engine_of(bench, folder, reference=True)) if bench.reference else None
        )
        most = about["max_model_len"]
        # The first score also compiles and allocates, so it is not measured.
        await _ask_score(engine, bench, ["It begins.", "It ends."])
        found = []
        for length in sorted(set(bench.lengths)):
            if most is not None and length + 128 > most:
                say(f"{length} tokens: left out, the context holds {most}")
                continue
            found.append(await _measure_at_length(bench, engine, reference, length, say))
    if not found:
        raise ConfigError(f"no prefix length fits the prover's context of {most} tokens: give shorter --lengths")
    return _report(bench, found, str(about["scoring_mode"]))


def _engine_of(bench: ScoringBench, folder: Path, *, reference: bool) -> Any:
    log = folder / "logs" / ("reference.log" if reference else "engine.log")
    return direct_engine(bench.config, bench.config_path, bench.config.required_prover.model, log, reference=reference)


async def _measure_at_length(
    bench: ScoringBench, engine: DirectEngine, reference: DirectEngine | None, length: int, say: Callable[[str], None]
) -> _AtLength:
    at = _AtLength(0)
    for number in range(bench.rounds):
        randomness = random.Random(f"{length} {number}")
        prefix = await _random_prefix(bench, engine, randomness, length)
        first, second = _sibling(randomness), _sibling(randomness)
        # A sibling's score puts the prefix into the cache, as a proposal or another teacher's candidate does in a run.
        await _ask_score(engine, bench, [*prefix, first])
        cached = await _ask_score(engine, bench, [*prefix, second])
        again = await _ask_score(engine, bench, [*prefix, second])
        plain = await _ask_score(engine, bench, [*prefix, second], kind="score_uncached")
        at.tokens = cached["prompt_tokens"]
        at.cached.append(cached["seconds"])
        at.uncached.append(plain["seconds"])
        at.hits.append(cached["cached_tokens"] / cached["prompt_tokens"])
        at.differences.append(abs(cached["score"] - plain["score"]))
        at.repeats.append(abs(cached["score"] - again["score"]))
        if reference is not None:
            true = await _ask_score(reference, bench, [*prefix, second])
            at.to_reference.append(abs(cached["score"] - true["score"]))
    say(
        f"{at.tokens} tokens: cached {statistics.median(at.cached):.3f} s, uncached "
        f"{statistics.median(at.uncached):.3f} s, {statistics.median(at.hits):.0%} of the prompt cached"
    )
    return at


async def _random_prefix(
    bench: ScoringBench, engine: DirectEngine, randomness: random.Random, length: int
) -> list[str]:
    """Steps of random words, so many that their prompt has about `length` tokens of the prover."""

    def step() -> str:
        return f" {' '.join(randomness.choices(_WORDS, k=_STEP_WORDS))}."

    one = (await _ask_score(engine, bench, [step()]))["prompt_tokens"]
    two = (await _ask_score(engine, bench, [step(), step()]))["prompt_tokens"]
    each = max(1, two - one)
    # The prompt also has the question and closing part (`one - each`) and the sibling's own step (a third as long).
    return [step() for _ in range(max(1, round((length - (one - each) - each / 3) / each)))]


def _sibling(randomness: random.Random) -> str:
    return f" {' '.join(randomness.choices(_WORDS, k=12))} {randomness.randint(100, 999)}."


async def _ask_score(
    engine: DirectEngine, bench: ScoringBench, steps: Sequence[str], kind: str = "score"
) -> dict[str, Any]:
    turn = Turn(_QUESTION, bench.config.prover_model.system_prompt)
    template = bench.config.required_prover.scoring_template
    fields = {**asdict(turn), "date": turn.date.isoformat()}
    return await engine.ask(kind, turn=fields, steps=list(steps), answer=_ANSWER, template=template)


def _report(bench: ScoringBench, found: Sequence[_AtLength], mode: str) -> Report:
    figures: list[Figure] = []
    for at in found:
        name = f"{at.tokens} tokens"
        figures.append(Figure(f"{name}: cached", tuple(at.cached), "s", 4))
        figures.append(Figure(f"{name}: uncached", tuple(at.uncached), "s", 4))
        figures.append(Figure(f"{name}: uncached / cached", quotients(at.uncached, at.cached), "", 1))
    compared = min(found, key=lambda at: abs(at.tokens - _COMPARED_AT))
    shortest = min(found, key=lambda at: abs(at.tokens - _FLAT_FROM))
    longest = min(found, key=lambda at: abs(at.tokens - _FLAT_TO))
    to_reference = [value for at in found for value in at.to_reference]
    keys = {
        "rounds": bench.rounds,
        "scoring_mode": mode,
        "cached_over_uncached": statistics.median(quotients(compared.uncached, compared.cached)),
        "compared_at_tokens": compared.tokens,
        "flatness": statistics.median(longest.cached) / statistics.median(shortest.cached),
        "flatness_tokens": [shortest.tokens, longest.tokens],
        "max_abs_difference": max(value for at in found for value in (*at.differences, *at.to_reference)),
        "max_difference_uncached": max(value for at in found for value in at.differences),
        "max_difference_reference": max(to_reference) if to_reference else None,
        "repeat_difference": max(value for at in found for value in at.repeats),
    }
    notes = (
        "a score after a sibling's score of the same prefix (cached) against the same score with everything computed "
        "(uncached: what vLLM's prompt_logprobs does by default)",
        "cached_over_uncached is how many times faster the cached score is (uncached seconds / cached seconds) at the "
        f"length nearest to {_COMPARED_AT} tokens; flatness is cached seconds at the length nearest to {_FLAT_TO} over "
        f"those nearest to {_FLAT_FROM}; differences are of scores, which lie in (0, 1]",
    )
    return Report("scoring", figures, keys, notes)
