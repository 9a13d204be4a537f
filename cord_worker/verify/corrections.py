"""Finds what a text takes back: answers that it denies, questions, supposes or calls wrong, and correcting words."""

from __future__ import annotations

import re
from enum import StrEnum


class Standing(StrEnum):
    """How a text presents an answer that it names."""

    STATED = "stated"
    """The text gives it as an answer."""
    DENIED = "denied"
    """The text says that this is not the answer."""
    OPEN = "open"
    """The text asks whether this is the answer, supposes it, or reports that others think so."""


_JUDGING_WORDS = (
    r"think|believe|say|saying|claim|agree|mean|imply|follow|conclude|conclusion|expect|suggest|true|case|right|"
    r"correct|"
    r"accept|sure|certain|convinced"
)
_DENIED_BEFORE = re.compile(
    rf"(?:\bnot|n['’]t|\bnever|\bcannot|\bno longer)\s(?:\w+\s){{0,2}}?(?:{_JUDGING_WORDS})(?:\s[\w']+){{0,3}}\s?$"
    r"|\b(?:false|untrue|wrong|incorrect|mistaken|impossible|a mistake|an error|a myth|"
    r"a misconception)\s(?:[\w']+\s){0,3}?that\s?$"
    r"|\b(?:false|wrong|incorrect|a mistake|an error)\s(?:to\s\w+\s)(?:that\s)?$"
    r"|\b(?:impossible|unlikely|not possible|not likely) for\s(?:the\s)?$"
    r"|\b(?:no ?one|nobody|none of (?:us|them|the \w+)|neither of (?:us|them))\s(?:\w+\s){0,2}?(?:thinks?|"
    r"believes?|claims?|agrees?|"
    r"accepts?)\s(?:that\s)?$"
    r"|\b(?:disagree|refuse to (?:believe|accept|say)|reject the (?:idea|claim)|deny|denies|disproves?|"
    r"refutes?)\s(?:that\s)?$"
    r"|\b(?:falso|mentira|incorrecto|errado|sbagliato)\s(?:que|che)\s$|\b(?:faux|inexact|incorrect)\sque\s$"
    r"|\b(?:no es (?:cierto|verdad)|n['’]est pas (?:vrai|exact)|non è vero|não é (?:verdade|certo))\s(?:que|che)\s$"
    r"|(?:falsch|unwahr|nicht (?:wahr|richtig)),?\sdass\s$|(?:неверно|неправда|ложно|не верно),?\sчто\s$"
    r"|(?:nieprawda|onwaar|niet waar),?\s(?:że|dat)\s$"
    r"|\bdoubt(?:ful)?(?:\s\w+){0,3}\s?$|\bno way(?:\sthat)?\s?$|\bunlikely that\s?$"
    r"|(?:不认为|不認為|不觉得|不覺得|不相信|并不是|並不是)$",
    re.IGNORECASE,
)
_OPEN_BEFORE = re.compile(
    r"\b(?:if|whether|since|because|given|although|though|when|until|knowing|suppose|assume|assuming|imagine|"
    r"unless|as if|as though|pretend|let's say|let us say|"
    r"say)\s(?:that\s)?$"
    r"|\b(?:might|may|could|would|could've|students|people|many|some|others|someone|one)\s(?:\w+\s){0,2}?"
    r"(?:think|say|guess|believe|claim|conclude|assume|argue|answer|expect)(?:\s(?:that|so))?,?\s?$"
    r"|\b(?:i|he|she|they|we|you)\s(?:first\s|initially\s|originally\s|once\s)?"
    r"(?:thought|assumed|guessed|believed|claimed|claims|claim|said|says|hoped|wish|wished|expected)\s(?:that\s)?$"
    r"|\b(?:tempting|tempted)\s(?:to\s\w+\s)?(?:that\s)?$|\bseems?\s(?:like|that|as if)\s?$|\bwrongly\b[^.]{0,30}$"
    r"|\b(?:maybe|perhaps|possibly),?\s$"
    r"|\b(?:mistake|error|tempting|trap|pitfall|misconception|incorrectly|mistakenly)\b[^.!?,;\n]{0,60}$"
    r"|\b(?:at first(?: glance| sight)?|initially|originally|naively),?\s(?:it\s(?:seems|looks|appears)\s(?:like\s|"
    r"that\s)?)?$"
    r"|\b(?:sample|example|previous|old|wrong|incorrect|naive|common wrong|obvious|intuitive|apparent|immediate|"
    r"quick|student's|students'|his|her|their|first|"
    r"initial|original|earlier|tentative|intermediate|expected)\s$"
    r"|\b(?:worst|least (?:likely|plausible|probable|suitable|appropriate|correct|good)|second[- ]best|"
    r"second most \w+|less likely|"
    r"third[- ]best|unlikely|unlikeliest)\s(?:\w+\s)?$"
    r"|\b(?:textbook|book|key|teacher|manual|website|author|friend|chatbot)\s(?:wrongly\s|falsely\s)?"
    r"(?:claims?|says?|states?|thinks?|believes?|gives?|lists?)\s(?:that\s)?$"
    r"|\bif (?:we|you|one|i|they)\s(?:forget|ignore|neglect|omit|mis\w+|skip|overlook|fail)\b[^.!?\n]{0,80}$",
    re.IGNORECASE,
)
_WRONG = (
    r"(?:wrong|incorrect|false|mistaken|not (?:right|correct|true|valid|possible|quite right|it)|invalid|impossible|"
    r"not (?:the|an?) (?:\w+ )?(?:answer|solution|one|value|choice|option)|erroneous|"
    r"an? (?:mistake|trap|distractor|slip|misreading|misprint|typo)|an error|off by|too (?:big|large|"
    r"small|low|high)|tempting|"
    r"rejected|ruled out|"
    r"falsch|faux|fausse|incorrecte?|incorrecta|incorrecto|sbagliat[oa]|errad[oa]|неверн\w+|неправильн\w+|"
    r"yanlış(?:tır)?|"
    r"błędn\w+|fout|onjuist|salah|sai|hatalı)"
)
_CALLED_WRONG = re.compile(
    r"^[\s$)\]\\*\"']{0,4}(?:,?\s?(?:which|and|but|and that|but that|but this|but it|that|this|it)\s?)?[,—–-]?\s?"
    r"(?:is|was|are|would be|seems|looks|appears|['’]s|ist|war|est|es|è|é|это)?\s?"
    r"(?:also |clearly |just |simply |obviously |of course |therefore |actually |in fact |plainly |probably |very |"
    r"at first |initially )?"
    rf"{_WRONG}(?!\s(?:to|answers?|number|option|choices?)\b)(?![^\W_])"
    r"|\b(?:but|yet|however),?\s(?:the\s|this\s|that\s|it\s|my\s|our\s|a\s)?(?:check|test|verification|proof|"
    r"substitution|condition|constraint|value|answer|choice|option|one)?\s?"
    r"(?:fails|fail|does not (?:work|hold|fit|satisfy|check)|doesn['’]t (?:work|hold|fit|satisfy|check)|cannot be|"
    r"can['’]t be)"
    r"|^.{0,12}(?:不对|不對|错误|錯誤|不正确|不正確|間違|틀렸|틀린|خطأ|خاطئ|गलत)",
    re.IGNORECASE,
)
_VALUE_CALLED_WRONG = re.compile(
    r"\W{0,4}(?P<value>[^.!?,;\n]{1,60}?)\s?(?:,?\s(?:fails|does not (?:work|hold|fit|satisfy \w+)|"
    r"doesn['’]t (?:work|hold|fit)|failed|"
    r"no funciona|funktioniert nicht|ne marche pas|non funziona|не подходит|odpada|அல்ல)"
    rf"|\s(?:(?:is|was|would be|ist|wäre|war|est|serait|es|sería|è|sarebbe|é|seria|jest|is|это|—|–|-)\s)?(?:also |"
    rf"clearly )?{_WRONG}"
    r"(?:\s(?:answer|ответ|value|antwort|réponse))?)(?:[.!,;]|\s(?:and|but|while|whereas|because|since|as)\b|$)",
    re.IGNORECASE,
)
_ASKED = re.compile(r"[?？؟]\s*[\"')\]]*\s*$")
_CONDITION = re.compile(
    r"\b(?:if|had|were|with|without|when|unless|including|excluding|counting|ignoring)\b[^.!?\n]{0,120}\b(?:would|"
    r"could|might)\b|"
    r"\b(?:would|could|might)\b[^.!?\n]{0,120}\b(?:if|with|without|unless|had|were|when)\b",
    re.IGNORECASE,
)
_START = (
    r"(?:(?:^|(?<=[.!?。！？؟।:;\n…—])|(?<=\.\.\.))[\s\"'(]{0,3}"
    r"(?:but|oh|ah|hmm|hm|well|so|uh|and|um|aber|mais|pero|ma|mas|но|yes)?[,.]{0,3}\s{0,2})"
)
_CORRECTION = re.compile(
    rf"{_START}(?:wait(?=\s?(?:[,.!:;—–…-]|$)|\s(?:no|a|i|that|but|the|let|is|did|why|what|actually|it)\b)|hold on|"
    rf"hang on|actually|scratch that|strike that|oops|sorry|my mistake|my bad|never mind|apologies|"
    r"i take (?:that|it|this) back|i retract|(?:ignore|disregard|forget|discard) (?:the|that|this|my|what)|"
    r"correction|on second thought|upon (?:re-?\w+|reflection|review\w*|closer|further)|on (?:re-?check\w*|reflection|"
    r"review\w*|closer)|"
    r"re-?(?:checking|counting|reading|doing|considering|calculating|computing|examining|visiting)|"
    r"no(?=[,.!:;—–-]|\swait)|"
    r"nope|not quite|not so fast|"
    r"let me (?:re-?\w+|correct|fix|redo|double|check|try again|reconsider|start over)|let['’]s (?:re-?(?:check|"
    r"count|do|consider|calculate)|double)|"
    r"i (?:made|see|found|notice|spotted|have made) (?:a|an|my|the) (?:mistake|error|slip|typo)|i (?:was|"
    r"am) (?:wrong|mistaken)|i mis\w+|i forgot|i overlooked|"
    r"i (?:should|need to|must) (?:correct|fix|redo|revise|recheck)|"
    r"(?:that|this|it|which|the (?:above|previous|answer above|first answer))(?: answer| result| value)?(?:['’]s|"
    r" is| was| can['’]t be| cannot be| isn['’]t| is not) "
    r"(?:\w+ )?(?:wrong|incorrect|not right|not correct|false|a mistake|an error|mistaken|right|correct)|"
    r"rather,|i mean|or rather|make that|hmm|hm\b|"
    r"moment|halt|nein|korrektur|eigentlich|das (?:ist|war) falsch|falsch|stopp|entschuldigung|"
    r"attends|attendez|non(?=[,.!:;])|en fait|en réalité|c['’]est faux|erratum|pardon|"
    r"espera|esperen|en realidad|perdón|me equivoqué|eso (?:es|está) (?:mal|incorrecto)|corrección|"
    r"aspetta|anzi|in realtà|correzione|scusa|mi sono sbagliat|"
    r"espere|na verdade|correção|desculpe|errei|não(?=[,.!:;])|"
    r"стоп|нет(?=[,.!:;])|подожди\w*|на самом деле|исправление|ошиб\w+|это неверно|извините|поправка|"
    r"czekaj|nie(?=[,.!:;])|właściwie|poprawka|przepraszam|bekle|hayır|düzeltme|aslında|pardon|"
    r"tunggu|tidak(?=[,.!:;])|sebenarnya|koreksi|maaf|khoan|không(?=[,.!:;])|đính chính|thực ra|xin lỗi|wacht|"
    r"nee(?=[,.!:;])|eigenlijk)(?![^\W_])"
    r"|(?:等等|等一下|不对|不對|更正|其实|其實|我错了|算错|错了|抱歉|重新(?:计算|检查|算)|訂正|待って|待てよ|"
    r"いや[、,]|いいえ[、,]|間違|実は|違う|違い"
    r"|잠깐|아니[,.]|아니요[,.]|정정|틀렸|다시 (?:계산|확인|세어)|사실[은,]|لا,|انتظر|تصحيح|في الواقع|عفوا|لحظة|"
    r"هذا خطأ|रुको|रुकिए|नहीं,|"
    r"सुधार|असल में|माफ)",
    re.IGNORECASE,
)
_CONFIRMS = re.compile(
    r"\b(?:checks? out|confirm(?:s|ed|ing)?|consistent|verified|verifies|stands|stand by|holds|still (?:holds|"
    r"correct|right|the same)|"
    r"(?:is|was|looks|seems|are|'s|’s|remains) (?:indeed |still |all |also |therefore |absolutely )?(?:right|"
    r"correct|fine|good|valid|ok|okay|true)|"
    r"matches|agrees?|as (?:before|expected|above|stated)|same (?:answer|result|value)|good|yes)\b|"
    r"正确|正確|没错|沒錯|没问题|无误|一致|正しい|合って|맞습니다|맞다|맞아|صحيح|सही|stimmt|korrekt|est correct|"
    r"es correcto|верно|правильно",
    re.IGNORECASE,
)
_UNCONFIRMED = re.compile(
    r"\b(?:not|n['’]t|isn['’]t|never|in)\s?(?:quite |actually |really )?(?:right|correct|confirm\w*|consistent|"
    r"match\w*|agree\w*|valid|true)|"
    r"stimmt (?:so )?nicht|nicht (?:ganz )?(?:richtig|korrekt)|n['’]est pas (?:correct|juste|exact)|no es correct"
    r"|non è corrett|"
    r"не верно|不正确|不正確|不一致|неверно|неправильно|غير صحيح|nicht korrekt|incorrect",
    re.IGNORECASE,
)
_CALLED_RIGHT = re.compile(
    r"[,:;]\s(?:the\s)?\$?(?P<value>-?\d[\d.,/]*(?<![.,])|[A-J])\$?\s(?:is|seems|looks|must be)\s(?:indeed\s|"
    r"actually\s|really\s)?"
    r"(?:right|correct|the (?:right|correct) (?:one|answer|value))\b"
)
_OPENING = re.compile(r"^[^,;:]{1,60}[,;:]\s")
_SOFT_CORRECTION = re.compile(
    r"\W{0,4}(?:but |oh |ah |well |so )?(?:actually|hmm?|sorry|apologies|pardon|maaf|desculpe|perdón|scusa|"
    r"eigentlich|en fait|en réalité|en realidad|in realtà|"
    r"na verdade|на самом деле|именно|aslında|sebenarnya|eigenlijk|其实|其實|実は|사실|في الواقع|असल में|"
    r"no(?=,? (?:other|"
    r"need|further|more)))(?![^\W_])",
    re.IGNORECASE,
)
_RETRACTS = re.compile(
    r"\b(?:take (?:that|it|this) back|retract|ignore|disregard|discard|no|nope|nein|non|não|нет|nie|wrong|"
    r"incorrect|mistake|error|false|scratch|strike|(?:can['’]t|cannot|"
    r"could not) be (?:right|correct)|not (?:right|correct)|isn['’]t (?:right|correct)|oops|correction|falsch|"
    r"stimmt (?:so )?nicht|faux)\b|不对|不對|错|間違|違|틀렸|خطأ|गलत",
    re.IGNORECASE,
)


def standing(before: str, sentence: str, after: str, *, marked: bool) -> Standing:
    """How a text presents the answer that its `sentence` names.

    Args:
        before: the clause up to the announcement or the box.
        sentence: the whole sentence, with its end.
        after: the rest of the sentence after the answer.
        marked: True for an announcement ("the answer is"), False for a box.
    """
    if _DENIED_BEFORE.search(before) or _CALLED_WRONG.search(after):
        return Standing.DENIED
    if _ASKED.search(sentence) or (marked and _OPEN_BEFORE.search(before)):
        return Standing.OPEN
    if marked and _CONDITION.search(sentence):
        return Standing.OPEN
    if not marked and re.search(
        r"(?:\bat first(?: glance| sight)?\b|\btempting\b|\bnot\s\$?$|\bone might)", before, re.IGNORECASE
    ):
        return Standing.OPEN
    return Standing.STATED


def correction_start(text: str, start: int, end: int) -> int | None:
    """Position of the first words between `start` and `end` that announce a correction; None if there are none."""
    match = _CORRECTION.search(text, start, end)
    return match.start() if match else None


def retracts(text: str) -> bool:
    """True if the first words of a correction call the answer wrong, instead of only announcing a second look."""
    return _RETRACTS.search(text[:80]) is not None


def is_soft_correction(text: str) -> bool:
    """True if `text` begins with words that correct only if another answer follows: "Actually, this is easy"."""
    return _SOFT_CORRECTION.match(text) is not None


def value_called_wrong(sentence: str) -> str | None:
    """The value in a sentence that only calls it wrong, such as `15 ist falsch`; otherwise None."""
    match = _VALUE_CALLED_WRONG.match(sentence)
    value = match["value"].strip(" ,$") if match else ""
    return value if re.fullmatch(r"(?:option |choice )?\(?[A-J]\)?|[^A-Za-z]*\d\S*|[a-z]\s?=\s?\S+", value) else None


def confirmed_value(text: str) -> str | None:
    """The value that a second look confirms: `19` in "Upon rechecking, 19 is right"; None if it names none."""
    match = _CALLED_RIGHT.search(text[:200])
    return match["value"] if match else None


def confirms(text: str) -> bool:
    """True if a second look ends in the same answer."""
    return _CONFIRMS.search(text) is not None and _UNCONFIRMED.search(text) is None


def sentence_parts(sentence: str) -> tuple[str, ...]:
    """A sentence, and its part after the first comma; if the sentence begins with a correction, the part comes
    first."""
    shorter = _OPENING.sub("", sentence)
    return (shorter, sentence) if correction_start(sentence, 0, len(sentence)) == 0 else (sentence, shorter)
