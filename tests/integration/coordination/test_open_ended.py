"""Open-ended answers, multiple choice, quantities and other languages, from a dataset file to the export."""

from __future__ import annotations

import json
from pathlib import Path

import sqlalchemy as sa

from cord_worker.dataset import FieldMapping
from cord_worker.export.exporting import export_run
from cord_worker.operations.enqueue import DatasetSource, enqueue_dataset
from cord_worker.store.database import Database
from tests.support.cluster import Cluster
from tests.support.configurations import INSTANT
from tests.support.tables import count

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
VERIFY = """
[verify]
reference_field = "final_decision"
tolerance = { relative = 0.01 }
[verify.judge]
model = "judge"
"""


def test_datasets_of_every_kind_are_exported_as_they_were_read(
    tmp_path: Path, database: Database, database_url: str, broker_url: str
) -> None:
    files = sorted(FIXTURES.glob("*.jsonl"))
    given = {path.stem: [json.loads(line) for line in path.read_text("utf-8").splitlines()] for path in files}
    total = sum(map(len, given.values()))
    with Cluster(tmp_path, database_url, broker_url, INSTANT + VERIFY) as cluster:
        cluster.start()
        for path in files:
            mapping = FieldMapping(answer="long_answer" if path.stem == "pubmedqa_like" else None)
            enqueue_dataset(database, DatasetSource(path, mapping), cluster.config, path.stem)
        cluster.wait_until(lambda: count(database, "state IN ('done', 'failed')") == total, 120)
    assert count(database, "state = 'done'") == total
    for name, rows in given.items():
        export_run(database, name, str(tmp_path / f"{name}.jsonl"))
        text = (tmp_path / f"{name}.jsonl").read_text("utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        assert [line["id"] for line in lines] == [row["id"] for row in rows]
        for line, row in zip(lines, rows, strict=True):
            assert line["question"] == row["question"]
            assert json.dumps(row["question"], ensure_ascii=False) in text
            assert line["metadata"]["right"] == row["right"]
            methods = {"judge"} if row.get("verify") == "judge" else {"unequal", "math", "exact", "choice", "numeric"}
            assert line["verification"]["method"] in methods
            assert line["correct"] is not None
    kinds = database.run(
        lambda c: c.execute(sa.text("SELECT run, requests FROM model_usage WHERE kind = 'verdict'")).all()
    )
    assert [tuple(row) for row in kinds] == [("pubmedqa_like", 1)]
