"""`cordctl bench families` reports its progress and lists the families."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from cord_worker.bench.family_models import FAMILIES
from cord_worker.cli import cli

pytestmark = pytest.mark.slow

REFUSED = [family.name for family in FAMILIES if family.refused and family.name.startswith("BERT")]
"""The cheapest families: nothing is computed."""


@pytest.mark.parametrize("as_json", [True, False])
def test_every_family_is_named_before_it_is_tried(as_json: bool) -> None:
    result = CliRunner().invoke(cli, ["bench", "families", "--only", "BERT", *(["--json"] if as_json else [])])
    assert result.exit_code == 0, result.output
    assert len(REFUSED) > 1
    expected = [f"{at} of {len(REFUSED)}: building and testing {name}" for at, name in enumerate(REFUSED, start=1)]
    assert result.stderr.splitlines() == expected
    if as_json:
        assert [one["name"] for one in json.loads(result.stdout)["families"]] == REFUSED
    else:
        assert len(result.stdout.splitlines()) == len(REFUSED)


def test_an_unknown_family_is_answered_with_all_families() -> None:
    result = CliRunner().invoke(cli, ["bench", "families", "--only", "nobody"])
    assert result.exit_code == 1
    assert all(family.name in str(result.exception or "") + result.output for family in FAMILIES)
    assert "all names are listed" in " ".join(CliRunner().invoke(cli, ["bench", "families", "--help"]).output.split())
