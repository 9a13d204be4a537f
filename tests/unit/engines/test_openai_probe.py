"""Probes at start: a fault is not taken as an answer, and a refusal of our test text is reported as such."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cord_worker.config import OpenAiOptions
from cord_worker.engines.openai import engine as openai_engine
from cord_worker.engines.openai import pauses as openai_pauses
from cord_worker.engines.openai.engine import OpenAiEngine
from cord_worker.errors import EngineLoadError
from tests.support.openai_local_server import Json, LocalServer, Reply, chunks, models
from tests.support.settings import engine_settings

pytestmark = pytest.mark.slow

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
FILTERED = Reply({"error": {"code": "content_filter", "message": "The response was filtered"}}, status=400)
BROKEN = Reply({"error": {"message": "internal error"}}, status=500)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_pauses, "_FIRST_PAUSE_SECONDS", 0.02)


def engine_of(server: LocalServer, path: Path | str, told: list[str | None] | None = None) -> OpenAiEngine:
    given = OpenAiOptions(base_url=server.url, model="served", max_retries=1)
    settings = engine_settings(path=str(path), engine="openai", batch_size=4, openai=given)

    def hear(condition: str | None, *, since: float | None = None) -> None:
        del since
        if told is not None:
            told.append(condition)

    engine = OpenAiEngine(settings, hear)
    asyncio.run(engine.close())
    return engine


def rows_of(body: Json) -> list[Any]:
    return [None, *(-0.5 for _ in body["prompt"][1:]), -0.5]


def echoed(body: Json, values: list[Any]) -> Json:
    logprobs = {
        "token_logprobs": values,
        "tokens": [f"token_id:{token}" for token in (*body["prompt"], 0)][: len(values)],
    }
    return {"choices": [{"text": "", "finish_reason": "length", "logprobs": logprobs}]}


def scoring(*at_scores: Callable[[Json], Any]) -> Callable[[Json], Any]:
    """A server that writes well; its replies to score requests in order, the last one forever."""
    asked = count()

    def answer(body: Json) -> Any:
        if not body.get("echo"):
            return chunks(" Two.")
        return at_scores[min(next(asked), len(at_scores) - 1)](body)

    return answer


@pytest.mark.parametrize(
    "fault",
    [
        lambda _: BROKEN,
        lambda _: Reply(status=502, raw=b"<html>Bad gateway</html>"),
        lambda _: Reply(raw=b"<html>Login</html>"),
        lambda _: Reply({"error": {"message": "Out of range float values are not JSON compliant: nan"}}, status=500),
        lambda _: Reply({"error": {"message": "slow down"}}, status=429),
        lambda body: echoed(body, [None] * len(rows_of(body))),
        lambda body: Reply(raw=json.dumps(echoed(body, [float("nan")] * len(rows_of(body)))).encode()),
        lambda body: Reply(echoed(body, rows_of(body)), drop_after=20),
    ],
)
def test_a_fault_at_the_first_scores_is_waited_for_and_not_taken_as_a_missing_feature(
    tokenizer_folder: Path, fault: Callable[[Json], Any]
) -> None:
    told: list[str | None] = []
    answers = {"/v1/models": models("me"), COMPLETIONS: scoring(*[fault] * 6, lambda body: echoed(body, rows_of(body)))}
    with LocalServer(answers).running() as server:
        engine = engine_of(server, tokenizer_folder, told)
    assert engine.scoring_mode == "openai-other-echo"
    assert told
    assert all(text is not None and "log-prob" in text for text in told)


@pytest.mark.parametrize(
    "lack",
    [
        lambda _: Reply({"error": {"message": "unknown field echo"}}, status=422),
        lambda _: Reply({"error": {"message": "Only no echo is supported"}}, status=500),
        lambda _: Reply({"error": {"message": "no"}}, status=501),
        lambda _: {"choices": [{"text": " x", "finish_reason": "length", "logprobs": None}]},
    ],
)
def test_a_server_that_says_that_it_has_no_scores_has_no_scoring_mode(
    tokenizer_folder: Path, lack: Callable[[Json], Any]
) -> None:
    with LocalServer({"/v1/models": models("me"), COMPLETIONS: scoring(lack)}).running() as server:
        assert engine_of(server, tokenizer_folder).scoring_mode is None


def is_continuing(body: Json) -> bool:
    """Whether the request is the probe of what follows an assistant's text."""
    return body.get("temperature") == 0.0


@pytest.mark.parametrize("owner", ["somebody", "llamacpp"])
@pytest.mark.parametrize("at_continuing_only", [True, False])
def test_a_fault_at_the_chat_probe_changes_neither_the_style_nor_the_removed_prefill(
    owner: str, at_continuing_only: bool
) -> None:
    told: list[str | None] = []
    left = [BROKEN] * 5

    def repeating(body: Json) -> Any:
        if left and (is_continuing(body) or not at_continuing_only):
            return left.pop()
        return chunks(body["messages"][-1]["content"], " Two.", chat=True)

    with LocalServer({"/v1/models": models(owner), CHAT: repeating}).running() as server:
        engine = engine_of(server, "served", told)
    assert str(engine._server).endswith(
        f"chat ({'prefix' if owner == 'somebody' else 'trailing'}, repeats what it continues), scores: none"
    )
    assert told
    assert "HTTP 500" in str(told[0])


def test_a_server_that_refuses_to_show_whether_it_repeats_is_refused() -> None:
    def answer(body: Json) -> Any:
        if is_continuing(body):
            return Reply({"error": {"message": "bad temperature"}}, status=400)
        return chunks(" Two.", chat=True)

    with (
        LocalServer({"/v1/models": models("llamacpp"), CHAT: answer}).running() as server,
        pytest.raises(EngineLoadError, match=r"whether the server repeats .* bad temperature"),
    ):
        engine_of(server, "served")


def is_about_sums(body: Json) -> bool:
    """Whether the text holds what this filter refuses."""
    return "1 + 1" in json.dumps(body.get("messages", ""))


@pytest.mark.parametrize("refusal", [FILTERED, chunks("", reason="content_filter", chat=True)])
def test_another_harmless_text_is_tried_if_a_content_filter_refuses_the_first(refusal: Any) -> None:
    with LocalServer(
        {
            "/v1/models": models("somebody"),
            CHAT: lambda body: refusal if is_about_sums(body) else chunks(" Two.", chat=True),
        }
    ).running() as server:
        assert engine_of(server, "served")._server.chat_style == "prefix"


def test_a_filter_that_refuses_every_text_is_named_in_the_error(tokenizer_folder: Path) -> None:
    answers = {"/v1/models": models("me"), COMPLETIONS: lambda _: FILTERED, CHAT: lambda _: FILTERED}
    with LocalServer(answers).running() as server, pytest.raises(EngineLoadError) as refused:
        engine_of(server, tokenizer_folder)
    assert "the content filter of the server refuses the small test texts" in str(refused.value)
    assert "openai.model" not in str(refused.value)


def test_a_context_too_small_for_the_probe_is_named_in_the_error(tokenizer_folder: Path) -> None:
    too_long = Reply({"error": {"code": "context_length_exceeded", "message": "maximum context length is 8"}}, 400)
    with (
        LocalServer({"/v1/models": models("me"), COMPLETIONS: lambda _: too_long}).running() as server,
        pytest.raises(EngineLoadError, match=r"does not fit the server's context .*start the server"),
    ):
        engine_of(server, tokenizer_folder)


def test_a_server_that_only_fails_at_start_is_given_up_and_one_that_loads_is_not(
    tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_engine, "_LONGEST_FAILING_SECONDS", 0.3)
    told: list[str | None] = []

    def tell(condition: str | None, *, since: float | None = None) -> None:
        assert since is not None
        told.append(condition)

    loading = Reply({"error": {"message": "Loading model"}}, status=503)
    local = LocalServer({"/v1/models": models("vllm"), "/v1/completions": lambda _: Reply(raw=b"", status=500)})
    local.script["/v1/models"] += [loading] * 8
    with local.running() as server:
        settings = engine_settings(
            path=str(tokenizer_folder),
            engine="openai",
            openai=OpenAiOptions(base_url=server.url, model="served", max_retries=0),
        )
        with pytest.raises(EngineLoadError, match=r"failed at the first test texts.* last: HTTP 500.*openai\.api"):
            OpenAiEngine(settings, tell)
    assert not local.script["/v1/models"]
    assert any("Loading model" in str(text) for text in told)
    assert any("HTTP 500" in str(text) for text in told)
