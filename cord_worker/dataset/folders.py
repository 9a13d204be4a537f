"""Folders in the layout of the hub: finds which files hold the rows of which split.

If the README's front matter names data files (`configs: … data_files: …`), it decides. Otherwise the names of files and
folders decide, by the hub's rules: `data/train-00000-of-00002.parquet`, `test.jsonl`,
`main/train-00000-of-00001.parquet` (a configuration `main`).
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from cord_worker.errors import DatasetError

_SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}
"""Words in the name of a file or folder, and the split that the hub derives from them."""
_SHARD = re.compile(r"^(?P<split>.*?)[-_.]?(?P<number>\d{5,})-of-(?P<count>\d{5,})(?:-[0-9a-f]{16,})?$")
_WORD = re.compile(r"[^A-Za-z]+")
_MOST_ENTRIES = 100_000
_MOST_DEPTH = 8
"""Deepest nesting of folders; the hub's datasets have three levels."""
_IGNORED = frozenset(
    {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json", "package.json"}
)
_FOREIGN = (".arrow", ".zip", ".tar", ".xz", ".bz2", ".txt", ".xlsx", ".zarr", ".sqlite", ".db")


def is_saved(path: Path) -> bool:
    """True if `datasets.save_to_disk` wrote the folder."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def files_of(path: Path, split: str | None) -> list[Path]:
    """The data files of one split, in order; see `split_of`. Raises DatasetError."""
    return split_of(path, split)[1]


def split_of(path: Path, split: str | None) -> tuple[str, list[Path]]:
    """The name of one split and its data files, in order.

    `split`: `CONFIGURATION/SPLIT` if the folder holds several configurations; None for the only split.

    Raises:
        DatasetError: no data, several splits and none chosen, or a split with files that are missing or duplicated.
    """
    splits = _splits_in_readme(path) or _splits_by_names(path)
    if not splits:
        foreign = sorted({file.suffix for file in _walk(path) if file.suffix.lower() in _FOREIGN})
        held = f" (it holds {', '.join(foreign)} files)" if foreign else ""
        raise DatasetError(
            f"{path} is a folder, but not a saved dataset, and holds no data files{held}: name a .jsonl, .json, "
            ".csv, .tsv or .parquet file, or a folder of such files."
        )
    chosen = _choose(path, splits, split)
    files = splits[chosen]
    _check_complete(path, chosen, files)
    return chosen, files


def _choose(path: Path, splits: dict[str, list[Path]], split: str | None) -> str:
    shown = ", ".join(sorted(splits))
    if split is None:
        if len(splits) > 1:
            raise DatasetError(f"{path} holds several splits: choose one with --split: {shown}.")
        return next(iter(splits))
    if split in splits:
        return split
    found = [name for name in splits if name.rpartition("/")[2] == split or name.startswith(f"{split}/")]
    if len(found) != 1:
        wrong = f"holds {split!r} more than once" if found else f"has no split {split!r}"
        raise DatasetError(f"{path} {wrong}: choose one with --split: {', '.join(sorted(found)) or shown}.")
    return found[0]


def _splits_in_readme(path: Path) -> dict[str, list[Path]]:
    """Splits that the front matter of the folder's README names; empty if it names no files."""
    configs = [config for config in _configs(path) if isinstance(config, dict) and config.get("data_files")]
    found: dict[str, list[Path]] = {}
    for config in configs:
        name = str(config.get("config_name", "default"))
        base = path / str(config.get("data_dir") or "")
        for split, patterns in _patterns(config["data_files"]):
            # In the listed order; files of one pattern by name.
            files = list(dict.fromkeys(file for pattern in patterns for file in sorted(_matching_files(base, pattern))))
            if not files:
                raise DatasetError(
                    f"{path} is incomplete: its README.md names {', '.join(patterns)} for the split {split!r}, and no "
                    "such file is there. Download the dataset again, or name a file."
                )
            key = split if len(configs) == 1 else f"{name}/{split}"
            found[key] = list(dict.fromkeys([*found.get(key, []), *files]))
    return found


def _configs(path: Path) -> list[Any]:
    readme = path / "README.md"
    try:
        text = readme.read_text("utf-8") if readme.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{readme} cannot be read ({error}): name a data file of the folder.") from error
    front = re.match(r"\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|$)", text, re.DOTALL)
    if front is None:
        return []
    import yaml

    try:
        parsed = yaml.safe_load(front[1])
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(
            f"{readme}: its front matter is not YAML ({reason}): correct it, or name a data file."
        ) from error
    configs = parsed.get("configs") if isinstance(parsed, dict) else None
    return configs if isinstance(configs, list) else []


def _patterns(data_files: Any) -> Iterator[tuple[str, list[str]]]:
    """Split and glob patterns of `data_files`: a pattern, a list of them, or a list of {split, path}."""
    if isinstance(data_files, dict):
        data_files = [{"split": split, "path": patterns} for split, patterns in data_files.items()]
    entries = data_files if isinstance(data_files, list) else [data_files]
    plain = [str(entry) for entry in entries if isinstance(entry, str)]
    if plain:
        yield "train", plain
    for entry in entries:
        if isinstance(entry, dict):
            patterns = entry.get("path", [])
            yield (
                str(entry.get("split", "train")),
                [str(one) for one in ([patterns] if isinstance(patterns, str) else patterns)],
            )


def _matching_files(base: Path, pattern: str) -> Iterator[Path]:
    parts = PurePosixPath(pattern)
    if parts.is_absolute() or ".." in parts.parts:
        raise DatasetError(
            f"{base}/README.md names {pattern!r}, which is outside the folder: name a data file instead."
        )
    for file in base.glob(pattern):
        if file.is_file():
            yield file


def _splits_by_names(path: Path) -> dict[str, list[Path]]:
    found: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for file in _walk(path):
        if _is_data_file(file):
            found[_config_and_split(file.relative_to(path))].append(file)
    configs = {config for config, _ in found}
    return {
        split if len(configs) == 1 else f"{config or 'default'}/{split}": sorted(files)
        for (config, split), files in sorted(found.items())
    }


def _walk(path: Path) -> Iterator[Path]:
    """The folder's files in the order of their names, without hidden ones.

    Raises DatasetError if there are too many for a dataset, or folders nested too deeply.
    """
    files: list[Path] = []
    entries = 0
    for name, folders, names in os.walk(path):
        folder = Path(name)
        folders[:] = [one for one in folders if not one.startswith((".", "__"))]
        files += [folder / one for one in names if not one.startswith((".", "__"))]
        entries += len(folders) + len(names)
        if entries > _MOST_ENTRIES or (folders and len(folder.relative_to(path).parts) >= _MOST_DEPTH):
            raise DatasetError(
                f"{path} is not the folder of a dataset: it holds more than {_MOST_ENTRIES:,} files, or folders more "
                f"than {_MOST_DEPTH} deep. Name the folder of the dataset itself, or a data file."
            )
    yield from (file for file in sorted(files) if file.is_file())


def _is_data_file(file: Path) -> bool:
    from cord_worker.dataset.reading import kind_of

    return kind_of(file) is not None and file.name not in _IGNORED and not file.name.endswith(".rejects.jsonl")


def _config_and_split(file: Path) -> tuple[str, str]:
    """The configuration and split in `main/train-00000-of-00001.parquet`: main and train; `train` if no split is
    named."""
    stem = file.name
    while (shorter := Path(stem).stem) != stem:
        stem = shorter
    shard = _SHARD.match(stem)
    split = (shard["split"] or None) if shard is not None else None
    split = (_split_meant(split) or split) if split else _split_meant(stem)
    folders = [part for part in file.parent.parts if part != "data"]
    if split is None and folders and (inner := _split_meant(folders[-1])) is not None:
        return "/".join(folders[:-1]), inner
    if folders and _split_meant(folders[-1]) == split and split is not None:
        folders = folders[:-1]
    return "/".join(folders), split or "train"


def _split_meant(name: str | None) -> str | None:
    """The split that a word in the name of a file or folder means; None if no word means one."""
    words = [_SPLITS[word] for word in _WORD.split((name or "").lower()) if word in _SPLITS]
    return words[0] if words else None


def _check_complete(path: Path, split: str, files: list[Path]) -> None:
    kinds = sorted({file.suffix for file in files})
    if len(kinds) > 1:
        raise DatasetError(
            f"{path}: the split {split!r} has files of several kinds ({', '.join(kinds)}): name one of them."
        )
    shards: dict[tuple[Path, str, int], set[int]] = defaultdict(set)
    for file in files:
        shard = _SHARD.match(file.name.partition(".")[0])
        if shard is not None:
            shards[(file.parent, shard["split"], int(shard["count"]))].add(int(shard["number"]))
    for (_, prefix, count), numbers in shards.items():
        first = next((number for number in range(count) if number not in numbers), None)
        if first is not None:
            raise DatasetError(
                f"{path} is incomplete: of the {count} files of {prefix or split!r}, number {first:05d} is missing. "
                "Download it again, or name one file."
            )
