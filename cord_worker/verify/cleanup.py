"""Removes what is no part of an answer: thinking, stop tokens, Markdown, HTML, doubled backslashes."""

from __future__ import annotations

import html
import re

_THINKING_ENDS = re.compile(
    r"</(?:think|thinking|thought|reasoning|seed:think)>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>"
    r"|<\|channel\|>final<\|message\|>|<\|begin_of_solution\|>"
)
_THINKING_STARTS = re.compile(
    r"\s*(?:<\|(?:im_start|start)\|>(?:assistant\s*)?)?"
    r"(?:<(?:think|thinking|thought|reasoning|seed:think)>|\[THINK\]|◁think▷|<\|begin_of_thought\|>)"
)
_TOKEN = re.compile(
    r"<\|/?[A-Za-z_][\w\-▁ ]{0,40}\|>|<｜[^｜<>\n]{1,40}｜>|</s>|<(?:end_of_turn|start_of_turn|eos|bos|pad|unk)>"
    r"|\[/?(?:INST|EOS|BOS)\]"
)
_TURN_OPENINGS = (
    "<|im_start|>",
    "<|start_header_id|>",
    "<start_of_turn>",
    "<|start|>",
    "<bos>",
    "[BOS]",
    "<|begin_of_text|>",
)
_OTHER_TURN = re.compile(r"\s*(?:(?:user|human|system|tool)\b|$)")
"""Role names after a token that opens another speaker's turn."""
_BOX_TOKENS = {"<|begin_of_box|>": r" \boxed{", "<|end_of_box|>": "} "}
"""Tokens that GLM writes in place of a box."""

_STRUCK = re.compile(r"~~[^~\n]{1,200}~~|<(del|s|strike)>[^<\n]{0,200}</\1>", re.IGNORECASE)
_TAG = re.compile(
    r"</?(?:b|strong|i|em|u|p|br|hr|div|span|center|code|pre|font|mark|small|big|li|ul|ol|h[1-6]|blockquote|tt|kbd)"
    r"(?:\s[^<>\n]{0,200})?\s?/?>",
    re.IGNORECASE,
)
_BREAKS = re.compile(r"<(?:br|p|div|li|h[1-6])\b|</(?:p|div|li|h[1-6])", re.IGNORECASE)
_RAISED_OR_LOWERED = re.compile(r"<su([bp])>([^<>\n]{1,60})</su\1>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:[a-zA-Z]{2,8}|#\d{1,6}|#x[0-9a-fA-F]{1,5});")
_FENCE = re.compile(r"^[ \t]{0,8}(?:```|~~~)[\w+-]{0,20}[ \t]*$", re.MULTILINE)
_RULE = re.compile(r"^[ \t]{0,4}(?:-[ \t]*){3,}$|^[ \t]{0,4}(?:\*[ \t]*){3,}$|^[ \t]{0,4}[_=]{3,}[ \t]*$", re.MULTILINE)
_QUOTE = re.compile(r"^[ \t]{0,4}(?:>[ \t]?){1,4}(?=\S)", re.MULTILINE)
_GREATER = re.compile(r">\s?[-$\\\d][^\n]*")
_CODE = re.compile(r"(?<!`)(`{1,3})([^`\n]{1,200})\1(?!`)")
_BOLD = re.compile(r"(?<![\w)\\*])(\*{2,3}|__)(?=\S)([^\n]{1,400}?)(?<=\S)\1", re.ASCII)
_ITALIC = re.compile(r"(?<![\w)*\\\d])([*_])(?=[^\s*_])([^*_\n]{1,200})(?<=[^\s*_])\1(?![\w*])", re.ASCII)
_SHOUTED = re.compile(r"(?<=\S)(\*\*)!(?=\s|$)")
"""An exclamation mark after emphasis: without the stars, `**5**!` would read as a factorial."""
_STRAY = re.compile(r"(?<!\S)\*\*(?=\S)|(?<=\S)\*\*(?=$|\s)|^[ \t]*\*\*[ \t]*$", re.MULTILINE)
_DOUBLED_BACKSLASH = re.compile(r"\\\\(?=[A-Za-z()\[\]{}$%])")
_SINGLE_BACKSLASH = re.compile(r"(?<!\\)\\(?!\\)(?=[A-Za-z()\[\]{}])")
_ESCAPED_MARKUP = re.compile(r"\\([*#])")
_SPACES = re.compile(r"[ \t\u00a0\u2002-\u200a\u202f]{2,}")
_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")


def after_thinking(text: str) -> str | None:
    """The text after the thinking; the whole text if there is no thinking; None if the thinking never ended."""
    ends = list(_THINKING_ENDS.finditer(text))
    if ends:
        return text[ends[-1].end() :]
    return None if _THINKING_STARTS.match(text) else text


def plain(text: str) -> str:
    """`text` without stop tokens, Markdown, HTML and doubled backslashes; its lines, words and formulas stay.

    Struck-through text is removed. Nothing after the first stop token counts: it is another turn.
    """
    text = _turn(text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _STRUCK.sub(" ", text)
    if "<" in text:
        text = _RAISED_OR_LOWERED.sub(lambda match: f"{'_' if match[1] in 'bB' else '^'}{{{match[2]}}}", text)
        text = _TAG.sub(lambda match: "\n" if _BREAKS.match(match[0]) else "", text)
    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    text = _single_backslashes(text)
    text = _without_quote_signs(_RULE.sub("", _FENCE.sub("", text)))
    text = _without_emphasis(text)
    return _LINES.sub("\n\n", _SPACES.sub(" ", text)).strip()


def _without_quote_signs(text: str) -> str:
    """`text` without the `>` of quoted lines; unchanged if it is only `> 5` or the like, which means "greater than"."""
    if _GREATER.fullmatch(text.strip()):
        return text
    return _QUOTE.sub("", text)


def _turn(text: str) -> str:
    """The first turn that is not empty, without its tokens."""
    for token, replacement in _BOX_TOKENS.items():
        text = text.replace(token, replacement)
    parts: list[str] = []
    start = 0
    has_content = False
    for match in _TOKEN.finditer(text):
        part = text[start : match.start()]
        start = match.end()
        # The name of a role, written by a template, is not content.
        has_content = has_content or (bool(part.strip()) and part.strip() not in ("assistant", "model"))
        parts.append(part)
        if has_content and (match[0] not in _TURN_OPENINGS or _OTHER_TURN.match(text, match.end())):
            return "".join(parts)
    return "".join(parts) + text[start:]


def _single_backslashes(text: str) -> str:
    """`text` with doubled backslashes made single, except those that end rows."""
    if "\\\\" not in text:
        return text
    if _SINGLE_BACKSLASH.search(text) is None:
        return text.replace("\\\\", "\\")
    # In an environment, a double backslash ends a row.
    return text if "\\begin" in text else _DOUBLED_BACKSLASH.sub(r"\\", text)


def _without_emphasis(text: str) -> str:
    if "`" in text:
        text = _CODE.sub(r"\2", text)
    if "*" in text or "_" in text:
        text = _ESCAPED_MARKUP.sub(r"\1", text) if r"\*\*" in text else text
        text = _SHOUTED.sub(r"\1.", text)
        for _ in range(2):  # twice, because emphasis may be nested
            text = _ITALIC.sub(_inside, _BOLD.sub(_inside, text))
        text = _STRAY.sub("", text)
    return text


def _inside(match: re.Match[str]) -> str:
    """The emphasised text; text between single stars is unchanged if the stars may be a formula's."""
    following = match.string[match.end() : match.end() + 1]
    if following.isascii() and following.isalnum() and not match[2].rstrip().endswith((":", "=")):
        return match[0]
    return match[2]
