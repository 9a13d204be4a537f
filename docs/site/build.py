"""Builds the documentation as a folder of HTML that needs no network: `python -m docs.site.build --output FOLDER`.

It stages the pages, has zensical (which must be installed) build them, and checks every link of the result. A broken
link is an error.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from docs.site.built_links import broken
from docs.site.index import ROOT, parts
from docs.site.staging import DIAGRAMS, SCRIPTS, WORKERS, stage

_SETTINGS = Path(__file__).parent / "zensical.toml"
_GENERATOR = "zensical"
_REMOTE_WORKERS = "https://unpkg.com/iframe-worker/shim"


def version() -> str:
    """The version of the package that the documentation belongs to."""
    found = re.search(
        r'^__version__ = "(.+)"$', (ROOT / "cord_worker" / "__init__.py").read_text("utf-8"), re.MULTILINE
    )
    assert found is not None
    return found[1]


def navigation() -> str:
    """The navigation in TOML: the index, then its parts."""
    lines = ['  { "Start" = "index.md" },']
    for part in parts():
        pages = ", ".join(
            f"{{ {json.dumps(page.title, ensure_ascii=False)} = {json.dumps(page.path)} }}" for page in part.pages
        )
        lines.append(f"  {{ {json.dumps(part.title)} = [{pages}] }},")
    return "nav = [\n" + "\n".join(lines) + "\n]\n"


def build(output: Path, *, scripts: Path) -> list[str]:
    """Builds the site into `output`, which is replaced. Returns the broken links of the result. Raises
    CalledProcessError if the generator fails; its own strict mode checks links, too."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        stage(work / "docs", scripts=scripts)
        settings = _SETTINGS.read_text(encoding="utf-8").replace("@VERSION@", version())
        head, mark, rest = settings.partition("[project]\n")
        (work / "zensical.toml").write_text(f"{head}{mark}{navigation()}{rest}", encoding="utf-8")
        subprocess.run([sys.executable, "-m", _GENERATOR, "build", "--strict"], cwd=work, check=True)
        _load_from_the_site(work / "site")
        if output.exists():
            shutil.rmtree(output)
        shutil.copytree(work / "site", output)
    return broken(output)


def _load_from_the_site(site: Path) -> None:
    """The generator's pages load one script from the internet; here it comes from the site."""
    for page in site.rglob("*.html"):
        folder = "../" * (len(page.relative_to(site).parts) - 1)
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(_REMOTE_WORKERS, f"{folder}{SCRIPTS}/{WORKERS}"), encoding="utf-8")


def main() -> None:
    """Builds the site; ends with 1 if a link is broken."""
    parser = argparse.ArgumentParser(description="Build the documentation.")
    parser.add_argument("--output", type=Path, default=ROOT / "site-out")
    parser.add_argument("--scripts", type=Path, required=True, help=f"folder with {DIAGRAMS} and {WORKERS}")
    given = parser.parse_args()
    if importlib.util.find_spec(_GENERATOR) is None:
        sys.exit(f"{_GENERATOR} is not installed; `make docs` installs it in an environment of its own")
    wrong = build(given.output, scripts=given.scripts)
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        sys.exit(f"{len(wrong)} links are broken")
    print(f"the documentation is in {given.output}/index.html")


if __name__ == "__main__":
    main()
