"""What an installation of the wheel consists of: an SBOM (`make sbom`), and known vulnerabilities (`make audit`).

Both look at a fresh environment with the wheel and the versions of constraints.txt. They need uv, cyclonedx-bom and
pip-audit.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "cord_worker" / "web" / "static"
NOT_ASKED = 2
"""The exit code if the advisory database could not be asked about all packages: nothing is known then."""


def main() -> None:
    """Writes the SBOM, or prints vulnerabilities and exits with 1 if there are any, with 2 if they are not known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["sbom", "audit"])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--extras", default="", help="extras to install too, such as transformers,openai")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cord-s-") as folder:
        python = Path(folder) / "bin" / "python"
        subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", folder], check=True)
        wanted = f"{given.wheel}[{given.extras}]" if given.extras else str(given.wheel)
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python)]
        subprocess.run([*install, "--constraint", str(ROOT / "constraints.txt"), wanted], check=True)
        if given.what == "audit":
            sys.exit(audit(python))
        document = sbom(python)
    out = given.wheel.with_name(f"{given.wheel.name.partition('-py3')[0]}.cdx.json")
    out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"{out}: {len(document['components'])} components, CycloneDX {document['specVersion']}")


def sbom(python: Path) -> dict[str, Any]:
    """The CycloneDX document of the environment, with the JavaScript packages inside app.js."""
    command = [str(Path(sys.executable).with_name("cyclonedx-py")), "environment", "--of", "JSON"]
    command += ["--output-reproducible", "--pyproject", str(ROOT / "pyproject.toml"), str(python)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    inside = without_folders(document)
    inside["components"] = [*inside["components"], *javascript()]
    return inside


def without_folders(document: dict[str, Any]) -> dict[str, Any]:
    """The document without the places of local files, which name folders of this machine."""
    for component in (document["metadata"].get("component", {}), *document["components"]):
        references = component.get("externalReferences", [])
        component["externalReferences"] = [one for one in references if not one["url"].startswith(("file:", "/"))]
    return document


def javascript() -> list[dict[str, Any]]:
    """Components for the packages that the front end's build lists."""
    text = (STATIC / "THIRD-PARTY-LICENCES.txt").read_text(encoding="utf-8")
    found = re.findall(r"^-{80}\n(\S+) (\S+) \((.+)\)$", text, re.MULTILINE)
    return [
        {
            "type": "library",
            "bom-ref": f"{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:npm/{name.replace('@', '%40')}@{version}",
            "licenses": [{"license": {"id": licence}}],
            "description": "inside cord_worker/web/static/app.js",
        }
        for name, version, licence in found
    ]


def audit(python: Path) -> int:
    """Prints known vulnerabilities of the environment's packages; the exit code."""
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    command = [sys.executable, "-m", "pip_audit", "--path", str(site), "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"})
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except json.JSONDecodeError:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        print(f"NOT audited: pip-audit could not ask its advisory database ({last[:300]})", file=sys.stderr)
        return NOT_ASKED
    return report([one for one in packages if one["name"] != "cord-worker"])


def report(packages: list[dict[str, Any]]) -> int:
    """Prints what pip-audit found of these packages; the exit code."""
    vulnerable = [one for one in packages if one.get("vulns")]
    unknown = [one["name"] for one in packages if "skip_reason" in one]
    for one in vulnerable:
        for vulnerability in one["vulns"]:
            fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
            print(f"{one['name']} {one['version']}: {vulnerability['id']}, fixed in {fixed}")
    if unknown:
        share, some = f"{len(unknown)} of {len(packages)} packages", ", ".join(unknown[:5])
        print(f"NOT audited: the advisory database did not answer for {share} ({some}, …)", file=sys.stderr)
    if vulnerable:
        return 1
    if unknown or not packages:
        return NOT_ASKED
    print(f"no known vulnerability in the packages ({len(packages)})")
    return 0


if __name__ == "__main__":
    main()
