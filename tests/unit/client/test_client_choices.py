"""The keywords of the client are the options of the commands, and all of them arrive."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature

from cord_worker.cli.datasets import enqueue as enqueue_command
from cord_worker.cli.export import export as export_command
from cord_worker.client import Client, ExportChoices, ReadingChoices, Run
from cord_worker.operations.enqueue import dataset_source
from cord_worker.operations.exports import ExportOptions

COMMON = {"state_dir", "as_json"}


def test_exported_rows_are_chosen_as_by_cordctl_export() -> None:
    options = {one.name for one in export_command.params} - COMMON - {"run", "output", "failures"}
    assert {one.name for one in fields(ExportOptions)} == options
    assert set(ExportChoices.__annotations__) == options - {"form"}


def test_a_dataset_is_read_as_by_cordctl_enqueue() -> None:
    options = {one.name for one in enqueue_command.params} - COMMON - {"dataset", "config_path", "run_name", "dry_run"}
    assert set(signature(dataset_source).parameters) - {"path"} == options
    assert set(ReadingChoices.__annotations__) == options


def test_the_named_filters_of_trajectories_and_candidates_are_options_of_their_formats() -> None:
    for method, form in ((Run.trajectories, "jsonl"), (Run.candidates, "candidates")):
        named = set(signature(method).parameters) - {"self", "on_report"}
        options = ExportOptions(form=form).format.options - {"split"}
        assert named == options | {"decontaminate", "decontaminate_field"}


def test_a_local_run_takes_what_enqueuing_takes() -> None:
    enqueue, local = (set(signature(one).parameters) for one in (Client.enqueue, Client.run_local))
    assert local - enqueue == {"on_progress", "on_message"}
    assert enqueue - local == {"dry_run"}
