"""`cordctl bench engine`: the service against its engine alone, with the same requests without Celery, Redis and
PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from cord_worker.bench.direct import DirectEngine, direct_engine
from cord_worker.bench.fleet import Fleet, running_fleet
from cord_worker.bench.ideal_cache import CacheRequest, CacheUse, cache_use
from cord_worker.bench.repeated_requests import RecordedRequests, Repetition, RepetitionResult
from cord_worker.bench.report import Figure, Report, check_rounds, quotients
from cord_worker.bench.workspace import Workspace
from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.engines.settings import EngineSettings
from cord_worker.errors import ConfigError, LocalServiceError
from cord_worker.operations.enqueue import DatasetSource
from cord_worker.store.reports.measurements import answer_requests, candidate_requests, pace_of
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.runs.runs import resolve_run

if TYPE_CHECKING:
    from cord_worker.engines.text_codec import TextCodec

_PATIENCE_SECONDS = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class EngineBench:
    """The parameters of the measurement.

    Each round uses `problems` new problems; `warm_up` more come first and are not measured.
    """

    source: DatasetSource
    config: RunConfig
    config_path: Path
    problems: int = 8
    rounds: int = 3
    warm_up: int = 1


def measure(bench: EngineBench, workspace: Workspace, say: Callable[[str], None]) -> Report:
    """Runs the measurement; `say` receives the result of each round.

    Raises ConfigError for too few rounds or problems, or for a run whose requests it cannot repeat; LocalServiceError
    if a process of the service ended early or a run took too long; EngineError if an engine does not start, or ends.
    """
    check_rounds(bench.rounds)
    if bench.config.search.pipeline not in {"cord", "greedy"}:
        raise ConfigError('bench engine repeats steps: set search.pipeline = "cord" or "greedy" in cord.toml')
    if bench.config.verify.judge is not None:
        raise ConfigError("bench engine repeats no verdicts: leave the table [verify.judge] out of cord.toml")
    if bench.config.selection_model is not None:
        raise ConfigError(
            f"bench engine repeats no selection judgments, which search.selection = {bench.config.search.selection!r} "
            "needs: set it to 'predictive_perplexity', 'random' or 'max_length' in cord.toml"
        )
    needed = bench.warm_up + bench.rounds * bench.problems
    records = [record for record in islice(bench.source.records(), needed) if isinstance(record, ProblemRecord)]
    if len(records) < needed:
        raise ConfigError(
            f"{bench.source.path} holds {len(records)} good problems among its first {needed}; {bench.rounds} rounds "
            f"of {bench.problems} and {bench.warm_up} to warm up need {needed}. Give fewer with --problems."
        )
    return asyncio.run(_measure(bench, records, workspace, say))


async def _measure(
    bench: EngineBench, records: Sequence[ProblemRecord], workspace: Workspace, say: Callable[[str], None]
) -> Report:
    config = bench.config
    service: list[float] = []
    direct: list[float] = []
    rounds: list[RecordedRequests] = []
    differences: list[float] = []
    async with AsyncExitStack() as stack:
        # Loaded before anything is measured, so that a tokenizer that cannot be loaded is noticed at once.
        codecs = {name: codec for name in config.models if (codec := _codec_of(config, name)) is not None}
        say("loading the engines without the service")
        engines = await _engines(bench, workspace, stack)
        block_tokens = {name: (await replicas[0].ask("describe"))["block_tokens"] for name, replicas in engines.items()}
        say("starting the service")
        with running_fleet(workspace, config, bench.config_path) as fleet:
            begin = 0
            for number in range(bench.rounds + 1):
                count = bench.problems if number else bench.warm_up
                if not count:
                    continue
                batch = records[begin : begin + count]
                begin += count
                recorded, seconds = _serve(workspace, fleet, config, f"round-{number}", batch)
                rounds.append(recorded)
                repeated = await Repetition(recorded, engines).run()
                if not number:
                    continue
                service.append(recorded.tokens / seconds)
                direct.append(repeated.tokens / repeated.seconds)
                differences.append(_largest_difference(recorded, repeated))
                say(
                    f"round {number}: service {service[-1]:.0f} tokens/s ({recorded.tokens} in {seconds:.1f} s), "
                    f"engine alone {direct[-1]:.0f} ({repeated.tokens} in {repeated.seconds:.1f} s), "
                    f"ratio {service[-1] / direct[-1]:.3f}"
                )
    ratios = quotients(service, direct)
    uses = _cache_uses(rounds, 1 if bench.warm_up else 0, block_tokens, codecs)
    figures = (
        Figure("service", tuple(service), "tokens/s"),
        Figure("engine alone", tuple(direct), "tokens/s"),
        Figure("service / engine alone", ratios, "", 3),
        Figure("largest difference of a score", tuple(differences), "", 6),
        *(
            Figure(f"{kind} of {model}: cached / ideal", (use.ratio,), "", 3)
            for (model, kind), use in uses.items()
            if use.ratio is not None
        ),
    )
    keys = {
        "rounds": bench.rounds,
        "problems": bench.problems,
        "max_active": config.run.max_active,
        "service_tokens_per_second": figures[0].median,
        "direct_tokens_per_second": figures[1].median,
        "service_over_engine": figures[2].median,
        "teacher_cached_over_ideal": _ratio(uses, "propose"),
        "prover_cached_over_ideal": _ratio(uses, "score"),
        "block_tokens": block_tokens,
        "cache": {
            f"{model}:{kind}": {"prompt_tokens": use.prompt_tokens, "cached": use.cached, "ideal": use.ideal}
            for (model, kind), use in uses.items()
        },
    }
    notes = (
        f"{bench.problems} problems a round, {config.run.max_active} active at most; generated tokens (steps and final "
        "answers) by wall time: of the service from the first admission to the last final problem (tables), of the "
        "engine alone from the first request to the last result",
        "each round has new problems, so that both get prompts that they have not seen; the service first, "
        "because the engine alone gets the requests of the service; both stay loaded; "
        f"{bench.warm_up} problem(s) before that do not count",
        "cached / ideal: prompt tokens that the engine took from its cache over what an unbounded cache of its block "
        "size could have served over the same requests in the order of their starts",
    )
    return Report("engine", figures, keys, notes)


async def _engines(
    bench: EngineBench, workspace: Workspace, stack: AsyncExitStack
) -> Mapping[str, Sequence[DirectEngine]]:
    engines: dict[str, list[DirectEngine]] = {}
    for name, model in bench.config.models.items():
        for number in range(model.workers):
            log = workspace.folder / "logs" / f"direct-{name}-{number}.log"
            opened = direct_engine(bench.config, bench.config_path, name, log)
            engines.setdefault(name, []).append(await stack.enter_async_context(opened))
    return engines


def _serve(
    workspace: Workspace, fleet: Fleet, config: RunConfig, run: str, records: Sequence[ProblemRecord]
) -> tuple[RecordedRequests, float]:
    """Runs these problems to the end on the service. Returns its requests to the models, and its time in seconds."""
    report = workspace.database.run(lambda connection: enqueue(connection, run, config, records))

    def done() -> bool:
        pace = workspace.database.run(lambda connection: pace_of(connection, report.run_id))
        return pace.final == pace.problems

    fleet.wait_until(done, f"the run {run}", _PATIENCE_SECONDS)
    pace = workspace.database.run(lambda connection: pace_of(connection, report.run_id))
    candidates = workspace.database.run(lambda connection: candidate_requests(connection, report.run_id))
    answers = workspace.database.run(lambda connection: answer_requests(connection, report.run_id))
    if not candidates or not pace.seconds:
        raise LocalServiceError(f"the run {run} sent no request to a model; nothing was measured")
    today = workspace.database.run(lambda connection: resolve_run(connection, run)).prompt_date
    return RecordedRequests(config, candidates, answers, today), pace.seconds


def _largest_difference(recorded: RecordedRequests, repeated: RepetitionResult) -> float:
    """Largest difference between the scores that the service stored and those of the engine alone."""
    differences = [
        abs(row.score - repeated.scores[row.candidate_id])
        for row in recorded.candidates
        if row.score is not None and row.candidate_id in repeated.scores
    ]
    return max(differences, default=0.0)


def _ratio(uses: Mapping[tuple[str, str], CacheUse], kind: str) -> float | None:
    """Cached over ideal prompt tokens of this kind of request, over all models; None if it is not known."""
    chosen = [use for (_, used_for), use in uses.items() if used_for == kind]
    ideal = sum(use.ideal for use in chosen)
    return sum(use.cached for use in chosen) / ideal if ideal else None


def _cache_uses(
    rounds: Sequence[RecordedRequests], uncounted: int, block_tokens: Mapping[str, int], codecs: Mapping[str, TextCodec]
) -> dict[tuple[str, str], CacheUse]:
    """Cache use by (model, kind of request). Requests of the first `uncounted` rounds only fill the ideal cache."""
    uses: dict[tuple[str, str], CacheUse] = {}
    for name, codec in codecs.items():
        requests = _cache_requests(name, codec, rounds, uncounted)
        for kind, use in cache_use(requests, block_tokens[name]).items():
            uses[name, kind] = use
    return uses


def _codec_of(config: RunConfig, name: str) -> TextCodec | None:
    """The codec of the model's engine; None if its ideal cache use cannot be computed.

    That is so for several replicas, because each has its own cache and the rows do not say which one was used. It is
    also so for instant engines, which have no cache, and for servers, whose caches are not known.
    """
    model = config.models[name]
    if model.engine in {"instant", "openai"} or model.workers > 1:
        return None
    from transformers import AutoTokenizer

    from cord_worker.engines import loading
    from cord_worker.engines.text_codec import TextCodec

    settings = EngineSettings.of(model)
    folder = loading.folder_of(settings)
    if model.engine == "vllm" and model.gguf_file is not None:
        from cord_worker.engines.vllm.gguf import unpacked

        folder = unpacked(settings, folder, loading.weights_digest_of(folder, model.gguf_file))
        return TextCodec.of(loading.load_tokenizer(folder, settings), settings)
    return TextCodec.of(AutoTokenizer.from_pretrained(folder, **settings.loading_options()), settings)


def _cache_requests(
    name: str, codec: TextCodec, rounds: Sequence[RecordedRequests], uncounted: int
) -> list[CacheRequest]:
    begun: list[tuple[float, CacheRequest]] = []
    for number, recorded in enumerate(rounds):
        counted = number >= uncounted
        rows = {row.candidate_id: row for row in recorded.candidates}
        template = recorded.config.required_prover.scoring_template
        for row in recorded.candidates:
            steps = recorded.steps[row.candidate_id]
            if recorded.teacher(row.teacher).model == name:
                prompt = _concatenated(codec.proposal(recorded.teacher_turn(row), steps[:-1]))
                whole = _concatenated(codec.proposal(recorded.teacher_turn(row), steps))
                generated = whole[len(prompt) : len(prompt) + row.completion_tokens]
                request = CacheRequest("propose", prompt, len(prompt) - 1, generated, row.cached_tokens, counted)
                begun.append((row.proposing_began, request))
            if recorded.config.required_prover.model == name and row.scoring_began is not None:
                candidate = _concatenated(codec.candidate(recorded.prover_turn(row), steps))
                closing = codec.closing(template, row.answer)
                ids = [*candidate, *closing.ids]
                servable = len(candidate) + closing.answer[0] - 1
                request = CacheRequest("score", ids, servable, (), row.score_cached_tokens, counted)
                begun.append((row.scoring_began, request))
        for answer in recorded.answers:
            if recorded.teacher(answer.teacher).model == name:
                last = rows[answer.candidate_id]
                prompt = _concatenated(codec.answer(recorded.teacher_turn(last), recorded.steps[answer.candidate_id]))
                request = CacheRequest("answer", prompt, len(prompt) - 1, (), answer.cached_tokens, counted)
                begun.append((answer.began, request))
    return [request for _, request in sorted(begun, key=lambda item: item[0])]


def _concatenated(pieces: Sequence[Sequence[int]]) -> list[int]:
    return [token for piece in pieces for token in piece]
