"""Suggests the known name that a misspelt name probably means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LEAST_SIMILARITY = 0.7
"""Least similarity (difflib's ratio, in [0, 1]) at which a name counts as a misspelling of another."""

_MOST_CHARACTERS = 120
"""Longest name that a message repeats in full."""


def did_you_mean(name: str, known: Iterable[str], *, least: float = _LEAST_SIMILARITY) -> str:
    """` did you mean 'X'?`, with its leading space, for the most similar known name; empty if none is similar.

    Case, and `-` instead of `_`, make no difference.
    """
    names = {one.casefold().replace("-", "_"): one for one in known}
    near = difflib.get_close_matches(name.casefold().replace("-", "_"), names, n=1, cutoff=least)
    return f" did you mean {names[near[0]]!r}?" if near else ""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """`no WHAT is called 'NAME': did you mean 'X'? There are: A, B`; the known names in the given order."""
    names = list(known)
    near = did_you_mean(name, names)
    brief = name if len(name) <= _MOST_CHARACTERS else f"{name[:_MOST_CHARACTERS]}…"
    return f"no {what} is called {brief!r}{':' if near else '.'}{near} There are: {', '.join(names) or 'none'}"
