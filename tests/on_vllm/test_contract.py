"""vLLM keeps the contract of engines."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cord_worker.engines.protocol import Turn
from tests.support.engine_contract import EngineContract, Request, Subject

TURN = Turn("Natalia sold clips to 48 friends in April, and half as many in May. How many clips altogether?")
SUMS = tuple(f" Add {n} and {n} to get {2 * n}.\n" for n in range(1, 7))


class TestVllm(EngineContract):
    @pytest.fixture
    def subject(self, engine: Any, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> Subject:
        return Subject(
            engine,
            run,
            to_marker=Request(TURN, SUMS),
            to_think_end=Request(Turn("Say it again."), (" I am done. </think>",) * 8),
            too_long=Request(TURN, (" and so on" * 3000,)),
        )
