"""Exit codes that several commands share (docs/errors-and-exit-codes.md)."""

from __future__ import annotations

FOUND_SOMETHING = 4
"""A check was made and found something. Exit code 1 means instead that the command failed, so nothing is known."""

EXIT_CODES = {
    0: "Done.",
    1: "An error that you can correct; `rescore` with candidates given up; `db check` of another schema.",
    2: "Wrong usage: an option, an argument, a missing `--yes`.",
    3: "`run`: the run is paused, because it has reached its spending limit; `cordctl resume` continues it with a "
    "higher one.",
    FOUND_SOMETHING: "A check was made and found something: `contaminated`, `validate`, `doctor`, `verify-db`, "
    "`replay`, `recheck` of changed rows, `check --strict`, `bench families`. With every other code but 0 nothing is "
    "known.",
    70: "A coordinator with a thread that hangs: start it again.",
    78: "A worker or coordinator that can never start like this: configuration, model, schema, the wrong database, "
    "role or password, a limit of the machine. (A database without tables is waited for, two minutes long; then the "
    "code is 1.) CORD_HOPELESS_EXIT_CODE sets another code instead.",
    130: "Interrupted with Ctrl-C.",
    141: "Nobody reads the output any more (`head -1` behind a pipe): the command stops there, without a message, as a "
    "program that SIGPIPE ends; 0 if all of its output was written before.",
    143: "Interrupted with SIGTERM.",
}
"""The exit codes of all commands and processes, and what each means; docs/reference/exit-codes.md is made of it."""
