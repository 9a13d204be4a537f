"""A sentinel URL is brought into the one form that kombu parses, and checked again it stays the same."""

from __future__ import annotations

import pytest

from cord_worker.coordination.broker.broker_check import broker_address
from cord_worker.service_url_checks import checked_broker_url, sentinel_path


@pytest.mark.parametrize(
    ("written", "checked"),
    [
        ("sentinel://h/cord", "sentinel://h:26379/cord/0/"),
        ("sentinel://:p%40ss@a:1,b:2,c/cord/3", "sentinel://:p%40ss@a:1/cord/3/b:2,c:26379"),
        ("sentinel://user:pass@a:1/cord/3", "sentinel://user:pass@a:1/cord/3/"),
    ],
)
def test_the_sentinels_stand_where_kombu_looks_for_a_host_and_a_path(written: str, checked: str) -> None:
    assert checked_broker_url(written) == checked
    assert checked_broker_url(checked) == checked


def test_the_path_names_the_primary_its_database_and_the_other_sentinels() -> None:
    found = sentinel_path("cord/3/b:2,c:26379")
    assert (found.primary, found.database, found.more_sentinels) == ("cord", 3, (("b", 2), ("c", 26379)))


def test_the_address_of_the_broker_holds_no_password() -> None:
    url = checked_broker_url("sentinel://:s3cret@a:1,b:2/cord/0")
    assert broker_address(url) == "cord (sentinels a:1, b:2)"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("sentinel://h:26379", "the name of their primary"),
        ("sentinel://h:26379/", "the name of their primary"),
        ("sentinel:///cord/0", "needs the sentinels"),
        ("sentinel://h:26379/cord/first", "the number of a database"),
        ("sentinel://h:26379/cord/0?master=x", "needs the sentinels"),
        ("sentinel://h:x/cord/0", "HOST:PORT"),
        ("sentinel://h:1,:2/cord/0", "HOST:PORT"),
        ("sentinel://:p@ss@h:1/cord/0", "unescaped character"),
        ("sentinels://h:1/cord/0", "did you mean sentinel://"),
    ],
)
def test_a_url_that_lacks_something_is_refused_with_what_it_lacks(written: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        checked_broker_url(written)
