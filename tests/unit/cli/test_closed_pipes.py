"""A command whose output nobody reads any more (`| head`) ends at once, silently, with one exit code."""

from __future__ import annotations

import socket
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cord_worker.cli.command_groups import LazyGroup
from tests.support.closed_pipes import without_reader

CORDCTL = (sys.executable, "-m", "cord_worker.cli")
COMMANDS = (
    ("--help",),
    ("init",),
    ("check", "--reference", "1", "--answer", "1"),
    ("check", "--reference", "1", "--answer", "2", "--json"),
    ("bench", "--help"),
)


def test_every_way_to_print_ends_with_the_code_of_a_closed_pipe() -> None:
    ended = without_reader([(*CORDCTL, *arguments) for arguments in COMMANDS])
    assert dict(zip(COMMANDS, ended, strict=True)) == dict.fromkeys(COMMANDS, (141, ""))


@pytest.mark.parametrize("what", ["click", "rich", "bytes", "another error"])
def test_no_library_changes_the_exit_code(what: str) -> None:
    script = (
        "import sys, click\n"
        "from cord_worker.cli.command_groups import LazyGroup\n"
        "from cord_worker.errors import CordError\n"
        "from cord_worker.progress import console\n"
        "@click.command()\n"
        "def printing():\n"
        "    if sys.argv[1] == 'click': click.echo('a')\n"
        "    if sys.argv[1] == 'rich': console().print('a')\n"
        "    if sys.argv[1] == 'bytes': sys.stdout.buffer.write(b'a'); sys.stdout.buffer.flush()\n"
        "    try:\n        click.echo('a')\n"
        "    except OSError as error:\n        raise CordError('it cannot be written') from error\n"
        "group = LazyGroup(name='group', sections={'': {'printing': '__main__:printing'}})\n"
        "group.main(['printing'])\n"
    )
    assert without_reader([(sys.executable, "-c", script, what)]) == [(141, "")]


def test_a_socket_that_breaks_is_an_error_while_somebody_reads_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    group = LazyGroup(name="group", sections={"": {"send": f"{__name__}:send"}})
    monkeypatch.setattr(group, "get_command", lambda _context, _name: send)
    result = CliRunner().invoke(group, ["send"])
    assert result.exit_code == 1
    with subprocess.Popen(
        (sys.executable, "-c", "from tests.unit.cli.test_closed_pipes import send_in_group as s; s()"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: Broken pipe" in errors


@click.command()
def send() -> None:
    one, other = socket.socketpair()
    other.close()
    one.sendall(b"a")


def send_in_group() -> None:
    """The command `send` as a program."""
    LazyGroup(name="group", sections={"": {"send": f"{__name__}:send"}}).main(["send"])
