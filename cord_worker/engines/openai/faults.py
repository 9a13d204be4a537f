"""What a failed try of a request to a server means: for the request, or for the server."""

from __future__ import annotations

from enum import Enum

from cord_worker.engines.refusal_texts import means_busy, means_filtered, means_loading, refused_because
from cord_worker.errors import ContentFilterError, RequestError, TooLongError
from cord_worker.showing import shown

_REQUEST_STATUS = frozenset({400, 413, 422})
_BUSY_STATUS = frozenset({408, 409, 425, 429, 503, 529})
_MESSAGE_CHARACTERS = 500
_NO_SUCH_MODEL = ("model not exist", "model not found", "does not exist", "no such model", "invalid model")


class Means(Enum):
    """What a fault means."""

    REFUSED = "refused"
    """The server finds fault with this request."""
    BUSY = "busy"
    """The server takes no more now."""
    AWAY = "away"
    """The server is not there, or is not ready yet."""
    ACCESS = "access"
    """The server does not let us in, or lacks what is asked for: key, account, address or model."""
    BROKEN = "broken"
    """The server failed at it, for a reason that may lie in this request or not."""


class ServerFault(Exception):
    """One try of a request failed; `status` is None where no whole answer came back. The message may hold the server's
    words: it is kept short, on one line, and what a terminal would obey is escaped.

    `words` are the server's own, by which it is told what the fault means where `means` does not say so. `passing` says
    whether another try may help, `retry_after` how many seconds the server asks to wait, `is_slow` that it took too
    long. `refusal` is the error of the request where the server finds fault with it and says why.
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
    """A server that fails, or that reports an error where an answer should be, says in words only what it is."""
    if means_loading(words):
        return Means.AWAY, None
    if status in _BUSY_STATUS or means_busy(words):
        return Means.BUSY, None
    refusal = refused_because(words)
    return (Means.BROKEN, None) if refusal is None else (Means.REFUSED, refusal)
