"""Styles in which models and people write a final answer, for `cordctl bench answers`.

A style is a function of a reference in LaTeX or plain text. It returns a complete generated text with this answer,
which a check must accept. It returns None if the style does not apply to the reference (a matrix cannot be a decimal
number).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction

Style = Callable[[str], str | None]

_INTEGER = re.compile(r"-?\d+")
_GROUPED = re.compile(r"-?\d{1,3}(?:(?:,|\{,\}|,\\!)\s?\d{3})+")
_DECIMAL = re.compile(r"-?\d*\.\d+")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\s*(?:\{(\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))|(-?)(\d+)/(\d+)")
_WORDS = re.compile(r"\\text\{\s*([A-Za-z][A-Za-z -]*)\}")
_BRACKETS = re.compile(r"(?<!\\left)(?<!\\)([(\[])(.*)([)\]])", re.DOTALL)


def as_number(reference: str) -> Fraction | None:
    """The value of a reference that is a plain integer, decimal number or fraction of integers; None for any other."""
    text = reference.strip()
    if _INTEGER.fullmatch(text) or _DECIMAL.fullmatch(text):
        return Fraction(text)
    if _GROUPED.fullmatch(text):
        return Fraction(re.sub(r"[^\d-]", "", text))
    match = _FRACTION.fullmatch(text)
    if match is None:
        return None
    sign, left, short_left, right, short_right, plain_sign, plain_left, plain_right = match.groups()
    numerator, denominator = (left or short_left or plain_left), (right or short_right or plain_right)
    if not int(denominator):
        return None
    return Fraction(int(numerator), int(denominator)) * (-1 if sign or plain_sign else 1)


def as_integer(reference: str) -> int | None:
    """The value of a reference that is a plain integer; None for any other."""
    value = as_number(reference)
    return int(value) if value is not None and value.denominator == 1 and "frac" not in reference else None


def group_thousands(value: int, separator: str = ",") -> str:
    """An integer as text, with `separator` between groups of three digits."""
    return f"{value:,}".replace(",", separator)


def _for_integer(write: Callable[[int], str]) -> Style:
    def style(reference: str) -> str | None:
        value = as_integer(reference)
        return None if value is None else write(value)

    return style


def _for_large_integer(write: Callable[[int], str]) -> Style:
    def style(reference: str) -> str | None:
        value = as_integer(reference)
        return None if value is None or abs(value) < 1000 else write(value)

    return style


def _as_decimal(reference: str) -> str | None:
    """An integer or fraction as an exact decimal number with at least one decimal place; None if the decimals never
    end."""
    value = as_number(reference)
    if value is None:
        return None
    remaining = value.denominator
    for factor in (2, 5):
        while remaining % factor == 0:
            remaining //= factor
    if remaining != 1:
        return None
    places = next(places for places in range(1, 40) if (value * 10**places).denominator == 1)
    scaled = abs(value) * 10**places
    digits = f"{int(scaled):0{places + 1}d}"
    return f"Thus the result is $\\boxed{{{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}}}$."


def _as_fraction(reference: str) -> str | None:
    value = as_number(reference)
    if value is None or value.denominator == 1:
        return None
    return f"The final answer is {value.numerator}/{value.denominator}."


def _as_large_fraction(reference: str) -> str | None:
    return None if "frac" not in reference else f"$\\boxed{{{re.sub('[dt]?frac', 'dfrac', reference)}}}$"


def _as_braced_fraction(reference: str) -> str | None:
    """`\\frac43` as `\\frac{4}{3}`."""
    braced = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", reference)
    return None if braced == reference else f"Hence $\\boxed{{{braced}}}$."


def _with_sized_brackets(reference: str) -> str | None:
    if r"\left" in reference:
        plain = re.sub(r"\\(?:left|right)\s*", "", reference)
        return f"The answer is $\\boxed{{{plain}}}$."
    match = _BRACKETS.fullmatch(reference.strip())
    if match is None:
        return None
    return f"The answer is $\\boxed{{\\left{match[1]}{match[2]}\\right{match[3]}}}$."


def _without_text_command(reference: str) -> str | None:
    match = _WORDS.fullmatch(reference.strip())
    return None if match is None else f"The final answer is {match[1].strip()}."


def _with_spaces(reference: str) -> str | None:
    """The reference with one space around each `=` and `+`; None for an integer, or if it holds words."""
    if re.search(r"\\(?:text|mbox)|[A-Za-z]{2,} ", reference) or as_integer(reference) is not None:
        return None
    spaced = re.sub(r"\s*([=+])\s*", r" \1 ", reference)
    return f"Final answer: $ {spaced} $"


STYLES: dict[str, Style] = {
    "boxed": lambda r: f"Therefore $\\boxed{{{r}}}$.",
    "boxed, displayed": lambda r: f"We collect terms and get\n\\[\n\\boxed{{{r}}}\n\\]\n",
    "boxed, with spaces": lambda r: f"So we have \\( \\boxed{{ {r} }} \\)",
    "boxed in bold": lambda r: f"**Result:** **$\\boxed{{{r}}}$**",
    "boxed with a display style": lambda r: f"$$\\boxed{{\\displaystyle {r}}}$$",
    "the final answer is, in dollars": lambda r: f"Adding both parts. The final answer is ${r}$.",
    "the answer is, in round brackets": lambda r: f"The answer is \\({r}\\).",
    "the answer is, in bold": lambda r: f"The answer is **${r}$**.",
    "bold heading and colon": lambda r: f"Let me sum up.\n\n**Answer:** ${r}$",
    "final answer heading, line below": lambda r: f"All cases are covered.\n\n**Final Answer**\n\n$\\boxed{{{r}}}$",
    "markdown heading, line below": lambda r: f"All cases are covered.\n\n### Final Answer\n\n${r}$\n",
    "hash marks": lambda r: f"First we count, then we add.\n#### {r}",
    "answer tags": lambda r: f"I counted twice.\n<answer>{r}</answer>",
    "answer tags, stop token": lambda r: f"I counted twice.\n<answer>\n${r}$\n</answer><|im_end|>",
    "thinking before it": lambda r: (
        f"<think>\nPerhaps $\\boxed{{999983}}$? No, that is not it.\n</think>\n\nThe final answer is ${r}$."
    ),
    "JSON": lambda r: json.dumps({"reasoning": "counted", "answer": r}),
    "I hope it is correct": lambda r: f"Final Answer: The final answer is ${r}$. I hope it is correct.",
    "therefore, the answer is: boxed": lambda r: (
        f"Therefore, the final answer is: $\\boxed{{{r}}}$. I hope it is correct."
    ),
    "is therefore": lambda r: f"The value that was asked for is therefore ${r}$.",
    "comes out to": lambda r: f"Putting it together, it comes out to ${r}$.",
    "ANSWER in capitals": lambda r: f"ANSWER: ${r}$",
    "stop token after it": lambda r: f"The final answer is ${r}$.<|endoftext|>",
    "Chinese": lambda r: f"综上所述，答案是 ${r}$。",
    "Spanish": lambda r: f"La respuesta final es ${r}$.",
    "German": lambda r: f"Die Antwort lautet ${r}$.",
    "French": lambda r: f"La réponse finale est ${r}$.",
    "words without their command": _without_text_command,
    "large fractions": _as_large_fraction,
    "fractions in braces": _as_braced_fraction,
    "sized brackets, or plain ones": _with_sized_brackets,
    "spaces around signs": _with_spaces,
    "exact decimal": _as_decimal,
    "fraction with a slash": _as_fraction,
    "integer in a sentence": _for_integer(lambda n: f"So in the end there are {n} of them."),
    "integer in bold": _for_integer(lambda n: f"In total that makes **{n}**."),
    "integer at the end of a sum": _for_integer(lambda n: f"Adding them gives $4 + {n - 4} = {n}$."),
    "integer with two zeros": _for_integer(lambda n: f"The final answer is {n}.00."),
    "integer after a name": _for_integer(lambda n: f"Hence $x = {n}$.\n\nThe final answer is $x = {n}$."),
    "dollar sign in a box": _for_integer(
        lambda n: f"He pays $\\boxed{{\\${group_thousands(n)}}}$." if n >= 0 else f"\\boxed{{{n}}}"
    ),
    "dollar sign in a sentence": _for_integer(
        lambda n: f"The answer is ${group_thousands(n)}." if n >= 0 else f"The answer is {n}."
    ),
    "dollars": _for_integer(lambda n: f"The final answer is {group_thousands(n)} dollars."),
    "thousands with commas": _for_large_integer(lambda n: f"The answer is {group_thousands(n)}."),
    "thousands with braced commas": _for_large_integer(lambda n: f"$\\boxed{{{group_thousands(n, '{,}')}}}$"),
    "thousands with thin spaces": _for_large_integer(lambda n: f"$\\boxed{{{group_thousands(n, chr(92) + ',')}}}$"),
    "thousands with spaces": _for_large_integer(lambda n: f"The final answer is {group_thousands(n, ' ')}."),
    "thousands with a dollar sign and cents": _for_large_integer(lambda n: f"\\boxed{{\\${group_thousands(n)}.00}}"),
}
"""The styles by name. At least twenty of them apply to every reference."""


def in_all_styles(reference: str) -> dict[str, str]:
    """The reference in every style that applies, by the style's name."""
    texts = ((name, style(reference)) for name, style in STYLES.items())
    return {name: text for name, text in texts if text is not None}
