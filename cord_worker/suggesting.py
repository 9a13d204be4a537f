"""What somebody meant who wrote a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_CLOSE = 0.7
"""Least similarity (difflib's ratio) of two names of which one is a misspelt other."""


def did_you_mean(name: str, known: Iterable[str], *, least: float = _CLOSE) -> str:
    """` did you mean 'X'?` for the name nearest to `name`, with its leading space; empty where none is near."""
    names = {one.casefold().replace("-", "_"): one for one in known}
    near = difflib.get_close_matches(name.casefold().replace("-", "_"), names, n=1, cutoff=least)
    return f" did you mean {names[near[0]]!r}?" if near else ""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """`no WHAT is called 'NAME': did you mean 'X'? There are: A, B`; the names there are in the order given."""
    names = list(known)
    near = did_you_mean(name, names)
    return f"no {what} is called {name!r}{':' if near else '.'}{near} There are: {', '.join(names) or 'none'}"
