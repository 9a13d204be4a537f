"""The front end's sources: they declare the service's documents, make no markup out of texts, and name no host."""

from __future__ import annotations

import json
import re

from cord_worker.web.pages import App
from tests.support.front_documents import FILE, typescript
from tests.support.front_sources import FRONT

_UNSAFE = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|dangerouslySet|document\.write|DOMParser|\beval\(|new Function|srcdoc"
)


def test_the_front_end_has_the_same_documents_as_the_service() -> None:
    assert FILE.read_text(encoding="utf-8") == typescript(), "run: python -m tests.support.front_documents"


def test_no_source_makes_markup_or_code_out_of_text() -> None:
    sources = sorted((FRONT / "src").rglob("*.ts*"))
    assert len(sources) > 20
    assert [path.name for path in sources if _UNSAFE.search(path.read_text(encoding="utf-8"))] == []


def test_the_lock_file_names_packages_without_addresses() -> None:
    lock = (FRONT / "package-lock.json").read_text(encoding="utf-8")
    assert "resolved" not in lock
    assert "registry" not in lock
    direct = json.loads((FRONT / "package.json").read_text(encoding="utf-8"))
    versions = [*direct["dependencies"].values(), *direct["devDependencies"].values()]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)


def test_the_built_files_can_stand_inside_a_page_and_have_their_licences() -> None:
    app = App.read()
    for part in (app.script, app.style):
        assert not re.search(rb"</(script|style)|<!--|[\r\0]", part, re.IGNORECASE)
    licences = (FRONT.parent / "static" / "THIRD-PARTY-LICENCES.txt").read_text(encoding="utf-8")
    for name in json.loads((FRONT / "package.json").read_text(encoding="utf-8"))["dependencies"]:
        assert re.search(rf"^{re.escape(name)} \d.*\(MIT\)$", licences, re.MULTILINE)
