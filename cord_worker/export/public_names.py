"""Names of models for files that leave this machine. They contain none of its folders."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath

from cord_worker.config import BUNDLED_PREFIX
from cord_worker.dataset.hub_access import is_hub_id

_IN_CACHE = re.compile(r"(?:models|datasets)--([\w.-]+?)--([\w.-]+)/snapshots(?:/|$)")
"""A folder of the hub's cache; its name contains the hub id."""


def public_name(location: str) -> str:
    """A model's name without folders of this machine: a bundled name or hub id in full, else the last part of the path.

    A stored `a/b` is a hub id, because folders in cord.toml are stored as absolute paths. No file system is read, so
    that a run has the same names on every machine.
    """
    cached = _IN_CACHE.search(location)
    if cached is not None:
        return f"{cached[1]}/{cached[2]}"
    if location.startswith(BUNDLED_PREFIX) or is_hub_id(location):
        return location
    return PurePosixPath(PureWindowsPath(location).as_posix()).name or location
