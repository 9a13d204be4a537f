"""Tables, commands and configuration use the glossary's words, and none that it rules out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel

from cord_worker.cli import cli
from cord_worker.config import RunConfig
from cord_worker.store.schema.kinds import KINDS
from cord_worker.store.schema.tables import Base

PAGE = (Path(__file__).parents[3] / "docs" / "glossary.md").read_text(encoding="utf-8")
ROWS = [
    cells
    for line in PAGE.splitlines()
    if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 4 and cells[0] not in ("term", "---")
]
RULED_OUT = {word: row[0] for row in ROWS for word in re.findall(r"\*\*(.+?)\*\*", row[3])}


def of_tables() -> Iterator[tuple[str, str]]:
    """The words of names and comments of tables and columns."""
    for table in Base.metadata.tables.values():
        yield table.name, f"{table.name} {table.comment}"
        for column in table.columns:
            yield f"{table.name}.{column.name}", f"{column.name} {column.comment}"


def of_commands() -> Iterator[tuple[str, str]]:
    """Names and help of commands, options and arguments."""

    def walk(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
        yield path, f"{command.name} {command.help} {command.short_help}"
        for parameter in command.params:
            said = getattr(parameter, "help", None)
            yield f"{path} {parameter.name}", f"{' '.join(parameter.opts)} {parameter.human_readable_name} {said}"
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from walk(found, f"{path} {name}")

    yield from walk(cli, "cordctl")


def configuration_columns() -> Iterator[tuple[str, str]]:
    """Keys of cord.toml and their descriptions."""

    def walk(model: type[BaseModel], path: str) -> Iterator[tuple[str, str]]:
        for name, field in model.model_fields.items():
            yield f"{path}{name}", f"{name} {field.description}"
            for inner in models_in(field.annotation):
                yield from walk(inner, f"{path}{name}.")

    yield from walk(RunConfig, "")


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The configuration's classes that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from models_in(inner)


PLACES = {"tables": of_tables, "commands": of_commands, "configuration": configuration_columns}


def test_the_glossary_is_not_empty() -> None:
    assert len(ROWS) > 80
    assert {"scorer", "author"} <= set(RULED_OUT)


@pytest.mark.parametrize("place", PLACES)
def test_no_word_that_the_glossary_rules_out_is_used(place: str) -> None:
    texts = list(PLACES[place]())
    assert len(texts) > 40
    plain = [(name, re.sub(r"[_\-.]", " ", text)) for name, text in texts]
    used = [
        f"{name}: {word!r} (say {term!r})"
        for word, term in RULED_OUT.items()
        for name, text in plain
        if re.search(rf"\b{re.escape(word.replace('-', ' '))}s?\b", text, re.IGNORECASE)
    ]
    assert used == []


def test_every_table_is_in_the_glossary() -> None:
    named = {name.partition(".")[0] for row in ROWS for name in re.findall(r"`([\w.]+)`", row[2])}
    assert set(Base.metadata.tables) <= named


def test_the_columns_of_leases_are_named_for_their_kind_of_work() -> None:
    by_prefix = {
        kind.name: (kind.worker.removesuffix("_worker_id"), kind.attempts.removesuffix("_attempts")) for kind in KINDS
    }
    assert all(worker == attempts for worker, attempts in by_prefix.values())
    columns = [(kind.table, kind.worker) for kind in KINDS] + [(kind.table, kind.attempts) for kind in KINDS]
    assert len(set(columns)) == 2 * len(KINDS)
    assert len({worker for worker, _ in by_prefix.values()}) == len(KINDS)
    leases = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.tables.values()
        for column in table.columns
        # A rollup sums up, and has no lease.
        if column.name.endswith("worker_id") and table.name != "request_rollups"
    }
    assert leases == {f"{kind.table}.{kind.worker}" for kind in KINDS}
