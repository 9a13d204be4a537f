"""Requests for documents: reads the document at a path, with the parameters that a server takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cord_worker.errors import ConfigError, CordError
from cord_worker.name_suggestions import unknown
from cord_worker.store.reports.problem_list import CORRECTNESS, LOSERS, SORTS, ProblemFilter
from cord_worker.store.runs.runs import RunRow, find_run, read_teachers
from cord_worker.store.schema.tables import ProblemState
from cord_worker.web import comparisons
from cord_worker.web.paths import name_of
from cord_worker.web.problems import problem_document, problem_list, read_grid, step_texts
from cord_worker.web.prompts import prompt_document
from cord_worker.web.runs import run_document, run_list

MAX_LIMIT = 5_000
DEFAULT_LIMIT = 500
_MAX_SEARCHED = 500
"""The most characters of a text to search for."""


class DocumentMissing(CordError):
    """There is no document at this path."""


class BadParameter(CordError):
    """A parameter of the request is unknown, or has an impossible value."""


@dataclass(frozen=True, slots=True)
class Request:
    """A path below the root, without a leading slash, and the parameters, each given once."""

    path: str
    parameters: Mapping[str, str]

    @property
    def key(self) -> tuple[Any, ...]:
        """A dictionary key; equal requests have equal ones."""
        return (self.path, *sorted(self.parameters.items()))


_RUN = r"(?P<run>[^/]+)"
_NUMBER = r"0|[1-9][0-9]{0,17}"
_PATHS: tuple[tuple[re.Pattern[str], str, frozenset[str]], ...] = tuple(
    (re.compile(pattern), name, frozenset(parameters))
    for pattern, name, parameters in (
        (r"runs\.json", "runs", ()),
        (rf"runs/{_RUN}/run\.json", "run", ()),
        (
            rf"runs/{_RUN}/problems\.json",
            "problems",
            ("offset", "limit", "sort", "order", "state", "correct", "loser", "q"),
        ),
        (rf"runs/{_RUN}/problems/(?P<position>{_NUMBER})\.json", "problem", ()),
        (rf"runs/{_RUN}/problems/(?P<position>{_NUMBER})/texts/(?P<number>{_NUMBER})\.json", "texts", ()),
        (rf"runs/{_RUN}/problems/(?P<position>{_NUMBER})/prompts/(?P<number>{_NUMBER})\.json", "prompts", ()),
        (rf"compare/{_RUN}/(?P<other>[^/]+)\.json", "compare", ("offset", "limit", "sort", "order", "outcome", "q")),
    )
)


def read_document(connection: sa.Connection, request: Request) -> Any:
    """The document. Raises DocumentMissing and BadParameter."""
    name, parts, known = _matched(request.path)
    for parameter in request.parameters:
        if parameter not in known:
            raise BadParameter(unknown("parameter", parameter, sorted(known)))
    if name == "runs":
        return run_list(connection)
    run = _run(connection, parts["run"])
    readers: Mapping[str, Callable[[], Any]] = {
        "run": lambda: run_document(connection, run),
        "problems": lambda: problem_list(connection, run, **_problem_options(request.parameters)),
        "problem": lambda: problem_document(connection, run, int(parts["position"])),
        "texts": lambda: step_texts(connection, run, int(parts["position"]), int(parts["number"])),
        "prompts": lambda: _prompts(connection, run, int(parts["position"]), int(parts["number"])),
        "compare": lambda: _compare(connection, run, parts["other"], request.parameters),
    }
    document = readers[name]()
    if document is None:
        raise DocumentMissing(_missing(run, name, parts))
    return document


def _missing(run: RunRow, name: str, parts: Mapping[str, str]) -> str:
    """A sentence that says which document the run does not have."""
    problem = f"problem at position {parts['position']}"
    if name == "problem":
        return f"The run {run.name!r:.200} has no {problem}."
    part = "step" if name == "texts" else "candidate"
    return f"The run {run.name!r:.200} has no {problem} with a {part} {parts['number']}."


def _prompts(connection: sa.Connection, run: RunRow, position: int, candidate: int) -> Any:
    grid = read_grid(connection, run, position)
    if grid is None:
        return None
    try:
        return prompt_document(run, read_teachers(connection, run.id), grid, candidate)
    except ConfigError as error:
        raise DocumentMissing(f"The prompts of {run.name!r} cannot be composed again: {error}") from None


def _compare(connection: sa.Connection, run: RunRow, other: str, parameters: Mapping[str, str]) -> Any:
    options = _page(parameters, comparisons.SORTS)
    outcome = _one_of("outcome", parameters.get("outcome"), comparisons.OUTCOMES)
    try:
        pair = comparisons.compare(connection, run, _run(connection, other))
    except ConfigError as error:
        raise DocumentMissing(f"These runs cannot be compared: {error}") from None
    return pair.document(outcome=outcome, contains=_searched(parameters), **options)


def _matched(path: str) -> tuple[str, dict[str, str], frozenset[str]]:
    """The kind of the document, the named parts of its path, and its parameters. Raises DocumentMissing."""
    for pattern, name, parameters in _PATHS:
        found = pattern.fullmatch(path)
        if found is not None:
            return name, found.groupdict(), parameters
    raise DocumentMissing(f"There is no document {path!r:.200}.")


def _run(connection: sa.Connection, segment: str) -> RunRow:
    name = name_of(segment)
    run = None if name is None or "\0" in name else find_run(connection, name)
    if run is None:
        raise DocumentMissing(f"There is no run {segment if name is None else name!r:.200}.")
    return run


def _problem_options(parameters: Mapping[str, str]) -> dict[str, Any]:
    states = [state for state in parameters.get("state", "").split(",") if state]
    for state in states:
        _one_of("state", state, [one.value for one in ProblemState])
    correct = _one_of("correct", parameters.get("correct"), CORRECTNESS)
    loser = _one_of("loser", parameters.get("loser"), LOSERS)
    return {"chosen": ProblemFilter(states, correct, _searched(parameters), loser), **_page(parameters, SORTS)}


def _page(parameters: Mapping[str, str], sorts: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "offset": _number("offset", parameters, 0, 2**53),
        "limit": _number("limit", parameters, DEFAULT_LIMIT, MAX_LIMIT),
        "descending": _one_of("order", parameters.get("order"), ("asc", "desc")) == "desc",
    }
    sort = _one_of("sort", parameters.get("sort"), sorts)
    return options if sort is None else {**options, "sort": sort}


def _number(name: str, parameters: Mapping[str, str], default: int, most: int) -> int:
    text = parameters.get(name)
    if text is None:
        return default
    if re.fullmatch(_NUMBER, text) is None or int(text) > most:
        raise BadParameter(f"{name} is a whole number from 0 to {most:,}")
    return int(text)


def _one_of(name: str, value: str | None, known: Any) -> str | None:
    if value is None or value == "":
        return None
    if value not in known:
        raise BadParameter(f"{name}: {unknown('value', value, list(known))}")
    return value


def _searched(parameters: Mapping[str, str]) -> str | None:
    text = parameters.get("q", "")
    if len(text) > _MAX_SEARCHED or "\0" in text:
        raise BadParameter(f"q is a text of at most {_MAX_SEARCHED} characters")
    return text or None
