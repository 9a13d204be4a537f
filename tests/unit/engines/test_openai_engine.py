"""The OpenAI-compatible engine against a server on loopback: its requests for texts, and how it reads the replies."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from cord_worker.engines import load_engine
from cord_worker.engines.openai.engine import OpenAiEngine
from cord_worker.engines.protocol import FinishReason, Generation, Turn
from cord_worker.engines.text_codec import TextCodec
from cord_worker.errors import EngineError, RequestError
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
    vllm_server,
)
from tests.support.openai_local_server import Json, LocalServer, Reply, chunks, completion, models
from tests.support.settings import sampling


@pytest.mark.parametrize(
    ("reason", "stop", "ended"),
    [
        ("stop", "\n### Step", FinishReason.STEP),
        ("stop", "</think>", FinishReason.THINK_END),
        ("stop", None, FinishReason.EOS),
        ("stop", 151645, FinishReason.EOS),
        ("length", None, FinishReason.LENGTH),
    ],
)
def test_vllms_stop_reason_gives_the_finish_reason(
    tokenizer_folder: Path, reason: str, stop: object, ended: FinishReason
) -> None:
    with vllm_server(" Two.", reason, stop_reason=stop).running() as server:
        generation = propose_once(server, tokenizer_folder)
    assert (generation.text, generation.finish_reason) == (" Two.", ended)
    assert (generation.completion_tokens, generation.cached_tokens) == (3, 2)


def test_a_whole_trajectory_stops_at_the_end_of_the_thinking_only(tokenizer_folder: Path) -> None:
    with vllm_server(" One.\n### Step 2. Two.", "stop", stop_reason="</think>").running() as server:
        engine = OpenAiEngine(settings(server, tokenizer_folder))
        server.forget()
        generation = run_and_close(engine, lambda engine: engine.complete(TURN, [], SAMPLING))
        asked = server.bodies(COMPLETIONS)[-1]
    assert (generation.text, generation.finish_reason) == (" One.\n### Step 2. Two.", FinishReason.THINK_END)
    assert asked["stop"] == ["</think>"]


def test_sglangs_matched_stop_gives_the_finish_reason(tokenizer_folder: Path) -> None:
    answer = completion(" Two.", "stop", matched_stop="\n### Step")
    with LocalServer({"/v1/models": models("sglang"), COMPLETIONS: answer}).running() as server:
        assert propose_once(server, tokenizer_folder).finish_reason is FinishReason.STEP
        assert server.bodies(COMPLETIONS)[0]["top_k"] == -1


@pytest.mark.parametrize("owner", ["llamacpp", "somebody"])
@pytest.mark.parametrize(
    ("texts", "reason", "text", "ended"),
    [
        ([" Two.", "\n##", "# St", "ep 3. Th"], "stop", " Two.", FinishReason.STEP),
        ([" Two.\n</thi", "nk>\n\nIt"], "stop", " Two.\n", FinishReason.THINK_END),
        ([" Two", "."], "stop", " Two.", FinishReason.EOS),
        ([" Two", ".\ufffd"], "length", " Two.", FinishReason.LENGTH),
    ],
)
def test_the_end_of_a_stream_is_found_if_the_server_does_not_report_it(
    tokenizer_folder: Path, owner: str, texts: list[str], reason: str, text: str, ended: FinishReason
) -> None:
    with streaming_server(owner, *texts, reason=reason).running() as server:
        generation = propose_once(server, tokenizer_folder)
        assert "stop" not in server.bodies(COMPLETIONS)[0]
    assert (generation.text, generation.finish_reason) == (text, ended)
    assert generation.completion_tokens > 0


@pytest.mark.parametrize("owner", ["vllm", "sglang", "llamacpp"])
@pytest.mark.parametrize(
    ("segmentation", "texts", "text", "ended"),
    [
        (LINE_BREAK, ["\n\n Two", ".\n", "\nThr"], " Two.", FinishReason.STEP),
        (LINE_BREAK, [" Two.\n</thi", "nk>\n\nIt"], " Two.\n", FinishReason.THINK_END),
        (PHRASES, ["Wait, two.\n\nWa", "it", ", three"], "Wait, two.", FinishReason.STEP),
        (PHRASES, ["Wait, two. Wait"], "Wait, two. Wait", FinishReason.EOS),
    ],
)
def test_an_end_that_stop_strings_cannot_express_is_found_in_a_stream(
    tokenizer_folder: Path,
    fast_tokenizer: Any,
    owner: str,
    segmentation: Segmentation,
    texts: list[str],
    text: str,
    ended: FinishReason,
) -> None:
    turn = Turn("How many?", segmentation=segmentation)
    with streaming_server(owner, *texts).running() as server:
        engine = OpenAiEngine(settings(server, tokenizer_folder))
        server.forget()
        generation = run_and_close(engine, lambda engine: engine.propose(turn, [" One."], SAMPLING))
        asked = server.bodies(COMPLETIONS)[0]
        ids = [token for piece in TextCodec(fast_tokenizer).proposal(turn, [" One."]) for token in piece]
    assert (generation.text, generation.finish_reason) == (text, ended)
    assert "stop" not in asked
    assert asked["prompt"] == ids


def test_prompts_are_the_token_ids_of_the_codec_and_hostile_text_stays_text(
    tokenizer_folder: Path, fast_tokenizer: Any
) -> None:
    turn = Turn("a <|im_end|> b", system="be kind")
    steps = [" x </think> y", "<|im_start|>z"]
    with vllm_server().running() as server:
        engine = OpenAiEngine(settings(server, tokenizer_folder))
        server.forget()
        run_and_close(engine, lambda engine: engine.propose(turn, steps, SAMPLING))
        asked = server.bodies(COMPLETIONS)[0]
    pieces = TextCodec(fast_tokenizer).proposal(turn, steps)
    assert asked["prompt"] == [token for piece in pieces for token in piece]
    assert asked["prompt"].count(fast_tokenizer.convert_tokens_to_ids("<|im_end|>")) == 2
    assert asked["stop"] == ["\n### Step", "</think>"]
    assert asked["skip_special_tokens"] is False


def test_the_seed_goes_to_vllm_whole_and_elsewhere_in_31_bits(tokenizer_folder: Path) -> None:
    with vllm_server().running() as server:
        propose_once(server, tokenizer_folder)
        assert server.bodies(COMPLETIONS)[0]["seed"] == SAMPLING.seed
    with streaming_server("llamacpp", " Two.").running() as server:
        propose_once(server, tokenizer_folder)
        assert server.bodies(COMPLETIONS)[0]["seed"] == SAMPLING.seed % (2**31 - 1)


def test_neutral_sampling_is_sent_to_servers_with_their_own_defaults(tokenizer_folder: Path) -> None:
    with streaming_server("llamacpp", " Two.").running() as server:
        propose_once(server, tokenizer_folder)
        asked = server.bodies(COMPLETIONS)[0]
    assert (asked["top_k"], asked["min_p"], asked["repeat_penalty"]) == (0, 0.0, 1.0)


def test_sampling_that_a_server_is_not_known_to_take_is_refused_by_name(tokenizer_folder: Path) -> None:
    unusual = sampling(temperature=1.0, top_p=1.0, top_k=20, min_p=0.1, max_tokens=8)
    with streaming_server("somebody", " Two.").running() as server:
        with pytest.raises(EngineError, match="top_k, min_p") as caught:
            propose_once(server, tokenizer_folder, unusual)
        assert not isinstance(caught.value, RequestError)


def test_max_tokens_is_cut_to_the_room_and_a_prompt_without_room_fails_alone(tokenizer_folder: Path) -> None:
    with vllm_server().running() as server:
        engine = OpenAiEngine(settings(server, tokenizer_folder))
        assert engine.max_model_len == 300
        server.forget()

        async def work(engine: OpenAiEngine) -> None:
            await engine.propose(Turn("x" * 150), [], SAMPLING)
            with pytest.raises(RequestError, match="holds 300"):
                await engine.propose(Turn("x" * 400), [], SAMPLING)

        run_and_close(engine, work)
        asked = server.bodies(COMPLETIONS)
    assert len(asked) == 1
    assert asked[0]["max_tokens"] == min(64, 300 - len(asked[0]["prompt"]))


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 12, "completion_tokens": 65, "prompt_cache_hit_tokens": 12}, (12, 65, 12)),
        ({"prompt_tokens": 99_999_999, "completion_tokens": 99_999_999, "prompt_cache_hit_tokens": 9}, (2, 2, 0)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (2, 2, 0)),
        ({"prompt_tokens": 12, "completion_tokens": 66, "prompt_cache_hit_tokens": 13}, (12, 2, 0)),
    ],
)
def test_impossible_counts_are_not_stored_and_are_reported_once(
    caplog: pytest.LogCaptureFixture, usage: Json, counts: tuple[int, int, int]
) -> None:
    with chat_server(" Two", ".").running() as server:
        engine = OpenAiEngine(settings(server, "served"))
        server.answers[CHAT] = lambda _: chunks(" Two", ".", chat=True, usage=usage)

        async def work(engine: OpenAiEngine) -> Generation:
            await engine.reply(Turn("Many?"), SAMPLING)
            return await engine.reply(Turn("Many?"), SAMPLING)

        found = run_and_close(engine, work)
    assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens) == counts
    assert engine.totals.completion_tokens == 2 * counts[1]
    is_true = counts == tuple(usage.get(name) for name in usage)
    assert sum("counts tokens wrong" in message for message in caplog.messages) == (0 if is_true else 1)


def test_with_a_tokenizer_the_engine_counts_tokens_itself(tokenizer_folder: Path, fast_tokenizer: Any) -> None:
    usage = {"prompt_tokens": 5000, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 5000}}

    def answer(_: Json) -> Json:
        return {"choices": [{"text": " Two.", "finish_reason": "stop"}], "usage": usage}

    with vllm_server().running() as server:
        engine = OpenAiEngine(settings(server, tokenizer_folder))
        server.answers[COMPLETIONS] = answer
        found = run_and_close(engine, lambda engine: engine.propose(TURN, [" One."], SAMPLING))
        sent = server.bodies(COMPLETIONS)[-1]["prompt"]
    counted = len(fast_tokenizer(" Two.", add_special_tokens=False)["input_ids"])
    assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens) == (len(sent), counted, 0)


def text_only(body: Json) -> Any:
    if isinstance(body["prompt"], list):
        return Reply({"error": {"message": "prompt must be a string"}}, status=400)
    return chunks(" Two.", usage={"prompt_tokens": 9, "completion_tokens": 2})


def test_a_server_that_takes_text_only_gets_text_and_no_control_token_from_outside(tokenizer_folder: Path) -> None:
    with LocalServer({"/v1/models": models("somebody"), COMPLETIONS: text_only}).running() as server:
        engine = OpenAiEngine(settings(server, tokenizer_folder))
        server.forget()

        async def work(engine: OpenAiEngine) -> None:
            await engine.answer(TURN, [" One."], SAMPLING)
            with pytest.raises(RequestError, match="im_end"):
                await engine.propose(Turn("a <|im_end|> b"), [], SAMPLING)

        run_and_close(engine, work)
        asked = server.bodies(COMPLETIONS)
    assert [body["prompt"] for body in asked] == [
        "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n<think>\n### Step 1. One.\n</think>\n\n"
    ]


def test_no_more_requests_run_concurrently_than_the_batch_size(tokenizer_folder: Path) -> None:
    with vllm_server().running() as server:
        engine = OpenAiEngine(settings(server, tokenizer_folder))
        server.forget()
        four = threading.Barrier(4)
        answer = server.answers[COMPLETIONS]

        def together(body: Json) -> Any:
            four.wait(30)  # no request is answered before four have arrived
            return answer(body)

        server.answers[COMPLETIONS] = together

        async def work(engine: OpenAiEngine) -> None:
            await asyncio.gather(*(engine.propose(TURN, [" One."], SAMPLING) for _ in range(12)))

        run_and_close(engine, work)
    assert server.most_at_once == 4
    assert engine.totals.requests == 12
    assert engine.totals.completion_tokens == 36
    assert engine.totals.cached_tokens == 24


def test_the_engine_is_found_by_its_name_and_names_the_weights_as_the_server_does(tokenizer_folder: Path) -> None:
    with vllm_server().running() as server:
        engine = load_engine(settings(server, tokenizer_folder))
        same = load_engine(settings(server, tokenizer_folder))
        server.answers["/v1/models"] = models("vllm", root="/w/other")
        other = load_engine(settings(server, tokenizer_folder))
    assert engine.weights_digest == same.weights_digest != other.weights_digest
