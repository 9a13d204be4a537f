"""In all SQL of the store, an alias stands for one table, which has the alias of `store/schema/aliases.py`."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from cord_worker import store
from cord_worker.store.reports.sample_queries import QUERIES
from cord_worker.store.schema.aliases import ALIASES
from cord_worker.store.schema.tables import Base
from tests.support.statements import all_statements

_NAMED = re.compile(rf"\b(?:FROM|JOIN|UPDATE|INTO|USING)\s+(?:ONLY\s+)?({'|'.join(ALIASES)})\s+(?:AS\s+)?([a-z_]+)\b")


def aliases_in(sql: str) -> set[tuple[str, str]]:
    """The tables in this text with their aliases."""
    return set(_NAMED.findall(sql))


def wrong_aliases(found: set[tuple[str, str]]) -> list[str]:
    """Aliases that stand for two tables, and single letters that are not their table's."""
    tables = defaultdict(set)
    for table, alias in found:
        tables[alias].add(table)
    own = {alias: {table for table in ALIASES if ALIASES[table] == alias} for alias in ALIASES.values()}
    shared = [
        f"{alias}: {', '.join(sorted(named))}"
        for alias, named in tables.items()
        if len(named) > 1 and not named <= own.get(alias, set())
    ]
    letters = [f"{table} {alias}" for table, alias in found if len(alias) < 3 and alias != ALIASES[table]]
    stolen = [f"{table} {alias}" for table, alias in found if alias in own and table not in own[alias]]
    return sorted({*shared, *letters, *stolen})


def texts() -> Iterator[str]:
    """Every statement, and every string in the store: views and parts of statements too."""
    yield from (str(clause) for clause in all_statements().values())
    yield from (query.sql for query in QUERIES)
    for path in Path(store.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_each_table_has_an_alias() -> None:
    assert set(ALIASES) == set(Base.metadata.tables)


def test_one_alias_stands_for_one_table_in_all_statements() -> None:
    found = set().union(*map(aliases_in, texts()))
    assert {(table, alias) for table, alias in ALIASES.items() if not table.endswith("_rollups")} <= found
    assert wrong_aliases(found) == []


@pytest.mark.parametrize(
    ("sql", "wrong"),
    [
        ("SELECT 1 FROM problems p JOIN trajectories t ON t.problem_id = p.id", ["trajectories t"]),
        ("SELECT 1 FROM candidates c JOIN candidates s ON s.id = c.parent_id", ["candidates s"]),
        ("SELECT 1 FROM problems other JOIN runs other ON true", ["other: problems, runs"]),
        ("UPDATE runs AS p SET priority = 1", ["runs p"]),
        ("SELECT 1 FROM candidates c JOIN candidates parent ON parent.id = c.parent_id", []),
    ],
)
def test_a_second_meaning_of_an_alias_is_found(sql: str, wrong: list[str]) -> None:
    assert wrong_aliases(aliases_in(sql)) == wrong
