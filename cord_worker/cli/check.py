"""`cordctl check` and `cordctl recheck`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cord_worker.cli.exit_codes import FOUND_SOMETHING
from cord_worker.cli.options import NumberRange, json_option, print_json, read_settings, state_dir_option
from cord_worker.display_text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cord_worker.operations.recheck import RecheckResult
    from cord_worker.verify import CheckResult, Rule
    from cord_worker.verify.pairs import CheckedPair, PairFigures

_METHODS = ("math", "exact", "choice", "numeric", "math_verify")
_WORDS = {True: "right", False: "wrong", None: "undecided"}
_PROGRESS_SECONDS = 10.0
"""Pause between two lines of progress."""
_MOST_CHARACTERS = 200
"""Longest text in a printed line."""


@click.command()
@click.argument("pairs", required=False, type=click.Path(path_type=Path, allow_dash=True), metavar="[PAIRS.jsonl]")
@click.option("--reference", help="The reference: the known answer.")
@click.option("--answer", help="The text to check: a final answer, or a text that contains one.")
@click.option("--question", help="The question; the order of a list may depend on it.")
@click.option(
    "--method", type=click.Choice(_METHODS), help="How answers are compared (default: that of --config, else math)."
)
@click.option(
    "--ordered/--unordered",
    default=None,
    help="Whether the order of a list counts (default: by type and question).",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Take method, tolerance and order from [verify] in this cord.toml (default: none).",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    help="Pairs checked at once (default: the number of processors).",
)
@click.option(
    "--timeout",
    type=NumberRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Time limit in seconds for the check of one pair.",
)
@click.option("--strict", is_flag=True, help="Exit with 4 if a pair differs, or if the single answer is not right.")
@json_option
@click.pass_context
def check(
    context: click.Context,
    pairs: Path | None,
    reference: str | None,
    answer: str | None,
    question: str | None,
    method: str | None,
    ordered: bool | None,
    config_path: Path | None,
    processes: int | None,
    timeout: float,
    strict: bool,
    as_json: bool,
) -> None:
    """Check an answer against its reference, or a file of pairs, as a run would.

    \b
      cordctl check --reference '3/4' --answer 'So it is $0.75$.'
      cordctl check pairs.jsonl --json | tail -n 1

    For one pair it prints the type of the reference, the final answers that were found, the result and the reason.

    PAIRS.jsonl holds one object per line: reference, answer, and optionally expected (true, false, or null if no result
    is clearly right), method and question; - reads standard input. The command prints the pairs whose result is not the
    expected one (wrong ones accepted, right ones refused, undecided ones), then those without expected, then the
    counts. With --json every line is an object, and the last one has pairs, right_refused_share (of those expected
    true, undecided ones included), wrong_accepted_share (of those expected false) and undecided_share (of all).

    Exits with 1 if a line is not a valid pair; such lines are listed, and nothing is checked. With --strict, exits with
    4 if a result is not the expected one. Exits with 0 in all other cases.
    """
    if pairs is not None and (reference is not None or answer is not None):
        raise click.UsageError("give a file of pairs, or --reference and --answer, not both")
    if pairs is None and (reference is None or answer is None):
        lacking = [name for name, text in (("--reference", reference), ("--answer", answer)) if text is None]
        raise click.UsageError(
            f"{lacking[0]} is missing: --reference and --answer go together"
            if len(lacking) == 1
            else "give a file of pairs, or --reference and --answer"
        )
    if pairs is not None and question is not None:
        raise click.UsageError("--question goes with --reference and --answer; in a file it is a field of each pair")
    rule = _rule(config_path, method, ordered)
    if reference is not None and answer is not None:
        as_expected = _check_one(reference, answer, rule, question, timeout, as_json=as_json)
    else:
        assert pairs is not None
        as_expected = _check_file(pairs, rule, processes, timeout, as_json=as_json)
    context.exit(FOUND_SOMETHING if strict and not as_expected else 0)


def _rule(config_path: Path | None, method: str | None, ordered: bool | None) -> Rule:
    from dataclasses import replace

    from cord_worker.verify.rule import DEFAULT_RELATIVE, Method, Rule, rule_of

    rule = Rule(relative=DEFAULT_RELATIVE)
    if config_path is not None:
        from cord_worker.config import RunConfig
        from cord_worker.errors import ConfigError

        verify = RunConfig.load(config_path).verify
        if method is None and verify.method not in _METHODS:
            raise ConfigError(
                f"{config_path}: verify.method is {verify.method!r}, which is not a comparison: choose one with "
                "--method"
            )
        rule = rule_of(verify, method or verify.method)
    if method is not None:
        rule = replace(rule, method=Method(method))
    return rule if ordered is None else replace(rule, ordered=ordered)


def _check_one(reference: str, answer: str, rule: Rule, question: str | None, timeout: float, *, as_json: bool) -> bool:
    from cord_worker.verify import AnswerChecker

    with AnswerChecker(timeout) as checker:
        result = checker.check(answer, reference, rule, question)
    if as_json:
        found = {"reference": reference, "answer": answer, "correct": result.correct, **result.to_json()}
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        for name, value in _result_lines(result):
            click.echo(f"{name:<10}{value}")
    return result.correct is True


def _result_lines(result: CheckResult) -> Iterable[tuple[str, str]]:
    from cord_worker.progress import shown

    yield "type", result.type or "-"
    yield "readings", "none" if not result.readings else shown(result.readings[0])
    for reading in [*dict.fromkeys(result.readings)][1:]:
        yield "", shown(reading)
    yield "result", f"{_WORDS[result.correct]} ({result.method})"
    if result.detail:
        yield "why", shown(result.detail)


def _check_file(path: Path, rule: Rule, processes: int | None, timeout: float, *, as_json: bool) -> bool:
    from cord_worker.verify.pairs import PairFigures, checked_pairs, read_pairs

    pairs = read_pairs(path)
    figures = PairFigures()
    listed: list[CheckedPair] = []
    printed_at = time.monotonic()
    for checked in checked_pairs(pairs, rule, processes=processes, timeout_seconds=timeout):
        figures.add(checked)
        if checked.differs or not checked.pair.has_expected:
            listed.append(checked)
        if time.monotonic() - printed_at > _PROGRESS_SECONDS:
            printed_at = time.monotonic()
            click.echo(f"{figures.pairs:,} of {counted(len(pairs), 'pair')}", err=True)
    for checked in sorted(listed, key=lambda one: one.severity):
        click.echo(json.dumps(checked.to_json(), ensure_ascii=False) if as_json else _difference(checked))
    click.echo(json.dumps(figures.to_json()) if as_json else _sentence(figures))
    return not figures.differing


def _difference(checked: CheckedPair) -> str:
    pair, result = checked.pair, checked.result
    expected = f"expected {_WORDS[pair.expected]}, found " if pair.has_expected else ""
    lines = [
        f"line {pair.line}: {expected}{_WORDS[result.correct]} ({result.method})",
        f"    reference  {_short(pair.reference)}" + ("" if result.type is None else f"   [{result.type}]"),
        f"    answer     {_short(pair.answer)}",
        f"    readings   {', '.join(map(_short, dict.fromkeys(result.readings))) or 'none'}",
    ]
    return "\n".join([*lines, *([f"    why        {_short(result.detail)}"] if result.detail else [])])


def _short(text: str) -> str:
    from cord_worker.progress import shown

    return shown(text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…")


def _sentence(figures: PairFigures) -> str:
    shares = figures.to_json()
    return (
        f"{counted(figures.pairs, 'pair')}, {figures.differing:,} differ: "
        f"right refused {figures.right_refused:,} of {figures.expected_right:,} "
        f"({100 * shares['right_refused_share']:.2f} %), "
        f"wrong accepted {figures.wrong_accepted:,} of {figures.expected_wrong:,} "
        f"({100 * shares['wrong_accepted_share']:.2f} %), "
        f"undecided {figures.undecided:,} of {figures.pairs:,} ({100 * shares['undecided_share']:.2f} %)"
    )


@click.command()
@click.argument("run")
@click.option("--dry-run", is_flag=True, help="Print what would change, and write nothing.")
@click.option(
    "--judged", is_flag=True, help="Also check answers that the LLM judge decided after an undecided comparison."
)
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    help="Answers checked at once (default: the number of processors).",
)
@click.option(
    "--timeout",
    type=NumberRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Time limit in seconds for the check of one answer.",
)
@state_dir_option
@json_option
@click.pass_context
def recheck(
    context: click.Context,
    run: str,
    dry_run: bool,
    judged: bool,
    processes: int | None,
    timeout: float,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Check the stored answers of RUN again by the current rules, without a model, and store changes.

    Only finished problems are checked. A check that ends without a result (too long, or a crash) changes nothing. If
    the command is killed or interrupted, call it again: it continues. Once it has finished, calling it again changes
    nothing. The earlier result of an answer is kept in its verification (`rechecked`). Verdicts of the LLM judge stay;
    with --judged, those given after an undecided comparison are replaced if the comparison decides now.

    Rows that were changed after the service wrote them (docs/provenance.md) are listed and left alone; the exit code is
    then 4.
    """
    from cord_worker.operations.database import open_database
    from cord_worker.operations.recheck import recheck_run

    def print_progress(done: int, total: int) -> None:
        click.echo(f"{done:,} of {counted(total, 'answer')}", err=True)

    with open_database(read_settings(state_dir)) as database:
        found = recheck_run(
            database,
            run,
            dry_run=dry_run,
            judged=judged,
            processes=processes,
            timeout_seconds=timeout,
            on_progress=print_progress if sys.stderr.isatty() or not as_json else None,
        )
    if as_json:
        print_json(found.to_json())
    else:
        _print_recheck(found)
    context.exit(FOUND_SOMETHING if found.broken else 0)


def _print_recheck(found: RecheckResult) -> None:
    from cord_worker.progress import shown

    for violation in found.broken:
        click.echo(f"not changed: {shown(str(violation))}")
    for change in found.changes:
        result = change.result
        click.echo(
            f"{shown(change.key)}{'' if change.sample is None else f' (sample {change.sample})'}: "
            f"{_WORDS[change.before]} -> {_WORDS[result.correct]} ({result.method}): reference "
            f"{_short(change.reference)}, found {_short(result.extracted or 'none')}"
        )
    click.echo(
        f"run {shown(found.run)}: {counted(found.checked, 'answer')} checked; became right {found.became(True):,}, "
        f"wrong {found.became(False):,}, undecided {found.became(None):,}"
    )
    not_checked = [
        (found.judged, "answer", "not checked: judged by an LLM"),
        (found.unchecked, "answer", "not checked: method none"),
        (found.unfinished, "problem", "not checked: unfinished"),
        (found.left_broken, "answer", "not checked: rows differ from what was written (see `cordctl verify-db`)"),
        (found.kept, "check", "without a result (too long or a crash): the stored result stays"),
    ]
    for count, noun, words in not_checked:
        if count:
            click.echo(f"  {counted(count, noun)} {words}")
    if found.dry_run:
        click.echo("Nothing was written (--dry-run).")
