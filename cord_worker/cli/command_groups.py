"""Groups of commands: commands are imported when they are called, and errors become messages and exit codes.

Exit codes: 0 done, 1 error, 2 wrong usage, 3 a spending limit paused the run, 4 a check found something, 78 a restart
cannot help, 130 Ctrl-C, 141 the reader of the output is gone, 143 SIGTERM.
"""

from __future__ import annotations

import errno
import importlib
import inspect
import os
import re
import select
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, NoReturn

import click

from cord_worker.name_suggestions import did_you_mean

_INTERRUPTED = 130
_NO_READER = 141
"""The exit code of a program that SIGPIPE ends. It is not 0, because the command may not have done or reported
everything."""
_FIRST_SENTENCE = re.compile(r".*?(?<!\d)\.(?=\s)|.+")
_CREDENTIALS = re.compile(r"(\w://[^\s/@:]*:)[^\s@]*@")
"""Credentials in a URL; group 1 is what stands before the password."""


def summary(command: click.Command) -> str:
    """The first sentence of the command's help."""
    paragraph = " ".join(inspect.cleandoc(command.help or "").partition("\n\n")[0].split())
    return _FIRST_SENTENCE.match(paragraph + " ")[0].strip() if paragraph else ""  # type: ignore[index]


def _resolve_or_suggest(
    resolve: Callable[[click.Context, list[str]], tuple[str | None, click.Command | None, list[str]]],
    context: click.Context,
    arguments: list[str],
    known: list[str],
) -> tuple[str | None, click.Command | None, list[str]]:
    """Calls `resolve`; its error for an unknown command then names the most similar one of `known`."""
    try:
        return resolve(context, arguments)
    except click.UsageError as error:
        near = did_you_mean(arguments[0], known)
        if not near:
            raise
        raise click.UsageError(f"{error.message.rstrip('.')}:{near}", ctx=error.ctx) from None


class SentenceGroup(click.Group):
    """A group whose help shows the whole first sentence of every command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called. Raises UsageError, with the most similar name, for an unknown one."""
        return _resolve_or_suggest(super().resolve_command, ctx, args, self.list_commands(ctx))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Lists commands in the order of their definition."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(command)) for name, command in self.commands.items()])


class LazyGroup(click.Group):
    """A group that imports a command when it is called.

    `sections` maps a title in the help to commands: name to import path (`module:attribute`).
    """

    def __init__(self, *args: Any, sections: dict[str, dict[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections
        self._import_paths = {name: path for commands in sections.values() for name, path in commands.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of the help."""
        return list(self._import_paths)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Imports the command; None for an unknown name."""
        path = self._import_paths.get(cmd_name)
        if path is None:
            return None
        module, _, attribute = path.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called. Raises UsageError, with the most similar name, for an unknown one."""
        return _resolve_or_suggest(super().resolve_command, ctx, args, self.list_commands(ctx))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists commands by section."""
        for title, commands in self._sections.items():
            rows = []
            for name in commands:
                command = self.get_command(ctx, name)
                if command is not None and not command.hidden:
                    rows.append((name, summary(command)))
            with formatter.section(title):
                formatter.write_dl(rows)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parses the command line; options such as --help print here."""
        with _broken_pipes_kept():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Calls the command."""
        with _broken_pipes_kept():
            return super().invoke(ctx)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs the command line; every error becomes a message and an exit code, a traceback only with --debug."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        from cord_worker.local.limits import raise_file_handles, spare_threads

        raise_file_handles()
        spare_threads()
        is_debugging = "--debug" in (sys.argv[1:] if args is None else args) or os.environ.get("CORD_DEBUG") == "1"
        try:
            # Without standalone mode, ctx.exit(code) returns the code as the value.
            value = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
            if sys.stdout is not None:
                sys.stdout.flush()
        except (Exception, KeyboardInterrupt, SystemExit) as raised:  # noqa: BLE001 - each becomes an exit code
            error = raised.error if isinstance(raised, _KeptBrokenPipe) else raised
            if _is_from_lost_reader(error):
                for stream in filter(_is_without_reader, (sys.stdout, sys.stderr)):
                    _discard_output(stream)
                sys.exit(_NO_READER)
            _end_with(error, is_debugging=is_debugging)
        sys.exit(value if isinstance(value, int) else 0)


class _KeptBrokenPipe(Exception):
    def __init__(self, error: BrokenPipeError) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def _broken_pipes_kept() -> Iterator[None]:
    """Hides BrokenPipeError from Click. Click would end the process without a message, even if the error came from a
    socket and not from the output."""
    try:
        yield
    except BrokenPipeError as error:
        raise _KeptBrokenPipe(error) from error


def _end_with(error: BaseException, *, is_debugging: bool) -> NoReturn:
    """Prints the error and ends the process with its exit code; if `is_debugging`, raises an unexpected error again."""
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        sys.exit(2)
    if isinstance(error, click.NoSuchOption) and not error.possibilities and error.ctx is not None:
        options = [one for one in error.ctx.command.get_params(error.ctx) if isinstance(one, click.Option)]
        known = [name for one in options if not one.hidden for name in one.opts if name[:2] == "--"]
        error = click.UsageError(f"{error.format_message()} Its options are {', '.join(known)}.", ctx=error.ctx)
    if isinstance(error, click.ClickException):
        error.show()
        sys.exit(error.exit_code)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(_INTERRUPTED)
    if is_debugging or not isinstance(error, Exception):
        raise error
    print_any_error(error)
    if _is_disk_error(error):
        _discard_output(sys.stdout)
    sys.exit(getattr(error, "exit_code", 1))


def print_error(error: Exception) -> None:
    """Prints the message of an expected error on standard error, without control characters."""
    from cord_worker.progress import shown_lines

    try:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {shown_lines(str(error))}", err=True)
    except OSError:  # the disk with the log is full: only the exit code is left
        _discard_output(sys.stderr)


def print_any_error(error: Exception) -> None:
    """Prints any error on standard error: for an expected error its message, for a system error its cause, for any
    other error the path of the file with its traceback."""
    from cord_worker.errors import CordError
    from cord_worker.local.limits import limit_that_caused

    if isinstance(error, CordError):
        print_error(error)
    elif isinstance(error, ModuleNotFoundError) and (said := _extra_that_is_missing(error)) is not None:
        print_error(CordError(said))
    elif (limit := limit_that_caused(error)) is not None:
        print_error(CordError(limit))
    elif isinstance(error, OSError) and error.errno is not None:
        what = error.strerror or type(error).__name__
        print_error(CordError(f"{error.filename}: {what}" if error.filename is not None else what))
    else:
        print_error(CordError(_bug_report(error)))


def _extra_that_is_missing(error: ModuleNotFoundError) -> str | None:
    """A sentence on the extra that installs the module that was not found, if there is one."""
    from cord_worker.engines.needed_packages import needed_for

    return needed_for((error.name or "").partition(".")[0])


def _discard_output(stream: IO[str] | None) -> None:
    """Redirects the stream to /dev/null. Otherwise Python would report at exit that it cannot write the text in the
    stream's buffer."""
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_disk_error(error: Exception) -> bool:
    return any(
        isinstance(one, OSError) and one.errno in {errno.ENOSPC, errno.EIO, errno.EDQUOT}
        for one in (error, error.__cause__)
    )


def _is_from_lost_reader(error: BaseException) -> bool:
    """Whether the cause of the error is that nobody reads the output any more (`| head`).

    Libraries wrap BrokenPipeError in other errors, so the whole chain of causes is searched. A socket raises it too, so
    the output streams are tested as well.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, BrokenPipeError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None and (_is_without_reader(sys.stdout) or _is_without_reader(sys.stderr))


def _is_without_reader(stream: IO[str] | None) -> bool:
    """Whether the stream is a pipe or socket whose other end is closed."""
    try:
        poll = select.poll()
        poll.register(-1 if stream is None else stream.fileno(), 0)  # POLLERR and POLLHUP are always reported
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
    except (OSError, ValueError):  # it is closed, or is not a file of the operating system
        return False


def _bug_report(error: Exception) -> str:
    """One line about an unexpected error; writes its traceback to a file."""
    first = " ".join(str(error).split())
    line = f"unexpected {type(error).__name__}: {_without_passwords(first)[:300]}"
    report = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="cordctl-", suffix=".log", encoding="utf-8", errors="backslashreplace", delete=False
        ) as file:
            file.write(_without_passwords(report))
    except OSError:
        return f"{line}. This is a bug in cordctl: run it with CORD_DEBUG=1 for the traceback, and report that"
    return f"{line}. This is a bug in cordctl: please report it with {file.name} (CORD_DEBUG=1 shows the traceback)"


def _without_passwords(text: str) -> str:
    return _CREDENTIALS.sub(r"\1***@", text)
