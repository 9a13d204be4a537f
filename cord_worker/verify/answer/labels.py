"""Answers that are not mathematics: choices, yes and no, "does not exist", formulas, sequences, names, text."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from cord_worker.verify.answer.clean import words_of
from cord_worker.verify.answer.units import singular

_LABEL = r"(?:the )?(?:correct )?(?i:option|choice|answer|letter|选项|選項|选择|選擇|选|選|보기|الخيار)"
_LETTER = re.compile(rf"(?:{_LABEL}\s*)?[(\[{{]?([A-J])[)\]}}]?[.:。]?(?: ?번|입니다)?")
_SMALL_LETTER = re.compile(rf"{_LABEL}\s*[(\[]?([a-j])[)\]]?|[(\[]([a-j])[)\]]|([a-j])[).]", re.IGNORECASE)
_LABELLED = re.compile(
    rf"(?:{_LABEL}\s*)?(?:[(\[]([A-Ja-j])[)\]][.:,-]?|([A-J])[)\].:]|([A-J]) -)\s*(?P<text>\S.*)", re.DOTALL
)
_BRACKETED = re.compile(r"[(\[]([A-J])[)\]]|\b([A-J])\)")
_NAMED_LETTER = re.compile(r"(?<![A-Za-z])([A-J])(?![A-Za-z])")
_OPTION = re.compile(r"(?:^|[\s(])([A-J])[).:]\s*(\S.*?)(?=\s+\(?[A-J][).:]\s|\s*$)", re.DOTALL)


def choice(text: str) -> str | None:
    """The letter of a reference such as `B`, `(B)`, `B.`, `(B) 45`; None if it has another form."""
    if match := _LETTER.fullmatch(text):
        return match[1]
    if match := re.fullmatch(r"\(([a-j])\)", text):
        return match[1].upper()
    match = _LABELLED.fullmatch(text)
    if match is None or _LETTER.fullmatch(match["text"]):
        return None  # `(A), (C)` are two letters.
    return (match[1] or match[2] or match[3]).upper()


def chosen_letter(text: str) -> str | None:
    """The letter that a given answer chooses; "" if it names several, None if it names none."""
    if match := _LETTER.fullmatch(text) or _SMALL_LETTER.fullmatch(text):
        return next(group for group in match.groups() if group).upper()
    if re.fullmatch("[a-j]", text):
        return text.upper()
    if match := _LABELLED.fullmatch(text):
        letter = (match[1] or match[2] or match[3]).upper()
        others = {one or two for one, two in _BRACKETED.findall(match["text"])} - {letter}
        joined = re.match(r"(?:and|or|&|,|/)\s", match["text"]) or re.search(r"\b(?:and|or) [A-J]\b", match["text"])
        return "" if others or joined else letter
    if match := re.fullmatch(
        r"([A-J])(?:,| because| since| as|: | - | fits | is (?:correct|right|best|the best|most likely)\b).*",
        text,
        re.DOTALL,
    ):
        return match[1] if len(set(_NAMED_LETTER.findall(text))) == 1 else ""
    named = set(_NAMED_LETTER.findall(text))
    return "" if len(named - {"A", "I"}) + ("A" in named) > 1 else None


def label_text(text: str) -> str | None:
    """The text after the label: `45` in `(B) 45`; None without a label."""
    match = _LABELLED.fullmatch(text)
    return match["text"].strip() if match else None


@lru_cache(maxsize=32)
def options(question: str) -> dict[str, str]:
    """The options that a question lists, by their letters."""
    return {letter: text.strip() for letter, text in _OPTION.findall(question[-4000:])}


def letters(items: tuple[str, ...]) -> frozenset[str] | None:
    """The letters of several choices, as `A, C`; None if an element is not a letter."""
    found = [_LETTER.fullmatch(item) for item in items]
    return None if None in found else frozenset(match[1] for match in found if match)


_DECISIONS = {
    "yes": "yes yeah yep 是 是的 对 對 예 네 نعم да sí si oui ja sim はい हाँ có",
    "no": "no nope 否 不 不是 没有 沒有 아니요 아니오 لا нет non nein não いいえ नहीं không",
    "maybe": "maybe 也许 也許 可能 不确定 不確定 아마 아마도 어쩌면 ربما",
    "true": "true correct 正确 正確 참 صحيح верно richtig vrai verdadero",
    "false": "false incorrect 错误 錯誤 错 거짓 خطأ неверно falsch faux falso",
}
_DECISION = {word: name for name, words in _DECISIONS.items() for word in words.split()}
_FIRST = re.compile(r"([^\W\d_]+)\s*(?:입니다\s*)?(?:[.,;:!?。！？]|- |$)")


def decision(text: str) -> str | None:
    """The "yes", "no", "maybe", "true" or "false" that the text is, or begins with before a punctuation mark."""
    first = _FIRST.match(text)
    return _DECISION.get(first[1].casefold()) if first else None


def plain_decision(reference: str) -> str | None:
    """The decision of a reference that is only yes, no, maybe, true or false; otherwise None."""
    return _DECISION.get(reference.casefold())


_NOTHING = {
    "empty": r"\emptyset|\{\}|\{ \}|{}|empty set|the empty set|no solution|no solutions|no real solution"
    "|no real solutions"
    "|no such solution|there is no solution|there are no solutions|has no solution|has no solutions|no solution exists"
    "|no solutions exist|无解|無解|해가 없다|لا يوجد حل|нет решений|keine Lösung|pas de solution|sin solución|null set",
    "absent": "dne|does not exist|doesn't exist|do not exist|limit does not exist|undefined limit|不存在|не существует",
    "undefined": "undefined|not defined|is undefined|indeterminate|无定义|無定義",
    "none": "none|nothing|nobody|no one|none of them|无|無",
    "endless": "infinitely many|infinitely many solutions|infinite solutions|an infinite number|无穷多",
    "impossible": "impossible|not possible|it is impossible|it is not possible|cannot be done",
}
_NOTHINGS = {word.casefold(): name for name, words in _NOTHING.items() for word in words.split("|")}


def nothing(text: str) -> str | None:
    """The kind of nothing that a text names, such as "empty" or "absent" (does not exist); None if it names none."""
    return _NOTHINGS.get(text.casefold().strip())


SENTINELS = frozenset(
    "proof|see proof|see solution|see the solution|see answer|notfound|not found|n/a|na|solution|omitted"
    "|answer not found|nan|null".split("|")
)
"""References of published datasets that are not answers."""

_ELEMENTS = frozenset(
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Sm Eu Gd Dy Ho Er Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb "
    "Bi Po At Rn Fr Ra Ac Th Pa U Np Pu".split()
)
_FORMULA = re.compile(
    r"(?:\d{0,2}(?:[A-Z][a-z]?\d*|\((?:[A-Z][a-z]?\d*)+\)\d*|\[(?:[A-Z][a-z]?\d*|\(|\))+\]\d*)+)(?:\d?[-+]|[-+]\d)?"
)


def formula(text: str) -> str | None:
    """A chemical formula in one spelling (`H2O` for `H_2O` and `\\mathrm{H_2O}`); None if the text is not a formula."""
    bare = re.sub(r"[_{}^\s]|\\ce", "", text)
    if len(bare) > 60 or not _FORMULA.fullmatch(bare):
        return None
    symbols = re.findall(r"[A-Z][a-z]?", bare)
    if not all(symbol in _ELEMENTS for symbol in symbols):
        return None
    if not (re.search(r"[A-Z][a-z]?\d", bare) or (len(symbols) > 1 and re.search("[a-z]", bare) and len(bare) < 8)):
        return None
    # One letter with a digit may be a name with an index.
    return bare if len(symbols) > 1 or re.search(r"^(?:H|N|O|F|Cl|Br|I|P|S)\d$", bare) else None


def atoms(text: str) -> dict[str, int] | None:
    """The number of atoms of each element in a formula; None with charges or nested brackets."""
    if not re.fullmatch(r"(?:[A-Z][a-z]?\d*|\((?:[A-Z][a-z]?\d*)+\)\d*)+", text):
        return None
    found: dict[str, int] = {}
    for group, times, symbol, count in re.findall(r"\(([A-Za-z0-9]+)\)(\d*)|([A-Z][a-z]?)(\d*)", text):
        for name, number in re.findall(r"([A-Z][a-z]?)(\d*)", group) or [(symbol, count)]:
            found[name] = found.get(name, 0) + int(number or 1) * int(times or 1)
    return found


_ARROW = r"\s*(?:\\to(?![a-z])|\\rightarrow|\\Rightarrow|->|=>|-->|\s-\s)\s*"
_ROUTE = re.compile(r"[A-Z]\w*(?: ?- ?[A-Z]\w*){2,}")


def sequence(text: str) -> tuple[str, ...] | None:
    """The items of a route or order such as `A-C-B` or `A → C → B`; None if the text is neither."""
    if len(text) > 400:
        return None
    if re.search(r"\\to(?![a-z])|->|=>|\\Rightarrow", text) and r"\lim" not in text:
        items = [item.strip() for item in re.split(_ARROW, text)]
        return tuple(items) if len(items) > 1 and all(items) else None
    if _ROUTE.fullmatch(text):
        return tuple(item.strip() for item in text.split("-"))
    return None


_PAIR = re.compile(
    r"\(?(?P<left>\w{1,3}|[A-Z]\w{0,20})\)?\s*(?:-|:|\\to|->|=>|=|\\Rightarrow)\s*\(?(?P<right>\w{1,20})\)?"
)


def matching(items: tuple[str, ...]) -> frozenset[tuple[str, str]] | None:
    """The pairs of `1-A, 2-B`; None if an element is not a pair of a digit and a letter or word."""
    found = set()
    for item in items:
        match = _PAIR.fullmatch(item)
        if match is None or match["left"].isdigit() == match["right"].isdigit() or "=" in item:
            return None
        left, right = match["left"], match["right"]
        found.add((left, right) if left.isdigit() else (right, left))
    return frozenset(found) if len(found) > 1 else None


_ARTICLES = frozenset("a an the".split())
_NEGATIONS = frozenset("not no never n't cannot isn't aren't neither nor wrong incorrect false unlike except".split())
_STATES = frozenset(
    "alabama alaska arizona arkansas california colorado connecticut delaware florida georgia hawaii idaho illinois "
    "indiana iowa kansas kentucky louisiana maine maryland massachusetts michigan minnesota mississippi "
    "missouri montana "
    "nebraska nevada ohio oklahoma oregon pennsylvania tennessee texas utah vermont virginia washington "
    "wisconsin wyoming "
    "usa uk england scotland wales".split()
)


def same_text(reference: str, given: str) -> tuple[bool | None, str]:
    """Whether two names or other texts are the same (None: undecided), and why; articles, accents and punctuation do
    not count, nor does the case of words."""
    if reference == given:
        return True, "the same text"
    left, right = _plain(reference), _plain(given)
    if not left:
        same = re.sub(r"\s+", "", reference) == re.sub(r"\s+", "", given)
        return same, "the same signs" if same else "other signs"
    if left == right and _signs(reference) == _signs(given):
        return _same_but_for_case(reference, given)
    if left == right:
        return None, "the same words with other signs"
    if [singular(word) for word in left] == [singular(word) for word in right] and len("".join(left)) >= 3:
        if reference == reference.casefold() or given == given.casefold():
            return True, "the same words, singular or plural"
        return None, "the same words, except for a plural"
    if "".join(left) == "".join(right) and len("".join(left)) > 3 and _signs(reference) == _signs(given):
        return True, "the same word, written as one or two"
    head, _, tail = given.partition(",")
    if tail and _plain(head) == left and _is_place(tail):
        return True, "the same place, with its country"
    if tail and reference[0].isupper() and _plain(head) == left and re.match(r" (?:the|an?) ", tail):
        changed = re.search(r"\b(?:or|not|no|never|wrong|incorrect|instead|false|isn't|rather)\b", tail)
        return (None if changed else True), "the same name, with what it is"
    if len(left) <= len(right) <= len(left) + 8 and not _NEGATIONS & (set(right) ^ set(left)):
        contained = any(right[at : at + len(left)] == left for at in range(len(right) - len(left) + 1))
        if contained and not {"or", "and"} & (set(right) - set(left)) and "," not in given:
            return None, "the reference's words are in a longer answer"
    if re.search(r"\\[a-zA-Z]", reference) and re.search(r"[\\\d]", given):
        return None, "a formula that is not understood"
    return False, "another text"


def _plain(text: str) -> list[str]:
    bare = "".join(char for char in unicodedata.normalize("NFD", text) if not unicodedata.combining(char))
    words = words_of(unicodedata.normalize("NFC", bare).replace("'", ""))
    kept = [word for word in words if word not in _ARTICLES]
    return kept or words


def _signs(text: str) -> str:
    return "".join(re.findall(r"[-+*/=<>^%$|\\]", re.sub(r"(?<=\w)-(?=\w)", "", text)))


def _same_but_for_case(reference: str, given: str) -> tuple[bool | None, str]:
    bare_reference, bare_given = re.sub(r"[\W_]", "", reference), re.sub(r"[\W_]", "", given)
    if bare_reference == bare_given:
        return True, "the same text"
    shortest = min(len(word) for word in words_of(reference) or [reference])
    if len(bare_reference) == 1:
        return False, "the case of a single letter counts"
    capitals = [sum(map(str.isupper, text)) for text in (reference, given)]
    if len(bare_reference) <= 2 or (shortest == 1 and min(capitals)):
        return None, "the same letters in another case"
    return True, "the same text, except for its case"


def _is_place(text: str) -> bool:
    name = text.strip(" .").casefold()
    return name in _STATES or name in _territories()


@lru_cache(maxsize=1)
def _territories() -> frozenset[str]:
    # Imported here: only a name followed by a comma and a second name needs it.
    from babel import Locale

    names = Locale("en").territories
    return frozenset(str(name).casefold() for code, name in names.items() if len(code) == 2)
