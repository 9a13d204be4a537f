"""Enqueuing: all or nothing, in the order of the dataset, and once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa

from cord_worker.config import RunConfig, RunTable, VerifyConfig
from cord_worker.coordination.run_context import RunContexts
from cord_worker.dataset import ProblemRecord, RejectedRecord
from cord_worker.dataset.records import Json
from cord_worker.errors import DatasetError, RunConflict
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import EnqueueReport, enqueue
from cord_worker.store.runs.lifecycle import cancel_run, pause_run


def config(**search: int) -> RunConfig:
    return RunConfig.model_validate(
        {
            "models": {
                "one": {"path": "one", "engine": "instant"},
                "two": {"path": "two", "engine": "instant"},
            },
            "teachers": [{"name": "first", "model": "one"}, {"name": "second", "model": "two", "temperature": 0.9}],
            "prover": {"model": "two"},
            "search": search,
        }
    )


def record(key: str, question: str = "What is 1 + 1?", line: int = 1) -> ProblemRecord:
    return ProblemRecord(key, question, "2", None, {"level": 3, "text": "三\U0001f600"}, f"data.jsonl:{line}")


def put(
    database: Database, records: Iterable[ProblemRecord | RejectedRecord], name: str = "run", **search: int
) -> EnqueueReport:
    items = list(records)
    return database.run(lambda connection: enqueue(connection, name, config(**search), items))


def stored(database: Database, column: str = "key") -> list[object]:
    return database.run(
        lambda connection: list(
            connection.execute(sa.text(f"SELECT {column} FROM problems ORDER BY position")).scalars()
        )
    )


def test_problems_are_stored_in_the_order_of_the_dataset(database: Database) -> None:
    keys = [f"problem {number}" for number in (5, 3, 9, 1)]
    report = put(database, [record(key, line=line) for line, key in enumerate(keys, start=1)])
    assert (report.created, report.added, report.already, report.rejected) == (True, 4, 0, 0)
    assert stored(database) == keys
    assert stored(database, "position") == [0, 1, 2, 3]
    assert stored(database, "attributes")[0] == {"level": 3, "text": "三\U0001f600"}


def test_enqueuing_the_same_problems_again_adds_nothing(database: Database) -> None:
    put(database, [record("a"), record("b")])
    report = put(database, [record("a"), record("b"), record("c")])
    assert (report.created, report.added, report.already) == (False, 1, 2)
    assert stored(database) == ["a", "b", "c"]


def test_a_repeated_id_is_named_with_both_places_and_nothing_is_enqueued(database: Database) -> None:
    with pytest.raises(DatasetError) as caught:
        put(database, [record("a", line=1), record("b", line=2), record("a", "Another?", line=3)])
    assert "data.jsonl:3" in str(caught.value)
    assert "data.jsonl:1" in str(caught.value)
    assert stored(database) == []


@pytest.mark.parametrize(("repeated", "ends_with_dots"), [(20, False), (21, True)])
def test_the_first_20_repeated_ids_are_named(database: Database, repeated: int, ends_with_dots: bool) -> None:
    with pytest.raises(DatasetError) as caught:
        put(database, [record("a", line=line) for line in range(1, repeated + 2)])
    named = str(caught.value).partition("\nNothing was enqueued")[0].splitlines()
    assert len(named) == 20 + ends_with_dots
    assert (named[-1] == "…") == ends_with_dots


def test_another_problem_under_a_known_id_is_refused(database: Database) -> None:
    put(database, [record("a")])
    with pytest.raises(DatasetError, match="already holds another problem"):
        put(database, [record("a", "Something else?"), record("b", line=2)])
    assert stored(database) == ["a"]


@pytest.mark.parametrize(
    ("before", "after", "is_another"),
    [
        ({"verify": "math"}, {"verify": "exact"}, True),
        ({}, {"verify": "choice"}, True),
        ({"final": "yes"}, {"final": "no"}, True),
        ({"final": "yes"}, {}, True),
        ({"verify": "math"}, {}, False),  # a row without a method is checked by `math`
        ({"final": ""}, {"final": "2"}, False),  # 2 is the answer
        ({"level": 3}, {"level": 4}, False),
    ],
)
def test_a_problem_that_is_checked_by_another_method_is_another_problem(
    database: Database, before: dict[str, Json], after: dict[str, Json], is_another: bool
) -> None:
    checked = config().model_copy(update={"verify": VerifyConfig(reference_field="final")})

    def put_one(attributes: dict[str, Json]) -> EnqueueReport:
        row = ProblemRecord("a", "What is 1 + 1?", "2", None, attributes, "data.jsonl:1")
        return database.run(lambda connection: enqueue(connection, "run", checked, [row]))

    put_one(before)
    if is_another:
        with pytest.raises(DatasetError, match="already holds another problem"):
            put_one(after)
    else:
        assert put_one(after).already == 1


def test_a_bad_row_stops_the_enqueuing_unless_bad_rows_are_skipped(database: Database) -> None:
    rows: list[ProblemRecord | RejectedRecord] = [
        record("a", line=1),
        RejectedRecord("data.jsonl:2", "answer", "is empty", {"answer": ""}),
        record("a", line=3),
        record("b", line=4),
    ]
    with pytest.raises(DatasetError, match=r"data\.jsonl:2"):
        put(database, rows)
    assert stored(database) == []

    rejected: list[RejectedRecord] = []
    report = database.run(lambda connection: enqueue(connection, "run", config(), rows, on_rejected=rejected.append))
    assert (report.added, report.rejected) == (2, 2)
    assert [row.location for row in rejected] == ["data.jsonl:2", "data.jsonl:3"]
    assert stored(database) == ["a", "b"]


def test_a_run_keeps_the_configuration_it_was_started_with(database: Database) -> None:
    put(database, [record("a")])
    with pytest.raises(RunConflict, match="another configuration"):
        put(database, [record("b")], beam_width=2)
    assert stored(database) == ["a"]
    put(database, [record("b")], name="another run", beam_width=2)
    assert stored(database) == ["a", "b"]


def dated(day: str | None) -> RunConfig:
    return config().model_copy(update={"run": RunTable.model_validate({} if day is None else {"date": day})})


def run_dates(database: Database) -> list[object]:
    def read(connection: sa.Connection) -> list[object]:
        kept = sa.text("SELECT prompt_date FROM runs ORDER BY id")
        ids = connection.execute(sa.text("SELECT id FROM runs ORDER BY id")).scalars().all()
        contexts = RunContexts(database)
        seen = [contexts.of_run(run_id, connection).date for run_id in ids]
        assert seen == list(connection.execute(kept).scalars())
        return list(seen)

    return database.run(read)


def test_a_run_keeps_the_date_on_which_it_was_enqueued(database: Database) -> None:
    before = datetime.now(UTC).date()
    put(database, [record("a")])
    assert run_dates(database)[0] in (before, datetime.now(UTC).date())
    database.run(lambda c: c.execute(sa.text("UPDATE runs SET prompt_date = '2026-01-31'")))  # some days ago
    assert put(database, [record("a"), record("b")]).added == 1
    assert run_dates(database) == [date(2026, 1, 31)]


def test_a_date_that_is_set_belongs_to_the_identity_of_a_run(database: Database) -> None:
    for day, name in (("2026-03-04", "march"), ("2026-04-05", "april")):
        database.run(lambda c, day=day, name=name: enqueue(c, name, dated(day), [record("a")]))
    assert run_dates(database) == [date(2026, 3, 4), date(2026, 4, 5)]
    with pytest.raises(RunConflict):
        database.run(lambda c: enqueue(c, "march", dated("2026-04-05"), [record("b")]))
    assert dated("2026-03-04").fingerprint() != dated(None).fingerprint() == config().fingerprint()


def test_a_cancelled_run_takes_no_more_problems(database: Database) -> None:
    put(database, [record("a")])
    database.run(lambda connection: cancel_run(connection, "run"))
    with pytest.raises(RunConflict, match="cancelled"):
        put(database, [record("b")])
    assert stored(database, "state") == ["cancelled"]


def test_teachers_and_models_are_stored_once_each(database: Database) -> None:
    put(database, [record("a")], name="one run")
    put(database, [record("a")], name="another run", beam_width=2)

    def rows(connection: sa.Connection) -> tuple[list[str], list[tuple[str, int, str]]]:
        models = list(connection.execute(sa.text("SELECT path FROM models ORDER BY path")).scalars())
        teachers = connection.execute(
            sa.text(
                """SELECT t.name, t.ordinal, m.path FROM teachers t JOIN models m ON m.id = t.model_id
                JOIN runs r ON r.id = t.run_id WHERE r.name = 'one run' ORDER BY t.ordinal"""
            )
        )
        return models, [tuple(row) for row in teachers]

    assert database.run(rows) == (["one", "two"], [("first", 0, "one"), ("second", 1, "two")])


def test_pausing_a_run_does_not_wait_for_a_dataset_that_is_being_enqueued(database: Database) -> None:
    put(database, [record("first")])

    def pause(connection: sa.Connection) -> bool:
        connection.execute(sa.text("SET LOCAL lock_timeout = '2s'"))
        return pause_run(connection, "run")

    def records() -> Iterator[ProblemRecord]:
        yield record("second")
        assert database.run(pause)
        yield record("third")

    with database.transaction() as connection:
        enqueue(connection, "run", config(), records())
    assert stored(database) == ["first", "second", "third"]
