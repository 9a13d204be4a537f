"""SQL expressions: how a final answer is checked, and what it still waits for.

`p` is a problem, `r` its run and `j` a trajectory with a final answer in every expression.
"""

from __future__ import annotations


def method_of(row: str) -> str:
    """SQL: how the answer to the problem in `row` (an alias, such as `p`) of the run `r` is checked."""
    named = f"nullif({row}.attributes ->> r.verify_field, '')"
    return f"coalesce({named}, r.verify_method)"


def reference_of(row: str) -> str:
    """SQL: what the answer is checked against; see `method_of`."""
    named = f"nullif({row}.attributes ->> r.reference_field, '')"
    return f"coalesce({named}, {row}.answer)"


METHOD, REFERENCE = method_of("p"), reference_of("p")

IS_JUDGED = f"({METHOD} = 'judge')"
"""SQL: whether only an LLM checks the answer."""

OWED_TO_CHECK = f"(j.answer_state = 'written' AND j.verification IS NULL AND {METHOD} NOT IN ('none', 'judge'))"
"""SQL: whether the answer waits for a comparison and no worker holds it."""

OWED_TO_JUDGE = f"(j.answer_state = 'written' AND {IS_JUDGED} OR j.answer_state = 'unjudged')"
"""SQL: whether the answer waits for the LLM judge and no worker holds it."""

WITH_JUDGE = f"({OWED_TO_JUDGE} OR j.answer_state = 'judging')"
"""SQL: whether the LLM judge decides the answer."""

IS_OWED = f"({OWED_TO_CHECK} OR j.answer_state = 'checking' OR {WITH_JUDGE})"
"""SQL: whether the answer has no result yet, but will get one."""
