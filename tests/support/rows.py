"""Rows that tests of the store begin with."""

from __future__ import annotations

import uuid

from cord_worker.store.database import Database
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.work import workers
from tests.support.settings import search_settings

SMALL_SEARCH = search_settings(
    beam_width=2,
    samples_per_teacher=1,
    max_steps=3,
    thinking_tokens=100,
    step_tokens=10,
    loop_ngram=5,
    loop_repeats=5,
    max_rounds=2,
)


def registered(database: Database, role: WorkerRole = WorkerRole.MODEL) -> uuid.UUID:
    """Key of a registered, living process that hosts no model."""
    worker_id = uuid.uuid4()
    database.run(lambda c: workers.register(c, worker_id, role, hostname="here", pid=1, model_id=None))
    return worker_id
