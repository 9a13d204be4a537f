"""Commands in README.md and docs/ exist, with every option that they get; so do make targets, extras and presets."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cord_worker.cli import cli
from tests.support.commands import unknown_of

ROOT = Path(__file__).parents[3]
PAGES = ["README.md", "CONTRIBUTING.md", "deploy/README.md", "deploy/sft/README.md"]
PAGES += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
COMMAND = re.compile(r"(?<![\w./-])cordctl ((?:(?!\s#|&&|[|;`]|\$\().)*)")
"""What follows the name, up to a comment, the end of a code span, or another command."""


def snippets(text: str) -> Iterator[str]:
    """Lines of code blocks, with continued ones joined, and spans of code within sentences and tables."""
    joined = re.sub(r"\\\n\s*", "", text)
    fenced = re.findall(r"^```\w*\n(.*?)^```", joined, re.MULTILINE | re.DOTALL)
    yield from (line for block in fenced for line in block.splitlines())
    yield from re.findall(r"^(?: {4}|\t)(.+)$", joined, re.MULTILINE)
    yield from (" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", joined))


def commands_in(text: str) -> Iterator[list[str]]:
    """The words after `cordctl` in each snippet that calls it."""
    for snippet in snippets(text):
        for words in COMMAND.findall(snippet):
            lexer = shlex.shlex(words, posix=True, punctuation_chars="<>")
            lexer.whitespace_split, lexer.commenters = True, ""
            try:
                yield list(lexer)
            except ValueError:  # a quotation mark that is opened in a sentence
                yield words.split()


@pytest.mark.parametrize("page", PAGES)
def test_named_commands_exist_and_take_the_options_that_they_are_given(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    unknown = [(" ".join(words), missing) for words in commands_in(text) if (missing := unknown_of(words))]
    assert unknown == []


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("    cordctl run x.jsonl -o out.jsonl --jsn   # --no", ["--jsn"]),
        ("Call `cordctl runn` now.", ["runn"]),
        ("    cordctl show best && cordctl db upgrde", ["upgrde"]),
        ("    cordctl cost RUN \\\n        --pricess FILE", ["--pricess"]),
        ("    cordctl init --preset tiny > cord.toml", []),
    ],
)
def test_a_command_or_option_that_does_not_exist_is_found(text: str, unknown: list[str]) -> None:
    assert [word for words in commands_in(text) for word in unknown_of(words)] == unknown


def test_most_commands_are_named() -> None:
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    named = {words[0] for words in commands_in(text) if words}
    context = click.Context(cli)
    assert set(cli.list_commands(context)) - named == set()


@pytest.mark.parametrize("page", PAGES)
def test_named_make_targets_exist(page: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE)) | {"test-postgres"}
    text = (ROOT / page).read_text(encoding="utf-8")
    called = [re.match(r"make((?: [A-Z_]+=\S+)*) ([a-z][\w-]*)", snippet) for snippet in snippets(text)]
    assert [match[2] for match in called if match and match[2] not in targets] == []


@pytest.mark.parametrize("page", PAGES)
def test_named_extras_and_presets_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        extra for named in re.findall(r"(?:cord-worker|'\.|\s\.)\[([\w,-]+)\]", text) for extra in named.split(",")
    }
    assert extras - set(project["optional-dependencies"]) == set()
    presets = set(re.findall(r"--preset ([\w-]+)", text))
    assert presets - {"NAME"} - {path.stem for path in (ROOT / "cord_worker" / "presets").glob("*.toml")} == set()


def test_the_readme_has_the_two_commands_that_do_everything() -> None:
    lines = [line.partition("#")[0].strip() for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()]
    assert {"make demo", "make test"} <= set(lines)
