"""Finds announcements of the final answer, in the languages that models write.

An announcement is a noun ("answer"), words around it ("final", "correct"), and one of: a copula ("is", "should be"), a
colon, or the end of its own line (a heading). A table has one row for each language.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SAID = 3
"""The strength of "the answer is …" within a text, and of a box."""
FINAL = 4
"""The strength of "Final answer: …", and of "Answer: …" on its own line."""
TAGGED = 5
"""The strength of `<answer>…</answer>`."""


@dataclass(frozen=True, slots=True)
class Marker:
    """An announcement; the answer follows `end`.

    Attributes:
        heading: it fills its line, and the answer is below it.
        corrects: its words take back an earlier answer, like "Correction:" and "is actually".
        negation: start of the words that deny ("the answer is not …"); None if it does not deny.
    """

    start: int
    end: int
    strength: int
    heading: bool = False
    corrects: bool = False
    negation: int | None = None

    @property
    def negated(self) -> bool:
        """True if it says what the answer is not."""
        return self.negation is not None


@dataclass(frozen=True, slots=True)
class _Language:
    """The words of announcements in one language; each field holds alternatives of a pattern."""

    noun: str
    before: str = ""
    after: str = ""
    copula: str = ""
    adverb: str = ""
    negation: str = ""


_LANGUAGES = (
    _Language(
        noun=r"answers?|ans\.?|(?<=correct )(?:choice|option|alternative|statement)|(?<=right )(?:choice|option)|"
        r"(?<=best )(?:choice|option)",
        before=r"the|our|my|your|this|a|final|correct|right|required|desired|requested|best|numerical|numeric|"
        r"overall|exact|simplified|complete|true|only|ultimate|revised|corrected|updated|new|short|possible|boxed",
        after=r"choice|option|value|letter|here|now|key|then|therefore|thus",
        copula=r"is|are|was|were|of(?=\s[$\\(*-]{0,3}[\d\\])|'s|’s|"
        r"(?:would|should|must|will|has to|have to|ought to|needs to)(?: then| thus| therefore)? be|"
        r"(?:comes?|came|coming)(?: out)? (?:to be|to|as|at)|(?:turns?|turned) out (?:to be|as)|"
        r"works? out (?:to be|to|as|at)|(?:ends?|ended) up (?:being|as|at)|equals?|becomes|remains|stays|"
        r"(?:has|have) been|simplifies to|reduces to|evaluates to|amounts to|can be (?:written|given|expressed) as",
        adverb=r"therefore|thus|hence|then|so|simply|just|indeed|actually|in fact|instead|clearly|obviously|"
        r"precisely|exactly|equal to|given by|found to be|as follows|the following|now|still|also|really|of course|"
        r"definitely|in this case|finally|naturally|option|choice|surely|probably|most likely|likely|again|"
        r"seen to be|shown to be|calculated to be|computed to be|determined to be|consequently|only|be",
        negation=r"(?:is|are|was|were)n['’]t|"
        r"(?:is|are|was|would|should|must|will|can) ?(?:not|never)(?: be)?|cannot be|"
        r"(?:ca|wo|would|should|could|must)n['’]t be",
    ),
    _Language(
        noun="antwort|lösung|loesung|ergebnis|endergebnis|gesamtergebnis|resultat|antwortsatz",
        before="die|das|unsere|endgültige[ns]?|finale[ns]?|richtige[ns]?|korrekte[ns]?|gesuchte[ns]?|letztendliche",
        copula="ist|sind|lautet|beträgt|wäre|war|muss|heißt",
        adverb="also|daher|somit|demnach|folglich|damit|deshalb|einfach|genau|gleich|nun|dann",
        negation="ist nicht|lautet nicht",
    ),
    _Language(
        noun="réponse|reponse|résultat|solution finale",
        before="la|le|notre|bonne|ma",
        after="finale?|correcte?|exacte?|définitive|est donc|recherchée?",
        copula="est|sont|vaut|serait|était|doit être",
        adverb="donc|alors|ainsi|simplement|égale? à|de|tout simplement|bien",
        negation="n['’]est pas",
    ),
    _Language(
        noun="respuesta|resultado|solución final",
        before="la|el|nuestra|mi",
        after="final|correcta|correcto|definitiva|exacta",
        copula="es|son|sería|era|debe ser|debería ser|vale",
        adverb="por lo tanto|por tanto|entonces|pues|simplemente|igual a|de|así|la opción",
        negation="no es",
    ),
    _Language(
        noun="risposta|risultato|soluzione finale",
        before="la|il|nostra",
        after="finale|corretta|corretto|esatta|giusta|definitiva",
        copula="è|sono|sarebbe|era|dovrebbe essere|vale|e'",
        adverb="quindi|dunque|pertanto|allora|semplicemente|pari a|uguale a|di",
        negation="non è",
    ),
    _Language(
        noun="resposta|resultado|solução final|gabarito",
        before="a|o|nossa|minha",
        after="final|correta|correto|certa|exata|definitiva",
        copula="é|são|seria|era|deve ser|vale",
        adverb="portanto|então|assim|logo|simplesmente|igual a|de|a alternativa|a letra",
        negation="não é",
    ),
    _Language(
        noun="antwoord|eindantwoord|uitkomst|resultaat",
        before="het|de|ons|juiste|goede|definitieve|uiteindelijke|correcte|finale",
        copula="is|zijn|luidt|bedraagt|was|zou zijn",
        adverb="dus|daarom|gewoon|gelijk aan|dan|daarmee",
        negation="is niet",
    ),
    _Language(
        noun="ответ|результат|итог",
        before="окончательный|правильный|верный|итоговый|наш|конечный|мой|финальный",
        copula="—|–|-|равен|есть|является|будет|это|составляет|таков|был",
        adverb="таким образом|следовательно|значит|просто|это|равен",
        negation="(?:— |это )?не",
    ),
    _Language(
        noun="відповідь|результат",
        before="остаточна|правильна|кінцева|наша|вірна",
        copula="—|–|-|дорівнює|є|буде|це|становить",
        adverb="отже|це",
        negation="(?:— |це )?не",
    ),
    _Language(
        noun="odpowiedź|odpowiedz|odpowiedzią|wynik|wynikiem",
        before="ostateczna|ostateczny|prawidłowa|prawidłową|poprawna|poprawną|końcowa|końcowy|nasza|właściwa",
        after="końcowa|końcowy|ostateczna",
        copula="to|jest|wynosi|brzmi|równa się|byłaby",
        adverb="więc|zatem|po prostu|zatem to|równy|równa",
        negation="(?:to )?nie(?: jest)?",
    ),
    _Language(
        noun="odpověď|odpoveď|výsledek|výsledok",
        before="konečná|konečný|správná|správna|správný|naše",
        copula="je|zní|činí|byla by",
        adverb="tedy|proto|teda",
        negation="není|nie je",
    ),
    _Language(
        noun="cevap|cevabı|cevabımız|yanıt|yanıtı|sonuç|sonucu",
        before="doğru|nihai|kesin|son|final|bu nedenle",
        after="ise|olarak",
        copula="=",
        adverb="şudur|şöyledir",
    ),
    _Language(
        noun="jawaban|jawabannya|jawapan|jawapannya|hasil|hasilnya",
        before="maka|jadi",
        after="akhir|akhirnya|yang benar|yang tepat|benar|nya|kita|yang betul",
        copula="adalah|ialah|yaitu|yakni|sama dengan",
        adverb="sama dengan|opsi|pilihan|:",
        negation="bukan(?:lah)?",
    ),
    _Language(
        noun="đáp án|câu trả lời|đáp số|kết quả|trả lời",
        before="vậy|do đó|vì vậy",
        after="cuối cùng|đúng|chính xác|là đúng|của bài toán|cần tìm",
        copula="là|bằng|sẽ là",
        adverb="do đó|vậy|chính là|bằng",
        negation="không phải(?: là)?",
    ),
    _Language(
        noun="svar|svaret|slutsvar|resultatet|slutsvaret",
        before="det|rätt|riktige|endelige|slutliga|rigtige|korrekta",
        copula="är|er|blir|bliver|lyder|var",
        adverb="alltså|därför|altså|derfor|lik med",
        negation="är inte|er ikke",
    ),
    _Language(
        noun="vastaus|lopputulos|tulos",
        before="oikea|lopullinen",
        copula="on|olisi",
        adverb="siis|siten",
        negation="ei ole",
    ),
    _Language(
        noun="válasz|végeredmény|eredmény|megoldás",
        before="a|az|helyes|végső",
        copula="az|egyenlő",
        adverb="tehát|ezért",
        negation="nem",
    ),
    _Language(
        noun="răspunsul|raspunsul|răspuns|raspuns|rezultatul",
        after="final|corect|este corect",
        copula="este|e|ar fi",
        adverb="deci|așadar|prin urmare|egal cu",
        negation="nu este",
    ),
    _Language(
        noun="απάντηση|αποτέλεσμα",
        before="η|το|τελική|σωστή|τελικό",
        copula="είναι|θα ήταν",
        adverb="λοιπόν|επομένως",
        negation="δεν είναι",
    ),
    _Language(
        noun="התשובה|תשובה|התוצאה",
        after="הסופית|הנכונה|היא",
        copula="היא|הוא|שווה ל",
        adverb="לכן",
        negation="אינה|איננה",
    ),
    _Language(
        noun="پاسخ|جواب",
        after="نهایی|صحیح|درست|ما|سوال",
        copula="برابر است با|برابر با|عبارت است از",
        adverb="بنابراین",
    ),
    _Language(
        noun="उत्तर|जवाब|परिणाम|उत्तरः",
        before="अंतिम|सही|अन्तिम|हमारा|अतः|इसलिए",
        after="है|होगा|विकल्प",
        copula="=|होगा",
        adverb="विकल्प",
    ),
    _Language(noun="উত্তর|উত্তরটি|ফলাফল", before="চূড়ান্ত|সঠিক|তাই", after="হলো|হল|হচ্ছে|হবে", copula="=|হলো|হল|হচ্ছে|হবে"),
    _Language(noun="jibu", after="sahihi|la mwisho", copula="ni|litakuwa", adverb="hivyo", negation="si"),
    _Language(noun="விடை|பதில்", before="சரியான|இறுதி|எனவே", copula="="),
    _Language(
        noun="الإجابة|الاجابة|الجواب|إجابة|اجابة|جواب|النتيجة|الناتج|الحل",
        before="إذن|إذا|لذلك|ف",
        after="النهائية|النهائي|الصحيحة|الصحيح|المطلوبة|المطلوب|هنا",
        copula="هي|هو|تكون|يكون|تساوي|يساوي|ستكون",
        adverb="إذن|إذا|لذلك|ببساطة|بالتالي|الخيار",
        negation="ليست|ليس|لیست",
    ),
)
_FINAL = re.compile(
    r"\b(?:final|finale[ns]?|endgültige|endergebnis|ultimate|revised|corrected|updated|définitive|definitiva|"
    r"uiteindelijke|eindantwoord|окончательный|итоговый|финальный|ostateczn\w|końcow\w|konečn\w|nihai|akhir\w*|"
    r"cuối cùng|"
    r"slutsvar\w*|végeredmény|végső|lopullinen|nhất)\b|النهائي|अंतिम|চূড়ান্ত|نهایی|최종|最终|最終|最后|最後|"
    r"הסופית|τελικ",
    re.IGNORECASE,
)
_BULLET = r"(?:[-*•+>#]+\s|\d{1,2}[.)]\s|[^\w\s\\$({\[<\"'`|.,;:!?=+-]{1,3}\s?)?"
"""Text that may precede an announcement on its line: a bullet, a number, a sign such as ✅."""
_BULLETS = re.compile(rf"[ \t]*{_BULLET}\s?{_BULLET}[ \t]*")
_QUALIFIER = (
    r"(?:\s#?\d{1,3}(?=\s?:)|\s?\([^()\n]{1,60}\)|"
    r"\s(?!of [$\\(*-]{0,3}\d)(?:to|for|of|in|from|für|auf|de|à|para|na|auf die|del|a la|pour|на|"
    r"до)\s[^:=.\n]{1,60}?)?"
)
"""Words after the noun that say which answer it is: `answer to part (b)`, `answer (in metres)`."""


def _words(words: str, most: int) -> str:
    """A pattern for up to `most` of these words, each with a space after it."""
    return rf"(?:(?:{words})\s)" + "{0," + str(most) + "}" if words else ""


def _pattern(language: _Language) -> str:
    """A pattern for the announcements of a language. Its groups: `noun`; `neg`, a denial; `bare`, the end of the line;
    `line`, an arrow, a dash or nothing before the answer."""
    after = rf"(?:\s(?:{language.after})(?![^\W\d_]))" + "{0,2}" if language.after else ""
    adverb = rf"(?:\s?,?\s?(?:{language.adverb})(?![^\W_])\s?,?)" + "{0,3}" if language.adverb else ""
    copulas = [rf"\s?(?:{language.copula})(?![^\W_]){adverb}\s?:?"] if language.copula else []
    copulas.append(
        r"\s?(?::|=|(?P<bare>(?=\s?(?:\n|$)))|"
        r"(?P<line>\s?(?:→|⇒|->|=>|➡️?|[—–-](?=\s))|\s(?=[-$\\(\[]{0,3}\d[^\na-z:=]{0,30}(?:\n|$))))"
    )
    copulas.append(rf"{adverb}\s?(?::|=)") if language.adverb else None
    negation = [rf"(?P<neg>\s?(?:{language.negation})(?![^\W_]))"] if language.negation else []
    ends = "|".join([*negation, *copulas])
    return (
        rf"(?<![^\W_])(?:{_words(language.before, 4)})(?P<noun>{language.noun})(?![^\W_]){after}{_QUALIFIER}(?:{ends})"
    )


_PATTERNS = [re.compile(_pattern(language), re.IGNORECASE) for language in _LANGUAGES]
_NOUNS = [re.compile(rf"(?<![^\W_])(?:{language.noun})(?![^\W_])", re.IGNORECASE) for language in _LANGUAGES]
_IRREGULAR = re.compile(
    r"(?:所以|因此|故|综上|綜上|于是|那么)?[,:]?(?P<final>最终|最終|最后|最後)?(?:的)?(?:正确|正確|本题|本題|我的|"
    r"該題|该题)?(?:的)?"
    r"(?:答案|答覆|答复|结果|結果|答(?=\s?:))"
    r"(?:\([^()\n]{1,30}\))?\s?"
    r"(?:(?P<neg>(?:应该|應該)?不(?:是|为|應該是|应该是)|并非|並非)|(?:应该|應該|应当|應當|应|應|就|也|便|仍然|仍|"
    r"依然|则|則|确实|確實)?(?:是|为|為|等于|選擇|选择|选|"
    r"選)\s?:?|\s?[:=]|(?=\s?(?:\n|$)))"
    r"|(?:故|应|應|应该|因此|所以|本题|本題|正确选项是|答案)?(?:选择|選擇|选|選)(?:项)?(?:为|"
    r":)?(?=\s?[(\[]?\s?[A-Ja-j](?![A-Za-z]))"
    r"|(?:正确|正確)(?:的)?(?:选项|選項|选择)(?:应该|應該|应)?(?:(?:是|为|為)\s?:?|:)"
    r"|(?P<final_ja>最終的な|最終)?(?:正しい|正解の|求める|最終的な)?(?:答え|答|回答|解答|正解|値)\s?(?:は|:|"
    r"=)+\s?、?,?\s?(?:従って|したがって|よって|つまり)?"
    r"|(?:最終的な|最終)?(?:答え|解答|回答|正解)(?=\s?(?:\n|$))"
    r"|(?P<final_ko>최종\s?)?(?:적인\s)?(?:정답|해답|답변|결과|(?<![가-힣])답)\s?(?:은|는|:|"
    r"=)+\s?:?(?:\s?(?:따라서|바로))?"
    r"|(?:최종\s?)(?:정답|해답|답변|답)(?=\s?(?:\n|$))"
    r"|(?:ดังนั้น)?(?:คำตอบ)(?:สุดท้าย|ที่ถูกต้อง|ที่ถูก)?\s?(?P<neg_th>ไม่ใช่)?(?:คือ|:|=|เป็น)+"
    r"|(?<![^\W_])(?:i|we)(?: will|['’]ll| would|['’]d)? (?:choose|pick|select|go with|opt for)\s(?=(?:option |"
    r"choice |answer |letter )?[(\[]?[A-J](?![^\W_]))"
    r"|(?<![^\W_])(?:doğru |nihai |kesin |final )?(?:cevap|yanıt|sonuç)\s(?=[^\s]{1,40}['’](?:dir|dır|dur|dür|tir|"
    r"tır|tur|tür)\b|[A-J]\s(?:şıkkı|seçeneği))"
    r"|(?<![^\W_])(?:अतः |इसलिए )?(?:सही |अंतिम )?(?:उत्तर|जवाब)\s(?=[^।\n:]{1,60}\s(?:है|हैं|होगा|होगी))"
    r"|(?<![^\W_])(?:پاسخ|جواب)\s(?:نهایی |صحیح |درست )?(?=[^.\n:]{1,60}\s(?:است|می‌باشد|میباشد))",
    re.IGNORECASE,
)
"""Announcements that do not fit the table: those of languages that write words together, attach the particle to its
noun, or end the sentence with the copula; and `I choose B`."""
_FOUR_HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*(?=\S)")
"""`#### 72`, as in GSM8K."""
_HEADLINE = re.compile(
    r"(?:step|part|case|solution|explanation|verification|check|problem|question|approach|method|calculation|"
    r"analysis|"
    r"conclusion|given|note|summary|reasoning|setup|set|find|determine|calculate|compute|understand|final|answer|"
    r"result)\b|\d+[.)]\s",
    re.IGNORECASE,
)
"""Words that begin a heading; after four hashes they are not an answer."""
_CORRECTION = re.compile(
    r"(?<![^\W_])(?:correction|corrected(?: answer| version)?|erratum|edit|update|korrektur|berichtigung|"
    r"rectification|"
    r"corrección|correzione|correção|исправление|поправка|poprawka|korekta|düzeltme|koreksi|đính chính|"
    r"sửa lại)\s?:\s?"
    r"|(?:更正|訂正|修正|정정|수정|تصحيح|सुधार)(?:为|為|後|后)?\s?:\s?",
    re.IGNORECASE,
)
"""A heading that takes back what was said before: `Correction:`."""
_BEFORE_CORRECTION = ("", *".!?>)(。")
"""Last character before a correction within a line; empty at the beginning of the text."""
_CHANGED_ANSWER = re.compile(
    r"\b(?:change|revise|correct|update|amend|adjust)(?:s|d|ing)? (?:my|the|"
    r"our) (?:final )?answer to\b:?",
    re.IGNORECASE,
)
"""`I change my answer to`; the new answer follows."""
_CALCULATION = re.compile(r"[/*+]\Z|\d ?\Z")
"""Text before a noun that is a unit in a calculation, and no announcement: `2 points/answer = 48 points`."""
_QUESTION_LINE = re.compile(r"^Q\s?:", re.MULTILINE)
"""A text with such lines is a dialogue, whose answers are in lines that begin with `A:`."""
_ANSWER_LINE = re.compile(r"^A\s?:\s", re.MULTILINE)
_TAKES_BACK = re.compile(r"\b(?:actually|in fact|instead|revised|corrected|updated|new|now)\b", re.IGNORECASE)
"""Words within an announcement that take back an earlier answer."""
_ANSWER_AS_OBJECT = re.compile(
    r"\b(?:check|verify|verifying|confirm|confirming|double-check|test|plug|find|give|state|put|write|box|present|"
    r"provide|need|want|"
    r"get|match|matches|submit|report|compute|calculate|express|leave|format|get to|round|enter|what|is|what's|"
    r"question and)"
    r"(?:\s(?:in|back|up|down|that|for))?\s(?:the\s|our\s|my\s|your\s|this\s|that\s|a\s)?$",
    re.IGNORECASE,
)
"""Words before a noun that speak of the answer without giving it: `check the answer:`."""
_WHERE_TO_WRITE = re.compile(
    r"\s?(?:in|inside|within|between|using|with)\s(?:a\s|the\s)?(?:\\boxed|box|\$|latex|tags?)", re.IGNORECASE
)
"""Words after a noun that say where to write the answer: `answer in a box`."""


def markers(text: str) -> list[Marker]:
    """Every announcement in `text`, in order; `text` must be cleaned (`cleanup.plain`)."""
    found = [
        marker
        for pattern, noun in zip(_PATTERNS, _NOUNS, strict=True)
        # The noun is searched first, because that is cheap and shows that a language does not occur.
        if noun.search(text)
        for match in pattern.finditer(text)
        if (marker := _marker(text, match)) is not None
    ]
    found += [marker for match in _IRREGULAR.finditer(text) if (marker := _irregular_marker(text, match)) is not None]
    found += [
        Marker(m.start(), m.end(), FINAL, corrects=True)
        for m in _CORRECTION.finditer(text)
        if _opens_line(text, m.start()) or text[: m.start()].rstrip()[-1:] in _BEFORE_CORRECTION
    ]
    found += _hash_markers(text)
    found += [Marker(match.start(), match.end(), FINAL, corrects=True) for match in _CHANGED_ANSWER.finditer(text)]
    if _QUESTION_LINE.search(text):
        found += [Marker(match.start(), match.end(), FINAL) for match in _ANSWER_LINE.finditer(text)]
    found.sort(key=lambda marker: (marker.start, -marker.end))
    kept: list[Marker] = []
    for marker in found:
        if kept and marker.start < kept[-1].end:
            continue
        kept.append(marker)
    return kept


def _marker(text: str, match: re.Match[str]) -> Marker | None:
    head = text[max(0, match.start() - 40) : match.start()]
    at_line_start = _opens_line(text, match.start())
    words = match[0]
    ended = words.rstrip().endswith((":", "="))
    heading = text[match.end() : match.end() + 2].strip(" ")[:1] in ("", "\n")
    only_at_start = match["bare"] is not None or match["line"] is not None
    if not at_line_start and (only_at_start or (ended and _ANSWER_AS_OBJECT.search(head))):
        return None
    if _CALCULATION.search(head):
        return None
    if _WHERE_TO_WRITE.match(words[match.end("noun") - match.start() :]):
        return None
    final = bool(_FINAL.search(words)) or (at_line_start and (ended or match["line"] is not None))
    negation = match.start("neg") if match.groupdict().get("neg") is not None else None
    corrects = bool(_TAKES_BACK.search(words))
    strength = FINAL if final or (heading and at_line_start) else SAID
    return Marker(match.start(), match.end(), strength, heading, corrects, negation)


def _irregular_marker(text: str, match: re.Match[str]) -> Marker | None:
    heading = text[match.end() : match.end() + 2].strip(" ")[:1] in ("", "\n")
    at_line_start = _opens_line(text, match.start())
    colon = match[0].rstrip().endswith((":", "="))
    if heading and not colon and not at_line_start:
        return None
    groups = match.groupdict()
    negation = next((match.start(name) for name in ("neg", "neg_th") if groups[name]), None)
    final = any(groups[name] for name in ("final", "final_ja", "final_ko")) or _FINAL.search(match[0])
    strength = FINAL if final or (at_line_start and (colon or heading)) else SAID
    return Marker(match.start(), match.end(), strength, heading, False, negation)


def _hash_markers(text: str) -> list[Marker]:
    """Announcements such as `#### 72`. A Markdown heading of the fourth level is not one."""
    found = []
    for match in _FOUR_HASHES.finditer(text):
        line = text[match.end() :].partition("\n")[0]
        if not _HEADLINE.match(line.strip()) and not (line.rstrip().endswith(":")):
            found.append(Marker(match.start(), match.end(), FINAL))
    return found


def _opens_line(text: str, at: int) -> bool:
    """True if at most a bullet stands before `at` on its line."""
    start = text.rfind("\n", 0, at) + 1
    return at - start <= 12 and _BULLETS.fullmatch(text, start, at) is not None
