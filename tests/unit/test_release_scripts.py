"""The scripts of a release notice what is missing, what is stray, and what could not be asked."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import cord_worker

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


release_check, supply_chain = script("release_check"), script("supply_chain")


def test_the_version_has_one_source_and_an_entry_in_the_changelog() -> None:
    version = release_check.version_of_the_sources()
    assert version == cord_worker.__version__
    assert f"\n## [{version}] - 20" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_a_missing_file_and_a_stray_one_are_named() -> None:
    names = ["cord_worker/a.py", "cord_worker/notes.txt", "cord_worker-1.dist-info/METADATA"]
    assert release_check.strays(names, {"cord_worker/a.py", "cord_worker/b.py"}) == [
        "cord_worker/b.py is missing",
        "cord_worker/notes.txt does not belong there",
    ]
    assert release_check.lacking(names, {"cord_worker/*.py": 2, "*.txt": 1}) == ["1 of at least 2 cord_worker/*.py"]


def test_the_files_of_the_checkout_satisfy_what_a_wheel_must_hold() -> None:
    expected = release_check.expected_files()
    if expected is None:
        pytest.skip("this is no checkout of git")
    required = {one: least for one, least in release_check.REQUIRED.items() if ".dist-info" not in one}
    assert release_check.lacking(sorted(expected), required) == []
    assert not [name for name in expected if name.startswith(("cord_worker/web/front", "tests", "docs"))]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("Requires-Dist: torch>=2.6", "its base installation needs torch"),
        ("Requires-Dist: torch>=2.6; extra == 'transformers'", None),
        ("Requires-Dist: celery>=5", None),
    ],
)
def test_a_package_of_an_extra_in_the_base_installation_is_named(line: str, complaint: str | None) -> None:
    metadata = f"Metadata-Version: 2.4\nName: cord-worker\nVersion: {cord_worker.__version__}\n{line}\n"
    assert release_check.wrong_metadata(metadata) == ([complaint] if complaint else [])
    older = metadata.replace(f"Version: {cord_worker.__version__}\n", "Version: 0.0.1\n")
    assert "its version is 0.0.1, not " in release_check.wrong_metadata(older)[0]


def test_an_audit_that_could_not_ask_is_not_a_clean_one(capsys: pytest.CaptureFixture[str]) -> None:
    clean = {"name": "a", "version": "1", "vulns": []}
    unasked = {"name": "b", "skip_reason": "Dependency not found on PyPI"}
    vulnerable = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
    assert supply_chain.report([clean]) == 0
    assert capsys.readouterr().out == "no known vulnerability in the packages (1)\n"
    assert supply_chain.report([clean, unasked]) == 2
    assert capsys.readouterr().err.startswith("NOT audited: the advisory database did not answer for 1 of 2 packages")
    assert supply_chain.report([]) == 2
    assert supply_chain.report([clean, unasked, vulnerable]) == 1
    assert "c 2: CVE-1, fixed in 3" in capsys.readouterr().out


def test_an_sbom_names_the_packages_inside_the_web_view_and_no_folder_of_this_machine() -> None:
    names = {one["name"]: one["purl"] for one in supply_chain.javascript()}
    assert set(names) == {"@tanstack/virtual-core", "katex", "preact", "uplot"}
    assert names["@tanstack/virtual-core"].startswith("pkg:npm/%40tanstack/virtual-core@")
    local = {"externalReferences": [{"url": "file:///home/someone/x.whl"}, {"url": "https://example.org"}]}
    document = supply_chain.without_folders({"metadata": {}, "components": [local]})
    assert document["components"][0]["externalReferences"] == [{"url": "https://example.org"}]
