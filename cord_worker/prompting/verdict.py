"""The LLM judge: its prompt, and its verdict, `{"correctness": "True"|"False"}`
(docs/what-is-computed.md#prompts)."""

from __future__ import annotations

import re

_PLACEHOLDER = re.compile(r"\{(question|passage|reference|answer)\}")
_QUOTES = "\"'`“”‘’«»*"
_VERDICT = re.compile(
    rf"[{_QUOTES}]?\bcorrectness\b[{_QUOTES}]*\s*[:=：][\s{_QUOTES}]*(true|false)\b(?![{_QUOTES}]*\s*[|/])",
    re.IGNORECASE,
)
_BARE = re.compile(rf"[\s{_QUOTES}]*(true|false)[\s{_QUOTES}.]*", re.IGNORECASE)


def judge_prompt(template: str, *, question: str, passage: str | None, reference: str, answer: str) -> str:
    """`template` filled in. Without a passage, the paragraph that holds `{passage}` is left out. Other braces, and
    placeholders inside the inserted texts, have no effect."""
    if not passage or not passage.strip():
        template = "\n\n".join(part for part in template.split("\n\n") if "{passage}" not in part)
    values = {"question": question, "passage": passage or "", "reference": reference, "answer": answer}
    return _PLACEHOLDER.sub(lambda match: values[match[1]].strip(), template)


def read_verdict(reply: str) -> bool | None:
    """True if the judge calls the answer correct, False if not; None if the reply is malformed.

    Accepts code fences, text around the object, other quotes or none, any case, and a bare True or False. The last
    verdict counts: a judge may reason first. The form itself, copied as `"True"|"False"`, is not a verdict.
    """
    verdicts = [match[1] for match in _VERDICT.finditer(reply)]
    if not verdicts and (bare := _BARE.fullmatch(reply)):
        verdicts = [bare[1]]
    return verdicts[-1].lower() == "true" if verdicts else None
