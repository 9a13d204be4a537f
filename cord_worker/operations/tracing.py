"""Makes the spans of a run from its stored rows, so the run itself need not record them.

Every problem is a trace: problem > step > candidate > propose, score, judge; and problem > base score, answer, verdict.
The run is a trace, too: a span for each problem, linked to the problem's trace. One trace with all spans of a run would
be too large for any viewer. Ids are hashes of names, so that the same rows give the same spans again.

Times are those of commits, by PostgreSQL's clock. The span of a request ends at its commit and lasts for its seconds
in the engine. A span contains its children.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

from cord_worker.store.reports.trace_rows import AnswerRow, CandidateRow, ProblemRow, RequestRow
from cord_worker.store.runs.runs import RunRow

Attribute = str | int | float | bool
_TRACE_BYTES, _SPAN_BYTES = 16, 8


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of work. `trace_id` (128 bits) and `span_id` (64 bits) are OpenTelemetry's ids; `parent_id` is None for
    the root of a trace. `failure` is why it failed; `links` are (trace id, span id) of spans of other traces."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int | None
    start: datetime
    end: datetime
    attributes: Mapping[str, Attribute]
    failure: str | None = None
    links: Sequence[tuple[int, int]] = field(default=())


class RunTracer:
    """Makes the spans of one run. Call `of_problem` for each problem, in any order, then `of_run`."""

    def __init__(self, run: RunRow) -> None:
        self._run = run
        # A run that was removed and enqueued again under the same name is a different one.
        self._names = (run.name, run.config_fingerprint, run.created_at.timestamp().hex())
        self._trace_id = self._id(_TRACE_BYTES, "run")
        self._root_id = self._id(_SPAN_BYTES, "run")
        self._start: datetime | None = None
        self._end: datetime | None = None
        self._problems = 0

    def of_problem(self, problem: ProblemRow) -> list[Span]:
        """The spans of the problem's trace, and the problem's span in the trace of the run; none if it has not
        begun."""
        if problem.admitted_at is None:
            return []
        trace_id = self._id(_TRACE_BYTES, "problem", problem.key)
        maker = _SpanMaker(trace_id, (*self._names, problem.key))
        root_id = maker.span_id("problem")
        inner = [
            *_base_score(maker, root_id, problem.base),
            *(span for one in _steps(maker, root_id, problem.candidates) for span in one),
            *(span for answer in problem.answers for span in _answer(maker, root_id, answer)),
        ]
        start = min([problem.admitted_at, *(span.start for span in inner)])
        end = max([problem.finished_at or start, *(span.end for span in inner)])
        attributes = _without_none(
            {
                "cord.run": self._run.name,
                "cord.problem": problem.key,
                "cord.problem_id": problem.id,
                "cord.state": problem.state,
                "cord.steps": problem.step,
                "cord.candidates": len(problem.candidates),
                "cord.base_score": problem.base_score,
            }
        )
        name, failure = f"problem {problem.key}", problem.failure_reason if problem.state == "failed" else None
        of_run_id = maker.span_id("problem of the run")
        root = Span(name, trace_id, root_id, None, start, end, attributes, failure, links=[(self._trace_id, of_run_id)])
        of_run = Span(
            name,
            self._trace_id,
            of_run_id,
            self._root_id,
            start,
            end,
            attributes,
            failure,
            links=[(trace_id, root_id)],
        )
        self._start = start if self._start is None else min(self._start, start)
        self._end = end if self._end is None else max(self._end, end)
        self._problems += 1
        return [of_run, root, *inner]

    def of_run(self) -> list[Span]:
        """The span of the run, from the first to the last event of the problems given to `of_problem`; empty if there
        are none."""
        if self._start is None or self._end is None:
            return []
        attributes: dict[str, Attribute] = {
            "cord.run": self._run.name,
            "cord.state": self._run.state,
            "cord.config_fingerprint": self._run.config_fingerprint,
            "cord.traced_problems": self._problems,
        }
        name = f"run {self._run.name}"
        return [Span(name, self._trace_id, self._root_id, None, self._start, self._end, attributes)]

    def _id(self, size: int, *names: str) -> int:
        return _hash(size, *self._names, *names)


class _SpanMaker:
    """Makes the spans of one trace; `names` identify it."""

    def __init__(self, trace_id: int, names: Sequence[str]) -> None:
        self._trace_id = trace_id
        self._names = names

    def span_id(self, *names: str) -> int:
        return _hash(_SPAN_BYTES, *self._names, *names)

    def span(
        self,
        name: str,
        identity: Sequence[str],
        parent_id: int,
        times: tuple[datetime, datetime],
        attributes: Mapping[str, Attribute | None],
    ) -> Span:
        return Span(name, self._trace_id, self.span_id(*identity), parent_id, *times, _without_none(attributes))

    def request(
        self,
        name: str,
        identity: Sequence[str],
        parent_id: int,
        request: RequestRow,
        **more: Attribute | None,
    ) -> list[Span]:
        """The span of a request; none if it was not made."""
        if request.at is None or request.seconds is None:
            return []
        attributes: dict[str, Attribute | None] = {
            "gen_ai.request.model": request.model,
            "gen_ai.usage.input_tokens": request.prompt_tokens,
            "gen_ai.usage.output_tokens": request.completion_tokens,
            "cord.cached_tokens": request.cached_tokens,
            "cord.worker": request.worker,
            "cord.attempts": request.attempts,
            **{f"cord.{key}": value for key, value in more.items()},
        }
        start = request.at - timedelta(seconds=request.seconds)
        return [self.span(name, identity, parent_id, (start, request.at), attributes)]


def _base_score(maker: _SpanMaker, root_id: int, request: RequestRow) -> list[Span]:
    return maker.request("base score", ("base score",), root_id, request)


def _steps(maker: _SpanMaker, root_id: int, candidates: Sequence[CandidateRow]) -> Iterator[list[Span]]:
    """For each round of each step, its span and those of its candidates."""
    for (step, round), group in groupby(candidates, key=lambda one: (one.step, one.round)):
        members = list(group)
        identity = ("step", str(step), str(round))
        inner = [span for one in members for span in _candidate(maker, maker.span_id(*identity), one)]
        name = f"step {step}" + (f", round {round}" if round else "")
        attributes = {
            "cord.step": step,
            "cord.round": round,
            "cord.candidates": len(members),
            "cord.kept": sum(one.kept is True for one in members),
        }
        yield [maker.span(name, identity, root_id, _time_range(inner), attributes), *inner]


def _candidate(maker: _SpanMaker, step_id: int, candidate: CandidateRow) -> list[Span]:
    identity = ("candidate", candidate.lineage)
    span_id = maker.span_id(*identity)
    requests = [
        *maker.request(
            "propose",
            ("propose", candidate.lineage),
            span_id,
            candidate.propose,
            finish_reason=candidate.finish_reason,
        ),
        *maker.request("score", ("score", candidate.lineage), span_id, candidate.score_request),
        *maker.request("judge", ("judge", candidate.lineage), span_id, candidate.judge),
    ]
    # In a trimmed run, candidates are copies, which were proposed before their rows were made.
    start = min([candidate.created_at, *(one.start for one in requests)])
    end = max([candidate.created_at, *(one.end for one in requests)])
    attributes: dict[str, Attribute | None] = {
        "cord.teacher": candidate.teacher,
        "cord.step": candidate.step,
        "cord.slot": candidate.parent_rank,
        "cord.sample": candidate.sample,
        "cord.lineage": candidate.lineage,
        "cord.state": candidate.state,
        "cord.invalid_reason": candidate.invalid_reason,
        "cord.score": candidate.score,
        "cord.rank": candidate.rank,
        "cord.kept": candidate.kept,
        "cord.winning": candidate.winning,
    }
    return [maker.span(f"candidate {candidate.teacher}", identity, step_id, (start, end), attributes), *requests]


def _answer(maker: _SpanMaker, root_id: int, answer: AnswerRow) -> list[Span]:
    return [
        *maker.request(
            "answer",
            ("answer", answer.lineage),
            root_id,
            answer.answer,
            steps=answer.steps,
            score=answer.score,
            winner=answer.winner,
            correct=answer.correct,
            method=answer.method,
        ),
        *maker.request("verdict", ("verdict", answer.lineage), root_id, answer.verdict, correct=answer.correct),
    ]


def _time_range(spans: Iterable[Span]) -> tuple[datetime, datetime]:
    listed = list(spans)
    return min(span.start for span in listed), max(span.end for span in listed)


def _without_none(attributes: Mapping[str, Attribute | None]) -> dict[str, Attribute]:
    return {name: value for name, value in attributes.items() if value is not None}


def _hash(size: int, *names: str) -> int:
    digest = hashlib.blake2b(digest_size=size)
    for name in names:
        part = name.encode("utf-8", "surrogatepass")
        digest.update(len(part).to_bytes(8, "big") + part)
    return int.from_bytes(digest.digest(), "big") or 1  # an id of zeros is invalid
