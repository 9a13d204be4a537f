"""Messages with which engines refuse requests, in their original wording."""

from __future__ import annotations

import pytest

from cord_worker.engines.openai.faults import Means, ServerFault
from cord_worker.engines.openai.replies import all_words, codes_in
from cord_worker.engines.refusal_texts import means_filtered
from cord_worker.errors import ContentFilterError, NotFiniteError, TooLongError

TOO_LONG = [
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens in the messages",
    "the request exceeds the available context size, try increasing it",
    "Context size has been exceeded.",
    "Requested tokens (5000) exceed context window of 4096",
    "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096",
    "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
    "prompt is too long: 210000 tokens > 200000 maximum",
    "The input token count (5000) exceeds the maximum number of tokens allowed (4096).",
    "input length exceeds the context length",
    "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
    "context_length_exceeded",
]
NOT_TOO_LONG = [
    "context deadline exceeded",
    "The request took too long to process",
    "stop must hold at most 4 strings",
    "exceeded the maximum number of retries",
    "internal error",
    "Rate limit exceeded: 40000 tokens per minute",
]


@pytest.mark.parametrize("text", TOO_LONG)
def test_too_long_is_recognised_in_many_wordings(text: str) -> None:
    fault = ServerFault(text, status=400, words=text)
    assert (fault.means, fault.refusal, fault.suspected) == (Means.REFUSED, TooLongError, None)


@pytest.mark.parametrize("status", [None, 500])
@pytest.mark.parametrize("text", TOO_LONG)
def test_words_of_a_failing_server_only_raise_a_suspicion(status: int | None, text: str) -> None:
    fault = ServerFault(text, status=status, words=text)
    assert (fault.means, fault.refusal, fault.suspected) == (Means.BROKEN, None, TooLongError)
    assert (fault.confirmed().means, fault.confirmed().refusal) == (Means.REFUSED, TooLongError)


@pytest.mark.parametrize("status", [502, 504, 524])
def test_words_of_a_gateway_are_not_about_the_request(status: int) -> None:
    fault = ServerFault("no", status=status, words="response headers too large", codes={"content_filter"})
    assert (fault.means, fault.suspected) == (Means.BROKEN, None)


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        ({"code": 500, "message": "no", "type": "exceed_context_size_error"}, TooLongError),
        ({"code": "context_length_exceeded", "message": "no"}, TooLongError),
        ({"code": "DATA_INSPECTION_FAILED", "message": "no"}, ContentFilterError),
        ({"code": "content_filter", "message": "no"}, ContentFilterError),
        ({"code": "content_filter_error", "message": "the content_filter is down"}, None),
        ({"code": {"content_filter": 1}, "type": ["content_filter"]}, None),
    ],
)
@pytest.mark.parametrize("status", [None, 400, 500])
def test_only_an_exact_code_is_certain_under_any_status(
    status: int | None, error: dict[str, object], refusal: type[Exception] | None
) -> None:
    for body in (error, {"error": error}, [{"error": error}]):
        fault = ServerFault("no", status=status, codes=codes_in(body))
        assert fault.refusal is refusal
        assert (fault.means is Means.REFUSED) == (refusal is not None or status == 400)


@pytest.mark.parametrize("text", NOT_TOO_LONG)
def test_other_limits_are_not_taken_for_the_context_length(text: str) -> None:
    assert ServerFault(text, status=400, words=text).refusal is not TooLongError
    assert ServerFault(text, status=500, words=text).refusal is None


@pytest.mark.parametrize(
    ("status", "text", "means"),
    [
        (500, "model runner has unexpectedly stopped", Means.BROKEN),
        (503, "Loading model", Means.AWAY),
        (503, "server busy, please try again. maximum pending requests exceeded", Means.BUSY),
        (None, "insufficient_system_resource", Means.BUSY),
        (400, "Model Not Exist", Means.ACCESS),
        (404, "model 'x' not found, try pulling it first", Means.ACCESS),
        (400, "names are case-sensitive", Means.REFUSED),  # not "sensitive", the word of a content filter
        (400, "Model is overloaded, try again later", Means.BUSY),
        (422, "The content filter is busy", Means.BUSY),
        (400, "Model is loading", Means.AWAY),
    ],
)
def test_a_servers_message_about_itself_is_no_fault_of_the_request(status: int | None, text: str, means: Means) -> None:
    fault = ServerFault(text, status=status, words=text)
    assert (fault.means, fault.refusal) == (means, None)


@pytest.mark.parametrize(
    "text",
    [
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy",
        "Content Exists Risk",
        "data_inspection_failed: Input data may contain inappropriate content",
        "Your request was rejected by the safety system",
        "sensitive",
        "SAFETY",
        "PROHIBITED_CONTENT",
    ],
)
def test_content_filters_have_many_names(text: str) -> None:
    assert means_filtered(text)
    assert ServerFault(text, status=400, words=text).refusal is ContentFilterError


def test_a_json_encoders_message_shows_that_a_value_is_no_number() -> None:
    text = "Out of range float values are not JSON compliant: -inf"
    assert ServerFault(text, status=400, words=text).refusal is NotFiniteError


def test_words_repeated_from_the_request_do_not_classify_the_fault() -> None:
    body = {
        "detail": [
            {"type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "Extra inputs are not permitted",
             "input": "Is a context window too long for content safety? inf nan"}
        ]
    }  # fmt: skip
    words = all_words(body)
    assert "Extra inputs" in words
    assert ServerFault("no", status=422, words=words).refusal is None
