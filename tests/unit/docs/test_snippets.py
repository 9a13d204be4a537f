"""The pieces of code of all pages: shell that parses, TOML and JSON of known keys, Python that compiles.

SQL is run by tests/integration/store/test_reference_of_tables.py, the Python of docs/python-client.md and the README by
tests/integration/client/test_client_docs.py, and the examples by tests/integration/cli/test_examples.py.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import textwrap
import tomllib
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import click
import pytest
from pydantic import TypeAdapter, ValidationError

from cord_worker.cli import cli
from cord_worker.config import RunConfig
from cord_worker.config.prices import Prices
from docs.site.reference.configuration_file import table_of
from tests.support.doc_snippets import PAGES, blocks, fenced, text_of

WRITTEN_BY_HAND = [page for page in PAGES if not page.startswith("docs/reference/")]
CALL = re.compile(r"(?:[A-Z_]+=\S+ )*cordctl (?!\S+ ─)(.+)")
"""A line that calls the command; a drawn arrow is no call."""
SHELL = re.compile(r"(?:[A-Z_]+=\S+ )*(?:cordctl|make|pip|python3?|psql|export|mkdir|trl|curl|docker|git|for|cat)\s")


def lines_of_shell(page: str) -> Iterator[str]:
    """Lines of blocks that begin with a program, with continued ones joined."""
    languages = {content: language for language, content in fenced(text_of(page))}
    for block in blocks(text_of(page)):
        if languages.get(block, "sh") in ("sh", "bash", "console", ""):
            joined = re.sub(r"\\\n\s*", " ", block)
            yield from (line for line in _closed(joined.splitlines()) if SHELL.match(line))


def _closed(lines: Iterable[str]) -> Iterator[str]:
    """The lines, those within quotation marks that stay open joined to the one that opens them."""
    begun: list[str] = []
    for line in lines:
        begun.append(line if begun else line.strip())
        text = "\n".join(begun)
        try:
            shlex.split(text, comments=True)
        except ValueError:
            if SHELL.match(text):
                continue
        yield text
        begun = []


def calls(page: str) -> Iterator[list[str]]:
    """The words of every call of `cordctl`, without redirections and what follows a pipe."""
    for line in lines_of_shell(page):
        for part in re.split(r"(?:;|&&|\|\|?)\s+", line.partition(" # ")[0]):
            match = CALL.match(part.strip())
            if match is None:
                continue
            words = []
            for word in shlex.split(match[1], comments=True):
                if re.match(r"\d?[<>]", word):
                    break
                words.append(word)
            yield words


def refusal(words: list[str]) -> str | None:
    """What the command line says against these words; None if it takes them."""
    command: click.Command = cli
    rest = list(words)
    try:
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            found = command.get_command(click.Context(command), rest[0])
            if found is None:
                return f"no command {rest[0]}"
            command, rest = found, rest[1:]
        command.make_context("cordctl", rest)
    except click.UsageError as error:
        return error.format_message()
    except click.exceptions.Exit:
        pass
    return None


@pytest.mark.parametrize("page", WRITTEN_BY_HAND)
def test_the_command_line_takes_every_call_of_a_page(page: str) -> None:
    assert [(words, said) for words in calls(page) if (said := refusal(words)) is not None] == []


def test_a_call_that_is_refused_is_found() -> None:
    assert refusal(["trim", "RUN", "--above", "much"]) is not None
    assert refusal(["export"]) is not None
    assert refusal(["enqueu", "problems.jsonl"]) == "no command enqueu"
    assert refusal(["db", "upgrade", "--yes-please"]) is not None
    assert refusal(["priority", "RUN", "5"]) is None


def test_most_pages_have_calls() -> None:
    assert sum(1 for page in WRITTEN_BY_HAND for _ in calls(page)) > 120


def test_the_shell_takes_every_line_of_it() -> None:
    lines = [line.replace("…", "X") for page in WRITTEN_BY_HAND for line in lines_of_shell(page)]
    assert len(lines) > 170
    loops = [line for line in lines if not line.startswith("for ") or line.endswith("done")]
    for line in loops:
        result = subprocess.run(["bash", "-n", "-c", line], capture_output=True, text=True, check=False)
        assert result.returncode == 0, (line, result.stderr)


def toml_documents(page: str) -> Iterator[dict[str, Any]]:
    """The blocks that are TOML: marked so, or beginning with a table or a key of cord.toml."""
    languages = {content: language for language, content in fenced(text_of(page))}
    for block in blocks(text_of(page)):
        language = languages.get(block)
        if language == "toml" or (
            language is None and re.match(r"(?:#.*\n)*(?:\[\[?[a-z]\w*[\w.-]*\]|\w+ = [\"\d\[{tf])", block)
        ):
            yield tomllib.loads(block)


def wrong_keys(document: dict[str, Any]) -> list[str]:
    """Keys and values of a part of cord.toml, or of a whole file of prices, that the service would refuse."""
    if "currency" in document:
        try:
            Prices.model_validate(document)
        except ValidationError as error:
            return [str(error)]
        return []
    return list(_wrong(document, RunConfig, ""))


def _wrong(document: dict[str, Any], kind: Any, path: str) -> Iterator[str]:
    for key, value in document.items():
        field = kind.model_fields.get(key)
        if field is None:
            yield f"{path}{key}: no such key"
            continue
        below = table_of(field.annotation)
        if below is None:
            try:
                of: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
                TypeAdapter(of).validate_python(value)
            except ValidationError as error:
                yield f"{path}{key}: {error.errors()[0]['msg']}"
            continue
        inner = value if isinstance(value, list) else value.values() if "dict" in str(field.annotation) else [value]
        for one in inner:
            yield from _wrong(one, below, f"{path}{key}.")


@pytest.mark.parametrize("page", WRITTEN_BY_HAND)
def test_the_configuration_takes_every_key_and_value_of_a_page(page: str) -> None:
    assert [wrong for document in toml_documents(page) for wrong in wrong_keys(document)] == []


def test_enough_toml_is_found_and_a_wrong_key_or_value_in_it() -> None:
    assert sum(1 for page in WRITTEN_BY_HAND for _ in toml_documents(page)) >= 8
    assert wrong_keys({"serch": {}}) == ["serch: no such key"]
    assert wrong_keys({"models": {"a": {"pat": "x"}}}) == ["models.pat: no such key"]
    assert wrong_keys({"search": {"beam_width": 0}}) != []
    assert wrong_keys({"teachers": [{"name": "a", "temperature": "warm"}]}) != []


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_compiles_and_its_json_can_be_read(page: str) -> None:
    for language, content in fenced(text_of(page)):
        if language == "python" and not page.startswith("docs/reference/"):
            compile(content, page, "exec")
        if language == "json":
            json.loads(content)
    for block in blocks(text_of(page)):
        if re.match(r"(?:import|from) \w+", block):
            compile(textwrap.dedent(block), page, "exec")
