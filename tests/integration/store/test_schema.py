"""The migrated schema equals the models, in both directions, and every part has a comment."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from cord_worker.errors import SchemaMismatch
from cord_worker.store.database import Database
from cord_worker.store.schema.migration import alembic_config, downgrade, upgrade
from cord_worker.store.schema.tables import Base
from cord_worker.store.schema.version import check_schema, head_revision, revisions


def test_the_migrated_schema_equals_the_models(database: Database) -> None:
    differences = database.run(
        lambda connection: compare_metadata(
            MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True}),
            Base.metadata,
        )
    )
    assert differences == []


def test_downgrading_leaves_nothing_and_upgrading_again_restores_everything(
    database: Database, database_url: str
) -> None:
    def tables(connection: sa.Connection) -> set[str]:
        inspector = sa.inspect(connection)
        return set(inspector.get_table_names()) | set(inspector.get_view_names())

    before = database.run(tables)
    downgrade(database_url, "base")
    try:
        assert database.run(tables) == {"alembic_version"}
        with pytest.raises(SchemaMismatch, match="cordctl db upgrade"):
            check_schema(database)
    finally:
        upgrade(database_url)
    assert database.run(tables) == before
    check_schema(database)


def test_upgrading_twice_changes_nothing(database: Database, database_url: str) -> None:
    upgrade(database_url)
    stored = database.run(
        lambda connection: connection.execute(sa.text("SELECT version_num FROM alembic_version")).all()
    )
    assert [row.version_num for row in stored] == [head_revision()]


def test_a_schema_from_the_future_is_refused(database: Database) -> None:
    def set_revision(revision: str) -> None:
        database.run(
            lambda connection: connection.execute(
                sa.text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision}
            )
        )

    set_revision("9999")
    try:
        with pytest.raises(SchemaMismatch, match="newer version"):
            check_schema(database)
    finally:
        set_revision(head_revision())


def test_every_table_view_and_column_carries_a_comment(database: Database) -> None:
    silent = database.run(
        lambda connection: (
            connection.execute(
                sa.text(
                    """
                SELECT c.relname || coalesce('.' || a.attname, '') AS name
                FROM pg_class c
                JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
                LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                WHERE c.relkind IN ('r', 'v') AND c.relname <> 'alembic_version'
                  AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid, 'pg_class') IS NULL)
                """
                )
            )
            .scalars()
            .all()
        )
    )
    assert silent == []


def test_a_run_that_began_before_the_table_verify_keeps_its_way_of_checking(
    database: Database, database_url: str
) -> None:
    begun = """
        WITH model AS (INSERT INTO models (fingerprint, path, identity) VALUES ('f', 'm', '{}') RETURNING id)
        INSERT INTO runs (name, config, config_fingerprint, prover_model_id, seed, code_version)
        SELECT name, config::jsonb, 'c', model.id, 0, '0'
        FROM model, (VALUES ('checked', '{"run": {"verify_answers": true, "max_active": 3}}'),
                            ('unchecked', '{"run": {"verify_answers": false}}')) AS given(name, config)
    """
    downgrade(database_url, "0001")
    try:
        database.run(lambda connection: connection.execute(sa.text(begun)))
    finally:
        upgrade(database_url)

    def configs(connection: sa.Connection) -> dict[str, object]:
        return {row.name: row.config for row in connection.execute(sa.text("SELECT name, config FROM runs"))}

    assert database.run(configs) == {
        "checked": {"run": {"max_active": 3}, "verify": {"method": "math"}},
        "unchecked": {"run": {}, "verify": {"method": "none"}},
    }
    downgrade(database_url, "0001")
    try:
        before = database.run(configs)
    finally:
        upgrade(database_url)
    assert before == {
        "checked": {"run": {"max_active": 3, "verify_answers": True}},
        "unchecked": {"run": {"verify_answers": False}},
    }


def test_the_files_of_the_migrations_have_the_names_of_their_revisions() -> None:
    scripts = ScriptDirectory.from_config(alembic_config(None))
    assert tuple(reversed([script.revision for script in scripts.walk_revisions()])) == revisions()
    assert scripts.get_current_head() == head_revision()
