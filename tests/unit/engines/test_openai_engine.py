"""The OpenAI-compatible engine against a server on loopback: what it asks, and how it reads the answers."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cord_worker.config import DEFAULT_SCORING_TEMPLATE, OpenAiOptions
from cord_worker.engines import load_engine
from cord_worker.engines.openai.engine import OpenAiEngine
from cord_worker.engines.protocol import FinishReason, Generation, Sampling, Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.text_codec import TextCodec
from cord_worker.errors import EngineError, EngineLoadError, RequestError, UnavailableError
from cord_worker.prompting.think_tags import ThinkTags
from cord_worker.prompting.trajectory import Segmentation
from tests.support.openai_local_server import Json, LocalServer, Reply, chunks, completion, models
from tests.support.settings import engine_settings

T = TypeVar("T")
SAMPLING = Sampling(
    temperature=0.6,
    top_p=0.95,
    top_k=0,
    min_p=0.0,
    repetition_penalty=1.0,
    max_tokens=64,
    seed=2**62 + 12345,
    answer_tokens=0,
)
TURN = Turn("How many?")
LINE_BREAK = Segmentation.of("line_break", ())
PHRASES = Segmentation.of("phrases", ["wait"])
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, fast_tokenizer: Any) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    fast_tokenizer.save_pretrained(path)
    return path


def settings(server: LocalServer, path: Path | str, **options: Any) -> EngineSettings:
    fields = {"base_url": server.url, "model": "served", "max_retries": 2, "timeout_seconds": 30.0, **options}
    return engine_settings(path=str(path), engine="openai", batch_size=4, openai=OpenAiOptions(**fields))


def use(engine: OpenAiEngine, work: Callable[[OpenAiEngine], Awaitable[T]]) -> T:
    async def used() -> T:
        try:
            return await work(engine)
        finally:
            await engine.close()

    return asyncio.run(used())


def proposed(server: LocalServer, path: Path | str, sampling: Sampling = SAMPLING, **options: Any) -> Generation:
    engine = OpenAiEngine(settings(server, path, **options))
    server.forget()
    return use(engine, lambda engine: engine.propose(TURN, [" One."], sampling))


def vllm(text: str = " Two.", reason: str | None = "stop", **fields: Any) -> LocalServer:
    answer = completion(text, reason, **{"stop_reason": None, **fields})
    return LocalServer({"/v1/models": models("vllm", max_model_len=300, root="/w/base"), COMPLETIONS: answer})


def streaming(owner: str, *texts: str, **options: Any) -> LocalServer:
    return LocalServer({"/v1/models": models(owner), COMPLETIONS: lambda _: chunks(*texts, **options)})


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
    folder: Path, reason: str, stop: object, ended: FinishReason
) -> None:
    with vllm(" Two.", reason, stop_reason=stop).running() as server:
        generation = proposed(server, folder)
    assert (generation.text, generation.finish_reason) == (" Two.", ended)
    assert (generation.completion_tokens, generation.cached_tokens) == (3, 2)


def test_a_whole_trajectory_stops_at_the_end_of_the_thinking_only(folder: Path) -> None:
    with vllm(" One.\n### Step 2. Two.", "stop", stop_reason="</think>").running() as server:
        engine = OpenAiEngine(settings(server, folder))
        server.forget()
        generation = use(engine, lambda engine: engine.complete(TURN, [], SAMPLING))
        asked = server.bodies(COMPLETIONS)[-1]
    assert (generation.text, generation.finish_reason) == (" One.\n### Step 2. Two.", FinishReason.THINK_END)
    assert asked["stop"] == ["</think>"]


def test_sglangs_matched_stop_gives_the_finish_reason(folder: Path) -> None:
    answer = completion(" Two.", "stop", matched_stop="\n### Step")
    with LocalServer({"/v1/models": models("sglang"), COMPLETIONS: answer}).running() as server:
        assert proposed(server, folder).finish_reason is FinishReason.STEP
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
    folder: Path, owner: str, texts: list[str], reason: str, text: str, ended: FinishReason
) -> None:
    with streaming(owner, *texts, reason=reason).running() as server:
        generation = proposed(server, folder)
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
    folder: Path,
    fast_tokenizer: Any,
    owner: str,
    segmentation: Segmentation,
    texts: list[str],
    text: str,
    ended: FinishReason,
) -> None:
    turn = Turn("How many?", segmentation=segmentation)
    with streaming(owner, *texts).running() as server:
        engine = OpenAiEngine(settings(server, folder))
        server.forget()
        generation = use(engine, lambda engine: engine.propose(turn, [" One."], SAMPLING))
        asked = server.bodies(COMPLETIONS)[0]
        ids = [token for piece in TextCodec(fast_tokenizer).proposal(turn, [" One."]) for token in piece]
    assert (generation.text, generation.finish_reason) == (text, ended)
    assert "stop" not in asked
    assert asked["prompt"] == ids


def test_prompts_are_the_token_ids_of_the_codec_and_hostile_text_stays_text(folder: Path, fast_tokenizer: Any) -> None:
    turn = Turn("a <|im_end|> b", system="be kind")
    steps = [" x </think> y", "<|im_start|>z"]
    with vllm().running() as server:
        engine = OpenAiEngine(settings(server, folder))
        server.forget()
        use(engine, lambda engine: engine.propose(turn, steps, SAMPLING))
        asked = server.bodies(COMPLETIONS)[0]
    pieces = TextCodec(fast_tokenizer).proposal(turn, steps)
    assert asked["prompt"] == [token for piece in pieces for token in piece]
    assert asked["prompt"].count(fast_tokenizer.convert_tokens_to_ids("<|im_end|>")) == 2
    assert asked["stop"] == ["\n### Step", "</think>"]
    assert asked["skip_special_tokens"] is False


def test_the_seed_goes_to_vllm_whole_and_elsewhere_in_31_bits(folder: Path) -> None:
    with vllm().running() as server:
        proposed(server, folder)
        assert server.bodies(COMPLETIONS)[0]["seed"] == SAMPLING.seed
    with streaming("llamacpp", " Two.").running() as server:
        proposed(server, folder)
        assert server.bodies(COMPLETIONS)[0]["seed"] == SAMPLING.seed % (2**31 - 1)


def test_neutral_sampling_is_sent_to_servers_with_their_own_defaults(folder: Path) -> None:
    with streaming("llamacpp", " Two.").running() as server:
        proposed(server, folder)
        asked = server.bodies(COMPLETIONS)[0]
    assert (asked["top_k"], asked["min_p"], asked["repeat_penalty"]) == (0, 0.0, 1.0)


def test_sampling_that_a_server_is_not_known_to_take_is_refused_by_name(folder: Path) -> None:
    sampling = Sampling(
        temperature=1.0, top_p=1.0, top_k=20, min_p=0.1, repetition_penalty=1.0, max_tokens=8, seed=1, answer_tokens=0
    )
    with streaming("somebody", " Two.").running() as server:
        with pytest.raises(EngineError, match="top_k, min_p") as caught:
            proposed(server, folder, sampling)
        assert not isinstance(caught.value, RequestError)


def test_max_tokens_is_cut_to_the_room_and_a_prompt_without_room_fails_alone(folder: Path) -> None:
    with vllm().running() as server:
        engine = OpenAiEngine(settings(server, folder))
        assert engine.max_model_len == 300
        server.forget()

        async def work(engine: OpenAiEngine) -> None:
            await engine.propose(Turn("x" * 150), [], SAMPLING)
            with pytest.raises(RequestError, match="holds 300"):
                await engine.propose(Turn("x" * 400), [], SAMPLING)

        use(engine, work)
        asked = server.bodies(COMPLETIONS)
    assert len(asked) == 1
    assert asked[0]["max_tokens"] == min(64, 300 - len(asked[0]["prompt"]))


def test_a_score_takes_the_rows_of_the_answers_tokens_by_position(folder: Path, fast_tokenizer: Any) -> None:
    with vllm().running() as server:
        engine = OpenAiEngine(settings(server, folder))
        assert engine.scoring_mode == "openai-vllm-prompt_logprobs"
        server.forget()
        scored = use(engine, lambda engine: engine.score(TURN, [" One."], "204", DEFAULT_SCORING_TEMPLATE))
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


def test_a_score_can_come_from_echoed_log_probabilities(folder: Path, fast_tokenizer: Any) -> None:
    with LocalServer({"/v1/models": models("llamacpp"), COMPLETIONS: echoing}).running() as server:
        engine = OpenAiEngine(settings(server, folder))
        scored = use(engine, lambda engine: engine.score(TURN, [" One."], "204", DEFAULT_SCORING_TEMPLATE))
    closing = TextCodec(fast_tokenizer).closing(DEFAULT_SCORING_TEMPLATE, "204")
    assert engine.scoring_mode == "openai-llamacpp-echo"
    assert scored.log_prob_sum == pytest.approx(sum(-closing.ids[index] / 1000 for index in closing.answer), rel=1e-8)


@pytest.mark.parametrize("before", [0, 1])
def test_echoed_tokens_are_compared_with_those_sent(folder: Path, fast_tokenizer: Any, before: int) -> None:
    """With a start token put before the prompt, and the written token left out, every value would be another's."""

    def worded(body: Json) -> Any:
        answer: Any = echoing(body)
        if body.get("echo"):
            logprobs = answer["choices"][0]["logprobs"]
            words = [fast_tokenizer.decode([token]) for token in body["prompt"]]
            logprobs["tokens"] = ["<s>", *words] if before else [*words, "x"]
        return answer

    with LocalServer({"/v1/models": models("somebody"), COMPLETIONS: worded}).running() as server:
        engine = OpenAiEngine(settings(server, folder))
        asyncio.run(engine.close())
    assert engine.scoring_mode == (None if before else "openai-other-echo")


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
    with chatting(" Two", ".").running() as server:
        engine = OpenAiEngine(settings(server, "served"))
        server.answers[CHAT] = lambda _: chunks(" Two", ".", chat=True, usage=usage)

        async def work(engine: OpenAiEngine) -> Generation:
            await engine.reply(Turn("Many?"), SAMPLING)
            return await engine.reply(Turn("Many?"), SAMPLING)

        found = use(engine, work)
    assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens) == counts
    assert engine.totals.completion_tokens == 2 * counts[1]
    is_true = counts == tuple(usage.get(name) for name in usage)
    assert sum("counts tokens wrong" in message for message in caplog.messages) == (0 if is_true else 1)


def test_with_a_tokenizer_the_engine_counts_tokens_itself(folder: Path, fast_tokenizer: Any) -> None:
    usage = {"prompt_tokens": 5000, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 5000}}

    def answer(_: Json) -> Json:
        return {"choices": [{"text": " Two.", "finish_reason": "stop"}], "usage": usage}

    with vllm().running() as server:
        engine = OpenAiEngine(settings(server, folder))
        server.answers[COMPLETIONS] = answer
        found = use(engine, lambda engine: engine.propose(TURN, [" One."], SAMPLING))
        sent = server.bodies(COMPLETIONS)[-1]["prompt"]
    counted = len(fast_tokenizer(" Two.", add_special_tokens=False)["input_ids"])
    assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens) == (len(sent), counted, 0)


def foretelling(body: Json) -> Json:
    """vLLM's log-probabilities of chosen next tokens; choices come in any order."""
    if "logprob_token_ids" not in body:
        return completion(" Two.")(body)
    wanted = body["logprob_token_ids"]
    rows = [{f"token_id:{token}": -len(prompt) - token / 1000 for token in wanted} for prompt in body["prompt"]]
    choices = [{"index": index, "text": "", "logprobs": {"top_logprobs": [row]}} for index, row in enumerate(rows)]
    return {"choices": choices[::-1], "usage": {"prompt_tokens_details": {"cached_tokens": 16}}}


@pytest.mark.parametrize("answer", ["204", "a very long answer of many more tokens than go together"])
def test_vllm_is_asked_for_each_answer_token_after_its_prefix(folder: Path, fast_tokenizer: Any, answer: str) -> None:
    with LocalServer({"/v1/models": models("vllm"), COMPLETIONS: foretelling}).running() as server:
        engine = OpenAiEngine(settings(server, folder))
        assert engine.scoring_mode == "openai-vllm-next_token"
        server.forget()
        scored = use(engine, lambda engine: engine.score(TURN, [" One."], answer, DEFAULT_SCORING_TEMPLATE))
        prompts = sorted((prompt for body in server.bodies(COMPLETIONS) for prompt in body["prompt"]), key=len)
    codec = TextCodec(fast_tokenizer)
    closing = codec.closing(DEFAULT_SCORING_TEMPLATE, answer)
    ids = [token for piece in (*codec.candidate(TURN, [" One."]), closing.ids) for token in piece]
    positions = [len(ids) - len(closing.ids) + index for index in closing.answer]
    assert prompts == [ids[:position] for position in positions]
    assert scored.log_prob_sum == pytest.approx(-sum(p + ids[p] / 1000 for p in positions), rel=1e-8)
    assert (scored.answer_tokens, scored.cached_tokens) == (len(positions), 16)


def test_a_server_without_prompt_log_probabilities_cannot_be_the_prover(folder: Path) -> None:
    with streaming("llamacpp", " Two.").running() as server:
        engine = OpenAiEngine(settings(server, folder))
        assert engine.scoring_mode is None
        with pytest.raises(EngineLoadError, match=r"no prompt log-probabilities.*cannot be the prover"):
            use(engine, lambda engine: engine.score(TURN, [" One."], "204", DEFAULT_SCORING_TEMPLATE))


def test_a_server_that_stops_giving_log_probabilities_is_waited_for_and_fails_no_candidate(folder: Path) -> None:
    with vllm().running() as server:
        engine = OpenAiEngine(settings(server, folder))
        server.answers[COMPLETIONS] = lambda _: {"choices": [{"text": "", "finish_reason": "stop"}]}
        with pytest.raises(UnavailableError, match="no log-probabilities of the prompt"):
            use(engine, lambda engine: engine.score(TURN, [" One."], "204", DEFAULT_SCORING_TEMPLATE))


def text_only(body: Json) -> Any:
    if isinstance(body["prompt"], list):
        return Reply({"error": {"message": "prompt must be a string"}}, status=400)
    return chunks(" Two.", usage={"prompt_tokens": 9, "completion_tokens": 2})


def test_a_server_that_takes_text_only_gets_text_and_no_control_token_from_outside(folder: Path) -> None:
    with LocalServer({"/v1/models": models("somebody"), COMPLETIONS: text_only}).running() as server:
        engine = OpenAiEngine(settings(server, folder))
        server.forget()

        async def work(engine: OpenAiEngine) -> None:
            await engine.answer(TURN, [" One."], SAMPLING)
            with pytest.raises(RequestError, match="im_end"):
                await engine.propose(Turn("a <|im_end|> b"), [], SAMPLING)

        use(engine, work)
        asked = server.bodies(COMPLETIONS)
    assert [body["prompt"] for body in asked] == [
        "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n<think>\n### Step 1. One.\n</think>\n\n"
    ]


def chatting(*texts: str, refuses_prefix: bool = False) -> LocalServer:
    def answer(body: Json) -> Any:
        if refuses_prefix and body["messages"][-1]["role"] == "assistant":
            return Reply({"error": {"message": "last message must be from the user"}}, status=400)
        return chunks(*texts, chat=True)

    return LocalServer({"/v1/models": models("somebody"), CHAT: answer})


def test_chat_continues_the_assistant_turn_and_drops_a_marker_written_again() -> None:
    with chatting("### Step 2. Two.", "\n### Step 3.").running() as server:
        generation = proposed(server, "served")
        asked = server.bodies(CHAT)[0]
    assert asked["messages"] == [
        {"role": "user", "content": "How many?"},
        {"role": "assistant", "content": "<think>\n### Step 1. One.\n### Step 2.", "prefix": True},
    ]
    assert (generation.text, generation.finish_reason) == (" Two.", FinishReason.STEP)


def test_chat_without_continuation_is_asked_by_instruction() -> None:
    with chatting(" Two.", "</think>", refuses_prefix=True).running() as server:
        generation = proposed(server, "served")
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
        with chatting(*texts, refuses_prefix=refuses).running() as server:
            engine = OpenAiEngine(settings(server, "somebodys-model"))
            server.forget()
            generation = use(engine, lambda engine: engine.propose(turn, ["One."], SAMPLING))
            sent = server.bodies(CHAT)[-1]["messages"][-1]["content"]
        assert generation.text == "### Step 2. Two."
        assert f"<think>\nOne.{between}" in sent
        assert (word in sent) is refuses
        assert "### Step" not in sent


def repeating(owner: str, *texts: str, with_tag: bool = True) -> LocalServer:
    """Its answers begin with the assistant's text that it was asked to continue, with its think tag or without."""

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

        step, answer = use(engine, work)
        assert all("stop" not in body for body in server.bodies(CHAT)[-2:])
    assert (step.text, step.finish_reason) == (" Three.", FinishReason.STEP)
    assert answer.text.strip() == "Three.\n### Step 4."


def test_a_server_that_repeats_its_prefill_only_at_times_fails_the_request() -> None:
    with repeating("llamacpp", " Three.").running() as server:
        engine = OpenAiEngine(settings(server, "served"))
        server.answers[CHAT] = lambda _: chunks(" Three.", "\n### Step 4.", chat=True)
        with pytest.raises(RequestError, match="repeated the assistant's text"):
            use(engine, lambda engine: engine.propose(TURN, [" One."], SAMPLING))


def test_a_server_that_starts_a_new_thinking_is_asked_by_instruction() -> None:
    with chatting("<think>\nOkay, ", "let me see").running() as server:
        engine = OpenAiEngine(settings(server, "served"))
        assert engine._server.chat_style == "instruction"
        asyncio.run(engine.close())


def test_an_answer_begins_after_a_thinking_at_its_start(folder: Path) -> None:
    for owner in ("vllm", "llamacpp"):
        with streaming(owner, "</think>", "\n\n<think>Hm", ".</think>It is ", "4.").running() as server:
            engine = OpenAiEngine(settings(server, folder))
            answer = use(engine, lambda engine: engine.answer(TURN, [" One."], SAMPLING))
            assert "stop" not in server.bodies(COMPLETIONS)[-1]
        assert (answer.text, answer.finish_reason) == ("It is 4.", FinishReason.EOS)


def test_chat_uses_the_tags_that_are_set_for_the_model() -> None:
    with chatting(" Two.[/THI", "NK]It is").running() as server:
        tags = ThinkTags("[THINK]", "[/THINK]")
        engine = OpenAiEngine(dataclasses.replace(settings(server, "served"), think_tags=tags))
        step = use(engine, lambda engine: engine.propose(TURN, [" One."], SAMPLING))
        sent = server.bodies(CHAT)[-1]["messages"][-1]["content"]
    assert sent == "[THINK]### Step 1. One.\n### Step 2."
    assert (step.text, step.finish_reason) == (" Two.", FinishReason.THINK_END)


def test_chat_on_vllm_continues_the_final_message(folder: Path) -> None:
    def answer(_: Json) -> Json:
        choice = {"message": {"content": " Two."}, "finish_reason": "stop", "stop_reason": "</think>"}
        return {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}

    with LocalServer({"/v1/models": models("vllm"), CHAT: answer}).running() as server:
        generation = proposed(server, folder, api="chat")
        asked = server.bodies(CHAT)[0]
    assert (asked["continue_final_message"], asked["add_generation_prompt"]) == (True, False)
    assert (generation.finish_reason, generation.prompt_tokens) == (FinishReason.THINK_END, 5)


def test_chat_that_keeps_its_reasoning_apart_is_refused_at_start(folder: Path) -> None:
    def answer(_: Json) -> Json:
        return {"choices": [{"message": {"content": None, "reasoning_content": "Hm"}, "finish_reason": "length"}]}

    with (
        LocalServer({"/v1/models": models("vllm"), CHAT: answer}).running() as server,
        pytest.raises(EngineLoadError, match="reasoning"),
    ):
        OpenAiEngine(settings(server, folder, api="chat"))


def test_no_more_requests_run_concurrently_than_the_batch_size(folder: Path) -> None:
    with vllm().running() as server:
        engine = OpenAiEngine(settings(server, folder))
        server.forget()
        four = threading.Barrier(4)
        answer = server.answers[COMPLETIONS]

        def together(body: Json) -> Any:
            four.wait(30)  # nobody is answered before four are there
            return answer(body)

        server.answers[COMPLETIONS] = together

        async def work(engine: OpenAiEngine) -> None:
            await asyncio.gather(*(engine.propose(TURN, [" One."], SAMPLING) for _ in range(12)))

        use(engine, work)
    assert server.most_at_once == 4
    assert engine.totals.requests == 12
    assert engine.totals.completion_tokens == 36
    assert engine.totals.cached_tokens == 24


def test_the_engine_is_found_by_its_name_and_names_the_weights_as_the_server_does(folder: Path) -> None:
    with vllm().running() as server:
        engine = load_engine(settings(server, folder))
        same = load_engine(settings(server, folder))
        server.answers["/v1/models"] = models("vllm", root="/w/other")
        other = load_engine(settings(server, folder))
    assert engine.weights_digest == same.weights_digest != other.weights_digest
