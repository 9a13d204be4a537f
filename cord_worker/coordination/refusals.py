"""Why a candidate is invalid whose request a model refused."""

from __future__ import annotations

from cord_worker.errors import NotFiniteError, RequestError
from cord_worker.search.types import InvalidReason


def reason_of(error: RequestError) -> InvalidReason:
    """NOT_FINITE where the model computed no number; otherwise TOO_LONG, as nearly all are."""
    return InvalidReason.NOT_FINITE if isinstance(error, NotFiniteError) else InvalidReason.TOO_LONG
