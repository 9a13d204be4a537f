"""How long a text may be: what a model's context leaves after the prompt, with room kept for the final answer."""

from __future__ import annotations

from cord_worker.engines.encoding import TextCodec
from cord_worker.engines.protocol import Sampling
from cord_worker.errors import RequestError, TooLongError
from cord_worker.prompting.segmentation import TextKind


def tokens_allowed(
    kind: TextKind, sampling: Sampling, *, prompt: int, context: int | None, codec: TextCodec | None
) -> int:
    """The cap of one text, in the model's own tokens: `max_tokens`, or less where the context is nearly full.

    A step or a trajectory leaves room for `</think>` and for `sampling.answer_tokens` after it (PAPER.md, Thinking
    budget). `context` is None where nobody knows it. Raises TooLongError where no token is left, RequestError where
    none is asked for.
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
        # A step ends with the context whatever the thinking budget is; what follows a whole thinking depends on it.
        of_thinking = "" if kind in ("step", "trajectory") else "lower search.thinking_tokens, "
        lower = "lower search.answer_tokens, " if kept else of_thinking
        raise TooLongError(
            f"the prompt takes {prompt} tokens{answer} and the context holds {context}: there is no room for the text; "
            f"shorten the question or passage, {lower}or raise max_model_len"
        )
    return min(sampling.max_tokens, room)
