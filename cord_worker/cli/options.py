"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cord_worker.suggesting import did_you_mean

if TYPE_CHECKING:
    from cord_worker.config import Settings
    from cord_worker.dataset import FieldMapping, ReadOptions
    from cord_worker.operations.enqueuing import DatasetSource

_F = TypeVar("_F", bound=Callable[..., Any])


class NearChoice(click.Choice[str]):
    """One of a few words; another one is answered with the nearest of them."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Names the words, and the one that may be meant."""
        near = did_you_mean(str(value), [str(choice) for choice in self.choices])
        return super().get_invalid_choice_message(value, ctx).rstrip(".") + (f":{near}" if near else ".")


class FilePath(click.Path):
    """A path that is none but names a file on this machine: no empty variable, no URL."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Raises BadParameter."""
        if value == "":
            self.fail("must not be empty: name a file", param, ctx)
        if isinstance(value, str) and "://" in value:
            self.fail(f"{value!r} is a URL: download the file and name that", param, ctx)
        return super().convert(value, param, ctx)


config_option = click.option(
    "--config",
    "config_path",
    type=FilePath(path_type=Path, dir_okay=False),
    default=Path("cord.toml"),
    show_default=True,
    help="File that says the models, teachers, prover and search.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON for scripts: one object on the last line of standard output."
)
problem_option = click.option(
    "--problem", "problems", multiple=True, metavar="ID", help="Only this problem; may be given several times."
)
yes_option = click.option("--yes", is_flag=True, help="Do it without asking first.")
run_argument = click.argument("run")
"""RUN of a command that changes it: always named, so that an empty variable in a script never meets another run."""
newest_run_argument = click.argument("run", required=False)
"""RUN of a command that only reads it: the newest where it is left out."""
state_dir_option = click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the embedded services and logs (default: CORD_STATE_DIR, else .cord).",
)
dataset_argument = click.argument("dataset", type=FilePath(path_type=Path))

OUTPUT_HELP = (
    "File to write, as its name says: .jsonl, .jsonl.gz, .jsonl.zst or .parquet; - is JSON lines on standard output."
)

_DATASET_OPTIONS = (
    click.option(
        "--question-field",
        help="Field of the question (question, problem, prompt, … by itself); a dotted name leads into objects.",
    ),
    click.option(
        "--answer-field",
        help="Field of the known answer (answer, solution, target, … by itself); such as reward_model.ground_truth.",
    ),
    click.option("--id-field", help="Field of the id (id, problem_id, … by itself; else made from the content)."),
    click.option("--passage-field", help="Field of a supporting passage (passage, context by itself)."),
    click.option("--choices-field", help="Field of the choices of a multiple choice (choices, options by itself)."),
    click.option("--split", help="Split of a folder that holds several (CONFIGURATION/SPLIT where need be)."),
    click.option(
        "--answer-as-is", is_flag=True, help="Keep answers whole: take no final answer out of a worked solution."
    ),
    click.option("--repair-latex", is_flag=True, help="Restore LaTeX commands whose backslash JSON took away."),
    click.option("--limit", type=click.IntRange(min=1), help="Read only the first N rows of the dataset."),
)
skip_invalid_option = click.option(
    "--skip-invalid",
    is_flag=True,
    help="Leave bad rows out and write them to DATASET.rejects.jsonl; without it one bad row stops everything.",
)
run_name_option = click.option(
    "--run",
    "run_name",
    callback=lambda context, parameter, value: _not_empty(value),  # noqa: ARG005 - click's form
    help="Name of the run (default: the dataset's name and a hash of the configuration).",
)


def _not_empty(name: str | None) -> str | None:
    """An empty name is mostly a variable that was not set, and must not stand for the default."""
    if name == "":
        raise click.BadParameter("must not be empty; leave it out for the default")
    return name


def confirm(question: str) -> None:
    """Asks; ends the command where the answer is no. Raises UsageError where nobody is there to answer."""
    try:
        click.confirm(question, abort=True)
    except click.Abort:
        # The question is still without an end of its line.
        click.echo()
        if sys.stdin.isatty():
            raise
        raise click.UsageError("nobody said yes: give --yes where this is meant") from None


def dataset_options(function: _F) -> _F:
    """How a dataset is read."""
    for option in reversed(_DATASET_OPTIONS):
        function = option(function)
    return function


def dataset_source(dataset: Path, options: dict[str, Any]) -> DatasetSource:
    """The dataset that these options describe."""
    from cord_worker.operations.enqueuing import DatasetSource

    return DatasetSource(
        path=dataset,
        mapping=_mapping(options),
        split=options["split"],
        limit=options["limit"],
        skip_invalid=options.get("skip_invalid", False),
        options=_read_options(options),
    )


def check_dataset(dataset: Path, options: dict[str, Any]) -> None:
    """Raises DatasetError where the dataset as a whole cannot be used: no such file, an empty one, another kind.

    Reads the first rows only, and imports little of what costs time.
    """
    from cord_worker.errors import DatasetError

    if dataset.suffix.lower() == ".toml":
        raise DatasetError(
            f"{dataset}: unknown kind of file '.toml': it is named as a configuration. Give the dataset first, and the "
            "configuration with --config."
        )
    from cord_worker.dataset import read_problems

    next(read_problems(dataset, mapping=_mapping(options), split=options["split"], options=_read_options(options)))


def _mapping(options: dict[str, Any]) -> FieldMapping:
    from cord_worker.dataset import FieldMapping

    fields = ("question", "answer", "id", "passage", "choices")
    return FieldMapping(**{field: options[f"{field}_field"] for field in fields})


def _read_options(options: dict[str, Any]) -> ReadOptions:
    from cord_worker.dataset import ReadOptions

    return ReadOptions(answer_as_is=options["answer_as_is"], repair_latex=options["repair_latex"])


def read_settings(state_dir: Path | None = None) -> Settings:
    """The environment's settings, with the state folder of the command line where one is given."""
    from cord_worker.config import Settings

    settings = Settings.from_environment()
    return settings if state_dir is None else settings.model_copy(update={"state_dir": state_dir})


def print_json(document: dict[str, Any]) -> None:
    """One JSON object on one line of standard output."""
    import json

    click.echo(json.dumps(document, ensure_ascii=False))


def print_result(sentence: str, document: dict[str, Any], *, as_json: bool) -> None:
    """What a command did: a sentence for people, or one JSON object."""
    if as_json:
        print_json(document)
    else:
        click.echo(sentence)
