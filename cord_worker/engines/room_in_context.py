"""Computes how long a text may be: the context minus the prompt and the room kept for the final answer."""

from __future__ import annotations

from cord_worker.engines.protocol import Sampling
from cord_worker.engines.text_codec import TextCodec
from cord_worker.errors import RequestError, TooLongError
from cord_worker.prompting.segmentation import TextKind


def tokens_allowed(
    kind: TextKind, sampling: Sampling, *, prompt: int, context: int | None, codec: TextCodec | None
) -> int:
    """The cap of one text: `sampling.max_tokens`, or less if the context is nearly full.

    A step or a trajectory leaves room for `</think>` and for `sampling.answer_tokens` after it
    (docs/what-is-computed.md#thinking-budget). `prompt` and `context` are lengths; all are in the model's own tokens.
    `context` is None if it is unknown. Raises TooLongError if no token is left, RequestError if `max_tokens` is not
    positive.
    """
    if sampling.max_tokens < 1:
        raise RequestError(f"max_tokens is {sampling.max_tokens}; ask for at least one token")
    if context is None:
        return sampling.max_tokens
    kept = 0
    if kind in ("step", "trajectory") and sampling.answer_tokens:
        kept = sampling.answer_tokens + (0 if codec is None else codec.answer_opening_tokens)
    room = context - prompt - kept
    if room < 1:
        answer = f", {kept} are kept for the final answer," if kept else ""
        if kept:
            lower = "lower search.answer_tokens, "
        elif kind in ("step", "trajectory"):
            lower = ""  # a step may fill the context, whatever the thinking budget is
        else:
            lower = "lower search.thinking_tokens, "
        raise TooLongError(
            f"the prompt takes {prompt} tokens{answer} and the context holds {context}: there is no room for the text; "
            f"shorten the question or passage, {lower}or raise max_model_len"
        )
    return min(sampling.max_tokens, room)
