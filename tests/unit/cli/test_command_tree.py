"""The commands as one language: whole sentences, JSON everywhere, one name for one thing."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from cord_worker.cli import cli
from cord_worker.cli.command_groups import summary
from cord_worker.cli.exit_codes import FOUND_SOMETHING
from cord_worker.cli.options import NumberRange

WITHOUT_JSON = {
    "init": "prints a cord.toml",
    "schema": "prints JSON",
    "completion": "prints a script for a shell",
    "worker": "logs until SIGTERM",
    "coordinator": "logs until SIGTERM",
    "flower": "becomes another program",
    "watch": "draws on the terminal",
    "db psql": "runs another program",
    "view": "serves until Ctrl-C",
}
CHANGING = {"pause", "resume", "cancel", "recheck", "rescore", "retry", "rm", "priority", "trim"}
"""Commands that change a run, or make one of it."""
SEVERAL = {"compare", "cost"}
"""Commands of several runs; `compare` needs at least two."""


def tree(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield " ".join((*path, name)), command
        if isinstance(command, click.Group):
            yield from tree(command, (*path, name))


COMMANDS = dict(tree())
PLAIN = {name: command for name, command in COMMANDS.items() if not isinstance(command, click.Group)}


def options(command: click.Command) -> dict[str, click.Option]:
    return {name: option for option in command.params if isinstance(option, click.Option) for name in option.opts}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_summary_is_one_whole_sentence(name: str) -> None:
    sentence = summary(COMMANDS[name])
    assert sentence.endswith(".")
    assert not sentence.endswith("..")
    assert sentence[0].isupper()
    assert "…" not in sentence
    assert 15 < len(sentence) < 100


@pytest.mark.parametrize("path", [(), ("bench",), ("db",)])
def test_a_list_of_commands_cuts_no_summary(path: tuple[str, ...]) -> None:
    text = " ".join(CliRunner().invoke(cli, [*path, "--help"]).output.split())
    begins = " ".join((*path, ""))
    for name, command in COMMANDS.items():
        if name.startswith(begins) and " " not in name.removeprefix(begins):
            assert summary(command) in text
    assert "..." not in text.replace("[ARGS]...", "")


@pytest.mark.parametrize("name", PLAIN)
def test_every_command_that_prints_something_takes_json(name: str) -> None:
    assert ("--json" in options(PLAIN[name])) is (name not in WITHOUT_JSON)


def test_run_is_optional_for_reading_and_required_for_changing() -> None:
    found = {}
    for name, command in PLAIN.items():
        for argument in command.params:
            if isinstance(argument, click.Argument) and argument.name in {"run", "runs"}:
                assert (argument.nargs == -1) is (name in SEVERAL)
                found[name] = argument.required
    changing = {name for name in found if name in CHANGING}
    assert changing == CHANGING
    assert {name for name, required in found.items() if required} == CHANGING | {"compare"}
    assert {"status", "stats", "cost", "export", "replay", "verify-db"} <= set(found)


def test_one_option_has_one_meaning_and_one_short_form() -> None:
    by_name: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    targets: dict[str, set[str | None]] = defaultdict(set)
    for command in PLAIN.values():
        for option in command.params:
            if isinstance(option, click.Option):
                long = next(name for name in option.opts if name.startswith("--"))
                by_name[long].add(tuple(sorted(option.opts)))
                targets[long].add(option.name)
    assert {name: forms for name, forms in by_name.items() if len(forms) > 1} == {}
    assert {name: names for name, names in targets.items() if len(names) > 1} == {}
    assert by_name["--output"] == {("--output", "-o")}


@pytest.mark.parametrize("name", PLAIN)
def test_shared_options_say_the_same_everywhere(name: str) -> None:
    found = options(PLAIN[name])
    for shared in ("--json", "--state-dir", "--yes"):
        if shared in found:
            assert found[shared].help == SHARED[shared].help, shared
    if "-o" in found:
        assert "--output" in found


def shared_options() -> dict[str, click.Option]:
    return {"--json": options(PLAIN["runs"])["--json"], "--yes": options(PLAIN["rm"])["--yes"]} | {
        "--state-dir": options(PLAIN["runs"])["--state-dir"]
    }


SHARED = shared_options()


def test_help_names_the_exit_code_of_every_check_that_can_find_something() -> None:
    checks = {}
    for name, command in PLAIN.items():
        assert command.callback is not None
        if "FOUND_SOMETHING" in inspect.getsource(inspect.unwrap(command.callback)):
            checks[name] = " ".join([command.help or "", *(one.help or "" for one in options(command).values())])
    assert set(checks) == {
        *("bench families", "check", "contaminated", "doctor", "recheck", "replay", "validate", "verify-db")
    }
    says = re.compile(rf"\b(?:[Ee]xits?\s+with|with|exit\s+code\s+is\s+then)\s+{FOUND_SOMETHING}\b")
    assert [name for name, text in checks.items() if not says.search(text)] == []


@pytest.mark.parametrize("name", PLAIN)
def test_every_option_has_a_help_text(name: str) -> None:
    poor = {}
    for option in options(PLAIN[name]).values():
        text = option.help or ""
        first = text.split(" ", 1)[0]
        is_phrase = len(text.split()) >= 3 and text.endswith(".") and "  " not in text and first not in {"Of", "For"}
        if not option.hidden and not is_phrase:
            poor[option.opts[0]] = text
    assert poor == {}


@pytest.mark.parametrize("name", PLAIN)
def test_numbers_are_finite(name: str) -> None:
    for parameter in PLAIN[name].params:
        if isinstance(parameter.type, click.types.FloatParamType):
            assert isinstance(parameter.type, NumberRange), parameter.name
