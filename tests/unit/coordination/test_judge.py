"""The LLM judge with real engines: a seeded verdict, a model that writes no verdict, an impossible request."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from cord_worker.config import RunConfig
from cord_worker.coordination.model_worker.judge_answer import ask_judge
from cord_worker.engines import EngineSettings, load_engine
from cord_worker.store.work.judge_answer import LeasedVerdict, VerdictResult

LEASE = LeasedVerdict(7, 1, 3, 1, "p", "l", "2 + 2?", None, "4", "The final answer is 4.")


def config(model: dict[str, Any], **judge: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "models": {"m": model},
            "teachers": [{"name": "t", "model": "m"}],
            "prover": {"model": "m"},
            "verify": {"method": "judge", "judge": {"model": "m", **judge}},
            "run": {"date": "2026-01-31"},
        }
    )


def verdict(config: RunConfig, lease: LeasedVerdict = LEASE) -> VerdictResult:
    async def run() -> VerdictResult:
        engine = await asyncio.to_thread(load_engine, EngineSettings.of(config.models["m"]))
        try:
            return await ask_judge(engine, config, lease)
        finally:
            await engine.close()

    return asyncio.run(run())


def test_the_same_answer_gets_the_same_verdict_at_every_attempt() -> None:
    instant = config({"path": "m", "engine": "instant"})
    first, again = verdict(instant), verdict(instant, replace(LEASE, attempt=2))
    assert first.correct in (True, False)
    assert (first.correct, first.verification) == (again.correct, again.verification)
    assert json.loads(first.verification)["method"] == "judge"
    assert json.loads(first.verification)["rounds"] == 1


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_model_that_writes_no_verdict_leaves_the_answer_undecided(rounds: int) -> None:
    garbage = config({"path": "bundled:closer", "dtype": "float64"}, tokens=8, max_rounds=rounds, template=SHORT)
    result = verdict(garbage)
    found = json.loads(result.verification)
    assert result.correct is None
    assert (found["method"], found["rounds"]) == ("undecided", rounds)
    assert result.prompt_tokens is not None
    assert result.prompt_tokens % rounds == 0


def test_a_request_that_does_not_fit_leaves_the_answer_undecided() -> None:
    result = verdict(config({"path": "bundled:closer"}), replace(LEASE, answer="long " * 5000))
    assert result.correct is None
    assert result.prompt_tokens is None
    assert "cannot take the request" in json.loads(result.verification)["detail"]


SHORT = "{reference} {answer}"
