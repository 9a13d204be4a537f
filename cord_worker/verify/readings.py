"""Finds the readings of the text after an announcement.

A *reading* is a text that may be the answer: "the answer is x = 5, because …" has the readings `x = 5` and `x = 5,
because …`.
"""

from __future__ import annotations

import re

from cord_worker.verify import sentences
from cord_worker.verify.corrections import correction_start
from cord_worker.verify.sentences import is_bare, stated_readings, without_lead, without_stop

_REASON = re.compile(
    r",?\s(?:because|since|due to|given that|thanks to|whereas|where|as(?!\s(?:well|much|many|long|far|soon|an?|"
    r"if)\b)|"
    r"which(?!\s(?:gives|makes|means|leads|yields|leaves|brings|equals|becomes|simplifies)\b)|so(?=\s[^\d\n]{0,200}$)|"
    r"obtained|computed|found by|weil|denn|wobei|car|parce que|puisque|porque|ya que|perché|poiché|потому что|так как|"
    r"ponieważ|gdyż|karena|vì|omdat|çünkü)\s|,?\s?(?:因为|因為|由于|由於|其中|理由是|なぜなら|왜냐하면|"
    r"(?:所以|因此)(?=[^\d\n]{0,200}$))|,?\s(?:لأن|حيث|بسبب)|\s(?:क्योंकि)\s|"
    r"\s\((?:since|because|as|not|see|from|i\.e\.|rounded|note)\b|\s[—–]\s(?=[^\W\d_]{2})",
    re.IGNORECASE,
)
_CONTRAST = re.compile(
    r"(?:,|;|\s[—–-]|\s\(|,?\sand|(?<=\d))\s?(?:not|nicht|pas|no|non|não|не|niet|inte|bukan|"
    r"không phải)\s(?!solution|real)|"
    r",?\s(?:rather than|instead of|as opposed to|and not|statt|anstatt|plutôt que|en lugar de|invece di|em vez de|"
    r"а не|zamiast)\s|,?(?:而不是|而非)",
    re.IGNORECASE,
)
_RESTATED = re.compile(
    r",?\s(?:i\.e\.|that is|that's|namely|in other words|which is|which equals|which simplifies to|"
    r"or equivalently|equivalently|"
    r"das heißt|d\.h\.|c'est-à-dire|es decir|cioè|ou seja|то есть|czyli|即),?\s?",
    re.IGNORECASE,
)
_TWICE = re.compile(
    r"(?P<one>[^()]{1,200}?)(?:\s?\((?:or |i\.e\.,? |that is,? |which is |equivalently,? |also |= ?|≈ ?|"
    r"about )?(?P<other>[^()]{1,200})\)|"
    r",?\s(?:or|oder|ou|o|или|或)\s(?:equivalently,? |approximately |about )?(?P<other2>[^()]{1,200}))"
)
_PROSE = re.compile(
    r"(?:the (?:sum|product|difference|quotient|total|ratio|average|mean|square|remainder) of|(?:an? (?:integer|"
    r"whole number|"
    r"positive|rational|real|natural|multiple|single|unique|nice|simple))|obtained|found|given|computed|"
    r"calculated|derived|determined|reached|not (?:clear|obvious|given)|based|"
    r"clear|obvious|easy|simple|straightforward|"
    r"shown|written|stated|correct|right|wrong|incorrect|below|above|in the|what|whatever|how|why|that (?:we|the|"
    r"there|it|he|she)|the same|a (?:bit|number|matter)|"
    r"supposed|expected|unique|unknown|ready|complete|consistent|verified|confirmed|therefore$|then$|going to|your|"
    r"up to|important|to be|for (?:the|all|part)|"
    r"needed|required|as follows|the following|well|reasonable|still|just|only|now)\b",
    re.IGNORECASE,
)
_PREFIX = re.compile(
    r"(?:(?:(?:is|are|exactly|precisely|simply|just|approximately|approx\.?|about|around|roughly|equal to|equals|"
    r"therefore|"
    r"thus|hence|namely|option|choice|letter|the number|the value|the letter|ungefähr|etwa|genau|environ|"
    r"aproximadamente|"
    r"circa|примерно|sekitar|khoảng)\s|(?:≈|~|\\approx|:|=|→)\s?)){1,3}(?=\S)",
    re.IGNORECASE,
)
_UNOPENED = re.compile(r"[^()\[\]]+[)\]]")
_IS_RIGHT = re.compile(r"(.{1,80}?)\s(?:is|are)\s(?:indeed\s|thus\s|therefore\s)?(?:right|correct)", re.IGNORECASE)
_GIVES = re.compile(r",?\swhich\s(?:gives|makes|leaves|means|yields)\s(?:us\s|a total of\s)?")
_OPEN_END = re.compile(r"(?:,?\s(?:but|and|so|however|yet|while|or)|\s?[(\[,;])$", re.IGNORECASE)
_LABELS = re.compile(r"(?:option|choice|letter)\s", re.IGNORECASE)
_SLIP = re.compile(
    r"(?:,|;|\s[—–-]|\.\.\.|…)\s?(?:no(?:,? wait)?,|no wait|wait(?:,? no)?,|sorry,?|actually,?|i mean|or rather|"
    r"rather,|make that|correction:?|scratch that,?|"
    r"nein,|non,|нет,|não,|quatsch,)\s(?:it['’]s\s|it is\s|make that\s|i meant?\s|that['’]s\s)?(?=\S)",
    re.IGNORECASE,
)
"""A correction within a line: `40, no wait, 41`."""
_REMARK = re.compile(
    r"\((?:in|rounded|to|as|exact|approx|expressed|simplified|correct|for)\b[^()]{0,60}\)\s?", re.IGNORECASE
)
DISPLAY = re.compile(
    r"\s*(?:\$\$(.+?)\$\$|\\\[(.+?)\\\]|(\\begin\{(\w{1,20}\*?)\}.+?\\end\{\4\}))\s?(?P<more>[^\n]{0,80})", re.DOTALL
)
ITEM = re.compile(r"[-*•+]\s|\d{1,2}[.)]\s|\([a-z]\)\s")
WRAPPED_WORDS = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit|mbox)\s?\{([^{}]*)\}")
_OPERATOR = re.compile(r"\\(?:i{0,3}nt|oint|lim|sum|prod|det|gcd)(?![a-z])(?![^=]*[<>])(?!.*\\text)")
"""The left side of an equation whose value is the right side: an integral, a limit, a sum."""
_WORDS_ONLY = re.compile(r"(?:[^\W\d_]|[\s'’.()-]){3,60}")


def readings_after(region: str, *, heading: bool) -> tuple[list[str], int]:
    """The readings of `region`, the text after an announcement, and how many of its characters they take.

    `heading`: the announcement fills its line, so the answer may be a list below it.
    """
    skipped = len(region) - len(region.lstrip(" \t\r\n:*"))
    rest = region[skipped:]
    display = DISPLAY.match(rest)
    if display:
        content = next(group for group in (display[1], display[2], display[3]) if group).strip()
        more = without_stop(display["more"])
        readings = [content] if not more or not re.match(r"[^\W\d_]+$", more) else [content, f"{content} {more}"]
        return [*readings, *right_sides(content)], skipped + display.end()
    if heading and "\n" in region[:skipped]:
        return _below(rest, skipped)
    line = rest.partition("\n")[0]
    if line.strip() in ("$", "\\(", "$$"):
        line = rest[:200].partition("\n\n")[0].replace("\n", " ")
    return _line_readings(line, skipped)


def _below(rest: str, skipped: int) -> tuple[list[str], int]:
    """The readings below a heading: of all items of a list together, otherwise of the first line, or of the last
    sentence of its paragraph that states an answer."""
    paragraph = rest.partition("\n\n")[0]
    lines = [line.strip() for line in paragraph.splitlines() if line.strip()]
    if not lines:
        return [], skipped
    if len(lines) > 1 and (
        all(ITEM.match(line) for line in lines) or all(is_bare(line) and not line.endswith(":") for line in lines)
    ):
        items = [without_stop(ITEM.sub("", line, count=1) if ITEM.match(line) else line) for line in lines]
        return [", ".join(items)], skipped + len(paragraph)
    first = lines[0]
    if ITEM.match(first):
        every = [line.strip() for line in rest[:2000].splitlines() if line.strip()]
        items = [without_stop(ITEM.sub("", line, count=1)) for line in every if ITEM.match(line)]
        if len(items) > 1:
            return [", ".join(items)], skipped + len(paragraph)
    if is_bare(first) or len(lines) == 1:
        line = rest.partition("\n")[0]
        readings, length = _line_readings(line, skipped)
        if not is_bare(first):
            spans = sentences.sentences(first)
            said = [reading for span in spans[-1:] for reading in stated_readings(first[span.start : span.end])]
            whole = [reading for span in spans[:1] for reading in stated_readings(first[span.start : span.end])]
            readings = list(dict.fromkeys([*(whole or said), *readings]))
        return readings, length
    for span in reversed(sentences.sentences(paragraph)):
        readings = stated_readings(paragraph[span.start : span.end])
        if readings:
            return readings, skipped + span.end
    return _line_readings(first, skipped)


def _line_readings(line: str, skipped: int) -> tuple[list[str], int]:
    spans = sentences.sentences(line, items=False)
    if not spans:
        return [], skipped
    sentence = line[: spans[0].end]
    if spans[0].end - spans[0].start <= 2 and len(spans) > 1 and not re.search(r"[\w$\\]", sentence):
        sentence = line[: spans[1].end]
    clean = without_stop(sentence.strip())
    if _PROSE.match(clean) and not _LABELS.match(clean):
        parts = _RESTATED.split(clean)
        if len(parts) > 1 and (is_bare(parts[-1]) or stated_readings(parts[-1])):
            return answer_readings(parts[-1]), skipped + len(sentence)
        readings = (
            stated_readings(clean)
            if re.match(r"(?:obtained|found|given|computed|calculated|derived|determined|the same)", clean)
            else []
        )
        return readings, skipped + len(sentence)
    if slip := list(_SLIP.finditer(line)):
        meant = line[slip[-1].end() :]
        readings = stated_readings(meant) or answer_readings(meant)
        return readings, skipped + len(line)
    if remark := _REMARK.match(sentence):
        sentence = sentence[remark.end() :]
    if right := _IS_RIGHT.fullmatch(clean):
        return answer_readings(right[1]), skipped + len(sentence)
    readings = answer_readings(sentence)
    clause = _REASON.split(clean, maxsplit=1)[0]
    if without_lead(clause) != clause or not is_bare(clause):
        readings = list(dict.fromkeys([*stated_readings(clause), *readings]))
    if len(spans) > 1 and (whole := without_stop(line)):
        corrected = correction_start(line, spans[1].start - 1, len(line)) is not None
        if not corrected and not _CONTRAST.search(whole):
            readings.append(whole)
    return list(dict.fromkeys(readings)), skipped + len(sentence)


def answer_readings(sentence: str) -> list[str]:
    """The readings of a text that is an answer: without its reason, contrast, copula or "in total"."""
    whole = without_stop(_OPEN_END.sub("", sentence.strip()))
    clause = _CONTRAST.split(whole, maxsplit=1)[0] if _CONTRAST.search(whole, 1) else whole
    clause = _REASON.split(clause, maxsplit=1)[0]
    parts = [without_stop(clause.rstrip(",; "))]
    if clause == whole or _CONTRAST.search(whole) is None:
        parts.append(whole)
    if (given := _GIVES.split(whole)) and len(given) == 2 and is_bare(given[1]):
        return answer_readings(given[1])
    restated = _RESTATED.split(whole)
    if len(restated) == 2 and is_bare(restated[1]):
        parts.append(without_stop(restated[1]))
    parts += [part[:-1].rstrip() for part in parts if _UNOPENED.fullmatch(part)]
    for part in list(parts):
        shorter = sentences.without_copula(part)
        if (label := sentences.without_label(shorter)) is not None:
            parts.append(label)
        if affirmed := sentences.leading_affirmation(shorter):
            parts.append(affirmed)
        parts += [shorter, *sentences.without_tail(shorter), *right_sides(shorter)]
        if (prefix := _PREFIX.match(shorter)) and prefix.end() < len(shorter):
            parts.append(shorter[prefix.end() :].strip())
    return list(dict.fromkeys(part for part in parts if part and part.strip("$ ")))


def before_contrast(sentence: str) -> str | None:
    """The `5` of "5, not 6" and "5 rather than 6"; None if there is no such contrast."""
    whole = without_stop(sentence)
    match = _CONTRAST.search(whole, 1)
    if match is None or not is_bare(whole[: match.start()]) or not re.search(r"\d|\\[a-z]", whole[: match.start()]):
        return None
    return whole[: match.start()].strip()


def two_forms(reading: str) -> tuple[str, ...]:
    """The two forms of one value in a reading such as `3/8 or 0.375` and `41 (forty-one)`; otherwise empty."""
    match = _TWICE.fullmatch(reading)
    return (match["one"].strip(), (match["other"] or match["other2"]).strip()) if match else ()


def right_sides(text: str) -> list[str]:
    """The text after `Total cost =` and `Total:`, if the name is only words; equations are left to the comparison."""
    if "$" not in text.partition("=")[2] and (values := sentences.calculation_results(text)):
        return values
    bare = text.strip("$ ")
    if _OPERATOR.match(bare) and "=" in bare:
        return [bare.rpartition("=")[2].strip()]
    left, mark, right = text.partition(":" if ":" in text.partition("=")[0] else "=")
    name = WRAPPED_WORDS.sub(r"\1", left).strip(" $")
    right = right.strip(" $")
    if mark and right and _WORDS_ONLY.fullmatch(name) and re.search(r"[^\W\d_]{3}", name):
        return [right]
    return []
