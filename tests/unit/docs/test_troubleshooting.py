"""Every error text of docs/troubleshooting.md is in the code."""

from __future__ import annotations

import ast
import re

from tests.support.doc_snippets import ROOT, text_of


def texts_of_the_code() -> str:
    """All texts of the package, those of f-strings with `…` for what is inserted."""
    found: set[str] = set()
    for source in (ROOT / "cord_worker").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.add("".join(str(part) for part in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return "\n".join(sorted(found))


def test_every_text_is_one_of_the_code() -> None:
    rows = re.findall(r"^\| (`.+?`) \| .+ \| .+ \|$", text_of("docs/troubleshooting.md"), re.MULTILINE)
    assert len(rows) > 20
    texts = texts_of_the_code()
    assert [piece for row in rows for piece in re.findall(r"`([^`]+)`", row) if piece not in texts] == []
