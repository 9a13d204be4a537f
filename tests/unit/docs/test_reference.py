"""The pages of docs/reference are what the code writes, and name everything that there is.

`make reference` writes them again. The page of the tables needs a database:
tests/integration/store/test_reference_of_tables.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import click
import pytest
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from cord_worker import metrics
from cord_worker.cli import cli, command_groups, exit_codes, interrupts, processes
from cord_worker.config import RunConfig
from cord_worker.config.environment import LIBRARY_VARIABLES, OTHER_VARIABLES, Settings
from cord_worker.coordination.coordinator.table_metrics import TABLE_METRICS
from cord_worker.local.supervisor import DO_NOT_RESTART
from docs.site.index import DOCS, list_for_language_models
from docs.site.reference import FROM_CODE, FROM_DATABASE
from tests.support.doc_snippets import ROOT

FOLDER = DOCS / "reference"
EXITS = {"exit", "_exit", "SystemExit"}
"""What ends a process with the exit code that it is given."""
INTERNAL = {
    "CORD_TEST_": "the prefix of the variables of tests",
    **dict.fromkeys(("PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "USER"), "set for the embedded PostgreSQL's programs"),
    **dict.fromkeys(("HOME", "PYTHONPATH", "PYTHONUNBUFFERED"), "set for processes that the service starts"),
    "CORD_ENGINE_MARK": "marks the processes of vLLM that a worker started",
    **dict.fromkeys(("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "set for workers together with OMP_NUM_THREADS"),
    "TOKENIZERS_PARALLELISM": "set for workers",
    "LC_ALL": "set for the embedded PostgreSQL",
    "LD_LIBRARY_PATH": "passed on to the embedded PostgreSQL",
    "DO_NOT_TRACK": "set for vLLM",
    "SPT_NOENV": "set for vLLM",
    **dict.fromkeys(
        (
            *("VLLM_RPC_BASE_PATH", "VLLM_WORKER_MULTIPROC_METHOD", "VLLM_ENABLE_V1_MULTIPROCESSING"),
            *("VLLM_NO_USAGE_STATS", "VLLM_CONFIGURE_LOGGING", "VLLM_CPU_OMP_THREADS_BIND"),
        ),
        "set for vLLM",
    ),
}
"""Variables that processes of the service set for each other, and why no user needs to know them."""


def page(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """The text below each heading that is one span of code."""
    found = re.split(r"^#{2,3} `(.+)`.*$", text, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


@pytest.mark.parametrize("name", FROM_CODE)
def test_a_page_is_what_the_code_writes(name: str) -> None:
    assert page(name) == FROM_CODE[name](), "run: make reference"


def test_the_list_for_language_models_is_what_the_index_says() -> None:
    assert (DOCS / "llms.txt").read_text(encoding="utf-8") == list_for_language_models(), "run: make reference"


def test_no_other_page_is_in_the_folder() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*FROM_CODE, *FROM_DATABASE}


def commands(command: click.Command = cli, name: str = "cordctl") -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for below in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), below)
            assert found is not None
            yield from commands(found, f"{name} {below}")


def test_every_command_has_a_section_with_each_of_its_options_and_arguments() -> None:
    written = sections(page("command-line.md"))
    there = dict(commands())
    assert set(written) == set(there)
    missing = [
        (name, word)
        for name, command in there.items()
        for parameter in command.params
        for word in (
            [*parameter.opts, *parameter.secondary_opts]
            if isinstance(parameter, click.Option)
            else [parameter.make_metavar(click.Context(command))]
        )
        if (f"`{word}`" if isinstance(parameter, click.Option) else f" {word}") not in written[name]
    ]
    assert missing == []


def keys() -> Iterator[tuple[str, str]]:
    """Every key of cord.toml with the table that holds it, found by the JSON schema rather than by the classes."""
    schema = RunConfig.model_json_schema()
    definitions = schema["$defs"]

    def walk(node: dict[str, Any], name: str) -> Iterator[tuple[str, str]]:
        for key, below in node.get("properties", {}).items():
            found = inner(below)
            if found is None:
                yield name, key
            else:
                yield from walk(*table(found, f"{name}.{key}" if name else key))

    def inner(node: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
        """The table that a key holds, and whether it is one, a list or a mapping."""
        for option in node.get("anyOf", [node]):
            for how, at in (
                ("one", option),
                ("list", option.get("items")),
                ("map", option.get("additionalProperties")),
            ):
                if isinstance(at, dict) and "$ref" in at:
                    return how, definitions[at["$ref"].rpartition("/")[2]]
        return None

    def table(found: tuple[str, dict[str, Any]], name: str) -> tuple[dict[str, Any], str]:
        how, node = found
        return node, {"one": name, "map": f"{name}.NAME", "list": f"[{name}]"}[how]

    yield from walk(schema, "")


def test_every_key_of_the_configuration_file_is_in_the_section_of_its_table() -> None:
    written = sections(page("cord-toml.md"))
    there = list(keys())
    assert len(there) > 80
    assert [(table, key) for table, key in there if f"\n| `{key}` |" not in written.get(f"[{table}]", "")] == []


def test_every_key_has_a_meaning() -> None:
    silent = re.findall(r"^\| `\w+` \|.*\|  \|$", page("cord-toml.md"), re.MULTILINE)
    assert silent == []


def test_every_variable_that_the_code_names_is_on_the_page_or_internal() -> None:
    named = set()
    for source in (ROOT / "cord_worker").rglob("*.py"):
        if {"bench", "reproduce"} & set(source.relative_to(ROOT).parts):
            continue
        text = source.read_text(encoding="utf-8")
        if "environ" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Subscript)
                and isinstance(node.slice, ast.Constant)
                and "environ" in ast.unparse(node)
            ):
                named.add(node.slice.value)
            if isinstance(node, ast.Call) and "environ" in ast.unparse(node.func):
                named |= {one.value for one in node.args[:1] if isinstance(one, ast.Constant)}
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named |= {node.value} if re.fullmatch(r"(CORD|VLLM|HF)_[A-Z_]+", node.value) else set()
    assert {"CORD_DEBUG", "VLLM_CPU_KVCACHE_SPACE", "XDG_RUNTIME_DIR"} <= named
    known = set(re.findall(r"^\| `([A-Z_]+)` \|", page("environment.md"), re.MULTILINE))
    assert named - known - set(INTERNAL) - {"PATH", "TMPDIR", "PATH_INFO"} == set()  # the last is of WSGI


def test_every_variable_of_the_settings_is_on_the_page_and_no_other() -> None:
    known = set(re.findall(r"^\| `([A-Z_]+)` \|", page("environment.md"), re.MULTILINE))
    assert known == {f"CORD_{name.upper()}" for name in Settings.model_fields} | {*OTHER_VARIABLES, *LIBRARY_VARIABLES}


def test_every_metric_that_a_process_serves_is_on_the_page() -> None:
    registry: CollectorRegistry = metrics.REGISTRY
    served = {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}
    named = set(re.findall(r"^\| `(cord_\w+)` \|", page("metrics.md"), re.MULTILINE))
    assert named == served | {one.name for one in TABLE_METRICS}


def test_every_exit_code_of_the_code_is_on_the_page() -> None:
    known = {int(code) for code in re.findall(r"^\| (\d+) \|", page("exit-codes.md"), re.MULTILINE)}
    used = {
        *interrupts._EXIT_CODES.values(),
        command_groups._INTERRUPTED,
        command_groups._NO_READER,
        processes._RESTART_CANNOT_HELP,
        DO_NOT_RESTART,
        exit_codes.FOUND_SOMETHING,
    }
    for source in (ROOT / "cord_worker").rglob("*.py"):
        if "bench" in source.parts:
            continue
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in EXITS:
                used |= {one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, int)}
            if isinstance(node, ast.Assign) and "EXIT_CODE" in ast.unparse(node.targets[0]).upper():
                used |= (
                    {node.value.value}
                    if isinstance(node.value, ast.Constant) and isinstance(node.value.value, int)
                    else set()
                )
    assert used - known == set()
    assert known == set(exit_codes.EXIT_CODES)


def test_the_classes_of_the_configuration_say_what_they_are() -> None:
    def classes(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
        from docs.site.reference.configuration_file import table_of

        for field in kind.model_fields.values():
            inner = table_of(field.annotation)
            if inner is not None:
                yield inner
                yield from classes(inner)

    assert [kind.__name__ for kind in classes(RunConfig) if not (kind.__doc__ or "").strip()] == []
