"""The final answer of a worked solution, as datasets give solutions for references."""

from __future__ import annotations

from cord_worker.verify.boxes import last_boxed


def answer_of_solution(text: str) -> str | None:
    r"""The content of the last `\boxed{…}`, else what follows the last `####` (GSM8K); None where there is neither."""
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    _, mark, rest = text.rpartition("####")
    answer = rest.strip()
    return answer if mark and answer else None
