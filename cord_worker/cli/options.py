"""Options that several commands share."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cord_worker.name_suggestions import did_you_mean

if TYPE_CHECKING:
    from cord_worker.config import Settings
    from cord_worker.dataset import FieldMapping, HubDataset, HubSnapshot, ReadOptions
    from cord_worker.operations.enqueue import DatasetSource

_F = TypeVar("_F", bound=Callable[..., Any])


class NearChoice(click.Choice[str]):
    """A choice of words; the error for another word suggests the most similar one."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Lists the words, and suggests the most similar one."""
        near = did_you_mean(str(value), [str(choice) for choice in self.choices])
        return super().get_invalid_choice_message(value, ctx).rstrip(".") + (f":{near}" if near else ".")


class NumberRange(click.FloatRange):
    """A finite number in a range; refuses "nan", which passes every bound, and "inf"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Raises BadParameter if it is not finite or is outside the range."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class FilePath(click.Path):
    """A path of a file on this machine; an empty value and a URL are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Raises BadParameter for an empty value or a URL."""
        if value == "":
            self.fail("must not be empty: name a file", param, ctx)
        if isinstance(value, str) and "://" in value:
            self.fail(f"{value!r} is a URL: download the file and name that", param, ctx)
        return super().convert(value, param, ctx)


class DatasetPath(FilePath):
    """A file or folder on this machine, or a dataset of the hub (`HubDataset`) if there is none of that name."""

    name = "dataset"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path or the dataset. Raises BadParameter for an empty value or a URL."""
        path = super().convert(value, param, ctx)
        if not isinstance(value, str) or "/" not in value:
            return path
        from cord_worker.dataset.hub import named_dataset

        return named_dataset(value)


config_option = click.option(
    "--config",
    "config_path",
    type=FilePath(path_type=Path, dir_okay=False),
    default=Path("cord.toml"),
    show_default=True,
    help="Configuration file: models, teachers, prover and search.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON for scripts: one object on the last line of standard output."
)
problem_option = click.option(
    "--problem", "problems", multiple=True, metavar="ID", help="Only this problem; may be repeated."
)
yes_option = click.option("--yes", is_flag=True, help="Do it without asking first.")
run_argument = click.argument("run")
"""RUN of a command that changes it. Required, so that an empty variable in a script cannot select another run."""
newest_run_argument = click.argument("run", required=False)
"""RUN of a command that only reads it; the newest run by default."""
state_dir_option = click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the embedded services and logs (default: CORD_STATE_DIR, else .cord).",
)
prices_option = click.option(
    "--prices",
    "prices_path",
    type=FilePath(path_type=Path, dir_okay=False),
    help="TOML file with the prices of models, for the cost in money (default: [prices] of the run, if it has any).",
)
dataset_argument = click.argument("dataset", type=DatasetPath(path_type=Path))
"""DATASET: a file, a folder, or `org/name[@REVISION]` at the hub; commands call `fetch_dataset` before they read it."""

OUTPUT_HELP = (
    "File to write; its name decides the type: .jsonl, .jsonl.gz, .jsonl.zst or .parquet; - prints JSON lines."
)

QUESTION_FIELD_HELP = (
    "Field of the question (default: question, problem, prompt, …); a dotted name reaches into objects."
)
_question_field_option = click.option("--question-field", help=QUESTION_FIELD_HELP)
_split_option = click.option(
    "--split", help="Split to read from a folder or hub dataset that holds several (CONFIGURATION/SPLIT if needed)."
)
_repair_latex_option = click.option(
    "--repair-latex", is_flag=True, help="Restore LaTeX commands that lost their backslash in JSON."
)
_limit_option = click.option(
    "--limit", type=click.IntRange(min=1), help="Read at most this many rows of the dataset (default: all)."
)
_QUESTION_OPTIONS = (_question_field_option, _split_option, _repair_latex_option, _limit_option)
_DATASET_OPTIONS = (
    _question_field_option,
    click.option(
        "--answer-field",
        help="Field of the known answer (default: answer, solution, target, …), such as reward_model.ground_truth.",
    ),
    click.option("--id-field", help="Field of the id (default: id, problem_id, …; else made from the content)."),
    click.option("--passage-field", help="Field of a supporting passage (default: passage, context)."),
    click.option("--choices-field", help="Field of the choices to pick from (default: choices, options)."),
    _split_option,
    click.option(
        "--answer-as-is",
        is_flag=True,
        help="Keep answers whole: do not extract final answers from worked solutions.",
    ),
    _repair_latex_option,
    _limit_option,
)
skip_invalid_option = click.option(
    "--skip-invalid",
    is_flag=True,
    help="Leave out invalid rows and write them to DATASET.rejects.jsonl (default: an invalid row stops the command).",
)
run_name_option = click.option(
    "--run",
    "run_name",
    callback=lambda context, parameter, value: _not_empty(value),  # noqa: ARG005 - click's signature
    help="Name of the run (default: the dataset's name and the configuration's fingerprint).",
)


def _not_empty(name: str | None) -> str | None:
    """`name`. Raises BadParameter for an empty one, which usually comes from an unset variable and must not mean the
    default."""
    if name == "":
        raise click.BadParameter("must not be empty; leave it out for the default")
    return name


def confirm(question: str) -> None:
    """Asks the user; aborts the command if the answer is no. Raises UsageError if there is no terminal to answer on."""
    try:
        click.confirm(question, abort=True)
    except click.Abort:
        # Ends the line of the question.
        click.echo()
        if sys.stdin.isatty():
            raise
        raise click.UsageError("confirmation required: give --yes to do it without being asked") from None


def dataset_options(function: _F) -> _F:
    """Decorator: adds the options that say how a dataset is read."""
    for option in reversed(_DATASET_OPTIONS):
        function = option(function)
    return function


def question_options(function: _F) -> _F:
    """Decorator: adds the options that say how the questions of a dataset are read."""
    for option in reversed(_QUESTION_OPTIONS):
        function = option(function)
    return function


def fetch_dataset(dataset: Path | HubDataset, split: str | None) -> Path | HubSnapshot:
    """The dataset on this machine: a path unchanged, or the chosen split of a dataset of the hub, downloaded.

    Raises HubError and DatasetError.
    """
    if isinstance(dataset, Path):
        return dataset
    from cord_worker.dataset.hub import download

    snapshot = download(dataset, split)
    click.echo(
        f"{snapshot.id}: split {snapshot.split} of commit {snapshot.revision} (to read the same again: "
        f"{snapshot.id}@{snapshot.revision})",
        err=True,
    )
    return snapshot


def dataset_source(dataset: Path | HubSnapshot, options: dict[str, Any]) -> DatasetSource:
    """The dataset that these options describe."""
    from cord_worker.operations import enqueue

    names = signature(enqueue.dataset_source).parameters
    return enqueue.dataset_source(dataset, **{name: value for name, value in options.items() if name in names})


def check_dataset(dataset: Path | HubSnapshot, options: dict[str, Any]) -> None:
    """Raises DatasetError if the dataset as a whole cannot be used: it is missing, empty or of an unknown kind.

    Reads only the first rows, and imports few slow modules.
    """
    from cord_worker.errors import DatasetError

    if isinstance(dataset, Path) and dataset.suffix.lower() == ".toml":
        raise DatasetError(
            f"{dataset}: unknown kind of file '.toml': it looks like a configuration. Give the dataset first, and the "
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
    """Settings of the environment; `state_dir`, if given, replaces its state folder."""
    from cord_worker.config import Settings

    settings = Settings.from_environment()
    return settings if state_dir is None else settings.model_copy(update={"state_dir": state_dir})


def print_json(document: dict[str, Any]) -> None:
    """Prints the document as one line of JSON on standard output."""
    import json

    click.echo(json.dumps(document, ensure_ascii=False))


def print_result(sentence: str, document: dict[str, Any], *, as_json: bool) -> None:
    """Prints what a command did: a sentence for people, or one JSON object."""
    if as_json:
        print_json(document)
    else:
        click.echo(sentence)
