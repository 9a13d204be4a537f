"""Which requests the server answers: the checks of a request's Host, Origin and token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from cord_worker.errors import ConfigError

COOKIE = "cord_view"
_SHORTEST_TOKEN = 16
_LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})


class NotAllowed(Exception):
    """A request is refused. The message is for the person at the browser and repeats nothing of the request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def new_token() -> str:
    """A token that nobody can guess."""
    return secrets.token_urlsafe(32)


def checked_token(token: str) -> str:
    """The token. Raises ConfigError for one that could be guessed or that no header can carry."""
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"CORD_VIEW_TOKEN is not usable: give at least {_SHORTEST_TOKEN} printable ASCII characters without "
            "spaces, or unset it for a random one"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address or name."""
    if host.lower() in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Access:
    """Which requests are answered. `names` are host names of the server, in lower case. IP addresses and `localhost`
    are always accepted as host, because an attack by DNS rebinding uses neither. `token` is None if no token is
    needed."""

    names: frozenset[str]
    token: str | None

    @classmethod
    def of(cls, names: Iterable[str], token: str | None) -> Access:
        """Access to a server known under these names, in upper or lower case."""
        return cls(frozenset(name.lower().rstrip(".") for name in names), token)

    @property
    def cookie(self) -> str | None:
        """Value of the cookie that a browser gets when it gives the token; None if no token is needed."""
        return None if self.token is None else hmac.new(self.token.encode(), b"cookie", hashlib.sha256).hexdigest()

    def check_source(self, headers: Mapping[str, str], *, is_page: bool) -> None:
        """Raises NotAllowed for a request under a foreign name (DNS rebinding), or one that another site's page sends.

        A link on another site may open the page, but nothing else.
        """
        host = _host_of(headers.get("Host", ""))
        if host is None or not self._is_known(host):
            raise NotAllowed(
                421, "This server is not known under this name. Use the address that cordctl view printed."
            )
        origin = headers.get("Origin")
        own = {f"{scheme}://{headers['Host']}".lower() for scheme in ("http", "https")}  # https: behind a proxy
        if origin is not None and origin.lower() not in own:
            raise NotAllowed(403, "Pages of other sites may not read from this server.")
        site = headers.get("Sec-Fetch-Site", "none")
        if site not in ("same-origin", "none") and not (is_page and headers.get("Sec-Fetch-Mode") == "navigate"):
            raise NotAllowed(403, "Pages of other sites may not read from this server.")

    def check_token(self, headers: Mapping[str, str]) -> None:
        """Raises NotAllowed if a token is needed and the request has neither the header nor the cookie."""
        if self.token is None:
            return
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return
        if not _same(_cookie_of(headers.get("Cookie", "")), self.cookie or ""):
            raise NotAllowed(401, "This server asks for a token: open the address that cordctl view printed.")

    def is_token(self, given: str) -> bool:
        """Whether this is the token. The comparison takes the same time for a wrong one."""
        return self.token is not None and _same(given, self.token)

    def _is_known(self, host: str) -> bool:
        if host in _LOOPBACK_NAMES or host in self.names:
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _host_of(header: str) -> str | None:
    """The name or address in a Host header, in lower case; None for a malformed one."""
    if not header or any(character in header for character in "/@?#\\ \t,"):
        return None
    try:
        parts = urlsplit(f"//{header}")
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    return None if not host else host.rstrip(".")


def _cookie_of(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value
