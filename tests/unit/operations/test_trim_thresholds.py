"""The threshold of `cordctl trim` in names and commands is the exact number."""

from __future__ import annotations

import pytest

from cord_worker.operations.trimming import Trim


@pytest.mark.parametrize("above", [0.9, 0.12345678, 0.9999999, 0.0, 1e-9])
def test_the_command_and_the_name_of_a_trimmed_run_hold_the_exact_threshold(above: float) -> None:
    trim = Trim("source", above)
    assert float(trim.command.rpartition(" ")[2]) == above
    assert float(trim.run_name.removeprefix("source-trim-")) == above
