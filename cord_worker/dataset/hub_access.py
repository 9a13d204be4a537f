"""Access to the Hugging Face hub: the library, whether it may be used, and what its errors mean for the user.

The token comes from `HF_TOKEN` or from the library's own login. It is never part of a message, even if a server sends
it back.
"""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from cord_worker.display_text import shown
from cord_worker.errors import HubError

HUB_ID = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*(?<![.-])")
"""`org/name`, to be used with `fullmatch`; the rules are the hub's."""
MOST_CHARACTERS = 96
"""Length of the longest id that the hub takes."""
PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP statuses after which a later attempt may succeed."""

_MOST_SAID = 300
"""Most characters of a server's own message that are shown."""


def is_hub_id(text: str) -> bool:
    """Whether the text has the form of a hub id, `org/name`."""
    return len(text) <= MOST_CHARACTERS and HUB_ID.fullmatch(text) is not None


def hub_library(what: str) -> ModuleType:
    """The package huggingface_hub. `what` is the subject of an error's sentence: what needs the package.

    Raises:
        HubError: it is not installed, or `HF_HUB_OFFLINE` forbids its use.
    """
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise HubError(f"{what} needs the package huggingface_hub: `pip install huggingface_hub`.") from error
    from huggingface_hub import constants

    if not sys.stderr.isatty() and constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        utils: Any = huggingface_hub.utils
        utils.disable_progress_bars()
    if constants.HF_HUB_OFFLINE:
        raise HubError(
            f"{what} needs the Hugging Face hub, and HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set, which forbids "
            "its use: unset it for this command."
        )
    return huggingface_hub


def hub_errors(hub: ModuleType) -> tuple[type[Exception], ...]:
    """The exceptions with which the library reports that a request failed, or that an answer makes no sense."""
    return (hub.errors.HTTPError, OSError, RuntimeError, ValueError, KeyError, TypeError)


def response_of(error: BaseException) -> Any:
    """The HTTP response that the error, or a cause of it, reports; None without one."""
    return getattr(_error_with_response(error), "response", None)


def _error_with_response(error: BaseException) -> BaseException | None:
    """The error itself or the first of its causes that reports an HTTP response."""
    one: BaseException | None = error
    while one is not None and getattr(getattr(one, "response", None), "status_code", None) is None:
        one = one.__cause__
    return one


def is_passing(hub: ModuleType, error: BaseException) -> bool:
    """Whether a later attempt may succeed: the hub is overloaded, or was not reached."""
    response = response_of(error)
    if response is not None:
        return response.status_code in PASSING_STATUSES
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, (hub.errors.HTTPError, ConnectionError, TimeoutError)):
            return True
        one = one.__cause__
    return False


def explanation(hub: ModuleType, error: BaseException, repository: str) -> str:
    """What the error means, as the end of a sentence; names the repository and the hub, and never the token."""
    reported = _error_with_response(error)
    if reported is None:
        return _redacted(hub, f"{hub_name(hub)} cannot be reached, or its answer makes no sense ({_first_line(error)})")
    status = int(response_of(error).status_code)
    said = getattr(reported, "server_message", None) or ""
    said = f" It says: {shown(' '.join(str(said).split()), _MOST_SAID)}" if said else ""
    return _redacted(hub, f"{hub_name(hub)} {_meaning(hub, reported, status, repository)} (HTTP {status}).{said}")


def hub_name(hub: ModuleType) -> str:
    """The hub in words, with the host that `HF_ENDPOINT` names."""
    parts = urlsplit(str(hub.constants.ENDPOINT))
    host = parts.hostname or "?"
    return "the hub" if host == "huggingface.co" else f"the hub at {host}{f':{parts.port}' if parts.port else ''}"


def _meaning(hub: ModuleType, error: BaseException, status: int, repository: str) -> str:
    has_token = bool(hub.get_token())
    token = f"{'the token' if has_token else 'no token is set'} (HF_TOKEN, or `hf auth login`)"
    if isinstance(error, hub.errors.GatedRepoError):
        return f"gives {repository} only to those who have accepted the conditions on its page ({token})"
    if isinstance(error, hub.errors.RevisionNotFoundError):
        return f"has {repository}, but not this revision"
    if status == 401 and has_token:
        return f"refuses {token}: it is wrong or has expired, or {repository} does not exist"
    if status == 401:
        return f"must know who asks for {repository}, or it does not exist: {token}"
    if status == 403:
        return f"forbids this for {repository}: {f'{token} lacks the right' if has_token else token}"
    if status == 404:
        return f"has no dataset {repository}, or it is private: {f'{token} may not see it' if has_token else token}"
    if status in (409, 412):
        return f"refuses the change of {repository}, because something else is changing it or has changed it"
    if status in PASSING_STATUSES:
        return f"does not answer for {repository} at present"
    return f"refuses the request for {repository}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return shown(lines[0] if lines else type(error).__name__, _MOST_SAID)


def _redacted(hub: ModuleType, text: str) -> str:
    token = hub.get_token()
    return text.replace(token, "***") if token else text
