"""Which requests the server answers."""

from __future__ import annotations

import socket

import pytest

from cord_worker.config import Settings
from cord_worker.errors import ConfigError
from cord_worker.web.access import COOKIE, Access, NotAllowed, checked_token, is_loopback
from cord_worker.web.view import access_of

TOKEN = "a-token-of-some-length"
OPEN = Access.of(["Lab.example.org"], None)
ASKING = Access.of([], TOKEN)


def source(access: Access = OPEN, *, is_page: bool = False, **headers: str) -> int:
    """The status of a request with these headers, by their names in lower case with underscores."""
    sent = {name.replace("_", "-").title(): value for name, value in headers.items()}
    try:
        access.check_source(sent, is_page=is_page)
    except NotAllowed as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8484",
        "localhost",
        "LOCALHOST:9",
        "[::1]:8484",
        "192.0.2.7:1",
        "lab.example.org:8484",
        "lab.example.org.",
    ],
)
def test_the_server_is_known_by_addresses_localhost_and_its_names(host: str) -> None:
    assert source(host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "127.0.0.1@evil.example",
        "a,b",
        "[::1",
        "a:b",
    ],
)
def test_a_rebound_name_is_refused(host: str) -> None:
    assert source(host=host) == 421
    assert source(OPEN) == 421


def test_pages_of_other_sites_read_nothing() -> None:
    here = "127.0.0.1:8484"
    assert source(host=here, origin=f"http://{here}") == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9", f"http://{here}.evil.example"):
        assert source(host=here, origin=origin) == 403
    assert source(host=here, sec_fetch_site="same-origin") == 200
    for site in ("cross-site", "same-site"):
        assert source(host=here, sec_fetch_site=site) == 403
        assert source(host=here, sec_fetch_site=site, sec_fetch_mode="navigate") == 403
        assert source(host=here, sec_fetch_site=site, sec_fetch_mode="no-cors", is_page=True) == 403


def test_a_link_of_another_site_opens_the_page() -> None:
    assert source(host="localhost", sec_fetch_site="cross-site", sec_fetch_mode="navigate", is_page=True) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {TOKEN}"},
        {"Authorization": f"bearer {TOKEN}"},
        {"Cookie": f"{COOKIE}={ASKING.cookie}"},
        {"Cookie": f"other=1; {COOKIE}={ASKING.cookie}"},
    ],
)
def test_the_token_is_taken_as_a_header_or_cookie(headers: dict[str, str]) -> None:
    ASKING.check_token(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer ü"},
        {"Cookie": f"{COOKIE}={TOKEN}"},
        {"Cookie": f"{COOKIE}="},
        {"Cookie": "\x00;;=;"},
    ],
)
def test_without_the_token_nothing_is_read(headers: dict[str, str]) -> None:
    with pytest.raises(NotAllowed) as refused:
        ASKING.check_token(headers)
    assert refused.value.status == 401
    OPEN.check_token(headers)


def test_loopback_needs_no_token_and_every_other_address_does() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.8.0.1")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.0.2.7", "lab.example.org", "")] == [False] * 5
    settings = Settings.model_construct(view_token=None)
    assert access_of(settings, "127.0.0.1").token is None
    first, second = access_of(settings, "0.0.0.0").token, access_of(settings, "0.0.0.0").token
    assert first
    assert second
    assert first != second
    assert access_of(Settings.model_construct(view_token=TOKEN), "127.0.0.1").token == TOKEN


@pytest.mark.parametrize(
    "token", ["", "short", "has a space in the middle", "tööööööööööööööken", "line\nbreak-in-a-token"]
)
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(token: str) -> None:
    with pytest.raises(ConfigError) as refused:
        checked_token(token)
    assert not token or token not in str(refused.value)


def test_settings_do_not_show_the_token() -> None:
    assert TOKEN not in repr(Settings.model_construct(view_token=TOKEN))


def test_the_name_of_the_machine_is_known_where_other_machines_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Lab-7")
    settings = Settings.model_construct(view_token=None)
    assert access_of(settings, "127.0.0.1", ["view.example"]).names == {"view.example"}
    assert access_of(settings, "box", ["view.example"]).names == {"box", "lab-7", "view.example"}
