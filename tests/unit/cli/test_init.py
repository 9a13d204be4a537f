"""`cordctl init` says which of its options exclude each other."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cord_worker.cli.init import init


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--preset", "tiny", "--install"], "--install is for --preset smollm2"),
        (
            ["--preset", "smollm2", "--set", "models.smollm2.path=x", "--install"],
            "--install and --set models.smollm2.path=… exclude each other",
        ),
    ],
)
def test_a_download_of_weights_that_are_not_used_is_refused(arguments: list[str], reason: str) -> None:
    refused = CliRunner().invoke(init, arguments)
    assert refused.exit_code == 2
    assert reason in refused.stderr
