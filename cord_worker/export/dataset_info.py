"""Writes the entries of `dataset_info.json`, with which LLaMA-Factory finds a dataset in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cord_worker.export.file_types import FileType, file_type_of
from cord_worker.export.files import STANDARD_OUTPUT, ExportError, replaced_file
from cord_worker.export.format import OptionError
from cord_worker.export.llama_factory import ENTRIES

_NAME = "dataset_info.json"
_READ_BY_LLAMA_FACTORY = (FileType.LINES, FileType.PARQUET)


def check_dataset_info(outputs: Sequence[str]) -> None:
    """Raises OptionError if LLaMA-Factory reads no such file, and ExportError if the present `dataset_info.json` cannot
    be extended."""
    for output in outputs:
        if output == STANDARD_OUTPUT or file_type_of(output) not in _READ_BY_LLAMA_FACTORY:
            known = ", ".join(known.value for known in _READ_BY_LLAMA_FACTORY)
            raise OptionError(f"--dataset-info: LLaMA-Factory reads no {output}: name a file that ends in {known}")
        _present(_beside(output))


def write_dataset_info(outputs: Sequence[str], format_name: str) -> None:
    """Adds an entry for each output to the `dataset_info.json` beside it; its name is the file's without the ending.
    Other entries stay. Raises ExportError."""
    for output in outputs:
        target = _beside(output)
        length = len(file_type_of(output).value)
        name = Path(output).name
        entries = {**_present(target), name[:-length]: {"file_name": name, **ENTRIES[format_name]}}
        with replaced_file(str(target)) as file:
            file.write(json.dumps(entries, ensure_ascii=False, indent=2).encode("utf-8") + b"\n")


def _beside(output: str) -> Path:
    return Path(output).parent / _NAME


def _present(target: Path) -> dict[str, object]:
    """The entries that are there. Raises ExportError if the file holds something else."""
    try:
        found = json.loads(target.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ExportError(
            f"{target} cannot be read ({error}): correct or remove it, or leave out --dataset-info."
        ) from error
    if not isinstance(found, dict):
        raise ExportError(f"{target} holds no JSON object: correct or remove it, or leave out --dataset-info.")
    return found
