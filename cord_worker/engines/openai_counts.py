"""Which token counts of a server can be true: what cannot be is taken for not told, and never stored as measured.

| count | bounds |
|---|---|
| completion | what was asked for and one end token more; at least one token for each 256 characters of the text |
| prompt | the context, where known; a token a byte of what was sent and 4,096 for the template; at least as above |
| cached | the prompt's |

The upper bound of a completion is the cap, not the text: servers count a reasoning that they keep apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from cord_worker.engines.openai_requests import TOKEN_CHARACTERS, Usage, Written

_TEMPLATE_TOKENS = 4096
"""Chat templates and the system prompts that hosts put before them: those known have a few hundred."""
_END_TOKENS = 1
_CHARACTERS_PER_TOKEN = 4
"""For the counts of servers that tell none, to a client without a tokenizer: an estimate."""


def plausible(
    result: Written, prompt: str, *, cap: int, prompt_tokens: int | None, context: int | None
) -> tuple[Usage, Sequence[str]]:
    """The counts that can be true, and what is wrong with the others.

    `prompt` is the text that was sent, `cap` the tokens that were asked for, `prompt_tokens` our own count of the
    prompt: where there is one, the server's is not looked at.
    """
    usage, wrong = result.usage, []
    completion, told, cached = usage.completion, usage.prompt, usage.cached
    least = _least(result.text)
    if completion is not None and not least <= completion <= cap + _END_TOKENS:
        wrong.append(
            f"{completion} completion tokens for a text of {len(result.text)} characters, where {cap} were asked for"
        )
        completion = None
    if prompt_tokens is None and told is not None:
        size = len(prompt.encode("utf-8", "replace"))
        most = min(size + _TEMPLATE_TOKENS, context or size + _TEMPLATE_TOKENS)
        if not max(1, _least(prompt)) <= told <= most:
            wrong.append(f"{told} prompt tokens for {size} bytes")
            told = None
    whole = told if prompt_tokens is None else prompt_tokens
    if cached is not None and (whole is None or cached > whole):
        if whole is not None:
            wrong.append(f"{cached} cached tokens of {whole} in the prompt")
        cached = None
    return Usage(told, completion, cached), wrong


def estimated(characters: int) -> int:
    """Tokens of a text that nobody has counted."""
    return -(-characters // _CHARACTERS_PER_TOKEN)


def _least(text: str) -> int:
    """Fewer tokens than this are not in the text."""
    return -(-len(text) // TOKEN_CHARACTERS)
