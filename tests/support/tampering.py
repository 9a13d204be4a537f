"""Finished runs whose tables are edited, and the findings of `cordctl replay` and `verify-db` in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import sqlalchemy as sa

from cord_worker.config import ProverConfig, RunConfig
from cord_worker.coordination.run_context import RunContext, RunContexts
from cord_worker.dataset import ProblemRecord
from cord_worker.engines.instant import ALIKE
from cord_worker.errors import ConfigError
from cord_worker.operations.recomputing import wrong_run
from cord_worker.operations.replaying import first_violations, replay_problem
from cord_worker.operations.table_verification import verify_runs
from cord_worker.store.audit.stored_decisions import started_problems
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import content_hash, enqueue
from cord_worker.store.runs.rescorings import begin_rescoring
from cord_worker.store.runs.runs import RunRow, resolve_run
from tests.support.cluster import Cluster
from tests.support.configurations import INSTANT, INTEGRATOR, REWARD
from tests.support.tables import count
from tests.support.tampering_edits import Edit

PROBLEMS = 3
REFEREE = '[models.referee]\npath = "referee"\nengine = "instant"\n'
CONFIGS = {
    "cord": INSTANT,
    "alike": INSTANT,
    "judged": INSTANT.replace("[search]\n", '[search]\nselection = "reward_model"\n')
    + f'{REWARD}{REFEREE}[verify]\nmethod = "judge"\n[verify.judge]\nmodel = "referee"\n',
    "merged": INSTANT.replace("[search]\n", '[search]\npipeline = "integration"\ntrajectories = 2\n') + INTEGRATOR,
    "tree": INSTANT.replace("[search]\n", '[search]\npipeline = "mcts"\ntrajectories = 3\n'),
    "arithmetic": INSTANT.replace("[prover]\n", '[prover]\nscore = "mean_probability"\nscore_full_stop = true\n'),
    "unchecked": INSTANT + '[verify]\nmethod = "none"\n',
}


@contextmanager
def finished_runs(folder: Path, url: str, broker_url: str) -> Iterator[Database]:
    """Finished runs: of the paper's search, of equal texts, of a reward model and an LLM judge, of an integrator, of
    a tree search, of scores that are mean probabilities, and one whose answers are not checked. They are enqueued
    before any worker begins. The first one is scored again by two provers."""
    with Cluster(folder, url, broker_url, CONFIGS["judged"]) as cluster:
        database = Database(url)
        (folder / "others").mkdir()
        for name, text in CONFIGS.items():
            records = [
                ProblemRecord(
                    f"problem-{n}",
                    f"What is {n} + {n}?{f' {ALIKE}' if name == 'alike' else ''}",
                    str(2 * n),
                    "Two numbers are added." if n else None,
                    {"level": n, "weight": 1.5e300, "say": 'a "quoted"\tline\n'},
                    f"x:{n}",
                )
                for n in range(PROBLEMS)
            ]
            config = RunConfig.parse(text, source=name, folder=folder)
            database.run(partial(enqueue, name=name, config=config, records=records))
        cluster.start()
        with Cluster(folder / "others", url, broker_url, CONFIGS["merged"]) as others:
            others.start("merger")
            cluster.wait_until(lambda: count(database, "finished_at IS NULL") == 0, 100)
        for prover in ("alpha", "beta"):
            model, settings = cluster.config.models[prover], ProverConfig(model=prover)
            database.run(partial(begin_rescoring, run_name="cord", name=prover, model=model, prover=settings))
        cluster.wait_until(lambda: count(database, "state <> 'scored'", "rescores") == 0, 60)
        assert count(database, "true", "rescores") > 0
        cluster.kill_all()
        yield database
        database.close()


@dataclass(frozen=True, slots=True)
class Found:
    """What each of the commands reports."""

    replay: list[str]
    verify: list[str]


def differences_of(connection: sa.Connection, context: RunContext, problem: int) -> list[str]:
    """What `replay` reports of the problem."""
    difference = replay_problem(connection, context, problem).difference
    return (
        [str(difference)] if difference is not None else [str(one) for one in first_violations(connection, [problem])]
    )


@cache
def look(database: Database, edit: Edit, *, examples: int = 5) -> Found:
    """Findings while the edit is there; it is undone afterwards. The result is cached, because several tests use the
    same edit."""
    with database.transaction() as connection:
        run = resolve_run(connection, edit.run)
        problem = started_problems(connection, run.id)[1]
        other = ProblemRecord("problem-1", "What is 1 + 1?", "7", "Two numbers are added.", {}, "x:1")
        statement = edit.sql.replace("{content_hash}", content_hash(other))
        assert connection.execute(sa.text(statement), {"problem": problem}).rowcount > 0
        run = resolve_run(connection, edit.run)
        replayed = [one for one in started_problems(connection, run.id) if one == problem]
        found = _look(connection, database, run, replayed, examples)
        connection.rollback()
    return found


def look_everywhere(connection: sa.Connection, database: Database, name: str) -> Found:
    """Findings in all problems of the run, as this connection sees them."""
    run = resolve_run(connection, name)
    return _look(connection, database, run, started_problems(connection, run.id), examples=3)


def _look(connection: sa.Connection, database: Database, run: RunRow, problems: Sequence[int], examples: int) -> Found:
    replayed = [f"run {run.name}: {one}" for one in wrong_run(connection, run)]
    try:
        context = RunContexts(database).of_run(run.id, connection)
    except ConfigError:
        assert replayed
    else:
        for problem in problems:
            replayed += differences_of(connection, context, problem)
    verified = verify_runs(connection, RunContexts(database), [run], everything=False, examples=examples)
    return Found(replayed, [str(violation) for report in verified.broken for violation in report.examples])
