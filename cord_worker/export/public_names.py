"""Names of models and files in what leaves this machine: without its folders."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath

from cord_worker.config import BUNDLED_PREFIX
from cord_worker.dataset.hub_access import is_hub_id

_IN_CACHE = re.compile(r"(?:models|datasets)--([\w.-]+?)--([\w.-]+)/snapshots(?:/|$)")
"""A folder of the hub's cache, which names the hub id."""


def public_name(location: str) -> str:
    """A model's name without folders of this machine: bundled names and hub ids whole, else the last part of the path.

    A stored `a/b` is a hub id: cord.toml's folders are stored with their whole paths. No file is looked at, so that the
    same run has the same names on every machine.
    """
    cached = _IN_CACHE.search(location)
    if cached is not None:
        return f"{cached[1]}/{cached[2]}"
    if location.startswith(BUNDLED_PREFIX) or is_hub_id(location):
        return location
    return PurePosixPath(PureWindowsPath(location).as_posix()).name or location
