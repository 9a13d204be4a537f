"""Finds the final answer of a worked solution: some datasets give solutions as references.

A comparison takes the most likely answer. `dataset.solutions` refuses ambiguous ones before anything is computed.
"""

from __future__ import annotations

import re

from cord_worker.verify.boxes import last_boxed

_ENDED = re.compile(
    r"\bfinal answer is:? ?(?P<answer>(?:(?!final answer is).){1,400}?)\.? I hope it is correct\b", re.DOTALL
)

_UNCLOSED = re.compile(r"\\boxed ?\{(?P<answer>[^\n]{1,400})$")
"""A box whose end was cut off with the end of the text."""


def answer_of_solution(text: str) -> str | None:
    r"""The content of the last `\boxed{…}`; otherwise the text after the last `####` (GSM8K); otherwise that of a box
    that is cut off; otherwise the answer in the last `The final answer is …. I hope it is correct.` (Minerva).

    None if the text has none of these.
    """
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    _, mark, rest = text.rpartition("####")
    answer = rest.strip()
    if mark and answer:
        return answer
    if cut := _UNCLOSED.search(text):
        return cut["answer"].strip()
    ended = list(_ENDED.finditer(text))
    return ended[-1]["answer"].strip() if ended else None
