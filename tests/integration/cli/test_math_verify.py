"""A run whose answers math-verify alone checks: it is recorded, replayed and checked again like any other."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from tests.support.cordctl_process import Cordctl

pytest.importorskip("math_verify")


@pytest.mark.long
def test_a_run_checked_by_math_verify_is_recorded_and_replayed(cordctl: Cordctl) -> None:
    path = cordctl.folder / "cord.toml"
    path.write_text(f'{path.read_text(encoding="utf-8")}\n[verify]\nmethod = "math_verify"\n', encoding="utf-8")
    cordctl("validate", "problems.jsonl", "--config", "cord.toml")
    cordctl("run", "problems.jsonl", "--run", "checked", "-o", "out.jsonl")
    rows = [json.loads(line) for line in (cordctl.folder / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["verification"]["method"] for row in rows} <= {"math_verify", "unequal"}
    assert all(row["correct"] is (row["verification"]["method"] == "math_verify") for row in rows)
    cordctl("replay", "checked")
    verified = json.loads(cordctl("verify-db", "checked", "--answers", "--json").stdout.splitlines()[-1])
    assert (verified["broken"], verified["answers_compared_again"]["compared"]) == (0, len(rows))
    again = json.loads(cordctl("recheck", "checked", "--json").stdout.splitlines()[-1])
    assert (again["checked"], again["rewritten"], again["changes"]) == (len(rows), 0, [])


@pytest.mark.long
def test_a_result_that_its_method_contradicts_is_found(cordctl: Cordctl) -> None:
    path = cordctl.folder / "cord.toml"
    path.write_text(f'{path.read_text(encoding="utf-8")}\n[verify]\nmethod = "math_verify"\n', encoding="utf-8")
    cordctl("run", "problems.jsonl", "--run", "checked", "-o", "out.jsonl")
    engine = sa.create_engine(
        cordctl.environment["CORD_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
    )
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE trajectories SET correct = NULL, "
                "verification = jsonb_set(verification, '{method}', '\"math_verify\"')"
            )
        )
    engine.dispose()
    found = json.loads(cordctl("verify-db", "checked", "--json", exits=4).stdout.splitlines()[-1])
    assert any(one["violations"] for one in found["invariants"] if one["invariant"] == "methods")
