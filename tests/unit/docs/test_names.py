"""No page names an option, key, table, column, metric or exit code that does not exist.

Commands with their options, variables of the environment, modules and links are in the other files of this folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from cord_worker.cli import cli
from cord_worker.cli.exit_codes import EXIT_CODES
from cord_worker.config.environment import Settings
from docs.site.reference.configuration_file import tables as configuration_tables
from tests.support.doc_snippets import PAGES, spans, text_of

OF_OTHER_PROGRAMS = {
    *("--eos_token", "--accelerate_config", "--dataset_name", "--output_dir", "--config"),  # trl
}
"""Options of other programs that pages name alone."""
OF_TESTS = {"--fast", "--only", "--list", "--runs", "--hypothesis-profile", "--scripts", "--output"}
"""Options of the project's own programs for tests."""
NOT_TABLES = {"asy", "gMASK"}
"""Spans in brackets that are tags in texts."""
METRIC = re.compile(r"\bcord_[a-z][a-z0-9_]*\b")
NOT_METRICS = {"cord_worker", "cord_sent_at", "cord_migrator", "cord_service", "cord_toml"}


def all_options(command: click.Command = cli) -> Iterator[str]:
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from all_options(found)


OPTIONS = {*all_options(), "--help"}
TABLES = dict(configuration_tables())
KEYS = {(name.strip("[]"), key) for name, kind in TABLES.items() for key in kind.model_fields}
METRICS = set(METRIC.findall(text_of("docs/reference/metrics.md")))


@pytest.mark.parametrize("page", PAGES)
def test_an_option_that_stands_alone_belongs_to_some_command(page: str) -> None:
    named = {match[0] for span in spans(text_of(page)) if (match := re.match(r"--[a-z][\w-]*", span))}
    assert named - OPTIONS - OF_OTHER_PROGRAMS - OF_TESTS == set()


@pytest.mark.parametrize("page", PAGES)
def test_a_table_of_the_configuration_that_is_named_exists(page: str) -> None:
    known = (
        {re.sub(r"\.NAME\b", "", name.strip("[]")) for name in TABLES} | {"project", "tool.importlinter"} | NOT_TABLES
    )
    named = {
        re.sub(r"\.(?:NAME|[a-z]*[A-Z-][\w-]*)(?=\.|$)", "", match[1])
        for span in spans(text_of(page))
        if (match := re.fullmatch(r"\[\[?([a-z][\w.-]*)\]\]?", span))
    }
    assert named - known == set()


@pytest.mark.parametrize("page", PAGES)
def test_a_key_of_an_engine_that_is_named_with_its_table_exists(page: str) -> None:
    """Those of the other tables: tests/unit/test_json_schema.py."""
    known = {(name.rpartition(".")[2], key) for name, key in KEYS}
    named = {
        (match[1], match[2])
        for span in spans(text_of(page))
        if (match := re.fullmatch(r"(openai|vllm)\.([a-z]\w*)(?: = .*)?", span)) and match[2] != "py"
    }
    assert named - known == set()


@pytest.mark.parametrize("page", PAGES)
def test_a_column_that_is_named_with_its_table_exists(page: str) -> None:
    views = re.findall(r"^### `(\w+)`$", text_of("docs/reference/tables.md"), re.MULTILINE)
    columns = {
        name: set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
        for name, section in zip(
            views, re.split(r"^### `\w+`$", text_of("docs/reference/tables.md"), flags=re.MULTILINE)[1:], strict=True
        )
    }
    named = [
        (match[1], match[2])
        for span in spans(text_of(page))
        if (match := re.fullmatch(rf"({'|'.join(columns)})\.([a-z_]+)", span))
        and match[2] not in ("py", "json", "jsonl")
    ]
    keys_too = {(name.strip("[]"), key) for name, key in KEYS}
    assert [one for one in named if one[1] not in columns[one[0]] and one not in keys_too] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/reference/metrics.md"])
def test_a_metric_that_is_named_exists(page: str) -> None:
    named = {re.sub(r"_(?:sum|count|bucket)$", "", name) for name in METRIC.findall(text_of(page))}
    known = METRICS | {name.removesuffix("_total") for name in METRICS} | NOT_METRICS
    assert {name for name in named if name not in known and not name.startswith("cord_test")} == set()


@pytest.mark.parametrize("page", PAGES)
def test_an_exit_code_that_is_named_exists(page: str) -> None:
    text = text_of(page)
    named = {int(code) for code in re.findall(r"\b[Ee]xit(?:s with| code|ed with) (\d+)\b", text)}
    assert named - set(EXIT_CODES) == set()


def test_there_is_something_to_find() -> None:
    assert len(OPTIONS) > 120
    assert len(METRICS) > 20
    assert len(KEYS) > 80
    assert {"database_url"} <= set(Settings.model_fields)
