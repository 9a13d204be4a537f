r"""Finds LaTeX commands that lost their backslashes in unescaped JSON or program text, and restores them.

JSON reads `"\frac"` as a form feed and `rac`, `"\theta"` as a tab and `heta`, `"\nu"` as a line break and `u`. A
control character counts as a lost backslash only if its letter and *all* letters after it form a known command: a tab
and `imes` can only be `\times`. If the letters after it are themselves a word or a symbol (`\to`, `\tan`, `\nu`, `\ne`,
`\rangle`), a tab or a line break may be meant. Then the surrounding characters decide; if they do not, nothing is
restored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

_NAMES = """
acute aleph alpha align amalg angle approx approxeq arccos arcsin arctan arg array arrow arrowvert ast asymp atop
backepsilon backprime backsim backslash bar barwedge bbox because begin beta beth between bf bfseries bgroup bibitem
big bigcap bigcirc bigcup Big bigg biggl biggm biggr bigl bigm bigodot bigoplus bigotimes bigr bigsqcup bigstar
bigtriangledown bigtriangleup biguplus bigvee bigwedge binom blacklozenge blacksquare blacktriangle blacktriangledown
bm bmod bold boldsymbol bot bowtie box boxdot boxed boxminus boxplus boxtimes bra brace brack braket breve buildrel
bullet bumpeq bumpeqq fallingdotseq fbox fcolorbox fint firstoftwo flat floor flushleft flushright fontsize footnote
footnotesize forall foreach frac fracwithdelims frak framebox frown nLeftarrow nLeftrightarrow nRightarrow nVDash
nVdash nabla natural ncong ne nearrow neg neq newcommand newline newpage nexists ngeq ngeqq ngeqslant ngtr ni nicefrac
nleftarrow nleftrightarrow nleq nleqq nleqslant nless nmid nobreak noindent nolimits nonumber normalfont normalsize
not notag notin nparallel nprec npreceq nrightarrow nshortmid nshortparallel nsim nsubseteq nsubseteqq nsucc nsucceq
nsupseteq nsupseteqq ntriangleleft ntrianglelefteq ntriangleright ntrianglerighteq nu num nvDash nvdash nwarrow
raggedright raise raisebox rangle rbrace rbrack rceil real ref renewcommand restriction rfloor rgroup rhd rho right
rightarrow rightarrowtail rightharpoondown rightharpoonup rightleftarrows rightleftharpoons rightrightarrows
rightsquigarrow rightthreetimes risingdotseq rlap rm rmoustache root rtimes rule rVert rvert tag tan tanh tau tbinom
text textasciicircum textasciitilde textbackslash textbf textbullet textcircled textcolor textdegree textdollar
texteuro textit textmd textnormal textquotedbl textrm textsc textsf textsl textstyle textsubscript textsuperscript
texttt textunderscore textup tfrac therefore theta thetasym thickapprox thicksim thickspace thinspace tilde times tiny
to top triangle triangledown triangleleft trianglelefteq triangleq triangleright trianglerighteq tt twoheadleftarrow
twoheadrightarrow varDelta varGamma varLambda varOmega varPhi varPi varPsi varSigma varTheta varUpsilon varXi
varepsilon varinjlim varkappa varliminf varlimsup varnothing varphi varpi varprojlim varpropto varrho varsigma
varsubsetneq varsupsetneq vartheta vartriangle vartriangleleft vartriangleright vbox vdash vDash vdots vec vee veebar
verb vert Vert vfill vline vphantom vskip vspace
"""
COMMANDS = frozenset(_NAMES.split())
"""Commands of LaTeX, AMS and KaTeX that begin with the letter of an escape. None begin with `u`: `\\u` without four hex
digits is not JSON."""

_LETTERS = {"\a": "a", "\b": "b", "\t": "t", "\n": "n", "\v": "v", "\f": "f", "\r": "r"}
_WORD_REST_NAMES = """
an o op ag ext au t iny u e i eg um exists less mid parallel prec sim cong angle brace brack floor ceil times m group ho
vert Vert ef aise ule space fill dots box line arrow right
"""
_WORD_RESTS = frozenset(_WORD_REST_NAMES.split())
"""Rests of commands (`o` of `\\to`, `u` of `\\nu`) that are themselves a word or a symbol."""
_NEVER_MEANT = frozenset("\a\b\f")
"""Never written on purpose before a letter, except a form feed before a capital, which may begin a page."""

_CONTROL_BEFORE_LETTER = re.compile(r"[\a\b\t\n\v\f\r][A-Za-z]")
_CONTROL_AND_LETTERS = re.compile(r"([\a\b\t\n\v\f\r])([A-Za-z]+)")
_COMMAND = re.compile(r"(?<!\\)\\[A-Za-z]{2,}")
_DOUBLED_COMMAND = re.compile(r"\\\\([A-Za-z]{3,})")
_PROSE = re.compile(r" [a-z]{2,}")
_SYMBOL_NEXT = re.compile(r" ?(?:[\d\\(]|[A-Za-z](?![A-Za-z])|\Z)")
"""Text after a command, as in `x \\ne y` and `x \\to 0`; after a real line break a word follows, not a symbol."""
_CHARACTERS_BEFORE = 24
_ENDS_WITH_SYMBOL = re.compile(r"(?:^|[^A-Za-z0-9])(?:[A-Za-z]|\d+)$|(?<![A-Za-z])\d+$")
_ROW_OF_SYMBOLS = re.compile(r"(?:^|\s)\w \w$")
"""The end of a line such as `a b c`, after which another such line may follow."""
_EQUALS = re.compile(r" ?=")
_BEFORE_SYMBOL = "({[/|+-*\\"
_ENDS = "?,.;:)]}$^_!|"
_JSON_BACKSLASH = re.compile(
    r'\\\\(?P<pair>[A-Za-z]{2})?|\\(?:(?=u(?![0-9a-fA-F]{4}))|(?=[^"\\/bfnrtu])|(?P<name>[bfnrt][A-Za-z]*))'
)
_LEADING_CHARACTERS, _PARAGRAPH_CHARACTERS = 200, 2_000
"""Maximum number of characters read around a doubtful spot; this limits the time that hostile text takes."""
_MOST_DOUBTFUL = 10_000
"""Maximum number of doubtful spots of one text whose surroundings are read, for the same reason."""
_OPENING = tuple(' $({[,=+-*/<>^_&|"')
_NAME = re.compile(r"[A-Za-z]+|[^\s\w]")
_JSON_ESCAPE = re.compile(r'\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}|(?P<invalid>\\)')
_FREQUENT_NAMES = "frac sqrt cdot times text left right pi theta alpha boxed begin end leq geq neq sum int"
_FREQUENT_COMMANDS = frozenset(_FREQUENT_NAMES.split())


class Meaning(Enum):
    """What a control character before letters means."""

    COMMAND = "command"
    SPACE = "space"
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Spot:
    """A place where a backslash is or may be lost: index of the control character, the command, and its meaning."""

    at: int
    command: str
    meaning: Meaning

    @property
    def shown(self) -> str:
        """The command with its backslash, such as `\\frac`."""
        return f"\\{self.command}"


def is_suspect(text: str) -> bool:
    """Whether `lost_backslashes` may find anything; fast."""
    # Printable text has no control characters, and this test is ten times as fast.
    return not text.isprintable() and _CONTROL_BEFORE_LETTER.search(text) is not None


def lost_backslashes(texts: Sequence[str], *, damaged: bool = False) -> list[list[Spot]]:
    """The spots of every text of one row; each is COMMAND or EITHER.

    A spot that is clear by itself always counts. If one spot of the row is certain (or the row is known to be
    `damaged`), doubtful spots also count, except in a text whose other commands have their backslashes.
    """
    found = [_spots(text) for text in texts]
    damaged = damaged or any(map(_is_certain, found))
    decided = []
    for text, spots in zip(texts, found, strict=True):
        # Backslashes that are in place are evidence about their own text only.
        if damaged and (_is_certain(spots) or _COMMAND.search(text) is None):
            decided.append(_decided(text, spots))
        else:
            decided.append([spot for spot in spots if spot.meaning is Meaning.COMMAND])
    return decided


def doubtful_spots(text: str) -> list[Spot]:
    """The spots that may be a command or a space, if nothing in `text` decides which."""
    if _COMMAND.search(text) is not None:
        return []
    return [spot for spot in _spots(text) if spot.meaning is Meaning.EITHER]


def _is_certain(spots: Iterable[Spot]) -> bool:
    return any(
        spot.meaning is Meaning.COMMAND and (spot.command[0] in "abfr" or spot.command[1:] not in _WORD_RESTS)
        for spot in spots
    )


def with_backslashes(text: str, spots: Iterable[Spot]) -> str:
    """`text` with the commands of `spots` restored."""
    for spot in sorted(spots, key=lambda spot: spot.at, reverse=True):
        text = f"{text[: spot.at]}\\{spot.command[0]}{text[spot.at + 1 :]}"
    return text


def doubly_escaped_command(text: str) -> str | None:
    """The first frequent command with two backslashes (`\\\\\\\\frac` in JSON); None if there is none."""
    if "\\\\" not in text:
        return None
    return next((match[1] for match in _DOUBLED_COMMAND.finditer(text) if match[1] in _FREQUENT_COMMANDS), None)


def invalid_escape(json_text: str) -> str | None:
    """The first command whose backslash makes `json_text` invalid JSON, such as `sqrt`; None if there is none."""
    for match in _JSON_ESCAPE.finditer(json_text):
        if match["invalid"]:
            name = _NAME.match(json_text, match.end())
            return name[0] if name else None
    return None


def position_without_doubling(json_text: str, end: int) -> int:
    """The index in `json_text` that corresponds to the index `end` in `without_invalid_escapes(json_text)`."""
    added = 0
    for match in _JSON_ESCAPE.finditer(json_text):
        if match["invalid"] and match.start() + added < end:
            added += 1
        elif match.start() + added >= end:
            break
    return end - added


def without_invalid_escapes(json_text: str) -> str:
    """`json_text` with every backslash doubled that JSON does not allow."""
    return _JSON_ESCAPE.sub(lambda match: "\\\\" if match["invalid"] else match[0], json_text)


def escaped_reply(json_text: str) -> str:
    r"""A model's JSON with two backslashes wherever LaTeX was meant.

    Unlike `lost_backslashes`, it decides every case. A backspace or form feed is never meant. A known command is always
    meant unless its rest is itself a word or a symbol; then the neighbouring characters decide. If the reply escapes
    its commands elsewhere, its line breaks are meant as such.
    """
    decisions = {match.start(): _raw_meaning(json_text, match) for match in _JSON_BACKSLASH.finditer(json_text)}
    certain = Meaning.COMMAND in decisions.values()
    escapes = any(match[0] == "\\\\" and match["pair"] for match in _JSON_BACKSLASH.finditer(json_text))

    def mended(match: re.Match[str]) -> str:
        meaning = decisions[match.start()]
        if meaning is Meaning.EITHER and (certain or not escapes):
            rest = match["name"][1:]
            meaning = (
                Meaning.COMMAND if _leans_to_command(json_text, match.start(), rest, match.end()) else Meaning.SPACE
            )
        return f"\\{match[0]}" if meaning is Meaning.COMMAND else match[0]

    return _JSON_BACKSLASH.sub(mended, json_text)


def _raw_meaning(json_text: str, match: re.Match[str]) -> Meaning:
    """What a backslash in undecoded JSON means."""
    name = match["name"]
    if name is None:
        return Meaning.SPACE if match[0].startswith("\\\\") else Meaning.COMMAND
    if name[0] in "bf" and len(name) > 1:
        return Meaning.COMMAND
    if name not in COMMANDS:
        return Meaning.SPACE
    if not _is_word(name[1:], json_text, match.end()):
        return Meaning.COMMAND
    return _by_context(json_text, match.start(), match.end(), name[1:])


def _leans_to_command(text: str, at: int, rest: str, end: int) -> bool:
    """Whether a doubtful spot is more likely a command than a space."""
    before, after = text[max(0, at - 1) : at], text[end : end + 12].lstrip(" ")
    if rest in {"e", "i"}:
        # A line may begin with `e = …`; `\ne =` ("unequal equals") makes no sense.
        follows = after[:1].isdigit() or after.startswith("\\")
        return not after.startswith(("=", "^")) and (before in _OPENING or follows)
    if before.isdigit() and len(rest) == 1 and after.startswith("="):
        return False
    # `h\nu`, `2\tan x`: a single symbol or a number precedes it; no sentence ends that way.
    return before in _OPENING or re.search(r"(?:^|[^A-Za-z])(?:[A-Za-z]|\d+)$", text[max(0, at - 12) : at]) is not None


def _spots(text: str) -> list[Spot]:
    spots = []
    examined = 0
    for match in _CONTROL_AND_LETTERS.finditer(text):
        control, rest = match[1], match[2]
        name = _LETTERS[control] + rest
        never_meant = control in _NEVER_MEANT and (control != "\f" or rest[0].islower())
        if not never_meant and name not in COMMANDS:
            continue
        if control == "\n" and text[match.start() - 1 : match.start()] == "\r":
            continue
        if never_meant or control == "\r" or not _is_word(rest, text, match.end()):
            meaning = Meaning.COMMAND
        elif examined < _MOST_DOUBTFUL:
            examined += 1
            meaning = _by_context(text, match.start(), match.end(), rest)
            if meaning is Meaning.EITHER and _touches_symbols(text, match.start(), match.end(), rest):
                meaning = Meaning.COMMAND
        else:
            meaning = Meaning.EITHER
        spots.append(Spot(match.start(), name, meaning))
    return spots


def _decided(text: str, spots: list[Spot]) -> list[Spot]:
    """The spots of a text in a damaged row: a doubtful tab is a command; for a line break the characters around it
    decide."""
    decided = []
    for spot in spots:
        end = spot.at + len(spot.command)
        if spot.meaning is Meaning.EITHER and (
            text[spot.at] == "\t" or _leans_to_command(text, spot.at, spot.command[1:], end)
        ):
            spot = Spot(spot.at, spot.command, Meaning.COMMAND)
        decided.append(spot)
    return decided


def _is_word(rest: str, text: str, end: int) -> bool:
    """Whether `rest` is a word by itself; `eq.` is an abbreviation."""
    return rest in _WORD_RESTS or (rest == "eq" and text[end : end + 1] == ".")


def _by_context(text: str, at: int, end: int, rest: str) -> Meaning:
    """What a doubtful spot means by its neighbours; in undecoded JSON the opening quote also begins a text."""
    before, after = text[max(0, at - 1) : at], text[end : end + 1]
    is_symbol = len(rest) == 1
    if before in ("^", "_") or after == "{":
        return Meaning.COMMAND
    if after and not is_symbol and (after in "(^_\\[" or after.isdigit()):
        return Meaning.COMMAND
    if (at <= _LEADING_CHARACTERS and not text[:at].strip()) or (before == '"' and text[at] == "\\"):
        is_prose = _PROSE.match(text, end) is not None
        return Meaning.COMMAND if is_symbol or not is_prose else Meaning.EITHER
    between_symbols = before == " " and _SYMBOL_NEXT.match(text, end) is not None
    return Meaning.COMMAND if between_symbols or _in_inline_math(text, at) else Meaning.EITHER


def _touches_symbols(text: str, at: int, end: int, rest: str) -> bool:
    """Whether a doubtful spot stands directly between parts of a formula: `h\\nu,`, `x\\to 0`, `t/\\tau`."""
    before, after = text[at - 1 : at], text[end : end + 1]
    is_tab = text[at] == "\t"
    if after in ("\t", "\n", "\r") or not before or _EQUALS.match(text, end):
        return False
    near = text[max(0, at - _CHARACTERS_BEFORE) : at]
    stands_alone = _ENDS_WITH_SYMBOL.search(near) is not None
    if _PROSE.match(text, end):
        return is_tab and rest == "o" and stands_alone
    ends = after != "" and after in _ENDS
    if before.isspace():
        return before == " " and rest in ("u", "au") and ends
    symbol_next = _SYMBOL_NEXT.match(text, end) is not None
    if is_tab:
        return (before in _BEFORE_SYMBOL or before in ",=" or stands_alone) and (ends or symbol_next)
    stands_alone = stands_alone and _ROW_OF_SYMBOLS.search(near) is None
    if rest in ("e", "i"):
        return stands_alone and after != "" and after != "(" and symbol_next
    if rest == "u":
        if before in ",=":
            return ends
        return (before in _BEFORE_SYMBOL or stands_alone) and after != "(" and (ends or symbol_next)
    return (before in _BEFORE_SYMBOL or stands_alone) and after != "" and symbol_next


def _in_inline_math(text: str, at: int) -> bool:
    paragraph = max(text.rfind("\n\n", max(0, at - _PARAGRAPH_CHARACTERS), at), at - _PARAGRAPH_CHARACTERS, 0)
    before = text[paragraph:at].replace("\\$", "").replace("$$", "")
    after = text[at : at + _PARAGRAPH_CHARACTERS].replace("\\$", "").replace("$$", "")
    closing = after.find("$")
    # Before a digit `$` is the sign of a currency.
    return before.count("$") % 2 == 1 and closing >= 0 and not after[closing + 1 : closing + 2].isdigit()
