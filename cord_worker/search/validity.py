"""Decides which proposals may enter a beam (docs/what-is-computed.md#invalid-candidates).

`invalid_reason` checks one text as soon as it is proposed, so that the prover never reads an invalid one. Duplicates
can be found only among all siblings: by their `text_key` once the step's last text is written, before anything is
scored (`store.work.score`), and by `duplicates` when the step is decided. Both give the same result. All checks are
linear in the text's length.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import uuid
from collections.abc import Iterable

from cord_worker.search.loops import is_loop
from cord_worker.search.types import Candidate, InvalidReason, SearchError

_REASONS_FROM_TEXT = frozenset(
    {
        InvalidReason.EMPTY,
        InvalidReason.WHITESPACE,
        InvalidReason.MARKER_ONLY,
        InvalidReason.LOOP,
        InvalidReason.THINK_TAG,
        InvalidReason.UNSTORABLE,
        InvalidReason.MALFORMED,
    }
)
"""Reasons that follow from the text, before it is scored."""
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_THINK_TAG = re.compile(r"</?think>")
_HEADING_LINE = re.compile(r"^[ \t]{0,3}#{1,6}[ \t].*$", re.MULTILINE)
_STEP_MARKER = re.compile(r"(?:#{1,6}[ \t]{0,3})?\bstep[\s.:#*_-]{0,4}\d*", re.IGNORECASE)


def invalid_reason(
    text: str,
    *,
    loop_ngram: int,
    loop_repeats: int,
    was_cut: bool = False,
    has_markers: bool = True,
    may_be_empty: bool = False,
) -> InvalidReason | None:
    """Why the proposed step `text` may not enter a beam, or None.

    Without `has_markers` a heading is ordinary text. `may_be_empty`: a blank text is valid, because it only ends a
    trajectory that already has text, and no marker announced a step.

    `loops` defines what a loop is; `was_cut` if the token cap ended the text. If the reason is UNSTORABLE, the caller
    must store `storable(text)`.
    """
    if may_be_empty and not text.strip():
        return None
    if not text:
        return InvalidReason.EMPTY
    if text.isspace():
        return InvalidReason.WHITESPACE
    if _UNSTORABLE.search(text):
        return InvalidReason.UNSTORABLE
    if _THINK_TAG.search(text):
        return InvalidReason.THINK_TAG
    if not any(map(_is_content, _without_markers(text) if has_markers else text)):
        return InvalidReason.MARKER_ONLY
    if is_loop(text, ngram=loop_ngram, repeats=loop_repeats, was_cut=was_cut):
        return InvalidReason.LOOP
    return None


def storable(text: str) -> str:
    """`text` with U+FFFD in place of NUL and lone surrogates, which PostgreSQL cannot store."""
    return _UNSTORABLE.sub("\ufffd", text)


def text_key(text: str) -> uuid.UUID:
    """A 128-bit key: equal for equal texts, with every run of whitespace as one space."""
    return uuid.UUID(bytes=hashlib.blake2b(_with_single_spaces(text).encode(), digest_size=16).digest())


def duplicates(candidates: Iterable[Candidate]) -> dict[int, int]:
    """Ids of the candidates that repeat a sibling, each with the id of the sibling that stands for both.

    Siblings extend the same slot of the beam; texts are compared with every run of whitespace as one space. The
    sibling with the lowest (teacher, sample) stands for all, whatever the order of arrival. Candidates that were
    invalid when proposed are left out. A candidate that became invalid when it was scored still stands for its
    duplicates: they were not scored, and their result would have been the same.
    """
    first_ids: dict[tuple[int | None, int, str], int] = {}
    repeats: dict[int, int] = {}
    proposed = (candidate for candidate in candidates if _was_valid_when_proposed(candidate))
    for candidate in sorted(proposed, key=lambda candidate: (candidate.teacher, candidate.sample)):
        if candidate.text is None:
            raise SearchError(
                f"candidate {candidate.id} (step {candidate.step}) has no text and is not marked invalid: propose it "
                "before the step is decided"
            )
        text = _with_single_spaces(candidate.text)
        first = first_ids.setdefault((candidate.parent_id, candidate.parent_rank, text), candidate.id)
        if first != candidate.id and candidate.invalid_reason is None:
            repeats[candidate.id] = first
    return repeats


def _with_single_spaces(text: str) -> str:
    return " ".join(text.split())


def _was_valid_when_proposed(candidate: Candidate) -> bool:
    """False if the text made the candidate invalid, or if it was refused before it had a text and a finish reason."""
    if candidate.invalid_reason is None:
        return True
    return None not in (candidate.text, candidate.finish_reason) and candidate.invalid_reason not in _REASONS_FROM_TEXT


def _without_markers(text: str) -> str:
    return _HEADING_LINE.sub("", _STEP_MARKER.sub("", text))


def _is_content(character: str) -> bool:
    """True for letters, digits and symbols such as ∞; ASCII symbols alone are only markup."""
    if character.isalnum():
        return True
    return character > "\x7f" and character != "\ufffd" and unicodedata.category(character).startswith("S")
