"""The JSON schema of cord.toml accepts what the service accepts, and knows every key of it."""

from __future__ import annotations

import ast
import datetime
import json
import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from cord_worker.cli import cli
from cord_worker.config import RunConfig
from cord_worker.config.json_schema import cord_toml_schema
from cord_worker.errors import ConfigError
from cord_worker.presets import PRESETS, preset_text
from tests.support.configurations import INSTANT, INTEGRATOR, REWARD, SEARCHES, config_of

ROOT = Path(__file__).parents[2]
SCHEMA = cord_toml_schema()
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*/*.toml"))


def mistakes(text: str, schema: dict[str, Any] = SCHEMA) -> list[str]:
    """What the schema finds in the TOML text; dates are text for it, as for the editors."""
    document = json.loads(json.dumps(tomllib.loads(text), default=datetime.date.isoformat))
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in Draft202012Validator(schema).iter_errors(document)
    ]


def tables_of(kind: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    """Every table below a settings class with its path; `*` stands for a name or a number."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield path, kind
        for name, field in kind.model_fields.items():
            yield from tables_of(field.annotation, (*path, name))
    elif inner := get_args(kind):
        below = (*path, "*") if getattr(kind, "__origin__", None) in (dict, list) else path
        for one in inner:
            yield from tables_of(one, below)


TABLES = dict(tables_of(RunConfig))


def table_in_schema(path: tuple[str, ...]) -> dict[str, Any]:
    """The part of the schema for the table at `path`."""
    found: dict[str, Any] = SCHEMA
    for part in path:
        kind = {"object": "additionalProperties", "array": "items"}[found["type"]]
        found = found[kind] if part == "*" else found["properties"][part]
        if "$ref" in found:
            found = SCHEMA["$defs"][found["$ref"].rpartition("/")[2]]
    return found


def without_required(schema: Any) -> Any:
    """The schema for a part of a cord.toml."""
    if isinstance(schema, dict):
        return {key: without_required(value) for key, value in schema.items() if key != "required"}
    return [without_required(one) for one in schema] if isinstance(schema, list) else schema


def configurations_of_tests() -> dict[str, str]:
    """Every text in the tests that is a whole cord.toml which the service accepts, by its place."""
    found = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "[[teachers]]" in node.value:
                try:
                    RunConfig.parse(node.value, source="", folder=Path("/nowhere"))
                except ConfigError:
                    continue
                found[f"{path.relative_to(ROOT)}:{node.lineno}"] = node.value
    return found


def snippets_of_docs() -> dict[str, str]:
    """Every block of TOML in the pages, by its place; a file of prices as the table [prices]."""
    found = {}
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", path.read_text(encoding="utf-8"), re.MULTILINE)
        for block in map(textwrap.dedent, blocks):
            if begin := re.search(r"^(?:currency|\[+[a-z][\w.-]*\]+)", block, re.MULTILINE):
                text = block[begin.start() :].partition("\nEND\n")[0]
                text = re.sub(r"^\[models", "[prices.models", text, flags=re.MULTILINE) if "gpu_hour" in text else text
                text = re.sub(r"^(?=currency)", "[prices]\n", text, flags=re.MULTILINE)
                found[f"{path.relative_to(ROOT)}: {block.strip().splitlines()[0]}"] = text
    return found


OF_TESTS = configurations_of_tests()
OF_DOCS = snippets_of_docs()


def test_the_command_prints_the_schema_and_the_schema_is_valid() -> None:
    printed = CliRunner().invoke(cli, ["schema"])
    assert printed.exit_code == 0, printed.output
    assert json.loads(printed.stdout) == SCHEMA
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_accepted_as_printed_and_with_every_offered_setting_and_table(name: str) -> None:
    text = preset_text(name)
    assert mistakes(text) == []
    offered = re.compile(r"^# (?=\[?[a-z_.]+(?:\]| = ))", re.MULTILINE)
    assert len(offered.findall(text)) > 40
    assert mistakes(offered.sub("", text)) == []


def test_what_the_service_accepts_in_tests_is_accepted() -> None:
    assert len(OF_TESTS) > 8
    assert {place: found for place, text in OF_TESTS.items() if (found := mistakes(text))} == {}


@pytest.mark.parametrize("search", SEARCHES)
def test_every_kind_of_search_is_accepted(search: str) -> None:
    assert mistakes(config_of(search)) == []
    assert mistakes(INSTANT + INTEGRATOR + REWARD) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=[f"{path.parent.name}/{path.name}" for path in EXAMPLES])
def test_examples_are_accepted(path: Path) -> None:
    assert mistakes(path.read_text(encoding="utf-8")) == []


def test_parts_of_cord_toml_in_the_pages_are_accepted() -> None:
    assert len(OF_DOCS) > 8
    schema = without_required(SCHEMA)
    assert {place: found for place, text in OF_DOCS.items() if (found := mistakes(text, schema))} == {}


@pytest.mark.parametrize("path", TABLES, ids=".".join)
def test_a_table_has_all_its_keys_with_what_they_mean_and_refuses_others(path: tuple[str, ...]) -> None:
    table = table_in_schema(path)
    fields = TABLES[path].model_fields
    assert list(table["properties"]) == list(fields)
    assert table.get("required", []) == [name for name, field in fields.items() if field.is_required()]
    assert table["additionalProperties"] is False
    for name, field in fields.items():
        assert table["properties"][name].get("description") == field.description
    found = [error.message for error in Draft202012Validator({**SCHEMA, **table}).iter_errors({"no_such_key": 1})]
    assert any("no_such_key" in message for message in found)


def test_every_key_that_the_pages_name_is_in_the_schema() -> None:
    tables = "search|verify|prover|reward|binary|integration|run|prices"
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    named = {
        (table, key)
        for page in pages
        for table, key in re.findall(rf"`({tables})\.(\w+)\b(?!\()", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    assert {(table, key) for table, key in named if key not in table_in_schema((table,))["properties"]} == set()


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("beam_width = 3", "beam_with = 3", "search: Additional properties"),
        ("beam_width = 3", 'beam_width = "3"', "search.beam_width: '3' is not of type 'integer'"),
        ("beam_width = 3", "beam_width = 0", "search.beam_width: 0 is less than the minimum of 1"),
        ("beam_width = 3", 'finished = "second"', "search.finished: 'second' is not one of"),
        ("temperature = 0.9", "temperatur = 0.9", "teachers.2: Additional properties"),
        ('engine = "instant"', 'engine = "instant"\nbatchsize = 4', "models.alpha: Additional properties"),
        ("[search]", "[serach]", ": Additional properties"),
    ],
)
def test_a_mistake_is_found_at_its_key(old: str, new: str, found: str) -> None:
    assert any(mistake.startswith(found) for mistake in mistakes(INSTANT.replace(old, new, 1)))


def test_no_value_may_be_null_because_toml_has_no_null() -> None:
    assert "null" not in json.dumps(SCHEMA)
