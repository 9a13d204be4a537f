"""Writes the entries of `dataset_info.json`, with which LLaMA-Factory finds a dataset in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cord_worker.export.file_types import FileType, file_type_of
from cord_worker.export.files import STANDARD_OUTPUT, ExportError, replaced_file
from cord_worker.export.format import OptionError
from cord_worker.export.llama_factory import ENTRIES

_NAME = "dataset_info.json"
_READ_BY_LLAMA_FACTORY = (FileType.LINES, FileType.PARQUET)


def check_dataset_info(outputs: Sequence[str]) -> None:
    """Raises OptionError if LLaMA-Factory cannot read the type of an output, and ExportError if an existing
    `dataset_info.json` cannot be extended."""
    for output in outputs:
        is_file = output != STANDARD_OUTPUT and (not Path(output).exists() or Path(output).is_file())
        if not is_file or file_type_of(output) not in _READ_BY_LLAMA_FACTORY:
            known = ", ".join(file_type.value for file_type in _READ_BY_LLAMA_FACTORY)
            raise OptionError(f"--dataset-info: LLaMA-Factory cannot read {output}: name a file that ends in {known}")
        _read_entries(_info_file(output))


def write_dataset_info(outputs: Sequence[str], format_name: str) -> None:
    """Adds an entry for each output to the `dataset_info.json` in its folder, under the file's name without the ending.
    Other entries stay. Raises ExportError."""
    for output in outputs:
        target = _info_file(output)
        length = len(file_type_of(output).value)
        name = Path(output).name
        with _locked(target.parent):
            _add(target, {name[:-length]: {"file_name": name, **ENTRIES[format_name]}})


def _add(target: Path, added: dict[str, object]) -> None:
    entries = {**_read_entries(target), **added}
    with replaced_file(str(target)) as file:
        # An unpaired surrogate is written as its escape in JSON.
        file.write(json.dumps(entries, ensure_ascii=False, indent=2).encode("utf-8", "backslashreplace") + b"\n")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Locks the folder, so that two exports into it add their entries one after the other."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _info_file(output: str) -> Path:
    return Path(output).parent / _NAME


def _read_entries(target: Path) -> dict[str, object]:
    """The existing entries; none without a file. Raises ExportError if the file is not a JSON object."""
    try:
        found = json.loads(target.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(
            f"{target} cannot be read ({error}): correct or remove it, or leave out --dataset-info."
        ) from error
    if not isinstance(found, dict):
        raise ExportError(f"{target} holds no JSON object: correct or remove it, or leave out --dataset-info.")
    return found
