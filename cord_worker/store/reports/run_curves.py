"""How scores, gains and lengths are spread in a run, and how its work is spread over time.

Scores and gains by step, and work over time, are read from candidates. In a large run they are read from every n-th
problem of the dataset only (`sampled_every`), so that they take no longer than in a small one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Spread:
    """How values are spread: their number, mean and quartiles; None without a value."""

    count: int
    mean: float | None = None
    low: float | None = None
    median: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class ScoresAfter:
    """Scores of trajectories after their first `step` steps: of winners, and of all that were kept. Step 0 has the base
    scores."""

    step: int
    winners: Spread
    kept: Spread


@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram of whole numbers: bar i counts those from `first + i * width` on, below the next bar's start. `mean`,
    `low` and `high` (least and greatest) are those of the numbers; None without any."""

    first: int
    width: int
    counts: Sequence[int]
    mean: float | None = None
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """What happened in each bucket of time: bucket i begins at `start` + i * `seconds` and lasts `seconds`. `finished`
    and `failed` problems ended in it, `steps` were proposed with `tokens`, and `scores` were computed; copies in a
    trimmed run are left out. `queued` and `active` count problems at its end. If only every n-th problem is read,
    steps, scores and tokens are multiplied by n."""

    start: datetime
    seconds: float
    finished: Sequence[int]
    failed: Sequence[int]
    steps: Sequence[int]
    scores: Sequence[int]
    tokens: Sequence[int]
    queued: Sequence[int]
    active: Sequence[int]


MOST_CANDIDATES = 300_000
"""About this many candidates are read at most, which takes less than a second."""
_PROBED_PROBLEMS = 20
"""The number of the run's candidates is estimated from this many of its problems."""
MAX_BARS = 40
"""The most bars of a histogram."""
MAX_BUCKETS = 120
"""The most buckets of a timeline."""
_BUCKETS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)
"""Lengths of a bucket in seconds; a longer run has whole days."""


def _spread(values: str, condition: str, name: str) -> str:
    """SQL: the columns of a Spread of `values` where `condition` holds."""
    where = f"FILTER (WHERE {condition} AND {values} IS NOT NULL)"
    return (
        f"count({values}) FILTER (WHERE {condition}) AS {name}_count, "
        f"CAST(avg({values}) {where} AS float8) AS {name}_mean, "
        f"percentile_cont(ARRAY[0.25, 0.5, 0.75]) WITHIN GROUP (ORDER BY {values}) {where} AS {name}_quartiles"
    )


_PROBED = sa.text(
    """
    WITH begun AS (SELECT count(*) AS number FROM problems WHERE run_id = :run_id AND step > 0),
         probed AS (
             SELECT p.id FROM problems p, begun
             WHERE p.run_id = :run_id AND p.step > 0 AND p.position % greatest(1, begun.number / :probed) = 0
             LIMIT :probed
         )
    SELECT begun.number AS begun,
           (SELECT count(*)::float8 FROM candidates c JOIN probed ON probed.id = c.problem_id)
               / greatest(1, (SELECT count(*) FROM probed)) AS candidates
    FROM begun
    """
)

_BASE = sa.text(
    f"""
    SELECT {_spread("p.base_score", "j.id IS NOT NULL", "winners")}, {_spread("p.base_score", "true", "kept")}
    FROM problems p LEFT JOIN trajectories j ON j.problem_id = p.id AND j.winner
    WHERE p.run_id = :run_id AND p.position % :every = 0
    """
)

_SCORES = sa.text(
    f"""
    SELECT c.depth AS step, {_spread("c.score", "c.winning", "winners")}, {_spread("c.score", "true", "kept")}
    FROM problems p JOIN candidates c ON c.problem_id = p.id
    WHERE p.run_id = :run_id AND p.position % :every = 0 AND (c.kept OR c.winning) AND c.score IS NOT NULL
    GROUP BY c.depth ORDER BY c.depth
    """
)

_GAINS = sa.text(
    f"""
    WITH won AS (
        SELECT c.id, c.teacher_id,
               c.score - CASE WHEN c.parent_id IS NULL THEN p.base_score ELSE parent.score END AS gain
        FROM problems p JOIN candidates c ON c.problem_id = p.id AND c.winning
        LEFT JOIN candidates parent ON parent.id = c.parent_id
        WHERE p.run_id = :run_id AND p.position % :every = 0
    ), proposals AS (
        SELECT id, teacher_id, gain FROM won WHERE gain IS NOT NULL
        UNION ALL
        SELECT won.id, duplicate.teacher_id, won.gain
        FROM won JOIN candidates duplicate ON duplicate.duplicate_of = won.id
        WHERE won.gain IS NOT NULL
    ), weighted AS (
        SELECT id, teacher_id, gain, 1.0 / count(*) OVER (PARTITION BY id) AS weight FROM proposals
    ), ordered AS (
        SELECT id, teacher_id, gain, weight, sum(weight) OVER (PARTITION BY teacher_id) AS total,
               sum(weight) OVER (PARTITION BY teacher_id ORDER BY gain) AS below
        FROM weighted
    )
    SELECT t.name AS teacher, count(DISTINCT o.id) AS gain_count,
           CAST(sum(o.gain * o.weight) / sum(o.weight) AS float8) AS gain_mean,
           ARRAY[{", ".join(f"min(o.gain) FILTER (WHERE o.below >= {part} * o.total)" for part in (0.25, 0.5, 0.75))}]
               AS gain_quartiles
    FROM teachers t LEFT JOIN ordered o ON o.teacher_id = t.id
    WHERE t.run_id = :run_id GROUP BY t.ordinal, t.name ORDER BY t.ordinal
    """
)

_WINNING_PARTS = sa.text(
    """
    SELECT tenth, sum(winning_parts) AS steps FROM current_teacher_rollups
    WHERE run_id = :run_id AND tenth > 0 GROUP BY tenth
    """
)

_LENGTHS = sa.text(
    """
    SELECT j.steps, t.tokens, grouping(j.steps) = 0 AS is_steps, count(*) AS number
    FROM problems p
    JOIN trajectories j ON j.problem_id = p.id AND j.answer_state <> 'none'
    JOIN candidates c ON c.id = j.candidate_id
    CROSS JOIN LATERAL (SELECT c.thinking_tokens + coalesce(j.answer_completion_tokens, 0) AS tokens) t
    WHERE p.run_id = :run_id AND p.state = 'done'
    GROUP BY GROUPING SETS ((j.steps), (t.tokens))
    """
)

_SPAN = sa.text(
    """
    SELECT least(min(admitted_at), min(finished_at)) AS first,
           greatest(max(finished_at), max(touched_at) FILTER (
               WHERE state IN ('searching', 'answering', 'verifying')
           )) AS last
    FROM problems WHERE run_id = :run_id
    """
)


def _bucket(moment: str) -> str:
    """SQL: the number of the bucket of a moment (SQL), NULL before the first; moments after the last count in it."""
    since = f"extract(epoch FROM {moment} - CAST(:start AS timestamptz))"
    return f"CASE WHEN {moment} >= :start THEN least(floor({since} / :seconds), :last)::int END"


_PROBLEM_MOMENTS = sa.text(
    f"""
    SELECT {_bucket("finished_at")} AS ended, {_bucket("greatest(admitted_at, :start)")} AS admitted,
           {_bucket("greatest(created_at, :start)")} AS created, state, admitted_at IS NULL AS was_queued,
           count(*) AS number
    FROM problems WHERE run_id = :run_id GROUP BY 1, 2, 3, 4, 5
    """
)

_WORK_MOMENTS = sa.text(
    f"""
    WITH work AS (
        SELECT {_bucket("c.proposed_at")} AS proposed, {_bucket("c.scored_at")} AS scored,
               c.completion_tokens AS tokens
        FROM problems p JOIN candidates c ON c.problem_id = p.id
        WHERE p.run_id = :run_id AND p.position % :every = 0 AND c.propose_seconds IS NOT NULL
    )
    SELECT proposed, scored, grouping(proposed) = 0 AS is_proposed, count(*) AS number,
           coalesce(sum(tokens), 0) AS tokens
    FROM work GROUP BY GROUPING SETS ((proposed), (scored))
    """
)


def sampled_every(connection: sa.Connection, run_id: int, most: int = MOST_CANDIDATES) -> int:
    """The n such that every n-th problem of the run has about `most` candidates in all; 1 if the run has fewer."""
    probed = connection.execute(_PROBED, {"run_id": run_id, "probed": _PROBED_PROBLEMS}).one()
    return max(1, math.ceil(int(probed.begun) * float(probed.candidates) / most))


def score_curve(connection: sa.Connection, run_id: int, every: int = 1) -> list[ScoresAfter]:
    """Scores by step, from the base scores on; empty in a run without scores. Reads every `every`-th problem."""
    parameters = {"run_id": run_id, "every": every}
    base = connection.execute(_BASE, parameters).one()
    rows = [(row.step, row) for row in connection.execute(_SCORES, parameters)]
    if base.kept_count:
        rows.insert(0, (0, base))
    return [ScoresAfter(step, _spread_of(row, "winners"), _spread_of(row, "kept")) for step, row in rows]


def gain_spreads(connection: sa.Connection, run_id: int, every: int = 1) -> dict[str, Spread]:
    """The gains of the winning steps of each teacher. `count` is the number of steps. Reads every `every`-th problem.

    A step that N proposals have in common counts 1/N for each of them, as in `gains_by_teacher`. The mean has these
    weights; the first quartile is the least gain such that gains up to it have a quarter of the weight.
    """
    rows = connection.execute(_GAINS, {"run_id": run_id, "every": every})
    return {row.teacher: _spread_of(row, "gain") for row in rows}


def winning_steps_by_tenth(connection: sa.Connection, run_id: int) -> dict[int, float]:
    """How many winning steps are in each tenth (1 to 10) of the decoding position, each counted once."""
    return {row.tenth: float(row.steps) for row in connection.execute(_WINNING_PARTS, {"run_id": run_id})}


def length_bars(connection: sa.Connection, run_id: int) -> tuple[Bars, Bars]:
    """Histograms of the lengths of answered trajectories of done problems: in steps, and in tokens of thinking and
    answer."""
    steps: dict[int, int] = {}
    tokens: dict[int, int] = {}
    for row in connection.execute(_LENGTHS, {"run_id": run_id}):
        found, value = (steps, row.steps) if row.is_steps else (tokens, row.tokens)
        if value is not None:
            found[value] = row.number
    return _bars(steps), _bars(tokens)


def _bars(numbers: Mapping[int, int]) -> Bars:
    """The histogram of the keys of `numbers`, each of which occurs as often as its value says."""
    if not numbers:
        return Bars(0, 1, ())
    low, high = min(numbers), max(numbers)
    width = _nice_width(high - low + 1)
    first = low // width * width
    counts = [0] * (high // width - first // width + 1)
    for value, number in numbers.items():
        counts[value // width - first // width] += number
    mean = sum(value * number for value, number in numbers.items()) / sum(numbers.values())
    return Bars(first, width, counts, mean, low, high)


def _nice_width(span: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, … with which `span` numbers need at most MAX_BARS bars."""
    unit = 1
    while True:
        for factor in (1, 2, 5):
            if span <= MAX_BARS * factor * unit:
                return factor * unit
        unit *= 10


def read_timeline(connection: sa.Connection, run_id: int, every: int = 1) -> Timeline | None:
    """What happened in each bucket of time, from the first admission to the end of the last problem, or to the newest
    sign of work; None before the first admission. Of candidates, reads those of every `every`-th problem."""
    first, last = connection.execute(_SPAN, {"run_id": run_id}).one()
    if first is None:
        return None
    span = max(1.0, (last - first).total_seconds())
    seconds = next((one for one in _BUCKETS if span <= one * MAX_BUCKETS), None)
    if seconds is None:
        seconds = _BUCKETS[-1] * -(-span // (_BUCKETS[-1] * MAX_BUCKETS))
    number = int(span // seconds) + 1
    parameters = {"run_id": run_id, "start": first, "seconds": float(seconds), "last": number - 1}
    finished, failed, steps, scores, tokens = ([0] * number for _ in range(5))
    queued, active = [0] * number, [0] * number  # changes in each bucket, summed up below
    for row in connection.execute(_PROBLEM_MOMENTS, parameters):
        if row.ended is not None and row.state in ("done", "failed"):
            (finished if row.state == "done" else failed)[row.ended] += row.number
        queued[row.created] += row.number
        if row.admitted is not None and not row.was_queued:
            queued[row.admitted] -= row.number
            active[row.admitted] += row.number
        if row.ended is not None:
            (queued if row.was_queued else active)[row.ended] -= row.number
    for row in connection.execute(_WORK_MOMENTS, {**parameters, "every": every}):
        if row.is_proposed and row.proposed is not None:
            steps[row.proposed], tokens[row.proposed] = row.number * every, int(row.tokens) * every
        elif not row.is_proposed and row.scored is not None:
            scores[row.scored] = row.number * every
    return Timeline(first, float(seconds), finished, failed, steps, scores, tokens, _summed(queued), _summed(active))


def _summed(changes: Sequence[int]) -> list[int]:
    total, sums = 0, []
    for change in changes:
        total += change
        sums.append(total)
    return sums


def _spread_of(row: sa.Row[tuple[object, ...]], name: str) -> Spread:
    values = row._mapping
    count = values[f"{name}_count"]
    if not count:
        return Spread(0)
    return Spread(count, values[f"{name}_mean"], *values[f"{name}_quartiles"])
