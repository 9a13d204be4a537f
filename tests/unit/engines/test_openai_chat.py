"""The OpenAI-compatible engine with servers that take chat messages: how a trajectory is continued."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cord_worker.engines.openai.engine import OpenAiEngine
from cord_worker.engines.protocol import FinishReason, Generation, Turn
from cord_worker.errors import EngineLoadError, RequestError
from cord_worker.prompting.think_tags import ThinkTags
from cord_worker.prompting.trajectory import Segmentation
from tests.support.openai_engine import (
    CHAT,
    COMPLETIONS,
    LINE_BREAK,
    PHRASES,
    SAMPLING,
    TURN,
    chat_server,
    propose_once,
    run_and_close,
    settings,
    streaming_server,
)
from tests.support.openai_local_server import Json, LocalServer, chunks, models


def test_chat_continues_the_assistant_turn_and_drops_a_marker_written_again() -> None:
    with chat_server("### Step 2. Two.", "\n### Step 3.").running() as server:
        generation = propose_once(server, "served")
        asked = server.bodies(CHAT)[0]
    assert asked["messages"] == [
        {"role": "user", "content": "How many?"},
        {"role": "assistant", "content": "<think>\n### Step 1. One.\n### Step 2.", "prefix": True},
    ]
    assert (generation.text, generation.finish_reason) == (" Two.", FinishReason.STEP)


def test_chat_without_continuation_is_asked_by_instruction() -> None:
    with chat_server(" Two.", "</think>", refuses_prefix=True).running() as server:
        generation = propose_once(server, "served")
        asked = server.bodies(CHAT)[0]
    assert [message["role"] for message in asked["messages"]] == ["user"]
    assert "### Step 1. One.\n### Step 2." in asked["messages"][0]["content"]
    assert generation.finish_reason is FinishReason.THINK_END


@pytest.mark.parametrize(
    ("segmentation", "between", "word"), [(LINE_BREAK, "\n\n", "paragraph"), (PHRASES, "", "go on with the reasoning")]
)
def test_chat_without_markers_sends_the_trajectory_as_it_stands(
    segmentation: Segmentation, between: str, word: str
) -> None:
    turn, texts = Turn("How many?", segmentation=segmentation), ["### Step 2. Two.", "\n\nWait, no"]
    for refuses in (False, True):
        with chat_server(*texts, refuses_prefix=refuses).running() as server:
            engine = OpenAiEngine(settings(server, "somebodys-model"))
            server.forget()
            generation = run_and_close(engine, lambda engine: engine.propose(turn, ["One."], SAMPLING))
            sent = server.bodies(CHAT)[-1]["messages"][-1]["content"]
        assert generation.text == "### Step 2. Two."
        assert f"<think>\nOne.{between}" in sent
        assert (word in sent) is refuses
        assert "### Step" not in sent


def repeating(owner: str, *texts: str, with_tag: bool = True) -> LocalServer:
    """A server whose answers begin with the assistant's text that it should continue, with its think tag or without."""

    def answer(body: Json) -> Any:
        prefill = body["messages"][-1]["content"]
        sent = prefill if with_tag else prefill.removeprefix("<think>\n")
        if body.get("stream"):
            return chunks(sent[:5], sent[5:], *texts, chat=True)
        choice = {"message": {"content": sent + "".join(texts)}, "finish_reason": "stop", "stop_reason": None}
        return {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}

    return LocalServer({"/v1/models": models(owner), CHAT: answer})


@pytest.mark.parametrize("owner", ["vllm", "sglang", "llamacpp", "somebody"])
@pytest.mark.parametrize("with_tag", [True, False])
def test_a_prefill_that_the_server_repeats_is_noticed_at_start_and_removed(owner: str, with_tag: bool) -> None:
    steps = [" One.", " Two.\n"]
    with repeating(owner, " Three.", "\n### Step 4.", with_tag=with_tag).running() as server:
        engine = OpenAiEngine(settings(server, "served"))

        async def work(engine: OpenAiEngine) -> list[Generation]:
            step = await engine.propose(TURN, steps, SAMPLING)
            return [step, await engine.answer(TURN, steps, SAMPLING)]

        step, answer = run_and_close(engine, work)
        assert all("stop" not in body for body in server.bodies(CHAT)[-2:])
    assert (step.text, step.finish_reason) == (" Three.", FinishReason.STEP)
    assert answer.text.strip() == "Three.\n### Step 4."


def test_a_server_that_repeats_its_prefill_only_at_times_fails_the_request() -> None:
    with repeating("llamacpp", " Three.").running() as server:
        engine = OpenAiEngine(settings(server, "served"))
        server.answers[CHAT] = lambda _: chunks(" Three.", "\n### Step 4.", chat=True)
        with pytest.raises(RequestError, match="repeated the assistant's text"):
            run_and_close(engine, lambda engine: engine.propose(TURN, [" One."], SAMPLING))


def test_a_server_that_starts_a_new_thinking_is_asked_by_instruction() -> None:
    with chat_server("<think>\nOkay, ", "let me see").running() as server:
        engine = OpenAiEngine(settings(server, "served"))
        assert engine._server.chat_style == "instruction"
        asyncio.run(engine.close())


def test_an_answer_begins_after_a_thinking_at_its_start(tokenizer_folder: Path) -> None:
    for owner in ("vllm", "llamacpp"):
        with streaming_server(owner, "</think>", "\n\n<think>Hm", ".</think>It is ", "4.").running() as server:
            engine = OpenAiEngine(settings(server, tokenizer_folder))
            answer = run_and_close(engine, lambda engine: engine.answer(TURN, [" One."], SAMPLING))
            assert "stop" not in server.bodies(COMPLETIONS)[-1]
        assert (answer.text, answer.finish_reason) == ("It is 4.", FinishReason.EOS)


def test_chat_uses_the_tags_that_are_set_for_the_model() -> None:
    with chat_server(" Two.[/THI", "NK]It is").running() as server:
        tags = ThinkTags("[THINK]", "[/THINK]")
        engine = OpenAiEngine(dataclasses.replace(settings(server, "served"), think_tags=tags))
        step = run_and_close(engine, lambda engine: engine.propose(TURN, [" One."], SAMPLING))
        sent = server.bodies(CHAT)[-1]["messages"][-1]["content"]
    assert sent == "[THINK]### Step 1. One.\n### Step 2."
    assert (step.text, step.finish_reason) == (" Two.", FinishReason.THINK_END)


def test_chat_on_vllm_continues_the_final_message(tokenizer_folder: Path) -> None:
    def answer(_: Json) -> Json:
        choice = {"message": {"content": " Two."}, "finish_reason": "stop", "stop_reason": "</think>"}
        return {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}

    with LocalServer({"/v1/models": models("vllm"), CHAT: answer}).running() as server:
        generation = propose_once(server, tokenizer_folder, api="chat")
        asked = server.bodies(CHAT)[0]
    assert (asked["continue_final_message"], asked["add_generation_prompt"]) == (True, False)
    assert (generation.finish_reason, generation.prompt_tokens) == (FinishReason.THINK_END, 5)


def test_chat_that_keeps_its_reasoning_apart_is_refused_at_start(tokenizer_folder: Path) -> None:
    def answer(_: Json) -> Json:
        return {"choices": [{"message": {"content": None, "reasoning_content": "Hm"}, "finish_reason": "length"}]}

    with (
        LocalServer({"/v1/models": models("vllm"), CHAT: answer}).running() as server,
        pytest.raises(EngineLoadError, match="reasoning"),
    ):
        OpenAiEngine(settings(server, tokenizer_folder, api="chat"))
