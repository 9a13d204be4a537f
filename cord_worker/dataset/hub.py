"""Datasets of the Hugging Face hub: `org/name` or `org/name@REVISION` in the place of a file.

The revision is resolved to a commit first, and all files are those of this commit. Empty files with the names of the
repository's files are made in a temporary folder, where the rules for local folders choose those of one split. Only the
chosen files are downloaded, into the hub's cache. Scripts of a repository are never run.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from cord_worker.dataset import folders
from cord_worker.dataset.hub_access import explanation, hub_errors, hub_library, is_hub_id
from cord_worker.errors import DatasetError, HubError

_README = "README.md"
_MOST_FILES = 100_000
_SHOWN_DIGITS = 12
"""Digits of a commit in messages."""
_FILE_ENDINGS = frozenset(
    {".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".toml", ".gz", ".zst", ".zip", ".py"}
)
"""A text such as `a/b` with one of these endings names a file, not a dataset of the hub."""


@dataclass(frozen=True, slots=True)
class HubDataset:
    """A dataset of the hub as the user names it; `revision` is a branch, tag or commit, None for the main branch."""

    id: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.id if self.revision is None else f"{self.id}@{self.revision}"

    @property
    def name(self) -> str:
        """The id without its organisation."""
        return self.id.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class HubFile:
    """A downloaded file; `name` is its path in the repository, after the name of the dataset."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class HubSnapshot:
    """One split of a dataset of the hub, downloaded. `revision` is the commit; `split` is `CONFIGURATION/SPLIT` if the
    dataset has several configurations."""

    id: str
    revision: str
    split: str
    files: tuple[HubFile, ...]

    def __str__(self) -> str:
        return f"{self.id}@{self.revision[:_SHOWN_DIGITS]}"

    @property
    def name(self) -> str:
        """The id without its organisation."""
        return self.id.rpartition("/")[2]

    def to_json(self) -> dict[str, str]:
        """What is stored with a run."""
        return {"id": self.id, "revision": self.revision, "split": self.split}


def named_dataset(text: str) -> Path | HubDataset:
    """What the user's text names: a path if it exists, otherwise a dataset of the hub if the text has that form,
    otherwise a path that does not exist.

    Raises DatasetError for an empty revision: an unset variable would silently mean the newest one."""
    path = Path(text)
    if path.exists() or text.startswith(("/", "./", "../", "~")):
        return path
    name, at, revision = text.partition("@")
    if not is_hub_id(name) or PurePosixPath(name).suffix.lower() in _FILE_ENDINGS:
        return path
    if at and not revision.strip():
        raise DatasetError(f"{text}: no revision follows the @: write a branch, tag or commit, or leave the @ out.")
    return HubDataset(name, revision or None)


def download(dataset: HubDataset, split: str | None) -> HubSnapshot:
    """Downloads the files of one split; files in the hub's cache are used again.

    Raises:
        HubError: the hub cannot be used, or does not give the dataset.
        DatasetError: the repository holds no data that can be read, or several splits and none is chosen.
    """
    hub = hub_library(f"{dataset}: no such file or folder. As a dataset of the hub it")
    try:
        return _download(hub, dataset, split)
    except (DatasetError, HubError):
        raise
    except hub_errors(hub) as error:
        raise HubError(
            f"{dataset}: no such file or folder is here, and as a dataset of the hub it cannot be read: "
            f"{explanation(hub, error, dataset.id)}"
        ) from error


def _download(hub: ModuleType, dataset: HubDataset, split: str | None) -> HubSnapshot:
    api = hub.HfApi()
    commit = str(api.dataset_info(dataset.id, revision=dataset.revision).sha)
    names = _file_names(api, dataset.id, commit)

    def fetched(name: str) -> Path:
        return Path(hub.hf_hub_download(dataset.id, name, repo_type="dataset", revision=commit))

    with tempfile.TemporaryDirectory(prefix="cord-hub-") as scratch:
        # Named like the repository, because messages name the folder.
        layout = Path(scratch, *dataset.id.split("/"))
        for name in names:
            file = layout / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        if _README in names:
            (layout / _README).write_bytes(fetched(_README).read_bytes())
        chosen, files = _choose_split(dataset, layout, names, split, scratch)
    return HubSnapshot(
        dataset.id, commit, chosen, tuple(HubFile(fetched(name), f"{dataset.name}/{name}") for name in files)
    )


def _file_names(api: Any, repository: str, commit: str) -> list[str]:
    """The names of the repository's files. Raises DatasetError if there are too many, or if one leads elsewhere."""
    names: list[str] = []
    for entry in api.list_repo_tree(repository, recursive=True, revision=commit, repo_type="dataset"):
        if not hasattr(entry, "size"):  # a folder
            continue
        name = str(entry.path)
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
            raise DatasetError(f"{repository} has a file {name!r}, whose name leads out of the repository.")
        names.append(name)
        if len(names) > _MOST_FILES:
            raise DatasetError(
                f"{repository} holds more than {_MOST_FILES:,} files: download it, and name the folder of the rows."
            )
    return names


def _choose_split(
    dataset: HubDataset, layout: Path, names: list[str], split: str | None, scratch: str
) -> tuple[str, list[str]]:
    """The chosen split, and the names of its files in their order. Raises DatasetError."""
    if folders.is_saved(layout):
        raise DatasetError(
            f"{dataset} is a folder that `datasets.save_to_disk` wrote: download it (hf download --repo-type dataset "
            f"{dataset.id} --local-dir FOLDER) and name that folder."
        )
    try:
        chosen, files = folders.split_of(layout, split)
    except DatasetError as error:
        # A script explains why there are no data files; the general error would only advise naming other files.
        if any(name.endswith(".py") for name in names) and "holds no data files" in str(error):
            raise DatasetError(
                f"{dataset} has no data files, only a script that makes them, and scripts of a repository are never "
                "run: download the rows yourself, or name a revision that has files (such as "
                f"{dataset.id}@refs/convert/parquet)."
            ) from None
        raise DatasetError(str(error).replace(str(layout), str(dataset)).replace(f"{scratch}/", "")) from None
    return chosen, [file.relative_to(layout).as_posix() for file in files]
