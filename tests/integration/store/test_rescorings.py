"""Rescorings in the tables: which candidates they take, leases, what is given up, removal, and their comparison."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cord_worker.config import ProverConfig, RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.errors import RunConflict, RunNotFound, StoreError
from cord_worker.export.exporting import Request, export_run
from cord_worker.export.files import ExportError
from cord_worker.export.format import Choices
from cord_worker.export.formats import FORMATS
from cord_worker.operations.rescoring_comparison import ComparedRescoring, compare_rescorings
from cord_worker.store.database import Database
from cord_worker.store.reports.backlog import read_backlog
from cord_worker.store.reports.rescored_problems import rescored_problems
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.runs.lifecycle import cancel_run, pause_run, resume_run
from cord_worker.store.runs.removal import remove_run
from cord_worker.store.runs.rescorings import (
    BegunRescoring,
    begin_rescoring,
    prover_of,
    remove_rescoring,
    rescores_left,
    rescoring_counts,
)
from cord_worker.store.work import rescore, sweep, workers
from cord_worker.store.work.rescore import LeasedRescore, RescoreResult
from cord_worker.store.work.returning import reclaim, return_all
from cord_worker.store.work.values import Due
from tests.support.rows import registered
from tests.support.tables import count

CONFIG = RunConfig.model_validate(
    {
        "models": {"m": {"path": "m", "engine": "instant"}, "n": {"path": "n", "engine": "instant"}},
        "teachers": [{"name": "first", "model": "m"}, {"name": "second", "model": "n"}],
        "prover": {"model": "m"},
        "run": {"max_attempts": 3},
    }
)
OTHER = CONFIG.models["n"].model_copy(update={"system_prompt": "Grade."})
MODEL = OTHER.fingerprint()
PROVER = ProverConfig(model="n")

_CANDIDATE = sa.text(
    """
    INSERT INTO candidates (problem_id, parent_id, step, round, parent_rank, depth, teacher_id, sample, seed,
                            max_tokens, lineage, whole, state, invalid_reason, text, score, rank, kept)
    SELECT :problem, :parent, :step, 0, 0, :step, t.id, :sample, 1, 10, :step || '-' || :sample, false, :state, :reason,
           :text, :score, :sample, :sample = 0
    FROM teachers t WHERE t.ordinal = 0 RETURNING id
    """
)
_DONE = sa.text(
    "UPDATE problems SET state = 'done', step = 2, finished_at = now() WHERE key <> 'unfinished' RETURNING id"
)


def run_with(database: Database, scores: Sequence[Sequence[float | None]]) -> None:
    """A run called `run`: a problem for each sequence, whose two steps have candidates with these scores, and one that
    is not finished."""
    keys = [f"p{number}" for number in range(len(scores))] + ["unfinished"]
    records = [ProblemRecord(key, "What is 1 + 1?", "2", None, {}, f"x:{key}") for key in keys]

    def fill(connection: sa.Connection) -> None:
        enqueue(connection, "run", CONFIG, records)
        problems = list(connection.execute(sa.text("SELECT id FROM problems ORDER BY id")).scalars())
        for problem, found in zip(problems, [*scores, (0.5,)], strict=True):
            parent = None
            for step in (1, 2):
                added = [
                    connection.execute(
                        _CANDIDATE,
                        {
                            "problem": problem,
                            "parent": parent,
                            "step": step,
                            "sample": sample,
                            "state": "unscored" if score is None else "scored",
                            "reason": None,
                            "text": f" step {step}, sample {sample}",
                            "score": score,
                        },
                    ).scalar_one()
                    for sample, score in enumerate(found)
                ]
                parent = added[0]
            connection.execute(
                _CANDIDATE,
                {
                    "problem": problem,
                    "parent": None,
                    "step": 1,
                    "sample": 99,
                    "state": "invalid",
                    "reason": "loop",
                    "text": "a loop",
                    "score": None,
                },
            )
        connection.execute(_DONE)

    database.run(fill)


def begin(database: Database, name: str = "other", **options: Any) -> BegunRescoring:
    return database.run(lambda c: begin_rescoring(c, "run", name, OTHER, PROVER, **options))


def admit(database: Database) -> list[Due]:
    return database.run(rescore.admit)


def claim(
    database: Database, worker: uuid.UUID, problems: Sequence[int], mode: str = "instant", *, exclusive: bool = False
) -> list[LeasedRescore]:
    claimed = database.run(
        lambda c: rescore.claim(c, problems, worker_id=worker, model=MODEL, scoring_mode=mode, exclusive=exclusive),
        single=True,
    )
    return list(claimed.leases)


def finish(database: Database, worker: uuid.UUID, leases: Sequence[LeasedRescore], score: float = 0.25) -> int:
    """Writes the results; returns how many were dropped."""
    results = [
        RescoreResult(one.rescore_id, one.attempt, None, score, 2 * math.log(score), 2, 4, 20, 0, 0.1, score)
        for one in leases
    ]
    run = partial(rescore.finish, results=results, worker_id=worker, scoring_mode="instant")
    return database.run(run, single=True).dropped


def states(database: Database) -> dict[str, int]:
    statement = sa.text("SELECT state, count(*) FROM rescores GROUP BY state")
    return database.run(lambda c: {row[0]: row[1] for row in c.execute(statement)})


def test_valid_candidates_of_finished_problems_are_queued_once(database: Database) -> None:
    run_with(database, [(0.5, 0.4), (0.3,)])
    begun = begin(database)
    assert (begun.created, begun.added, begun.counts.total, begun.counts.left) == (True, 6, 6, 6)
    again = begin(database)
    assert (again.created, again.added, again.counts.total) == (False, 0, 6)
    database.run(lambda c: c.execute(sa.text("UPDATE problems SET state = 'done', finished_at = now()")))
    assert begin(database).added == 2


def test_candidates_of_a_run_without_scores_are_taken_too(database: Database) -> None:
    run_with(database, [(None, None)])
    assert begin(database).added == 4


def test_a_rescoring_keeps_its_prover(database: Database) -> None:
    run_with(database, [(0.5,)])
    begin(database)
    closing = PROVER.model_copy(update={"scoring_template": "</think>So: {answer}"})
    for model, prover in ((CONFIG.models["m"], PROVER), (CONFIG.models["n"], PROVER), (OTHER, closing)):
        with pytest.raises(RunConflict, match="Choose another name with --name"):
            database.run(lambda c, m=model, p=prover: begin_rescoring(c, "run", "other", m, p))
    assert database.run(lambda c: begin_rescoring(c, "run", "closing", OTHER, closing)).created


def test_runs_that_cannot_be_scored_again_are_refused(database: Database) -> None:
    with pytest.raises(RunNotFound):
        begin(database)
    records = [ProblemRecord("p", "What?", "2", None, {}, "x:1")]
    database.run(lambda c: enqueue(c, "run", CONFIG, records))
    with pytest.raises(StoreError, match="no finished problem"):
        begin(database)
    assert count(database, "true", "rescorings") == 0
    database.run(lambda c: cancel_run(c, "run"))
    with pytest.raises(RunConflict, match="cancelled"):
        begin(database)


def test_a_lease_has_what_the_prover_reads_and_its_result_changes_no_candidate(database: Database) -> None:
    run_with(database, [(0.5, 0.4)])
    begin(database)
    (due,) = admit(database)
    assert (due.kind, due.model) == ("rescore", MODEL)
    before = database.run(lambda c: c.execute(sa.text("SELECT * FROM candidates ORDER BY id")).all())
    worker = registered(database)
    leases = claim(database, worker, [due.problem_id])
    assert [one.steps for one in leases] == [
        (" step 1, sample 0",),
        (" step 1, sample 1",),
        (" step 1, sample 0", " step 2, sample 0"),
        (" step 1, sample 0", " step 2, sample 1"),
    ]
    assert {(one.system_prompt, prover_of(one.prover).scoring_template) for one in leases} == {
        ("Grade.", PROVER.scoring_template)
    }
    assert claim(database, worker, [due.problem_id]) == []
    assert finish(database, worker, leases) == 0
    assert finish(database, worker, leases) == 4
    assert states(database) == {"scored": 4}
    assert database.run(lambda c: c.execute(sa.text("SELECT * FROM candidates ORDER BY id")).all()) == before
    assert database.run(lambda c: rescores_left(c, 1)) == 0


def test_only_the_prover_s_model_and_one_scoring_mode_are_taken(database: Database) -> None:
    run_with(database, [(0.5,), (0.5,)])
    begin(database)
    first, second = (due.problem_id for due in admit(database))
    worker = registered(database)
    other = CONFIG.models["m"].fingerprint()
    of_other = database.run(
        lambda c: rescore.claim(c, [first], worker_id=worker, model=other, scoring_mode="instant"), single=True
    )
    assert of_other.leases == []
    assert len(claim(database, worker, [first], "one")) == 2
    assert claim(database, worker, [second], "another") == []
    model_of = sa.text("SELECT model_id FROM rescorings")
    model_id = database.run(lambda c: c.execute(model_of).scalar_one())
    others = database.run(lambda c: workers.find_other_scores(c, model_id, "another"))
    assert [(one.name, one.scoring_mode, one.ending) for one in others] == [
        ("run@other", "one", "cordctl rescore run --remove other")
    ]
    assert database.run(lambda c: workers.find_other_scores(c, model_id, "one")) == []


def test_lost_messages_are_owed_and_leases_of_lost_workers_return(database: Database) -> None:
    run_with(database, [(0.5,)])
    begin(database)
    ((kind, problem, _, model),) = [(due.kind, due.problem_id, due.step, due.model) for due in admit(database)]
    assert admit(database) == []
    assert database.run(sweep.waiting_messages) == {MODEL: 1}
    assert database.run(lambda c: sweep.due_model_work(c, [MODEL], 60.0)) == []
    (owed,) = database.run(lambda c: sweep.due_model_work(c, [MODEL], 0.0))
    assert (owed.kind, owed.problem_id, owed.model) == (kind, problem, model)
    worker = registered(database)
    leases = claim(database, worker, [problem])
    assert database.run(sweep.waiting_messages) == {}
    keys = [one.rescore_id for one in leases]
    assert database.run(lambda c: return_all(c, [worker], forgiven=True, known={"rescores": keys})) == 0
    assert database.run(lambda c: return_all(c, [worker], forgiven=True, known={"candidates": keys})) == 2
    claim(database, worker, [problem])
    database.run(lambda c: workers.mark_stopped(c, worker, "lost"))
    assert database.run(reclaim) == 2
    assert finish(database, worker, leases) == 2
    assert states(database) == {"pending": 2}


def test_the_backlog_counts_queued_pending_and_leased_rescores(database: Database) -> None:
    run_with(database, [(0.5,), (0.5,)])
    begin(database)
    assert [(one.kind, one.waiting, one.in_work) for one in database.run(lambda c: read_backlog(c, 1))][-1:] == [
        ("rescore", 4, 0)
    ]
    first, _ = (due.problem_id for due in admit(database))
    claim(database, registered(database), [first])
    assert ("rescore", 2, 2) in [
        (one.kind, one.waiting, one.in_work) for one in database.run(lambda c: read_backlog(c, 1))
    ]


def test_a_few_problems_wait_at_a_time_and_those_of_a_paused_run_stay(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescore, "_MOST_PROBLEMS", 2)
    run_with(database, [(0.5,)] * 3)
    begin(database)
    begin(database, name="second")
    database.run(lambda c: pause_run(c, "run"))
    assert admit(database) == []
    database.run(lambda c: resume_run(c, "run"))
    due = admit(database)
    assert [one.problem_id for one in due] == [1, 2]
    assert states(database) == {"pending": 8, "queued": 4}
    worker = registered(database)
    database.run(lambda c: pause_run(c, "run"))
    assert claim(database, worker, [1]) == []
    assert database.run(sweep.waiting_messages) == {}
    database.run(lambda c: resume_run(c, "run"))
    assert finish(database, worker, claim(database, worker, [1])) == 0
    assert [one.problem_id for one in admit(database)] == [3]


def test_a_rescore_without_attempts_left_is_given_up_and_retried_on_request(database: Database) -> None:
    run_with(database, [(0.5,)])
    begin(database)
    (due,) = admit(database)
    for attempt in range(3):
        worker = registered(database)
        assert len(claim(database, worker, [due.problem_id], exclusive=attempt == 2)) == 2
        database.run(lambda c, w=worker: return_all(c, [w], forgiven=False))
    assert database.run(sweep.exhausted) == []
    assert len(database.run(rescore.give_up_rescores)) == 2
    counts = database.run(lambda c: rescoring_counts(c, 1))
    assert (counts.invalid, counts.given_up, counts.left) == (2, 2, 0)
    assert count(database, "state = 'done'") == 1
    (compared,) = database.run(lambda c: compare_rescorings(c, ["run@other"]))
    assert (compared.invalid, compared.given_up, compared.left) == (2, 2, 0)
    assert (begin(database).retried, begin(database, retry=True).retried) == (0, 2)
    assert states(database) == {"queued": 2}
    assert count(database, "rescore_attempts = 0 AND digest IS NULL AND scored_at IS NULL", "rescores") == 2


def test_a_rescoring_is_removed_alone_or_with_its_run(database: Database) -> None:
    run_with(database, [(0.5,)])
    begin(database)
    begin(database, name="second")
    with pytest.raises(StoreError, match="did you mean 'other'"):
        database.run(lambda c: remove_rescoring(c, "run", "othr"))
    assert database.run(lambda c: remove_rescoring(c, "run", "other")) == 2
    assert count(database, "true", "rescores") == 2
    database.run(lambda c: pause_run(c, "run"))
    remove_run(database, "run")
    assert (count(database, "true", "rescores"), count(database, "true", "rescorings")) == (0, 0)


def rescored(database: Database, new: dict[float | None, float]) -> ComparedRescoring:
    """Scores every candidate of `run` again: the new score by the old one."""
    begin(database)
    worker = registered(database)
    for due in admit(database):
        for lease in claim(database, worker, [due.problem_id]):
            old = database.run(
                lambda c, one=lease: c.execute(
                    sa.text("SELECT score FROM candidates WHERE id = :id"), {"id": one.candidate_id}
                ).scalar_one()
            )
            finish(database, worker, [lease], new[old])
    (compared,) = database.run(lambda c: compare_rescorings(c, ["run@other", "run"]))
    return compared


def test_scores_are_compared_within_decisions(database: Database) -> None:
    run_with(database, [(0.9, 0.5, 0.1), (0.8, 0.4), (0.7,)])
    compared = rescored(database, {0.9: 0.6, 0.5: 0.3, 0.1: 0.2, 0.8: 0.25, 0.4: 0.5, 0.7: 0.7})
    rows = database.run(lambda c: rescored_problems(c, 1, is_scored=True))
    assert [row.correlation for row in rows] == [pytest.approx(1.0), pytest.approx(-1.0), None]
    assert [(row.decisions, row.other_first) for row in rows] == [(2, 0), (2, 2), (0, 0)]
    assert compared.correlation is not None
    assert compared.correlation.mean == pytest.approx(0.0)
    assert compared.other_first is not None
    assert compared.other_first.mean == 0.5
    assert compared.difference is not None
    assert compared.difference.mean == pytest.approx(((1.1 / 3 - 0.5) + (0.375 - 0.6) + 0.0) / 3)
    assert (compared.problems, compared.scored, compared.invalid) == (3, 12, 0)
    assert compared.best_accuracy is None


def test_an_export_of_candidates_has_the_scores_of_a_finished_rescoring(database: Database, tmp_path: Path) -> None:
    run_with(database, [(0.9, 0.5)])
    begin(database)
    request = Request(format=FORMATS["candidates"], choices=Choices(rescoring="other"))
    with pytest.raises(ExportError, match="run@other has 4 candidates left"):
        export_run(database, "run", str(tmp_path / "out.jsonl"), request)
    rescored(database, {0.9: 0.6, 0.5: 0.3})
    export_run(database, "run", str(tmp_path / "out.jsonl"), request)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["score"], row["rescore_score"], row["rescore_answer_tokens"]) for row in rows] == [
        (0.9, 0.6, 2),
        (0.5, 0.3, 2),
        (None, None, None),
        (0.9, 0.6, 2),
        (0.5, 0.3, 2),
    ]
    export_run(database, "run", str(tmp_path / "plain.jsonl"), Request(format=FORMATS["candidates"]))
    assert "rescore" not in (tmp_path / "plain.jsonl").read_text()


def test_an_export_counts_the_candidates_that_a_rescoring_could_not_score(database: Database, tmp_path: Path) -> None:
    run_with(database, [(0.9, 0.5)])
    rescored(database, {0.9: 0.6, 0.5: 0.3})
    given_up = "UPDATE rescores SET state = 'invalid', invalid_reason = 'given_up', score = NULL WHERE candidate_id = 1"
    database.run(lambda c: c.execute(sa.text(given_up)))
    request = Request(format=FORMATS["candidates"], choices=Choices(rescoring="other"))
    report = export_run(database, "run", str(tmp_path / "out.jsonl"), request)
    assert report.without_rescore == 1
    assert "1 candidate that the rescoring could not score" in report.sentence()


def test_equal_scores_share_their_rank_and_a_tie_is_no_change(database: Database) -> None:
    run_with(database, [(0.9, 0.5, 0.1)])
    compared = rescored(database, {0.9: 0.4, 0.5: 0.4, 0.1: 0.2})
    assert compared.correlation is not None
    assert compared.correlation.mean == pytest.approx(math.sqrt(3) / 2)  # ranks 3, 2, 1 against 2.5, 2.5, 1
    assert compared.other_first is not None
    assert compared.other_first.mean == 0.0


def test_equal_new_scores_have_no_correlation(database: Database) -> None:
    run_with(database, [(0.9, 0.5)])
    assert rescored(database, {0.9: 0.4, 0.5: 0.4}).correlation is None


def test_another_winner_is_counted_among_the_finished_trajectories(database: Database) -> None:
    run_with(database, [(0.9, 0.5), (0.8, 0.6)])
    ends = """
        INSERT INTO trajectories (problem_id, candidate_id, steps, score, finish, winner)
        SELECT problem_id, id, 2, score, 'think_end', sample = 0 FROM candidates WHERE step = 2 AND state = 'scored'
        AND problem_id < 3
    """
    database.run(lambda c: c.execute(sa.text(ends)))
    compared = rescored(database, {0.9: 0.4, 0.5: 0.6, 0.8: 0.7, 0.6: 0.1})
    assert compared.other_winner is not None
    assert compared.other_winner.mean == 0.5


def test_of_samples_the_accuracy_of_the_best_ones_is_shown(database: Database) -> None:
    run_with(database, [(None, None), (None, None)])
    config = sa.text("UPDATE runs SET config = jsonb_set(config, '{search,pipeline}', '\"sample\"')")
    ends = """
        INSERT INTO trajectories (problem_id, candidate_id, steps, finish, correct)
        SELECT problem_id, id, 2, 'think_end', sample = 1 FROM candidates WHERE step = 2 AND problem_id < 3
    """
    database.run(lambda c: (c.execute(config), c.execute(sa.text(ends))))
    begin(database)
    worker = registered(database)
    for due in admit(database):
        for lease in claim(database, worker, [due.problem_id]):
            finish(database, worker, [lease], 0.6 if lease.steps[-1].endswith("1") else 0.4)
    (compared,) = database.run(lambda c: compare_rescorings(c, ["run"]))
    assert (compared.score, compared.correlation, compared.other_first) == (None, None, None)
    assert compared.best_accuracy is not None
    assert compared.accuracy_gain is not None
    assert (compared.best_accuracy.mean, compared.accuracy_gain.mean) == (1.0, 0.5)
