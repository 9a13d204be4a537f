"""What a text states as its final answer."""

from __future__ import annotations

from cord_worker.verify import compare


def assert_only_answer(text: str, answer: str) -> None:
    """Asserts that the text states `answer`. The texts with the answer 41 also mention 40, 20 and 21, but do not state
    them."""
    result = compare(text, answer)
    assert result.correct is True, result
    if answer == "41":
        for other in ("40", "20", "21"):
            assert compare(text, other).correct is not True, other
