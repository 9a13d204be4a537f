"""Whether a command of cordctl exists and takes the options that it is given."""

from __future__ import annotations

import re

import click

from cord_worker.cli import cli


def unknown_of(words: list[str]) -> list[str]:
    """The first word that should be a command and is none; if there is none, the options that the command does not
    take."""
    command: click.Command = cli
    context = click.Context(command)
    rest = [word.rstrip(",.:") for word in words]
    while isinstance(command, click.Group) and rest and re.fullmatch(r"[a-z][a-z-]*", rest[0]):
        found = command.get_command(context, rest[0])
        if found is None:
            return [rest[0]]
        command, rest = found, rest[1:]
    if command.context_settings.get("ignore_unknown_options"):
        return []
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    given = [word.partition("=")[0] for word in rest if re.fullmatch(r"--?[a-z][\w-]*(=.*)?", word, re.DOTALL)]
    return [option for option in given if option not in known | {"-h", "--help"}]
