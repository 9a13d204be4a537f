"""Examples of the web view's documents: what `tests/fixtures/web` holds, and whether JSON is such a document.

`python -m tests.support.web_documents URL RUN OTHER` writes the examples anew from runs in the database at URL.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import sqlalchemy as sa

from cord_worker.store.database import Database
from cord_worker.store.runs.runs import resolve_run
from cord_worker.web import documents
from cord_worker.web.document_requests import Request, read_document
from cord_worker.web.paths import encoded, segment
from cord_worker.web.view import site_of_server

FOLDER = Path(__file__).parents[1] / "fixtures" / "web"
KINDS: Mapping[str, type] = {
    "site.json": documents.Site,
    "runs.json": documents.RunList,
    "run.json": documents.RunDocument,
    "problems.json": documents.ProblemList,
    "problem.json": documents.ProblemDocument,
    "texts.json": documents.StepTexts,
    "prompt.json": documents.PromptDocument,
    "comparison.json": documents.ComparisonDocument,
}


def faults(value: Any, kind: Any, place: str = "") -> Iterator[str]:
    """Where the JSON `value` is no `kind`: a document, or the type of one of its fields."""
    if is_dataclass(kind) and isinstance(kind, type):
        names = [field.name for field in fields(kind)]
        if not isinstance(value, dict) or list(value) != names:
            yield f"{place}: has {list(value) if isinstance(value, dict) else value!r} instead of {names}"
            return
        hints = get_type_hints(kind)
        for name in names:
            yield from faults(value[name], hints[name], f"{place}.{name}")
        yield from _unequal_columns(value, kind, place)
    elif get_origin(kind) is Sequence:
        if not isinstance(value, list):
            yield f"{place}: is no list"
            return
        for number, one in enumerate(value):
            yield from faults(one, get_args(kind)[0], f"{place}[{number}]")
    elif get_origin(kind) is Mapping:
        if not isinstance(value, dict):
            yield f"{place}: is no object"
            return
        for name, one in value.items():
            yield from faults(one, get_args(kind)[1], f"{place}.{name}")
    elif isinstance(kind, types.UnionType) or get_origin(kind) is Union:
        if all(list(faults(value, one)) for one in get_args(kind)):
            yield f"{place}: {value!r} is none of {kind}"
    elif kind is not Any and not _is(value, kind):
        yield f"{place}: {value!r} is no {kind}"


def _unequal_columns(value: Mapping[str, Any], kind: type, place: str) -> Iterator[str]:
    lengths = {len(column) for column in value.values()} if kind.__name__.endswith("Table") else set()
    if len(lengths) > 1:
        yield f"{place}: columns have the lengths {sorted(lengths)}"


def _is(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return value is None if kind is type(None) else isinstance(value, kind)


def examples(database: Database, run: str, other: str) -> dict[str, Any]:
    """The documents by the name of their file; of the problem with the most interesting search."""

    def read(connection: sa.Connection) -> dict[str, Any]:
        row = resolve_run(connection, run)
        folder = f"runs/{segment(row.name)}"

        def document(path: str, **parameters: str) -> Any:
            return read_document(connection, Request(path, parameters))

        both = [one for one in document("runs.json").runs if one.name in (run, other)]
        found = {"run.json": document(f"{folder}/run.json"), "runs.json": documents.RunList(both)}
        found["problems.json"] = document(f"{folder}/problems.json")
        number = _most_varied(connection, row.id)
        problem = document(f"{folder}/problems/{number}.json")
        found["problem.json"] = problem
        found["texts.json"] = document(f"{folder}/problems/{number}/texts/2.json")
        found["prompt.json"] = document(f"{folder}/problems/{number}/prompts/{problem.path[-1]}.json")
        found["comparison.json"] = document(f"compare/{segment(row.name)}/{segment(other)}.json")
        return found

    return {**database.run(read), "site.json": site_of_server(database, run)}


def faults_of_run(database: Database, run: str) -> list[str]:
    """Reads every document of the run as a server does, and the prompts of some candidates: those on the winning path,
    those with an answer, and the last loser. Returns what is no document or contradicts another one."""

    def read(connection: sa.Connection) -> list[str]:
        folder = f"runs/{segment(run)}"
        found: list[str] = []

        def document(kind: type, path: str) -> Any:
            value = json.loads(encoded(read_document(connection, Request(path, {}))))
            found.extend(faults(value, kind, path))
            return value

        document(documents.RunList, "runs.json")
        figures = document(documents.RunDocument, f"{folder}/run.json")
        listed = document(documents.ProblemList, f"{folder}/problems.json")
        found += [f"{run}: {listed['total']} problems are listed"] * (listed["total"] != figures["run"]["total"])
        for position in listed["rows"]["position"]:
            problem = document(documents.ProblemDocument, f"{folder}/problems/{position}.json")
            table = problem["candidates"]
            shown = [cell["candidate"] for column in problem["columns"] for cell in column["beam"]]
            shown += [place for column in problem["columns"] for place in column["lost"]]
            if set(shown) != set(range(len(table["step"]))):
                found.append(f"{run} {position}: candidates are missing in the grid")
            for place in {*problem["path"], *(answer["candidate"] for answer in problem["answers"]), *shown[-1:]}:
                document(documents.PromptDocument, f"{folder}/problems/{position}/prompts/{place}.json")
            for column in problem["columns"]:
                texts = document(documents.StepTexts, f"{folder}/problems/{position}/texts/{column['step']}.json")
                if table["text"][texts["first"] :][: len(texts["texts"])] != texts["texts"]:
                    found.append(f"{run} {position}: other texts in step {column['step']}")
        return found

    return database.run(read)


def _most_varied(connection: sa.Connection, run_id: int) -> int:
    statement = sa.text(
        """
        SELECT p.position FROM problems p JOIN candidates c ON c.problem_id = p.id
        WHERE p.run_id = :run_id AND p.state = 'done'
        GROUP BY p.position
        ORDER BY count(DISTINCT c.teacher_id) FILTER (WHERE c.winning) DESC,
                 count(DISTINCT coalesce(c.invalid_reason, '')) DESC, count(*) DESC, p.position LIMIT 1
        """
    )
    return int(connection.execute(statement, {"run_id": run_id}).scalar_one())


def main(url: str, run: str, other: str) -> None:
    """Writes the examples."""
    database = Database(url)
    for name, document in examples(database, run, other).items():
        text = json.dumps(json.loads(encoded(document)), ensure_ascii=False, indent=1)
        (FOLDER / name).write_text(text + "\n", encoding="utf-8")
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
