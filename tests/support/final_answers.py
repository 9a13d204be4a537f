"""What a text states as its final answer."""

from __future__ import annotations

from cord_worker.verify import compare


def assert_only_answer(text: str, answer: str) -> None:
    """The text states `answer`; a text that states 41 states none of the other numbers that such texts hold."""
    result = compare(text, answer)
    assert result.correct is True, result
    if answer == "41":
        for other in ("40", "20", "21"):
            assert compare(text, other).correct is not True, other
