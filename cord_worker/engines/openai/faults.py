"""Classifies a failed try: is the request at fault, or the server?"""

from __future__ import annotations

from enum import Enum

from cord_worker.display_text import shown
from cord_worker.engines.refusal_texts import means_busy, means_filtered, means_loading, refused_because
from cord_worker.errors import ContentFilterError, RequestError, TooLongError

_REQUEST_STATUS = frozenset({400, 413, 422})
_BUSY_STATUS = frozenset({408, 409, 425, 429, 503, 529})
_MESSAGE_CHARACTERS = 500
_NO_SUCH_MODEL = ("model not exist", "model not found", "does not exist", "no such model", "invalid model")


class Means(Enum):
    """The class of a fault."""

    REFUSED = "refused"
    """The server rejects this request."""
    BUSY = "busy"
    """The server is overloaded."""
    AWAY = "away"
    """The server is unreachable, or not ready yet."""
    ACCESS = "access"
    """Access is denied, or something is missing at the server: key, account, address or model."""
    BROKEN = "broken"
    """The server failed; the cause may or may not be this request."""


class ServerFault(Exception):
    """One try of a request failed; `status` is None if no whole answer arrived. The message may hold the server's
    words: it is short, on one line, and control characters are escaped.

    `words` are the server's own words; they classify the fault if `means` is not given. `passing` is true if another
    try may help. `retry_after` is the pause that the server asks for, in seconds. `is_slow` is true if the server took
    too long. `refusal` is the error of the request if the server rejects it and gives the reason.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        passing: bool = True,
        retry_after: float | None = None,
        words: str = "",
        means: Means | None = None,
        is_slow: bool = False,
    ) -> None:
        super().__init__(shown(message, _MESSAGE_CHARACTERS))
        self.status = status
        self.passing = passing
        self.retry_after = retry_after
        self.is_slow = is_slow
        self.means, self.refusal = (means, None) if means is not None else _meaning(status, words)


def _meaning(status: int | None, words: str) -> tuple[Means, type[RequestError] | None]:
    if status is None or status >= 500:
        return _meaning_of_failure(status, words)
    if status in _BUSY_STATUS:
        return Means.BUSY, None
    if status in _REQUEST_STATUS:
        if any(text in words.lower() for text in _NO_SUCH_MODEL):
            return Means.ACCESS, None
        return Means.REFUSED, refused_because(words) or (TooLongError if status == 413 else None)
    if status == 451 or (status == 403 and means_filtered(words)):
        return Means.REFUSED, ContentFilterError
    if status == 403 and means_busy(words):
        return Means.BUSY, None
    return Means.ACCESS, None


def _meaning_of_failure(status: int | None, words: str) -> tuple[Means, type[RequestError] | None]:
    """For a failing server, or an error in place of an answer: only the words can tell the class."""
    if means_loading(words):
        return Means.AWAY, None
    if status in _BUSY_STATUS or means_busy(words):
        return Means.BUSY, None
    refusal = refused_because(words)
    return (Means.BROKEN, None) if refusal is None else (Means.REFUSED, refusal)
