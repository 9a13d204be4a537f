"""Repeats the requests of a finished run directly on engines: same prompts, seeds and order, without the service.

For each step of a problem, all teachers work concurrently: each teacher's proposals are sent together, then their
scores together. When the step is complete, the next one begins. The final answer comes at the end. As many problems run
concurrently as in the run, and as many tasks per model as its worker handles.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from cord_worker.bench.direct import DirectEngine
from cord_worker.config import RunConfig, TeacherConfig
from cord_worker.engines.protocol import Sampling, Turn
from cord_worker.errors import RequestError
from cord_worker.prompting.trajectory import Segmentation
from cord_worker.store.reports.measurements import AnswerRequest, CandidateRequests


@dataclass(frozen=True, slots=True)
class RecordedRequests:
    """The requests of a run to its models. `today` is the run's date, for templates that print one. `steps` holds, for
    each candidate's id, the texts of the steps from the root to it, its own included."""

    config: RunConfig
    candidates: Sequence[CandidateRequests]
    answers: Sequence[AnswerRequest]
    today: datetime.date
    steps: Mapping[int, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        steps: dict[int, tuple[str, ...]] = {}
        for row in sorted(self.candidates, key=lambda row: row.step):
            before = steps[row.parent_id] if row.parent_id is not None else ()
            steps[row.candidate_id] = (*before, row.text)
        object.__setattr__(self, "steps", steps)

    @property
    def tokens(self) -> int:
        """Generated tokens, including final answers."""
        steps = sum(row.completion_tokens for row in self.candidates)
        return steps + sum(answer.completion_tokens for answer in self.answers)

    def teacher(self, name: str) -> TeacherConfig:
        """The teacher with this name."""
        return next(teacher for teacher in self.config.teachers if teacher.name == name)

    def prefix(self, row: CandidateRequests) -> tuple[str, ...]:
        """The steps that the candidate extends."""
        return self.steps[row.candidate_id][:-1]

    def teacher_turn(self, row: CandidateRequests) -> Turn:
        """First turn of the candidate's teacher."""
        return self._turn(row, self.config.system_prompt(self.teacher(row.teacher)))

    def prover_turn(self, row: CandidateRequests) -> Turn:
        """First turn of the prover."""
        return self._turn(row, self.config.prover_model.system_prompt)

    def _turn(self, row: CandidateRequests, system: str | None) -> Turn:
        search = self.config.search
        segmentation = Segmentation.of(search.segmentation, search.phrases)
        return Turn(row.question, system, row.passage, segmentation, self.today)


@dataclass(frozen=True, slots=True)
class RepetitionResult:
    """Generated tokens, seconds from the first request to the last result, and the scores by candidate id."""

    tokens: int
    seconds: float
    scores: Mapping[int, float]


class Repetition:
    """Sends recorded requests to `engines` (by model name); several engines of a model share its problems."""

    def __init__(self, recorded: RecordedRequests, engines: Mapping[str, Sequence[DirectEngine]]) -> None:
        self._recorded = recorded
        self._engines = engines
        self._tokens = 0
        self._scores: dict[int, float] = {}
        config = recorded.config
        self._problems = asyncio.Semaphore(config.run.max_active)
        self._tasks = {
            (name, number): asyncio.Semaphore(max(2, model.batch_size))
            for name, model in config.models.items()
            for number in range(len(engines[name]))
        }

    async def run(self) -> RepetitionResult:
        """Sends all requests. Raises EngineError if an engine has ended."""
        problems: dict[int, list[CandidateRequests]] = defaultdict(list)
        for row in self._recorded.candidates:
            problems[row.position].append(row)
        answers = {answer.position: answer for answer in self._recorded.answers}
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for position, rows in problems.items():
                group.create_task(self._repeat_problem(rows, answers.get(position)))
        return RepetitionResult(self._tokens, time.perf_counter() - started, self._scores)

    async def _repeat_problem(self, rows: Sequence[CandidateRequests], answer: AnswerRequest | None) -> None:
        async with self._problems:
            for _, step in groupby(rows, key=lambda row: (row.step, row.round)):
                teachers: dict[str, list[CandidateRequests]] = defaultdict(list)
                for row in step:
                    teachers[row.teacher].append(row)
                async with asyncio.TaskGroup() as group:
                    for name, proposals in teachers.items():
                        group.create_task(self._repeat_step(self._recorded.teacher(name), proposals))
            if answer is not None:
                await self._repeat_answer(answer, next(row for row in rows if row.candidate_id == answer.candidate_id))

    async def _repeat_step(self, teacher: TeacherConfig, rows: Sequence[CandidateRequests]) -> None:
        await self._send_task(teacher.model, rows[0].position, [self._proposal_request(teacher, row) for row in rows])
        scored = [row for row in rows if row.score is not None]
        if scored:
            by_mean = self._recorded.config.required_prover.score == "mean_probability"
            key = "mean_probability" if by_mean else "score"
            found = await self._send_task(
                self._recorded.config.required_prover.model,
                rows[0].position,
                [self._score_request(row) for row in scored],
            )
            self._scores |= {row.candidate_id: result[key] for row, result in zip(scored, found, strict=True) if result}

    def _proposal_request(self, teacher: TeacherConfig, row: CandidateRequests) -> tuple[str, dict[str, Any]]:
        return "propose", {
            "turn": asdict(self._recorded.teacher_turn(row)),
            "steps": self._recorded.prefix(row),
            "sampling": asdict(
                Sampling.of(teacher, row.max_tokens, row.seed, answer_tokens=self._recorded.config.search.answer_tokens)
            ),
        }

    def _score_request(self, row: CandidateRequests) -> tuple[str, dict[str, Any]]:
        return "score", {
            "turn": asdict(self._recorded.prover_turn(row)),
            "steps": self._recorded.steps[row.candidate_id],
            "answer": row.answer,
            "template": self._recorded.config.required_prover.scoring_template,
            "full_stop": self._recorded.config.required_prover.score_full_stop,
        }

    async def _repeat_answer(self, answer: AnswerRequest, last: CandidateRequests) -> None:
        teacher = self._recorded.teacher(answer.teacher)
        # This request writes the final answer, so no room for one has to be kept free (`answer_tokens=0`).
        request = {
            "turn": asdict(self._recorded.teacher_turn(last)),
            "steps": self._recorded.steps[last.candidate_id],
            "sampling": asdict(
                Sampling.of(teacher, self._recorded.config.search.answer_tokens, answer.seed, answer_tokens=0)
            ),
        }
        await self._send_task(teacher.model, answer.position, [("answer", request)])

    async def _send_task(
        self, model: str, position: int, requests: Sequence[tuple[str, dict[str, Any]]]
    ) -> list[dict[str, Any]]:
        number = position % len(self._engines[model])
        engine = self._engines[model][number]
        async with self._tasks[model, number]:
            found = await asyncio.gather(*(_ask(engine, kind, arguments) for kind, arguments in requests))
        self._tokens += sum(result.get("completion_tokens", 0) for result in found)
        return found


async def _ask(engine: DirectEngine, kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return await engine.ask(kind, **arguments)
    except RequestError:
        return {}  # a refused request adds no tokens and no score
