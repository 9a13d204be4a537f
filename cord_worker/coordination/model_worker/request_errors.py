"""Maps an engine's refusal of a request to the reason why its candidate is invalid."""

from __future__ import annotations

from cord_worker.errors import RequestError
from cord_worker.search.types import InvalidReason


def reason_of(error: RequestError) -> InvalidReason:
    """The reason as it is stored in the tables."""
    return InvalidReason(error.cause)
