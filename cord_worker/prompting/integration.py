"""The integrator's prompt, and the parsing of its reply (docs/what-is-computed.md#integration).

The reply is one JSON object: `integrated_step1`, …, `integrated_stepN` and `answer_part`. Models put it into a code
fence, end it with a comma, leave line breaks unescaped or omit a quote. Such syntax errors are repaired; missing
content is never invented.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import json_repair

from cord_worker.latex_repair import escaped_reply
from cord_worker.prompting.segmentation import cut
from cord_worker.prompting.trajectory import BLANK_LINE, Segmentation, step_marker, trajectory_text

_PLACEHOLDER = re.compile(r"\{(question|trajectories)\}")
_STEP_KEY = re.compile(r"integrated[\s_-]*step[\s_-]*(\d{1,6})", re.IGNORECASE)
_ANSWER_KEY = re.compile(r"answer[\s_-]*part", re.IGNORECASE)
_OWN_HEADING = re.compile(r"(?:#{1,6}[ \t]*)?(?:integrated[ \t_]*)?step[ \t_]*\d+[ \t]*[.:)][ \t]*", re.IGNORECASE)
_INNER_MARKER = re.compile(r"\n[ \t]*#{1,6}[ \t]*Step[ \t]*\d+[.:]?", re.IGNORECASE)
_NESTED = re.compile(r"(?:[{\[]\s*){32}")
"""A reply nested deeper than this is meaningless, and slow to repair."""


@dataclass(frozen=True, slots=True)
class Integration:
    """A merged trajectory: all its steps, with markers from the second on, and the final answer, if any."""

    text: str
    answer: str | None


def integration_prompt(
    template: str, question: str, trajectories: Sequence[Sequence[str]], segmentation: Segmentation
) -> str:
    """The user turn that asks for one trajectory out of several, each given by its steps.

    The placeholders `{question}` and `{trajectories}` are filled in one pass, so that a placeholder inside a question
    or a trajectory has no effect.
    """
    attempts = "\n\n".join(
        f"=== Attempt {number} ===\n{trajectory_text(steps, segmentation)}"
        for number, steps in enumerate(trajectories, start=1)
    )
    contents = {"question": question.strip(), "trajectories": attempts}
    return _PLACEHOLDER.sub(lambda match: contents[match[1]], template)


def read_integration(reply: str, segmentation: Segmentation, *, complete: bool) -> Integration | None:
    """The merged trajectory in the reply, or None if the reply is not the object that was asked for.

    If the token cap ended the reply (not `complete`), it is accepted only if its object is complete: a repaired one
    would end in the middle. See `repair_integration` for the cost of a repair.
    """
    found = _integration(_parsed(_body(reply)), segmentation)
    return repair_integration(reply, segmentation) if found is None and complete else found


def repair_integration(reply: str, segmentation: Segmentation) -> Integration | None:
    """Like `read_integration`, for a reply whose JSON is broken. For a reply of random brackets and quotes, the time
    grows with the square of the length, to hours for 50,000 characters: call it in a process that can be killed."""
    return _integration(_repaired(_body(reply)), segmentation)


def _body(reply: str) -> str:
    reply = escaped_reply(reply)
    start, end = reply.find("{"), reply.rfind("}")
    return reply[start : end + 1] if 0 <= start < end else reply


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _repaired(text: str) -> Any:
    if "{" not in text or _NESTED.search(text):
        return None
    try:
        return json_repair.loads(text, skip_json_loads=True)
    except (ValueError, RecursionError):
        return None


def _integration(document: Any, segmentation: Segmentation) -> Integration | None:
    if isinstance(document, list):
        read = (_integration(item, segmentation) for item in document)
        return next((found for found in read if found is not None), None)
    if not isinstance(document, dict):
        return None
    numbered: dict[int, Any] = {}
    answer = None
    for key, value in document.items():
        step = _STEP_KEY.fullmatch(str(key).strip())
        if step is not None:
            numbered.setdefault(int(step[1]), value)
        elif _ANSWER_KEY.fullmatch(str(key).strip()):
            answer = _text(value)
    texts = [_text(numbered[number]) for number in sorted(numbered)]
    steps = [part for text in texts if text is not None for part in _steps(text)]
    if not steps or None in texts:
        return None
    answer = cut(answer, "answer", segmentation, ended="eos").text.strip() if answer else None
    return Integration(_joined(steps, segmentation), answer or None)


def _text(value: Any) -> str | None:
    """A value as text; None if it can be neither a step nor an answer."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    return None


def _steps(text: str) -> list[str]:
    """The steps in one value, usually one; a heading at its start is removed."""
    steps = []
    for part in _INNER_MARKER.split(f"\n{text}"):
        step = part.strip()
        if heading := _OWN_HEADING.match(step):
            step = step[heading.end() :]
        if step:
            steps.append(step)
    return steps


def _joined(steps: Sequence[str], segmentation: Segmentation) -> str:
    """The steps as one text: with markers from the second step on (the trajectory adds the first), or as paragraphs."""
    if not segmentation.has_markers:
        return BLANK_LINE.join(steps)
    return "".join(f"{step_marker(number) if number > 1 else ''} {step}" for number, step in enumerate(steps, start=1))
