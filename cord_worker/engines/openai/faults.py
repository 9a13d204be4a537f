"""Classifies a failed try: is the request at fault, or the server?"""

from __future__ import annotations

from collections.abc import Set
from enum import Enum

from cord_worker.display_text import shown
from cord_worker.engines.refusal_texts import (
    means_busy,
    means_filtered,
    means_loading,
    refusal_by_code,
    refusal_by_words,
)
from cord_worker.errors import ContentFilterError, RequestError, TooLongError

_REQUEST_STATUS = frozenset({400, 413, 422})
_BUSY_STATUS = frozenset({408, 409, 425, 429, 503, 529})
_GATEWAY_STATUS = frozenset({502, 504, *range(520, 525)})
"""Sent by a proxy in front of the server: its words are about the server, never about the request."""
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

    `words` are the server's own words, and `codes` its codes and types of the error in lower case; they classify the
    fault if `means` is not given. `transient` is true if another try may help. `retry_after` is the pause that the
    server asks for, in seconds. `is_slow` is true if the server took too long. `refusal` is the error of the request if
    the server rejects it and gives the reason. `suspected` is that error if only the words of a failing server give the
    reason.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        transient: bool = True,
        retry_after: float | None = None,
        words: str = "",
        codes: Set[str] = frozenset(),
        means: Means | None = None,
        is_slow: bool = False,
    ) -> None:
        super().__init__(shown(message, _MESSAGE_CHARACTERS))
        self.status = status
        self.transient = transient
        self.retry_after = retry_after
        self.is_slow = is_slow
        self.means, self.refusal = (means, None) if means is not None else _meaning(status, words, codes)
        is_suspect = self.means is Means.BROKEN and status not in _GATEWAY_STATUS
        self.suspected = refusal_by_words(words) if is_suspect else None

    @property
    def blames_request(self) -> bool:
        """True if the status says that the request is at fault, whatever the words say."""
        return self.status in _REQUEST_STATUS

    def confirmed(self) -> ServerFault:
        """The same fault as a refusal for the reason that is `suspected`."""
        fault = ServerFault(str(self), status=self.status, means=Means.REFUSED)
        fault.refusal = self.suspected
        return fault


def _meaning(status: int | None, words: str, codes: Set[str]) -> tuple[Means, type[RequestError] | None]:
    if status is None or status >= 500:
        return _meaning_of_failure(status, words, codes)
    if status in _BUSY_STATUS:
        return Means.BUSY, None
    if status in _REQUEST_STATUS:
        return _meaning_of_rejection(status, words, codes)
    if status == 451 or (status == 403 and means_filtered(words)):
        return Means.REFUSED, ContentFilterError
    if status == 403 and means_busy(words):
        return Means.BUSY, None
    return Means.ACCESS, None


def _meaning_of_rejection(status: int, words: str, codes: Set[str]) -> tuple[Means, type[RequestError] | None]:
    """For a status that blames the request. Overloaded servers and those that load a model may use it too."""
    if any(text in words.lower() for text in _NO_SUCH_MODEL):
        return Means.ACCESS, None
    if (refusal := refusal_by_code(codes)) is not None:
        return Means.REFUSED, refusal
    if status == 413:  # lasting, even if the words name a rate limit
        return Means.REFUSED, refusal_by_words(words) or TooLongError
    if means_loading(words):
        return Means.AWAY, None
    if means_busy(words):
        return Means.BUSY, None
    return Means.REFUSED, refusal_by_words(words)


def _meaning_of_failure(status: int | None, words: str, codes: Set[str]) -> tuple[Means, type[RequestError] | None]:
    """For a failing server, or an error in place of an answer: only the codes and the words can tell the class."""
    refusal = refusal_by_code(codes)
    if refusal is not None and status not in _BUSY_STATUS | _GATEWAY_STATUS:
        return Means.REFUSED, refusal
    if means_loading(words):
        return Means.AWAY, None
    if status in _BUSY_STATUS or means_busy(words):
        return Means.BUSY, None
    return Means.BROKEN, None
