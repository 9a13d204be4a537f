"""Documents of the web view without a database: of any size, the same ones every time."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from cord_worker.operations.estimators import wilson_interval
from cord_worker.web.documents import (
    BeamCell,
    CandidateTable,
    ComparedRun,
    ComparisonDocument,
    ComparisonTable,
    Cost,
    CostLine,
    Fact,
    Failures,
    FinalAnswer,
    GridColumn,
    Histogram,
    Interval,
    InvalidCandidates,
    ModelCost,
    NearestLoser,
    ProblemDocument,
    ProblemList,
    ProblemTable,
    PromptDocument,
    PromptMessage,
    RunDocument,
    RunList,
    RunSummary,
    SelectionCell,
    Spread,
    StepScores,
    TeacherFigures,
    Timeline,
)

TEACHERS = ("planner", "calculator", "closer", "deepseek-r1-distill-qwen-32b")

_TEXTS = (
    "Let $n$ be the number of tiles. The floor is $12 \\times 9$, so the area is $12 \\cdot 9 = 108$ square metres.",
    "We write $\\sum_{k=1}^{n} k^2 = \\frac{n(n+1)(2n+1)}{6}$ and substitute $n = 24$:\n"
    "\\[ \\frac{24 \\cdot 25 \\cdot 49}{6} = 4900. \\]",
    "Check the other case. If $x < 0$ then $|x| = -x$, hence $$x^2 + 2x - 15 = (x+5)(x-3) = 0,$$ "
    "and $x = -5$ is the only root there.",
    "The price is $5 before the discount and $4 after it, that is 20 % less.\n\n- first, both: $5 + $4 = $9\n"
    "- then its half",
    "By the law of cosines, $c^2 = a^2 + b^2 - 2ab\\cos\\gamma$ with $\\gamma = 60^\\circ$, "
    "and so $c = \\sqrt{a^2 + b^2 - ab}$.",
    "So the answer is $\\boxed{4900}$.",
)
_QUESTION = (
    "Compute the sum $\\sum_{k=1}^{24} k^2$, and say how many square tiles of side $1$ cover a pyramid of $24$ layers."
)


def summary(
    name: str = "tiles",
    *,
    total: int = 40,
    state: str = "finished",
    done: int | None = None,
    pause_reason: str | None = None,
) -> RunSummary:
    """A run with some failed problems; the rest is queued or in flight."""
    done = total - total // 20 if done is None else done
    failed = min(total // 20, total - done)
    flying = min(max((total - done - failed) // 3, 0), 24)
    problems = {"queued": total - done - failed - flying, "searching": flying, "done": done, "failed": failed}
    right = round(done * 0.72)
    low, high = wilson_interval(right, done) if done else (None, None)
    return RunSummary(
        name=name,
        path=name,
        state=state,
        pipeline="cord",
        created_at="2026-11-28T09:30:00+00:00",
        problems=problems,
        total=total,
        correct=right,
        checked=done,
        undecided=total // 50,
        accuracy=right / max(done, 1),
        accuracy_low=low,
        accuracy_high=high,
        pause_reason=pause_reason,
        mean_score=0.612,
        tokens=total * 11_327,
        trimmed_from=None,
    )


def _spread(middle: float, width: float, number: int) -> Spread:
    low, high = max(middle - width, -1.0), min(middle + width, 1.0)
    return Spread(number, round(middle + width / 10, 4), round(low, 4), round(middle, 4), round(high, 4))


def run_document(about: RunSummary) -> RunDocument:
    """Everything on the page of the run, with curves of a plausible form."""
    draw = random.Random(5)
    teachers = [
        TeacherFigures(
            name,
            f"org/{name}",
            proposed := 9000 + 700 * place,
            120 * (place + 1),
            40,
            2000 + 150 * place,
            winning := 600 - 110 * place,
            winning / 1740,
            0.41 + 0.03 * place,
            _spread(0.06 - 0.012 * place, 0.05 + 0.01 * place, winning),
            proposed * 180,
            proposed * 2.1,
        )
        for place, name in enumerate(TEACHERS)
    ]
    selection = []
    for tenth in range(1, 11):
        weights = [1.6 - 0.12 * tenth, 0.6 + 0.5 * math.sin(tenth / 3), 0.2 + 0.13 * tenth, 0.35]
        for name, weight in zip(TEACHERS, weights, strict=True):
            share = weight / sum(weights)
            selection.append(
                SelectionCell(name, tenth, 900, 220, round(share * 174), round(share, 4), share * 174, 0.4)
            )
    scores = [
        StepScores(
            step, _spread(rise := 0.12 + 0.62 * (1 - math.exp(-step / 5)), 0.16, 400), _spread(rise - 0.06, 0.2, 2000)
        )
        for step in range(17)
    ]
    kinds = ("propose", "score", "answer", "judge")
    lines = [
        CostLine(
            f"org/{name}", kind, 9000, 9_000_000, 7_300_000, 1_700_000 * (kind != "score"), 19_000.0, 3_100.0 / (1 + n)
        )
        for n, (name, kind) in enumerate(
            [*((name, "propose") for name in TEACHERS), *(("org/prover", kind) for kind in kinds[1:])]
        )
    ]
    models = [
        ModelCost(
            model,
            sum(line.requests for line in own),
            sum(line.prompt_tokens for line in own),
            sum(line.cached_tokens for line in own),
            sum(line.completion_tokens for line in own),
            seconds := round(0.9 * sum(line.engine_seconds for line in own), 3),
            round(seconds / 3600, 6),
            round(seconds / 1800, 6),
        )
        for model in dict.fromkeys(line.model for line in lines)
        for own in [[line for line in lines if line.model == model]]
    ]
    buckets = 48
    waiting = [max(about.total - about.total * n // (buckets - 6), 0) for n in range(buckets)]
    timeline = Timeline(
        "2026-11-28T09:30:00+00:00",
        300.0,
        [draw.randrange(about.total // 60, about.total // 40 + 2) for _ in range(buckets)],
        [int(draw.random() < 0.2) for _ in range(buckets)],
        [draw.randrange(700, 900) for _ in range(buckets)],
        [draw.randrange(690, 900) for _ in range(buckets)],
        [draw.randrange(120_000, 170_000) for _ in range(buckets)],
        waiting,
        [24 if number else 6 for number in waiting],
    )
    return RunDocument(
        run=about,
        facts=[
            Fact("Beam width", "4"),
            Fact("Thinking budget", "16,384 tokens"),
            Fact("Prover", "org/prover"),
            Fact("Seed", "17"),
        ],
        config={"search": {"pipeline": "cord", "beam_width": 4, "max_steps": 64}, "run": {"max_active": 24}},
        teachers=teachers,
        selection=selection,
        scores=scores,
        steps=Histogram(
            list(range(1, 22)), [round(90 * math.exp(-((n - 9) ** 2) / 18)) for n in range(20)], 10.1, 1, 20
        ),
        tokens=Histogram(
            list(range(0, 16_800, 800)),
            [round(120 * math.exp(-((n - 6) ** 2) / 20)) for n in range(20)],
            5_312.4,
            411,
            15_930,
        ),
        cost=Cost(lines, models, "USD", 14_400.0, 312.0),
        failures=[
            Failures(
                2, "propose: the model refused 3 times: the prompt is longer than its context", 7, "tiles-7", False
            ),
            Failures(1, "score: the engine stopped: CUDA error: out of memory", 12, "tiles-12", True),
        ],
        invalid=[
            InvalidCandidates(name, reason, (place + 1) * number)
            for place, name in enumerate(TEACHERS)
            for reason, number in (("duplicate", 220), ("loop", 31), ("think_tag", 12), ("too_long", 1))
        ],
        timeline=timeline,
        missing=[],
    )


def problem_table(total: int) -> ProblemTable:
    """Problems of a run; some failed, some are not finished."""
    draw = random.Random(3)
    states = ["failed" if n % 20 == 7 else "queued" if n % 31 == 30 else "done" for n in range(total)]
    done = [state == "done" for state in states]
    scores = [round(draw.betavariate(3, 2), 6) if is_done else None for is_done in done]
    return ProblemTable(
        position=list(range(total)),
        id=[f"tiles-{n}" for n in range(total)],
        state=states,
        score=scores,
        gain=[None if score is None else round(score - 0.12, 6) for score in scores],
        correct=[None if not is_done or n % 53 == 5 else float(draw.random() < 0.72) for n, is_done in enumerate(done)],
        steps=[float(draw.randrange(3, 20)) if is_done else None for is_done in done],
        tokens=[draw.randrange(2_000, 40_000) if is_done else None for is_done in done],
        result_tokens=[float(400 + 37 * (n % 50)) if is_done else None for n, is_done in enumerate(done)],
        lead=[round(draw.expovariate(20) + 0.001, 6) if is_done else None for is_done in done],
        loser_step=[n % 3 + 1 if is_done else None for n, is_done in enumerate(done)],
        loser_teacher=[TEACHERS[n % 4] if is_done else None for n, is_done in enumerate(done)],
        loser_text=["The tiles of one row are counted first." if is_done else None for is_done in done],
        loser_repeats=[n % 4 == 0 if is_done else None for n, is_done in enumerate(done)],
        seconds=[round(draw.uniform(20, 900), 1) if is_done else None for is_done in done],
        answer=[str(draw.randrange(10_000)) for _ in range(total)],
        question=[
            f"A floor of {n % 90 + 3} by {n % 70 + 2} metres is covered with square tiles whose sides are 25 cm long. "
            "How many tiles are needed, if one in twenty breaks?"
            for n in range(total)
        ],
    )


def problem_list(run: str, total: int) -> ProblemList:
    """All problems in one document."""
    return ProblemList(run, total, total, 0, problem_table(total))


def problem_document(
    run: str = "tiles",
    position: int = 3,
    *,
    steps: int = 12,
    beam: int = 4,
    samples: int = 1,
    teachers: Sequence[str] = TEACHERS,
    text: str | None = None,
    texts: str = "inline",
    total: int = 40,
) -> ProblemDocument:
    """A search of `steps` steps: every step has beam * teachers * samples candidates, the first one fewer.

    `text`: what every candidate says, instead of something plausible.
    """
    draw = random.Random(position)
    rows: dict[str, list[object]] = {name: [] for name in CandidateTable.__slots__}
    columns: list[GridColumn] = []
    kept: list[int] = []
    for step in range(1, steps + 1):
        members = []
        for slot, parent in enumerate(kept or [None]):
            for teacher in range(len(teachers)):
                for sample in range(samples):
                    members.append(len(rows["step"]))
                    base = 0.1 if parent is None else rows["score"][parent]
                    score = round(min(max(float(base) + draw.gauss(0.045, 0.06), 0.01), 0.99), 6)  # type: ignore[arg-type]
                    is_invalid = draw.random() < 0.04
                    values: dict[str, object] = {
                        "step": step,
                        "depth": step,
                        "round": 0,
                        "slot": slot,
                        "parent": parent,
                        "teacher": teacher,
                        "sample": sample,
                        "state": "invalid" if is_invalid else "scored",
                        "score": None if is_invalid else score,
                        "gain": None if is_invalid else round(score - float(base), 6),  # type: ignore[arg-type]
                        "judgment": None,
                        "rank": None,
                        "kept": False,
                        "reason": "it repeats the same text (loop)" if is_invalid else "",
                        "behind": None,
                        "tie": "",
                        "seed": str(draw.getrandbits(62)),
                        "max_tokens": 512,
                        "tokens": draw.randrange(30, 400),
                        "ended": "step",
                        "duplicate_of": None,
                        "finish": None,
                        "text": None if texts == "by_step" else text if text is not None else _TEXTS[draw.randrange(5)],
                    }
                    for name, value in values.items():
                        rows[name].append(value)
        ranked = sorted((m for m in members if rows["score"][m] is not None), key=lambda m: -rows["score"][m])  # type: ignore[operator]
        for rank, member in enumerate(ranked):
            rows["rank"][member] = rank
        kept = ranked[:beam]
        for member in kept:
            rows["kept"][member] = True
        for member in ranked[beam:]:
            rows["reason"][member] = f"rank {rows['rank'][member]}, and the beam has {beam} slots"
            rows["behind"][member] = round(rows["score"][kept[-1]] - rows["score"][member], 6)  # type: ignore[operator]
        lost = [*ranked[beam:], *(m for m in members if rows["rank"][m] is None)]
        is_last = step == steps
        columns.append(
            GridColumn(
                step, [BeamCell(rank, m, False, "think_end" if is_last else None) for rank, m in enumerate(kept)], lost
            )
        )
    path = []
    at: object = kept[0]
    while at is not None:
        path.append(at)
        at = rows["parent"][at]  # type: ignore[call-overload]
    path.reverse()
    winner = kept[0]
    rows["finish"][winner] = "think_end"
    lost_by_rank = [(m, way) for column, way in zip(columns, path, strict=True) for m in column.lost if rows["rank"][m]]
    near, way = min(
        lost_by_rank,
        key=lambda pair: rows["score"][pair[1]] - rows["score"][pair[0]],  # type: ignore[call-overload]
        default=(None, None),
    )
    own = [text if text is not None else _TEXTS[n % 5] for n in range(len(path))]
    return ProblemDocument(
        run=run,
        position=position,
        id=f"tiles-{position}",
        state="done",
        failure_reason=None,
        question=_QUESTION if text is None else text,
        passage=None,
        answer=text if text is not None else "4900",
        attributes={"source": text if text is not None else "olympiad", "level": "4"},
        base_score=0.1,
        score=rows["score"][winner],  # type: ignore[arg-type]
        correct=True,
        result_tokens=1_234.0,
        nearest=None
        if near is None
        else NearestLoser(
            near,
            rows["step"][near],  # type: ignore[arg-type]
            teachers[rows["teacher"][near]],  # type: ignore[call-overload]
            str(rows["text"][near] or ""),
            round(rows["score"][way] - rows["score"][near], 6),  # type: ignore[call-overload]
            repeats=False,
        ),
        seconds=312.4,
        teachers=list(teachers),
        texts=texts,
        candidates=CandidateTable(**rows),  # type: ignore[arg-type]
        columns=columns,
        path=path,  # type: ignore[arg-type]
        path_texts=own,
        answers=[
            FinalAnswer(
                winner, True, text if text is not None else "The sum is $\\boxed{4900}$.", True, "math", "4900", None
            )
        ],
        previous=position - 1 if position > 0 else None,
        next=position + 1 if position + 1 < total else None,
        is_whole=True,
    )


def prompt_document(problem: ProblemDocument, candidate: int, text: str = "Let us see.") -> PromptDocument:
    """What was asked for a candidate."""
    table = problem.candidates
    return PromptDocument(
        candidate,
        problem.teachers[table.teacher[candidate]],
        "org/planner",
        table.seed[candidate],
        table.max_tokens[candidate],
        "2025-01-01",
        {"temperature": 0.6, "top_p": 0.95},
        [
            PromptMessage("system", text),
            PromptMessage("user", problem.question),
            PromptMessage("assistant", "<think>\n### Step 1."),
        ],
        [
            PromptMessage("user", problem.question),
            PromptMessage("assistant", f"{text} </think> The final answer is {problem.answer}."),
        ],
    )


def comparison(a: RunSummary, b: RunSummary, shared: int) -> ComparisonDocument:
    """Two runs with these problems in common."""
    left, right = problem_table(shared), problem_table(shared)
    draw = random.Random(9)
    score_a = [draw.betavariate(3, 2) for _ in range(shared)]
    score_b = [min(score + draw.gauss(0.05, 0.1), 0.99) for score in score_a]
    table = ComparisonTable(
        id=left.id,
        position_a=left.position,
        position_b=right.position,
        score_a=[round(score, 4) for score in score_a],
        score_b=[round(score, 4) for score in score_b],
        difference=[round(y - x, 4) for x, y in zip(score_a, score_b, strict=True)],
        correct_a=[float(draw.random() < 0.6) for _ in range(shared)],
        correct_b=[float(draw.random() < 0.75) for _ in range(shared)],
        steps_a=[float(draw.randrange(3, 20)) for _ in range(shared)],
        steps_b=[float(draw.randrange(3, 20)) for _ in range(shared)],
        tokens_a=[draw.randrange(2_000, 40_000) for _ in range(shared)],
        tokens_b=[draw.randrange(2_000, 40_000) for _ in range(shared)],
        question=left.question,
    )
    outcomes = {"both": 0, "only_a": 0, "only_b": 0, "neither": 0, "undecided": 0}
    for x, y in zip(table.correct_a, table.correct_b, strict=True):
        outcomes[("neither", "only_b", "only_a", "both")[int(2 * (x or 0) + (y or 0))]] += 1
    first = ComparedRun(
        a, Interval(0.6, 0.52, 0.68), Interval(0.598, 0.57, 0.62), Interval(11_300, 10_900, 11_800), None, None
    )
    second = replace(
        first,
        run=b,
        accuracy=Interval(0.75, 0.68, 0.81),
        accuracy_difference=Interval(0.15, 0.06, 0.24),
        score_difference=Interval(0.05, 0.04, 0.06),
    )
    return ComparisonDocument(first, second, shared, "bootstrap", outcomes, 1, shared, 0, table)


def run_list(*runs: RunSummary) -> RunList:
    """These runs."""
    return RunList(list(runs))
