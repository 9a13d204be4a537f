"""How the refusal and the absence of a broker are reported."""

from __future__ import annotations

import amqp
import pytest

from cord_worker.coordination.broker.broker_check import _brief, check_broker
from cord_worker.errors import BrokerError


@pytest.mark.parametrize("method", ["Connection.close", (0, 0)])
def test_a_refusal_is_reported_without_the_protocols_numbers(method: object) -> None:
    error = amqp.AccessRefused("ACCESS_REFUSED - Login was refused", method)
    assert _brief(error) == "Login was refused"
    assert _brief(ValueError("no port: (0, 0) is none")) == "no port: (0, 0) is none"


def test_an_absent_rabbitmq_is_reported_with_its_address() -> None:
    with pytest.raises(BrokerError, match=r"nothing listens at 127\.0\.0\.1:1\."):
        check_broker("amqp://127.0.0.1:1//")
