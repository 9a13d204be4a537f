"""The page of the command line: every command with its arguments and options, from the Click commands."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import Enum

import click

from cord_worker.cli import cli
from docs.site.reference import markdown

NAME = "cordctl"
_NO_DEFAULT = (None, False, ())


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that is not hidden, after the group that holds it, with its whole name."""

    def walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
        yield name, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for below in command.list_commands(context):
                found = command.get_command(context, below)
                if found is not None and not found.hidden:
                    yield from walk(found, f"{name} {below}")

    yield from walk(cli, NAME)


def page() -> str:
    """The page."""
    introduction = (
        f"Every command of `{NAME}` with its arguments and options. `{NAME} COMMAND --help` prints the same in a "
        "terminal. [Exit codes](exit-codes.md) are the same for all commands, and [configuration](../configuration.md) "
        "says what they read."
    )
    return "\n".join([markdown.head("Command line", introduction), *(_section(*one) for one in commands())])


def _section(name: str, command: click.Command) -> str:
    level = "##" if name.count(" ") < 2 else "###"
    pieces = " ".join(command.collect_usage_pieces(click.Context(command, info_name=name)))
    parts = [f"{level} {markdown.code(name)}\n", f"    {name} {pieces}\n", _help(command.help)]
    options = [
        parameter for parameter in command.params if isinstance(parameter, click.Option) and not parameter.hidden
    ]
    if options:
        rows = [(_names(option), _value(option), _default(option), _meaning(option)) for option in options]
        parts.append(markdown.table(("option", "value", "default", "meaning"), rows))
    return "\n".join(part for part in parts if part)


def _help(text: str | None) -> str:
    """The help; a paragraph that begins with \\b keeps its lines, as code."""
    blocks = []
    for block in inspect.cleandoc(text or "").split("\n\n"):
        if block.startswith("\b\n"):
            lines = block.removeprefix("\b\n").splitlines()
            least = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
            blocks.append("\n".join(f"    {line[least:]}".rstrip() for line in lines))
        elif block:
            blocks.append(markdown.paragraph(_in_markdown(block)))
    return "\n\n".join(blocks) + "\n" if blocks else ""


def _in_markdown(text: str) -> str:
    return re.sub(r"<(?=\w)", "&lt;", text)


def _names(option: click.Option) -> str:
    return ", ".join(markdown.code(name) for name in (*option.opts, *option.secondary_opts))


def _value(option: click.Option) -> str:
    kind = option.type
    if option.is_flag or option.count:
        return ""
    if isinstance(kind, click.Choice):
        words = [str(choice.value if isinstance(choice, Enum) else choice) for choice in kind.choices]
        return ", ".join(markdown.code(word) for word in words)
    value = option.metavar or (option.name or "").upper() if isinstance(kind, click.types.FuncParamType) else None
    value = (
        option.metavar
        or value
        or {"integer range": "integer", "float range": "number", "float": "number"}.get(kind.name, kind.name)
    )
    bounds = [
        f"{sign} {bound}" if isinstance(bound, int) else f"{sign} {bound:g}"
        for sign, bound in (
            (">" if getattr(kind, "min_open", False) else "≥", getattr(kind, "min", None)),
            ("<" if getattr(kind, "max_open", False) else "≤", getattr(kind, "max", None)),
        )
        if bound is not None
    ]
    shown = " ".join([value, *([", ".join(bounds)] if bounds else [])])
    return markdown.cell(shown) + (", repeatable" if option.multiple else "")


def _default(option: click.Option) -> str:
    if option.required:
        return "required"
    default = option.default
    if default is None or default in _NO_DEFAULT or callable(default) or repr(default).startswith("Sentinel"):
        return ""
    if option.is_flag:
        return markdown.code((option.opts if default else option.secondary_opts)[0])
    if isinstance(default, tuple | list):
        return markdown.code(", ".join(str(one) for one in default))
    return markdown.code(default.value if isinstance(default, Enum) else default)


def _meaning(option: click.Option) -> str:
    return markdown.cell(option.help or "")
