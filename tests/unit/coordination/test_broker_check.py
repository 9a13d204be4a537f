"""How the refusal of a broker is reported."""

from __future__ import annotations

import amqp
import pytest

from cord_worker.coordination.broker.broker_check import _brief


@pytest.mark.parametrize("method", ["Connection.close", (0, 0)])
def test_a_refusal_is_reported_without_the_protocols_numbers(method: object) -> None:
    error = amqp.AccessRefused("ACCESS_REFUSED - Login was refused", method)
    assert _brief(error) == "Login was refused"
    assert _brief(ValueError("no port: (0, 0) is none")) == "no port: (0, 0) is none"
