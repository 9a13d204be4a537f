"""SQL expressions: how a final answer is checked, and what it still waits for.

In every expression `p` is a problem, `r` its run, and `j` a trajectory with a final answer.
"""

from __future__ import annotations


def method_of(row: str) -> str:
    """SQL: how the answer to the problem in `row` (an alias, such as `p`) of the run `r` is checked."""
    named = f"nullif({row}.attributes ->> r.verify_field, '')"
    return f"coalesce({named}, r.verify_method)"


def reference_of(row: str) -> str:
    """SQL: what the answer to the problem in `row` is checked against; see `method_of`."""
    named = f"nullif({row}.attributes ->> r.reference_field, '')"
    return f"coalesce({named}, {row}.answer)"


METHOD, REFERENCE = method_of("p"), reference_of("p")

IS_JUDGED = f"({METHOD} = 'judge')"
"""SQL: whether the method of the answer is the LLM judge, without a comparison."""

OWED_TO_CHECK = f"(j.answer_state = 'written' AND j.verification IS NULL AND {METHOD} NOT IN ('none', 'judge'))"
"""SQL: whether the answer waits for a comparison that no worker has leased."""

OWED_TO_JUDGE = f"(j.answer_state = 'written' AND {IS_JUDGED} OR j.answer_state = 'unjudged')"
"""SQL: whether the answer waits for an answer judgment that no worker has leased."""

WITH_JUDGE = f"({OWED_TO_JUDGE} OR j.answer_state = 'judging')"
"""SQL: whether the answer waits for its answer judgment or is being judged."""

IS_OWED = f"({OWED_TO_CHECK} OR j.answer_state = 'checking' OR {WITH_JUDGE})"
"""SQL: whether the answer has no result yet, but will get one."""
