"""The root command: commands are imported when they are called, and errors become messages and exit codes.

Exit codes: 0 done, 1 an error that a user can act on, 2 wrong usage, 78 starting it again cannot help, 130
interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

_INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group whose commands live in modules; `sections` maps a title to command names and where they are found."""

    def __init__(self, *args: Any, sections: dict[str, dict[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections
        self._places = {name: place for commands in sections.values() for name, place in commands.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's form
        """Names in the order of the help."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Imports the command."""
        place = self._places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Commands by section."""
        for title, commands in self._sections.items():
            rows = []
            for name in commands:
                command = self.get_command(ctx, name)
                if command is not None and not command.hidden:
                    rows.append((name, command.get_short_help_str(90)))
            with formatter.section(title):
                formatter.write_dl(rows)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs the command line; every expected error is a message and an exit code, never a traceback."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            # Without standalone mode, ctx.exit(code) comes back as the value.
            value = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            sys.exit(_INTERRUPTED)
        except BrokenPipeError:
            # The reader of our output went away (`| head`); Python must not complain of it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except Exception as error:  # noqa: BLE001 - raised again unless a user can act on it
            _explain(error, args)
        sys.exit(value if isinstance(value, int) else 0)


def print_error(error: Exception) -> None:
    """The message of an expected error on standard error; whatever it quotes cannot act on the terminal."""
    from cord_worker.progress import shown_lines

    click.echo(f"{click.style('error:', fg='red', bold=True)} {shown_lines(str(error))}", err=True)


def _explain(error: Exception, args: Sequence[str] | None) -> NoReturn:
    from cord_worker.errors import CordError

    arguments = sys.argv[1:] if args is None else args
    if not isinstance(error, CordError) or "--debug" in arguments or os.environ.get("CORD_DEBUG") == "1":
        raise error
    print_error(error)
    sys.exit(1)
