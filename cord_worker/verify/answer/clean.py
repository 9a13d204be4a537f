"""Converts LaTeX, Unicode, Markdown and plain text to one spelling; case and order are kept.

In a cleaned text `$` is always a dollar; `\\frac`, `\\le` and `\\cup` are the only spellings of their meanings; braces
of sets are `\\{ \\}`; and `\\text{…}` is replaced by its content. All functions take linear time.
"""

from __future__ import annotations

import re
from functools import lru_cache

from cord_worker.verify.writing_systems import one_form

_SYMBOLS = {
    "\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u02d7": "-",
    "×": r"\times ", "✕": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": r"\div ",
    "∞": r"\infty ", "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ", "±": r"\pm ", "∓": r"\mp ",
    "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "∖": r"\setminus ", "°": r"^\circ ",
    "º": r"^\circ ",
    "℃": r"^\circ C", "℉": r"^\circ F",
    "√": r"\surd ", "∛": r"\cbrt ", "∜": r"\qdrt ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}",
    "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "→": r"\to ", "⇒": r"\Rightarrow ", "≈": r"\approx ", "≡": r"\equiv ",
    "⟨": r"\langle ", "⟩": r"\rangle ", "′": "'", "″": "''", "…": r"\ldots ", "∑": r"\sum ", "∏": r"\prod ",
    "∫": r"\int ", "∠": r"\angle ", "△": r"\triangle ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ",
    "⌉": r"\rceil ", "∣": "|", "“": '"', "”": '"', "„": '"', "’": "'", "‘": "'", "µ": "μ", "\u2009": " ", "\u202f": " ",
    "\u00a0": " ", "⁄": "/", "∕": "/", "∼": r"\sim ", "¬": r"\neg ", "∧": r"\land ", "∨": r"\lor ",
}  # fmt: skip
_GREEK = dict(
    zip(
        "αβγδεζηθικλνξρσςτυφχψωπΓΔΘΛΞΠΣΦΨΩμ",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda nu xi rho sigma sigma tau upsilon phi chi psi "
        "omega pi Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega mu".split(),
        strict=True,
    )
)
_SYMBOLS |= {letter: f"\\{name} " for letter, name in _GREEK.items()}
_FRACTIONS = {
    "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5), "⅘": (4, 5),
    "⅙": (1, 6), "⅚": (5, 6), "⅐": (1, 7), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8), "⅑": (1, 9),
    "⅒": (1, 10),
}  # fmt: skip
_SYMBOLS |= {sign: rf"\frac{{{upper}}}{{{lower}}}" for sign, (upper, lower) in _FRACTIONS.items()}
_UP = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣʸᵏᵐ", "0123456789+-()nixykm", strict=True))
_DOWN = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙᵢₓₖₘⱼₐₑₜ", "0123456789+-()nixkmjaet", strict=True))
_SYMBOL = re.compile("|".join(map(re.escape, _SYMBOLS)))
_RAISED = re.compile(f"[{''.join(_UP)}]+")
_LOWERED = re.compile(f"[{''.join(_DOWN)}]+")

_TWICE_ESCAPED = re.compile(r"\\\\(?=[a-zA-Z()\[\]{}$%])")
_SYNONYMS = {
    "leq": "le", "leqslant": "le", "geq": "ge", "geqslant": "ge", "neq": "ne", "lt": "<", "gt": ">", "dfrac": "frac",
    "tfrac": "frac", "cfrac": "frac", "dbinom": "binom", "tbinom": "binom", "varnothing": "emptyset",
    "rightarrow": "to",
    "longrightarrow": "to", "implies": "Rightarrow", "dots": "ldots", "cdots": "ldots", "dotsc": "ldots", "vert": "|",
    "lvert": "|", "rvert": "|", "mid": "|", "degree": "^\\circ ", "backslash": "setminus", "infin": "infty",
    "varepsilon": "epsilon", "varphi": "phi", "vartheta": "theta", "ast": "cdot", "lbrace": "{",
    "rbrace": "}", "R": r"\mathbb{R}",
    "lbrack": "[", "rbrack": "]", "colon": ":", "qquad": " ", "quad": " ", "displaystyle": " ", "textstyle": " ",
    "limits": "", "nolimits": "", "hfill": " ", "thinspace": " ", "allowbreak": "", "percent": "%", "land": "and",
}  # fmt: skip
_PLAIN_RESULTS = {"<": "<", ">": ">", "|": "|", "{": r"\{", "}": r"\}", "[": "[", "]": "]", ":": ":", "%": "%", "": ""}
_PLAIN_RESULTS |= {" ": " ", "^\\circ ": "^\\circ ", "and": " and ", r"\mathbb{R}": r"\mathbb{R}"}
"""Replacements that are not the name of another command, as they are inserted; `\\R` is the set of real numbers."""
_COMMAND = re.compile(r"\\([a-zA-Z]+)\*?")
_SIZES = frozenset("left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr middle".split())
_TEXT_COMMANDS = frozenset(
    "text textbf textit textrm textsf texttt textup textnormal mbox hbox mathrm mathsf mathit mathnormal boxed fbox "
    "emph framebox underline operatorname boldsymbol bm ensuremath mathop textcolor".split()
)
_SPACE = re.compile(r"\\[,;:> ]|(?<!~)~(?!~)")
_DOLLAR = "\ue000"
_DOUBLE_STAR = "\ue001"
_ROW_BREAK = "\ue002"
_MATH_DOLLARS = re.compile(r"\$\$(.+?)\$\$|\$([^$]+)\$(?![\d.])", re.DOTALL)
_QUOTES = (('"', '"'), ("`", "`"), ("'", "'"), (r"\(", r"\)"), (r"\[", r"\]"), ("«", "»"), ("「", "」"))
_INTRODUCTION = re.compile(
    r"(?:so |thus |therefore,? |hence,? )?(?:the )?(?:final |correct |right |required |desired )?"
    r"(?:answer|result|value|solution|option|choice)s?(?: (?:is|are|was|will be)|\s*:)\s*:?\s*"
    r"|(?:it is|it's|it was|they are|there (?:is|are|was|were)|we (?:get|have)|equal(?:s)? to|equals|is|are)\s+"
    r"|(?:exactly|just|only|simply|precisely|a total of|in total|total of|therefore|thus|hence|so"
    r"|certainly|clearly|definitely|indeed|surely|obviously|of course|still|now)[ ,:]+",
    re.IGNORECASE,
)
_STOPS = ".。｡,;:、"
_ESCAPED_GRID = re.compile(r"(?<!\\)\\\\begin\b")
_ODD_BACKSLASHES = re.compile(r"(?<!\\)(?:\\\\)*\\(?!\\)")
_SPACED_COMMA = re.compile(r"(?<=\d) ?\{ ?, ?\} ?(?=\d{3})")
_QUAD_BEFORE_LETTER = re.compile(r"\\(q?quad)(?=[a-zA-Z](?![a-zA-Z]))")
_FACTORS = re.compile(r"(?<=\d)( ?\^ ?(?:\d+|\{\d+\})) (?=\d+ ?\^)")
_DOLLAR_AFTER = re.compile(r"(-?\d[\d,. ]*?) ?\$")
_BOLD_NUMBER = re.compile(
    r"\\(?:mathbf|mathbb|mathcal|mathtt|mathscr|underline|displaystyle) ?\{ ?(-?\$?[\d.,]+%?"
    r"|-?\\d?frac ?\{\d+\} ?\{\d+\}) ?\}"
)
_COLOUR = re.compile(r"\\(?:textcolor|color|colorbox) ?\{[a-zA-Z]{1,20}\} ?\{")
_COLOURED = re.compile(r"\{ ?\\color ?\{[a-zA-Z]{1,20}\} ?([^{}]*)\}|\\color ?\{[a-zA-Z]{1,20}\} ?(?!\{)")
_BOLD_LETTER = re.compile(r"(\()? ?(?:\\(?:mathbf|mathtt) ?\{ ?)?(\()? ?([A-J]) ?(\))? ?\}? ?(\))?")
_COMPUTED_FACTORIAL = re.compile(r"(\d{1,4}!) ?= ?(?=[\d.,]+$)")
_INFINITIES = {"infinity": "\\infty", "positive infinity": "\\infty", "plus infinity": "\\infty"}
_INFINITIES |= {"negative infinity": "-\\infty", "minus infinity": "-\\infty"}
_FONT = re.compile(r"\\(?:bf|rm|it|sf|tt|large|Large|LARGE|huge|Huge|small|normalsize|bfseries|boldmath)(?![a-zA-Z])")
_TAGS = re.compile(r"</?(?:b|i|em|strong|u|p|br|span|center)\s*/?>|&nbsp;", re.IGNORECASE)


@lru_cache(maxsize=512)
def clean(text: str) -> str:
    """`text` in the form that the comparing functions need."""
    text = one_form(text.strip())
    if _ESCAPED_GRID.search(text) and not _ODD_BACKSLASHES.search(text):
        text = text.replace("\\\\", "\\")
    text = text.replace('\\"', '"')
    if "<" in text or "&" in text:
        text = re.sub(r"<su([pb])>([^<]{1,40})</su[pb]>", lambda m: ("^" if m[1] == "p" else "_") + f"{{{m[2]}}}", text)
        text = _TAGS.sub(" ", text)
    if not text.isascii():
        text = _SYMBOL.sub(lambda match: _SYMBOLS[match[0]], text)
        text = _RAISED.sub(lambda match: "^{" + "".join(_UP[char] for char in match[0]) + "}", text)
        text = _LOWERED.sub(lambda match: "_{" + "".join(_DOWN[char] for char in match[0]) + "}", text)
    if "\\\\" in text:
        # Two backslashes separate the rows of a matrix; the steps below must not change them.
        text = text.replace("\\\\", _ROW_BREAK) if r"\begin" in text else _TWICE_ESCAPED.sub(r"\\", text)
    text = text.replace(r"\$", _DOLLAR).replace("**", _DOUBLE_STAR)
    text = _without_emphasis(text)
    text = _MATH_DOLLARS.sub(lambda match: f" {match[1] or match[2]} ", text).replace("$", _DOLLAR)
    if "\\" in text or "~" in text:
        text = _latex(text)
    text = _FACTORS.sub(r"\1 \\cdot ", _SPACED_COMMA.sub(",", text).replace("{,}", ","))
    text = re.sub(r"\s+", " ", _without_outer_marks(text)).replace(_DOLLAR, "$").strip()
    if text.endswith("$") and (money := _DOLLAR_AFTER.fullmatch(text)):
        text = f"${money[1]}"
    text = _without_outer_marks(text).replace(_ROW_BREAK, "\\\\")
    if len(text) > 60:
        return text
    if (letter := _BOLD_LETTER.fullmatch(text)) and len(text) > 1:
        return f"({letter[3]})" if letter[1] or letter[2] else letter[3]
    return _INFINITIES.get(text.casefold()) or _COMPUTED_FACTORIAL.sub(r"\1 = ", text)


def without_lead(text: str) -> str:
    """A cleaned text without a leading "the answer is", "it is" and the like; unchanged if nothing would remain."""
    for _ in range(3):
        match = _INTRODUCTION.match(text)
        if match is None or not text[match.end() :].strip():
            break
        text = text[match.end() :].strip()
    return text


def words_of(text: str) -> list[str]:
    """The words and numbers of a text, in order, in lower case and without punctuation."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.casefold())


def _without_emphasis(text: str) -> str:
    """The text without `**` that is Markdown; an unpaired one means a power, and so does each of `x**2 + y**2`."""
    pieces = text.split(_DOUBLE_STAR)
    if len(pieces) % 2 == 0:
        return "^".join(pieces)
    bold = all(not re.search(r"[\w)}]$", before) for before in pieces[:-1:2])
    return "".join(pieces) if bold else "^".join(pieces)


def _latex(text: str) -> str:
    text = re.sub(r",\\[!,;: ]\s*(?=\d)|\{,\}", ",", text).replace(r"\!", "")
    text = _QUAD_BEFORE_LETTER.sub(r"\\\1 ", text)
    text = _SPACE.sub(" ", text)
    text = text.replace(r"\%", "%").replace(r"\#", "#").replace(r"\_", "_").replace(r"\|", "|")
    text = _COLOURED.sub(lambda match: match[1] or "", _COLOUR.sub("{", text)) if r"\color" in text else text
    text = _FONT.sub(" ", _COLOUR.sub("{", text))
    text = _BOLD_NUMBER.sub(r"\1", _without_text_commands(text))
    text = _COMMAND.sub(_standard_command, text)
    if text.count(r"\(") == text.count(r"\)") > 0:
        text = text.replace(r"\(", " ").replace(r"\)", " ")
    return re.sub(r"\^\s*\{\s*\\circ\s*\}", r"^\\circ ", text)


def _standard_command(match: re.Match[str]) -> str:
    name = match[1]
    if name in _SIZES:
        return ""
    other = _SYNONYMS.get(name)
    if other is None:
        return match[0]
    return _PLAIN_RESULTS.get(other, f"\\{other} ")


def _without_text_commands(text: str) -> str:
    """The text with `\\text{…}` and similar commands replaced by their content."""
    parts: list[str] = []
    # For each open brace: whether it belongs to such a command, so that it is left out.
    is_text_brace: list[bool] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            match = _COMMAND.match(text, at)
            if match is None:
                parts.append(text[at : at + 2])
                at += 2
                continue
            brace = match.end()
            while brace < len(text) and text[brace] == " ":
                brace += 1
            if match[1] in _TEXT_COMMANDS and text[brace : brace + 1] == "{":
                is_text_brace.append(True)
                parts.append(" ")
                at = brace + 1
                continue
            parts.append(match[0])
            at = match.end()
            continue
        if char == "{":
            is_text_brace.append(False)
        elif char == "}" and is_text_brace and is_text_brace.pop():
            char = " "
        parts.append(char)
        at += 1
    return "".join(parts)


def _without_outer_marks(text: str) -> str:
    """The text without quotation marks around it, and without punctuation or a backslash at its end."""
    changed = True
    while changed:
        changed = False
        text = text.strip()
        for start, end in _QUOTES:
            inner = text[len(start) : len(text) - len(end)]
            if text.startswith(start) and text.endswith(end) and len(text) > len(start + end) and end not in inner:
                text, changed = inner, True
        while text and text[-1] in _STOPS and not text.endswith(("...", "\\,", "\\;", "\\:")):
            text, changed = text[:-1].rstrip(), True
        if text.endswith(("\\", "\\ ")):
            text, changed = text.rstrip("\\ "), True
    return text
