"""Classifies an error message of a server or library by its words, because the status alone does not tell the cause.

| meaning | seen as |
|---|---|
| too long | `exceed_context_size_error` (llama.cpp: as 400, as 500 or within a stream), `maximum context length` |
| content filter | `content_filter` (Azure), `Content Exists Risk` (DeepSeek), `data_inspection_failed` (Qwen) |
| not finite | `Out of range float values are not JSON compliant` (a server that computed NaN) |
| busy | `insufficient_system_resource` (DeepSeek), `overloaded`, rate limits |
| loading | `Loading model` (llama.cpp), `model is currently loading` |

A code that servers use for one reason only is certain. Words are not: a failing server may say "the content filter
service is down".
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cord_worker.errors import ContentFilterError, NotFiniteError, RequestError, TooLongError

_LOADING = re.compile(
    r"loading (?:the )?model|model\b.{0,60}\b(?:loading|starting|not ready)|starting up|warming up", re.I
)
_BUSY = re.compile(
    r"overload|rate.?limit|too many requests|insufficient_system_resource|\bbusy\b|(?:at|over) capacity"
    r"|queue (?:is )?full|try again later|temporarily unavailable|service unavailable|no (?:free|available) slot"
    r"|concurrent requests|number of requests",
    re.I,
)
_FILTERED = re.compile(
    r"content.{0,3}(?:filter|policy|management|moderat|exists.risk)|moderation|\bflagged\b|\bsafety\b|responsible.?ai"
    r"|data.?inspection|(?<!case.)\bsensitive\b|inappropriate content|prohibited.content|blocklist|recitation"
    r"|\brefusal\b",
    re.I,
)
_NOT_FINITE = re.compile(r"out of range float|\bnan\b|not finite|non-?finite|\b-?inf(?:inity)?\b", re.I)
_TOO_LONG = re.compile(
    r"context.{0,3}(?:size|length|window)|available context|(?<!took )(?<!taking )\btoo (?:long|big|large)\b"
    r"|too many (?:\w+ )?tokens|(?:longer|larger|more|greater) than the (?:maximum|model|context)|max_model_len"
    r"|reduce the length|maximum (?:model |input |sequence )?length|(?:input|prompt)\b.{0,40}\bexceed"
    r"|exceed\w*\b.{0,40}\b(?:context|length|tokens)\b(?! per)|tokens\b.{0,40}\bmust be (?:<|less|smaller|at most)",
    re.I,
)
_CODES: dict[str, type[RequestError]] = {
    "exceed_context_size_error": TooLongError,
    "context_length_exceeded": TooLongError,
    "contextwindowexceedederror": TooLongError,
    "content_filter": ContentFilterError,
    "content_policy_violation": ContentFilterError,
    "contentpolicyviolationerror": ContentFilterError,
    "data_inspection_failed": ContentFilterError,
}
"""Codes and types of errors, in lower case, that servers use for one reason only."""


def means_loading(message: str) -> bool:
    """True if a server says that its model is still loading."""
    return _LOADING.search(message) is not None


def means_busy(message: str) -> bool:
    """True if a server says that it is overloaded."""
    return _BUSY.search(message) is not None


def means_filtered(message: str) -> bool:
    """True if a server says that a content filter refused a text."""
    return _FILTERED.search(message) is not None


def refusal_by_code(codes: Iterable[str]) -> type[RequestError] | None:
    """The kind of RequestError that one of a server's `codes` (lower case) stands for; None if none does."""
    return next((_CODES[code] for code in codes if code in _CODES), None)


def refusal_by_words(message: str) -> type[RequestError] | None:
    """The kind of RequestError whose reason the `message` names; None if it names none."""
    if _NOT_FINITE.search(message):
        return NotFiniteError
    if _TOO_LONG.search(message):
        return TooLongError
    if _FILTERED.search(message):
        return ContentFilterError
    return None
