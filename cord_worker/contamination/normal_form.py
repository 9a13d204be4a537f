"""The normal form of a question: a list of tokens that is the same for every way of writing the same question.

A token is a word, a number, an operator, or one character of a script that is compared by characters. Unicode is
brought to NFKC; case, punctuation, brackets, currency and multiplication signs, invisible characters and layout are
dropped; numbers, signs and operators are kept; LaTeX becomes plain text (`\\frac{1}{2}` and `½` are `1 / 2`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

NUMBER = "#"
"""Stands for every number in a form without numbers; no token of a normal form is equal to it."""

_DENSE = frozenset(
    {"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "YI", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "ARABIC"}
)
"""Scripts (first words of Unicode names) that are compared by characters: they have no spaces between words, or attach
particles to them."""
_SUPERSCRIPTS = str.maketrans({mark: f"^{digit}" for digit, mark in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")})
_THOUSANDS = re.compile(r"(\d)[,'](?=\d{3}(?!\d))")
_JOINING_DASH = re.compile(r"(?<=[^\W\d_]{2})\s{0,9}-|-(?=\s{0,9}[^\W\d_]{2})")
"""A dash next to a word is punctuation; next to numbers and single letters it is a minus."""
_TOKEN = re.compile(r"\d+(?:\.\d+)*|[+=<>/^-]|[a-z\x80-\U0010ffff]+")

_ALIKE = {"\u2212": "-", "\u2044": "/", "÷": "/", "×": " ", "⋅": " ", "∗": " ", "٬": ",", "٫": ".", "’": "'"}
_DRAWING, _DRAWING_END = "[asy]", "[/asy]"
_SPACING = re.compile(
    r"\\(?:begin\{array\}\{[^{}]*\}|(?:begin|end)\{[a-z*]*\}|\\|[,;: ]|(?:left|right|middle|bigg?[lrgm]?|quad|"
    r"qquad|displaystyle|textstyle|limits|nolimits|text|textrm|textbf|textit|textnormal|mathrm|mathbf|mathit|mathsf|"
    r"mathcal|mathbb|boldsymbol|operatorname|mbox|hbox|emph|underline|overline|hspace|vspace|phantom|times|cdot|ldots|"
    r"cdots|dots|star|ast)(?![a-z]))"
)
_FRACTION = re.compile(r"\\[dtc]?frac\s{0,9}(\{[^{}]*\}|[^{}\s\\])\s{0,9}(\{[^{}]*\}|[^{}\s\\])")
_ARGUMENT = re.compile(r"(\\(?![dtc]?frac)[a-z]+)\{([^{}]*)\}")
_MOST_NESTED = 8
_COMMAND = re.compile(r"\\([a-z]+)")
_SIGNS = {
    "div": "/", "le": "≤", "leq": "≤", "leqslant": "≤", "ge": "≥", "geq": "≥", "geqslant": "≥", "ne": "≠", "neq": "≠",
    "lt": "<", "gt": ">", "pm": "±", "infty": "∞", "sqrt": "√", "circ": "°", "degree": "°", "to": "→",
    "rightarrow": "→", "cap": "∩", "cup": "∪", "in": "∈", "approx": "≈", "alpha": "α", "beta": "β", "gamma": "γ",
    "delta": "δ", "epsilon": "ε", "varepsilon": "ε", "zeta": "ζ", "eta": "η", "theta": "θ", "lambda": "λ", "mu": "μ",
    "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ", "varphi": "φ", "chi": "χ",
    "psi": "ψ", "omega": "ω", "triangle": "△", "angle": "∠", "sum": "∑", "prod": "∏", "int": "∫",
}  # fmt: skip


def tokens(text: str) -> list[str]:
    """The normal form of `text`; not empty unless `text` is blank. Time and memory are linear in its length."""
    found = _split(text)
    if not found and (rest := "".join(text.split())):
        return [rest]  # nothing but punctuation: equal only to itself
    return found


def without_numbers(form: Iterable[str]) -> list[str]:
    """`form`, a normal form, with `NUMBER` for every number."""
    return [NUMBER if token[0].isdigit() else token for token in form]


def is_dense(form: Iterable[str]) -> bool:
    """Whether most tokens of a normal form are characters of scripts that are compared by characters."""
    dense = [len(token) == 1 and _is_dense(token) for token in form]
    return 2 * sum(dense) > len(dense)


def _split(text: str) -> list[str]:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_SUPERSCRIPTS)).translate(_PLAIN)
    text = text.casefold()
    if "\\" in text or _DRAWING in text:
        text = _without_latex(text)
    text = _THOUSANDS.sub(r"\1", text)
    if "-" in text:
        text = _JOINING_DASH.sub(" ", text)
    if not text.isascii():
        text = text.translate(_SEPARATED)
    return _TOKEN.findall(text)


def _without_latex(text: str) -> str:
    text = _without_drawings(text).replace(r"\!", "").replace("{,}", ",").replace("^\\circ", "\\circ")
    text = text.replace("^{\\circ}", "\\circ")
    text = _SPACING.sub(" ", text)
    for _ in range(_MOST_NESTED):
        before = text
        text = _FRACTION.sub(r" \1/\2 ", _ARGUMENT.sub(r"\1 \2 ", text))
        if text == before:
            break
    return _COMMAND.sub(lambda match: f" {_SIGNS.get(match[1], match[1])} ", text)


def _without_drawings(text: str) -> str:
    """The text without the code of its drawings."""
    kept, *others = text.split(_DRAWING)
    for part in others:
        inside, end, outside = part.partition(_DRAWING_END)
        kept += f" {outside if end else inside}"
    return kept


def _is_dense(character: str) -> bool:
    if character.isascii():
        return False
    return re.split("[ -]", unicodedata.name(character, ""), maxsplit=1)[0] in _DENSE


class _Plain(dict[int, int | str | None]):
    """Translates digits and dashes of all scripts to ASCII, and removes invisible characters and Arabic vowel signs."""

    def __missing__(self, code: int) -> int | str | None:
        character = chr(code)
        category = unicodedata.category(character)
        value: int | str | None = code
        if category == "Nd":
            value = str(unicodedata.decimal(character))
        elif category == "Pd":
            value = "-"
        elif character in _ALIKE:
            value = _ALIKE[character]
        elif category == "Cf" or character == "\u0640" or (category == "Mn" and _is_arabic(character)):
            value = None
        self[code] = value
        return value


def _is_arabic(character: str) -> bool:
    return _is_dense(character) and "ARABIC" in unicodedata.name(character, "")


class _Separated(dict[int, int | str]):
    """Keeps ASCII and parts of words; puts spaces around other operators, symbols and characters of dense scripts;
    replaces everything else by a space."""

    def __missing__(self, code: int) -> int | str:
        character = chr(code)
        category = unicodedata.category(character)
        value: int | str = " "
        if character.isascii():
            value = code
        elif category in ("Sm", "So") or character == "°" or (category[0] in "LM" and _is_dense(character)):
            value = f" {character} "
        elif category[0] in "LMN":
            value = code
        self[code] = value
        return value


_PLAIN = _Plain()
_SEPARATED = _Separated()
