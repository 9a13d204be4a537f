"""Checks a server's token counts: an impossible count is treated as not reported, and never stored as measured.

| count | at least | at most |
|---|---|---|
| completion | one token per 256 characters of the text | the tokens asked for, plus one end token |
| prompt | one token per 256 characters | one token per byte sent plus 4,096 for the template; the context, if known |
| cached | | the prompt's tokens |

The length of the text is no upper bound of a completion, because servers also count reasoning that they keep apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from cord_worker.engines.openai.requests import TOKEN_CHARACTERS, Usage, Written

_TEMPLATE_TOKENS = 4096
"""Tokens for the chat template and a system prompt that the host adds: known ones have a few hundred."""
_END_TOKENS = 1
_CHARACTERS_PER_TOKEN = 4
"""Characters per token, to estimate counts if neither the server nor a tokenizer here gives them."""


def plausible(
    result: Written, prompt: str, *, cap: int, prompt_tokens: int | None, context: int | None
) -> tuple[Usage, Sequence[str]]:
    """The counts that can be true, and a description of each that cannot.

    `prompt` is the text that was sent, and `cap` the number of tokens that were asked for. `prompt_tokens` is our own
    count of the prompt: if it is given, the server's count is not checked.
    """
    usage, wrong = result.usage, []
    completion, reported_prompt, cached = usage.completion, usage.prompt, usage.cached
    least = _least(result.text)
    if completion is not None and not least <= completion <= cap + _END_TOKENS:
        wrong.append(
            f"{completion} completion tokens for a text of {len(result.text)} characters, where {cap} were asked for"
        )
        completion = None
    if prompt_tokens is None and reported_prompt is not None:
        size = len(prompt.encode("utf-8", "replace"))
        most = min(size + _TEMPLATE_TOKENS, context or size + _TEMPLATE_TOKENS)
        if not max(1, _least(prompt)) <= reported_prompt <= most:
            wrong.append(f"{reported_prompt} prompt tokens for {size} bytes")
            reported_prompt = None
    in_prompt = reported_prompt if prompt_tokens is None else prompt_tokens
    if cached is not None and (in_prompt is None or cached > in_prompt):
        if in_prompt is not None:
            wrong.append(f"{cached} cached tokens of {in_prompt} in the prompt")
        cached = None
    return Usage(reported_prompt, completion, cached), wrong


def estimated(characters: int) -> int:
    """Estimated tokens of a text without a count."""
    return -(-characters // _CHARACTERS_PER_TOKEN)


def _least(text: str) -> int:
    """Lower bound of the tokens in a text."""
    return -(-len(text) // TOKEN_CHARACTERS)
