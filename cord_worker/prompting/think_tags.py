"""The tags between which a model thinks. Models differ; stored and exchanged text uses only `<think>`.

Steps hold no tags, so models exchange them unchanged. In a prompt each model gets its own tags around the steps; in the
text that it writes, they are replaced by `<think>` and `</think>`. A model's tags are set in cord.toml (`think_open`,
`think_close`) or found in its chat template or among its tokens; without any, `<think>` is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cord_worker.prompting.trajectory import THINK_CLOSE, THINK_OPEN

_FIRST_TAG = re.compile(r"<[^<>]*>|\[[^\[\]]*\]|◁[^◁▷]*▷")
_CANONICAL_CLOSING = re.compile(rf"\s*{re.escape(THINK_CLOSE)}\s*")
_NAMED_TAG = re.compile(r"<((?:\w+:)?(?:think|thinking|thought|reasoning)(?::\w+)?)>")


@dataclass(frozen=True, slots=True)
class ThinkTags:
    """A model's tags exactly as written, with whitespace: `opening` ends the prompt of a step, `closing` stands between
    the thinking and the final answer.

    A closing may continue after the tag that ends the thinking, with a tag that opens the answer (gpt-oss changes
    channels). `answer_end` then ends the answer, unless the end of sequence does.
    """

    opening: str = f"{THINK_OPEN}\n"
    closing: str = f"\n{THINK_CLOSE}\n\n"
    answer_end: str = ""

    @property
    def opening_tag(self) -> str:
        """The opening without whitespace around it."""
        return self.opening.strip()

    @property
    def stripped_closing(self) -> str:
        """The closing without whitespace around it."""
        return self.closing.strip()

    @property
    def closing_tag(self) -> str:
        """The tag with which the model ends its thinking: the first tag of the closing."""
        first = _FIRST_TAG.match(self.stripped_closing)
        return first.group() if first else self.stripped_closing

    @property
    def answer_opening(self) -> str:
        """The tag that opens the answer, if the closing has one after the tag that ends the thinking."""
        rest = self.stripped_closing.removeprefix(self.closing_tag)
        return rest if _FIRST_TAG.fullmatch(rest) else ""

    @property
    def openings(self) -> tuple[str, ...]:
        """Texts that open a thinking in this model's text: its own tag and the usual one."""
        return tuple(dict.fromkeys((self.opening_tag, THINK_OPEN)))

    @property
    def closings(self) -> tuple[str, ...]:
        """Texts that close a thinking in this model's text; longer ones first."""
        return tuple(dict.fromkeys((self.stripped_closing, self.closing_tag, THINK_CLOSE)))

    def canonical(self, text: str) -> str:
        """The model's `text` with `<think>` and `</think>` in place of its own tags."""
        for closing in self.closings:
            text = text.replace(closing, THINK_CLOSE)
        return text.replace(self.opening_tag, THINK_OPEN)

    def own(self, text: str) -> str:
        """`text` with the model's closing in place of `</think>` and the whitespace around it."""
        if self == USUAL_TAGS:
            return text
        return _CANONICAL_CLOSING.sub(lambda _: self.closing, text)


USUAL_TAGS = ThinkTags()
"""Tags of Qwen, DeepSeek, GLM, SmolLM, Nemotron and most others, each on its own line."""

_TAGS_OF_FAMILIES = (
    ThinkTags("[THINK]", "[/THINK]"),  # Mistral: Magistral, Ministral 3
    ThinkTags("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),  # gpt-oss
    ThinkTags("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>", "<|END_RESPONSE|>"),  # Cohere
    ThinkTags("<|channel>thought\n", "\n<channel|>"),  # Gemma 4
    ThinkTags("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ThinkTags("◁think▷", "◁/think▷"),  # Kimi-VL
)


def tags_of(template: str, tokens: Iterable[str]) -> ThinkTags:
    """The tags of the model with this chat template and these added tokens; the template takes precedence."""
    for shown in (template, "\n".join(tokens)):
        if THINK_OPEN in shown and THINK_CLOSE in shown:
            return USUAL_TAGS
        for tags in _TAGS_OF_FAMILIES:
            if tags.opening_tag in shown and tags.closing_tag in shown:
                return tags
        names = [name for name in _NAMED_TAG.findall(shown) if f"</{name}>" in shown]
        if names:
            return ThinkTags(f"<{names[0]}>", f"</{names[0]}>")
    return USUAL_TAGS
