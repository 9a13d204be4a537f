"""Scores by the OpenAI-compatible engine: which log-probabilities it asks for, and how it reads them."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from cord_worker.config import DEFAULT_SCORING_TEMPLATE
from cord_worker.engines.openai.engine import OpenAiEngine
from cord_worker.engines.text_codec import TextCodec
from cord_worker.errors import EngineLoadError, UnavailableError
from tests.support.openai_engine import COMPLETIONS, TURN, run_and_close, settings, streaming_server, vllm_server
from tests.support.openai_local_server import Json, LocalServer, chunks, completion, models


def test_a_score_takes_the_rows_of_the_answers_tokens_by_position(tokenizer_folder: Path, fast_tokenizer: Any) -> None:
    with vllm_server().running() as server:
        engine = OpenAiEngine(settings(server, tokenizer_folder))
        assert engine.scoring_mode == "openai-vllm-prompt_logprobs"
        server.forget()
        scored = run_and_close(engine, lambda engine: engine.score(TURN, [" One."], "204", DEFAULT_SCORING_TEMPLATE))
        asked = server.bodies(COMPLETIONS)[0]
    closing = TextCodec(fast_tokenizer).closing(DEFAULT_SCORING_TEMPLATE, "204")
    values = [-closing.ids[index] / 1000 for index in closing.answer]
    assert asked["prompt"][-len(closing.ids) :] == list(closing.ids)
    assert scored.answer_tokens == len(values)
    assert scored.log_prob_sum == pytest.approx(math.fsum(values), rel=1e-8)
    assert scored.score == pytest.approx(math.exp(math.fsum(values) / len(values)), rel=1e-8)
    assert scored.prompt_tokens == len(asked["prompt"])


def echoing(body: Json) -> Json | list[Json]:
    if not body.get("echo"):
        return chunks(" Two.")
    values = [None, *(-token / 1000 for token in body["prompt"][1:]), -0.5]
    tokens = [f"token_id:{token}" for token in (*body["prompt"], 0)]
    logprobs = {"token_logprobs": values, "tokens": tokens}
    return {"choices": [{"text": "", "finish_reason": "length", "logprobs": logprobs}]}


def test_a_score_can_come_from_echoed_log_probabilities(tokenizer_folder: Path, fast_tokenizer: Any) -> None:
    with LocalServer({"/v1/models": models("llamacpp"), COMPLETIONS: echoing}).running() as server:
        engine = OpenAiEngine(settings(server, tokenizer_folder))
        scored = run_and_close(engine, lambda engine: engine.score(TURN, [" One."], "204", DEFAULT_SCORING_TEMPLATE))
    closing = TextCodec(fast_tokenizer).closing(DEFAULT_SCORING_TEMPLATE, "204")
    assert engine.scoring_mode == "openai-llamacpp-echo"
    assert scored.log_prob_sum == pytest.approx(sum(-closing.ids[index] / 1000 for index in closing.answer), rel=1e-8)


@pytest.mark.parametrize("before", [0, 1])
def test_echoed_tokens_are_compared_with_those_sent(tokenizer_folder: Path, fast_tokenizer: Any, before: int) -> None:
    """With a start token before the prompt and without the written token, every value would belong to another token."""

    def worded(body: Json) -> Any:
        answer: Any = echoing(body)
        if body.get("echo"):
            logprobs = answer["choices"][0]["logprobs"]
            words = [fast_tokenizer.decode([token]) for token in body["prompt"]]
            logprobs["tokens"] = ["<s>", *words] if before else [*words, "x"]
        return answer

    with LocalServer({"/v1/models": models("somebody"), COMPLETIONS: worded}).running() as server:
        engine = OpenAiEngine(settings(server, tokenizer_folder))
        asyncio.run(engine.close())
    assert engine.scoring_mode == (None if before else "openai-other-echo")


def foretelling(body: Json) -> Json:
    """vLLM's log-probabilities of chosen next tokens, with the choices in any order."""
    if "logprob_token_ids" not in body:
        return completion(" Two.")(body)
    wanted = body["logprob_token_ids"]
    rows = [{f"token_id:{token}": -len(prompt) - token / 1000 for token in wanted} for prompt in body["prompt"]]
    choices = [{"index": index, "text": "", "logprobs": {"top_logprobs": [row]}} for index, row in enumerate(rows)]
    return {"choices": choices[::-1], "usage": {"prompt_tokens_details": {"cached_tokens": 16}}}


@pytest.mark.parametrize("answer", ["204", "a very long answer of many more tokens than go together"])
def test_vllm_is_asked_for_each_answer_token_after_its_prefix(
    tokenizer_folder: Path, fast_tokenizer: Any, answer: str
) -> None:
    with LocalServer({"/v1/models": models("vllm"), COMPLETIONS: foretelling}).running() as server:
        engine = OpenAiEngine(settings(server, tokenizer_folder))
        assert engine.scoring_mode == "openai-vllm-next_token"
        server.forget()
        scored = run_and_close(engine, lambda engine: engine.score(TURN, [" One."], answer, DEFAULT_SCORING_TEMPLATE))
        prompts = sorted((prompt for body in server.bodies(COMPLETIONS) for prompt in body["prompt"]), key=len)
    codec = TextCodec(fast_tokenizer)
    closing = codec.closing(DEFAULT_SCORING_TEMPLATE, answer)
    ids = [token for piece in (*codec.candidate(TURN, [" One."]), closing.ids) for token in piece]
    positions = [len(ids) - len(closing.ids) + index for index in closing.answer]
    assert prompts == [ids[:position] for position in positions]
    assert scored.log_prob_sum == pytest.approx(-sum(p + ids[p] / 1000 for p in positions), rel=1e-8)
    assert (scored.answer_tokens, scored.cached_tokens) == (len(positions), 16)


def test_a_server_without_prompt_log_probabilities_cannot_be_the_prover(tokenizer_folder: Path) -> None:
    with streaming_server("llamacpp", " Two.").running() as server:
        engine = OpenAiEngine(settings(server, tokenizer_folder))
        assert engine.scoring_mode is None
        with pytest.raises(EngineLoadError, match=r"no prompt log-probabilities.*cannot be the prover"):
            run_and_close(engine, lambda engine: engine.score(TURN, [" One."], "204", DEFAULT_SCORING_TEMPLATE))


def test_a_server_that_stops_giving_log_probabilities_is_waited_for_and_fails_no_candidate(
    tokenizer_folder: Path,
) -> None:
    with vllm_server().running() as server:
        engine = OpenAiEngine(settings(server, tokenizer_folder))
        server.answers[COMPLETIONS] = lambda _: {"choices": [{"text": "", "finish_reason": "stop"}]}
        with pytest.raises(UnavailableError, match="no log-probabilities of the prompt"):
            run_and_close(engine, lambda engine: engine.score(TURN, [" One."], "204", DEFAULT_SCORING_TEMPLATE))
