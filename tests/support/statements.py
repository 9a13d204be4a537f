"""The statements of the store: those that stand in its modules, and those that its functions write."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

import cord_worker
from cord_worker import store
from cord_worker.store.audit import invariants
from cord_worker.store.audit.rescore_invariants import RESCORE_INVARIANTS
from cord_worker.store.audit.rollup_invariants import ROLLUP_INVARIANTS
from cord_worker.store.reports import backlog, multiplied_runs, problem_list, run_metrics
from cord_worker.store.reports.problem_list import CORRECTNESS, LOSERS, ProblemFilter
from cord_worker.store.runs import retry
from cord_worker.store.schema import kinds, roles
from cord_worker.store.work import (
    answer,
    check_answer,
    judge_answer,
    judge_candidate,
    propose,
    rescore,
    returning,
    sweep,
)

PACKAGE = Path(cord_worker.__file__).parent
KINDS = tuple(kinds.KINDS)
OF_MODELS = tuple(kind for kind in KINDS if kind.model is not None)
GRANTS = (*roles._SERVICE, roles._SERVICE_TEMPORARY, *roles._ANALYST, roles._ANALYST_TEMPORARY)

CHOSEN = (
    ProblemFilter(),
    *(ProblemFilter(("done",), correctness, "text") for correctness in CORRECTNESS),
    *(ProblemFilter(loser=loser) for loser in LOSERS),
)
WRITTEN_BY_FUNCTIONS: dict[str, Callable[[], list[sa.TextClause]]] = {
    "store.audit.invariants:_statement": lambda: [
        invariants._statement(invariant, chosen)
        for invariant in (*invariants.INVARIANTS, *RESCORE_INVARIANTS, *ROLLUP_INVARIANTS)
        for chosen in ("true", "p.id = :problem_id", "r.id = :run_id")
    ],
    "store.audit.invariants:_first_statement": lambda: [
        invariants._first_statement(tuple(one for one in invariants.INVARIANTS if one.broken_by))
    ],
    "store.database:_drop_dead_connections": lambda: [sa.text("SELECT 1")],
    "store.database:connect_for_migration": lambda: [sa.text("SELECT pg_advisory_xact_lock(:key)")],
    "store.reports.backlog:_backlog": lambda: [backlog._backlog(KINDS)],
    "store.reports.multiplied_runs:_copy": lambda: list(multiplied_runs._ROWS),
    "store.reports.multiplied_runs:read_view": lambda: [
        sa.text("SELECT * FROM run_summary WHERE run = :run LIMIT CAST(:most AS bigint)")
    ],
    "store.reports.problem_list:count_statement": lambda: [
        problem_list.count_statement(chosen.conditions()[0]) for chosen in CHOSEN
    ],
    "store.reports.problem_list:list_statement": lambda: [
        problem_list.list_statement(chosen.conditions()[0], sort, descending=True, is_page=is_page)
        for chosen in CHOSEN
        for sort in problem_list.SORTS
        for is_page in (True, False)
    ],
    "store.reports.run_metrics:_work": lambda: [run_metrics._work(KINDS)],
    "store.runs.retry:_reset": lambda: [retry._reset(kind) for kind in KINDS],
    "store.schema.roles:_grant": lambda: [
        sa.text(text.format(role="pg_monitor", schema="public", database="x")) for text in GRANTS
    ],
    "store.work.leases:claim_statement": lambda: [
        module._CLAIM for module in (answer, check_answer, judge_answer, judge_candidate, propose, rescore)
    ],
    "store.work.returning:_gone_holders": lambda: [returning._gone_holders(KINDS)],
    "store.work.returning:_return_given_leases": lambda: [returning._return_given_leases(kind) for kind in KINDS],
    "store.work.returning:_return_worker_leases": lambda: [returning._return_worker_leases(kind) for kind in KINDS],
    "store.work.sweep:_due": lambda: [sweep._due(kind) for kind in OF_MODELS],
    "store.work.sweep:_exhausted": lambda: [sweep._exhausted(kind) for kind in KINDS if kind.given_up is not None],
    "store.work.sweep:_waiting": lambda: [sweep._waiting(OF_MODELS)],
}
"""Statements that functions write, by module and function, for all that the functions are called with."""


def modules() -> Iterator[ModuleType]:
    """The modules of the store, imported."""
    for found in pkgutil.walk_packages(store.__path__, "cord_worker.store."):
        yield importlib.import_module(found.name)


def clauses(value: object) -> Iterator[sa.TextClause]:
    """Statements in a module's constant, which may be a container of them."""
    if isinstance(value, sa.TextClause):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from clauses(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from clauses(item)


def constants() -> dict[str, sa.TextClause]:
    """Statements that stand in modules, by module and name."""
    found: dict[int, tuple[str, sa.TextClause]] = {}
    for module in modules():
        for name, value in vars(module).items():
            for clause in clauses(value):
                found.setdefault(id(clause), (f"{module.__name__.removeprefix('cord_worker.')}:{name}", clause))
    places = Counter[str]()
    numbered = {}
    for name, clause in found.values():
        places[name] += 1
        numbered[f"{name} {places[name]}"] = clause
    return numbered


def calls_of_text() -> tuple[int, set[str]]:
    """How often modules of the store call `sa.text` outside of functions, and in which functions they do."""
    outside, functions = 0, set[str]()

    def visit(node: ast.AST, module: str, function: str | None) -> None:
        nonlocal outside
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            function = function or node.name
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "sa.text":
            if function is None:
                outside += 1
            else:
                functions.add(f"{module}:{function}")
        for child in ast.iter_child_nodes(node):
            visit(child, module, function)

    for path in sorted((PACKAGE / "store").rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        visit(ast.parse(path.read_text(encoding="utf-8")), module, None)
    return outside, functions


def all_statements() -> dict[str, sa.TextClause]:
    """Statements of the store, by module and name or function."""
    found = dict(constants())
    for place, written in WRITTEN_BY_FUNCTIONS.items():
        found |= {f"{place} {number}": clause for number, clause in enumerate(written(), start=1)}
    return found


def as_postgres_reads(clause: sa.TextClause) -> str:
    """The statement with its parameters as `$1`, `$2`, …"""
    dialect: Any = PGDialect_psycopg  # whose constructor has no types
    return str(clause.compile(dialect=dialect(paramstyle="numeric_dollar")))
