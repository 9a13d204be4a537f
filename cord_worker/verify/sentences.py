"""Splits text into sentences, and finds the answer of a sentence that announces none: "Therefore, $x = 12$."."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BOUNDARY = re.compile(
    r"(?<!\\)[.!?…](?:[\"'”’)\]*]|\\\)){0,3}(?=\s)|[。！？؟।](?:[\"'”’)」』]){0,2}|\n+"
    r"|(?<=[\w$)}\]])\s(?=(?:Therefore|Thus|Hence|So),\s|Final Answer:\s)"
)
"""The end of a sentence. A sentence that draws a conclusion also begins if the full stop before it is missing."""
_ABBREVIATIONS_TEXT = (
    "approx ca cf co corp dept dr ed e.g eg eq eqn est etc ex fig figs i.e ie inc jr ltd max min mr mrs ms no nos "
    "nr pp prof resp sec sq sr st vol vs cu ft lb lbs oz bzw z.b usw ca. env p.ej"
)
_ABBREVIATIONS = frozenset(_ABBREVIATIONS_TEXT.split())
_LAST_WORD = re.compile(r"[\w.]{1,12}$")

_SYMBOLS = re.compile(
    "^[\u2600-\u27bf\U0001f000-\U0001faff\ufe0f\\s]+|[\u2600-\u27bf\U0001f000-\U0001faff\ufe0f■□∎\\s]+$"
)
"""Signs such as ✅ around an answer."""
LONGEST = 160
"""Maximum number of characters of a line that is a bare answer."""

_LEAD = re.compile(
    r"(?:(?:so|thus|therefore|hence|then|finally|consequently|accordingly|ultimately|overall|altogether|in (?:total|"
    r"all|conclusion|short|"
    r"summary|other words|the end)|to (?:conclude|sum up|summarize)|as a result|this (?:means|gives|yields|shows|"
    r"implies|is why)|that (?:means|gives|leaves)|"
    r"which (?:means|gives|yields|implies)|we (?:get|have|find|obtain|conclude|see|know|arrive at|can conclude|"
    r"can see)|it follows|"
    r"this gives us|giving us|from this|and|but|now|also|ok|okay|alright|great|well|conclusion|result|i (?:get|got|"
    r"find|think|believe|conclude|would say)|my (?:guess|conclusion)|"
    r"also|daher|somit|folglich|insgesamt|damit|deshalb|donc|ainsi|par conséquent|alors|au total|por lo tanto|"
    r"por tanto|así|entonces|en total|luego|"
    r"quindi|dunque|pertanto|in totale|portanto|então|assim|logo|no total|итак|значит|следовательно|таким образом|"
    r"поэтому|всего|"
    r"więc|zatem|czyli|dlatego|dus|daarom|jadi|maka|dengan demikian|vậy|do đó|như vậy|bu nedenle|dolayısıyla|yani|"
    r"öyleyse)"
    r"(?:\s(?:that|dass|que|che|что|to get))?(?![^\W_])|"
    r"解得|可得|求得|所以|因此|故|综上所述|綜上所述|综上|于是|从而|那么|总共|一共|よって|したがって|ゆえに|つまり|"
    r"従って|따라서|"
    r"그러므로|그래서|즉|결국|إذن|إذا|لذلك|وبالتالي|بالتالي|अतः|"
    r"इसलिए|तो|সুতরাং|অতএব|"
    r"\\therefore|∴|⇒|=>|→|\\Rightarrow|\\implies)\s?[,:]?\s?",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"(?:i hope|hope (?:this|that|it)|let me know|please|feel free|thank|is there anything|if you (?:have|need|want|"
    r"would)|happy|good luck|"
    r"i'm (?:happy|glad|sure)|this (?:completes|concludes|is the final|confirms|matches|makes sense|answer|result|"
    r"solution)|that's (?:it|all)|"
    r"q\.?e\.?d|done|end of|(?:we are|i am|i'm|and we're|and i'm) (?:done|finished)|note|remember|i am (?:confident|"
    r"sure)|verified|checked|cheers|"
    r"ich hoffe|j'espère|espero que|spero|надеюсь|希望|以上|应该没错|감사|도움이|أتمنى|आशा|\\blacksquare|\\square|"
    r"[□■∎])",
    re.IGNORECASE,
)
_CLOSED = re.compile(r"[?？؟]\s*[\"')\]]{0,2}\s*$")
_UNSURE = re.compile(
    r"\b(?:worst|least (?:likely|plausible|probable|suitable|appropriate|correct|good)|second[- ]best|runner-up|"
    r"unlikel\w+|would|could|might|may be|maybe|perhaps|if|suppose|unless|unclear|unsure|(?:are|is|were) given(?! by)|"
    r"^given|consider|recall|denote|define|not sure|unknown|cannot (?:say|"
    r"tell|determine|decide|be determined)|"
    r"(?:do not|don['’]t) know|let['’]?s?|we (?:need|must|should|want|can)|i (?:need|will|should|don't|cannot|"
    r"can't)|try|next|step|check|"
    r"wäre|würde|vielleicht|serait|peut-être|sería|quizás|sarebbe|forse|seria|talvez|может быть|бы)\b|如果|也许|"
    r"可能|もし|"
    r"かもしれ|만약|아마|لو|ربما|शायद",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"\b(?:not|never|neither|nor|cannot|false that|wrong that|untrue|doubt|"
    r"impossible (?:for|that)|falso (?:que|che)|faux que|falsch, dass|unwahr, dass|неверно, что|no way|"
    r"no creo|no pienso|non credo|"
    r"não acho|não creio|no longer|hardly|anything but|"
    r"nicht|kein\w*|pas|ne|не|nie|nao|não|non|niet|geen|değil|bukan|không|inte|"
    r"ikke)\b|n['’]t\b|不|没|沒|ない|ません|아니|않|없|ليس|لا |नहीं|ไม่",
    re.IGNORECASE,
)
_AFFIRMATION = re.compile(
    r"(yes|no|true|false|maybe|correct|incorrect|possible|impossible|ja|nein|oui|sí|si|sim|да|нет|tak|nie|evet|"
    r"hayır|ya|tidak|có|không|是的?|不是|否|对|對|はい|いいえ|"
    r"네|예|아니요|아니오|نعم|لا|हाँ|हां|नहीं|jah|nee)\s?(?=[,.!;:。！、—–-]|$)",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"(?:there (?:is|are|exists?|exist)|(?:the )?(?:equation|system|problem|inequality|it|this|that) has|we have|"
    r"has)\s"
    r"(?P<what>no (?:real |integer |positive |such |valid |possible |rational |other |finite |"
    r"common )?[a-z]+)(?: (?:at all|that .*|to .*|in .*|for .*|exists?))?$"
    r"|(?P<what2>no (?:real |integer |positive |such |valid |rational )?[a-z]+) exists?(?: .*)?$"
    r"|(?:the )?.{0,60}?\b(?P<what3>does not exist|doesn['’]t exist|is undefined|diverges|is infinite|do not exist)$",
    re.IGNORECASE,
)
_COPULA = re.compile(
    r"\s(?:is|are|was|were|equals?|becomes|(?:would|will|must|should|has to) be|comes? (?:out )?to|turns? out to be|"
    r"works? out to|amounts? to|totals|"
    r"ist|sind|beträgt|lautet|war|kostet|est|sont|vaut|était|es|son|vale|era|è|sono|é|são|is gelijk aan|bedraagt|"
    r"равно|равна|равен|равны|составляет|это|—|"
    r"wynosi|jest|je|adalah|sama dengan|là|bằng|är|er|"
    r"on(?!\s(?:the|an?|his|her|its|their|my|our|\w+days?)\b)|"
    r"este|είναι)(?:\s(?:therefore|thus|then|so|just|simply|"
    r"exactly|equal to|given by|also|indeed|now|"
    r"actually|therefore equal to|gleich|égale? à|igual a|pari a|donc|also|somit))*\s?:?\s(?=\S)"
    r"|(?<=\S)\s?(?:等于|等於|为|為|是|共有|共|有|得)(?=\s?[\d$\\(\-])|(?<=\S)(?:は|가|이|은|는)\s?(?=[\d$\\(\-])|"
    r"(?<=[^\W\d_])\s?:\s(?=\S)"
    r"|\s(?:هو|هي|يساوي|تساوي)\s|\s=\s(?=\S)",
    re.IGNORECASE,
)
_RELATIVE = re.compile(
    r"\b(?:that|which|who|where|whose|what|how many|how much|because|since|as|because it|dass|que|qui|che|"
    r"который)\s?(?:\w+\s){0,4}\w*$",
    re.IGNORECASE,
)
_MATH = re.compile(
    r"\$\$([^$]{1,300})\$\$|\$((?!\d[\d,.]{0,20}[kKmMbB]?\s(?![-+=*/<>^\\&]))[^$\n]{1,300})\$|"
    r"\\\(((?:(?!\\\)).){1,300})\\\)|\\\[((?:(?!\\\]).){1,400})\\\]",
    re.DOTALL,
)
_NUMBER = re.compile(
    r"(?<![\w\\^{.])(?:(?:US|C|A)?[$€£¥₹₩]\s?|\\\$\s?|(?:USD|EUR|GBP|Rs\.?)\s)?[-−+±]?(?:[$€£¥]\s?)?"
    r"(?:\d{1,3}(?:[ \u202f]\d{3}(?!\d))+|\d(?:[\d,]{0,30}\d)?|\.\d)(?:[.:]\d{1,20})?(?:[\d½¼¾⅓⅔]|"
    r"(?:\s\d{1,6})?\s?[/⁄]\s?\d{1,8})?"
    r"(?:\s?(?:×|x|\*|\\times)\s?10\s?(?:\^\s?\{?-?\d{1,4}\}?|[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]{1,5}))?(?:\^\{?\d{1,4}\}?)?(?:\s?(?:%|"
    r"\\%|°[CF]?|€|£))?"
    r"|(?<!\w)[½¼¾⅓⅔](?!\w)"
)
_NAMED = re.compile(
    r"\b(?:the|these|those|all|both|each|every|any|other|step|case|question|problem|part|option|equation|eq\.?|page|"
    r"theorem|chapter|figure|table|method|exercise|number|no\.?|section|line|day|week|year|round|level|grade|room|"
    r"first|"
    r"last|next|example|than|by|from|per|via|least|most|negative|minus|nearly|almost|under|over|above|below|beyond|"
    r"half|twice|double|up to|times|eqs?\.?|lemma|formula|exercise|"
    r"(?<!\ba\stotal\s)(?<!\ba\sprofit\s)(?<!\ba\ssum\s)(?<!\ba\sloss\s)(?<!\ba\scost\s)(?<!\ban\sarea\s)"
    r"(?<!\ban\saverage\s)(?<!\ban\samount\s)(?<!\ba\sprobability\s)(?<!\ba\slength\s)(?<!\ba\svolume\s)(?<!\ba\sspeed\s)"
    r"(?<!\ba\sdistance\s)(?<!\ba\sprice\s)(?<!\ba\svalue\s)(?<!\ba\smaximum\s)(?<!\ba\sminimum\s)of)\s(?:the\s)?\(?$",
    re.IGNORECASE,
)
"""Text after which a number names something ("step"), counts something given ("all"), or is changed ("twice")."""
_CHANGES = re.compile(
    r"(?:(?<![^\W_])(?:than|at (?:least|most)|up to|no (?:more|less|fewer) than|over|under|above|below|beyond|exceeds?|"
    r"exceeding|surpasses|nearly|almost|close to|not quite|just short of|negative|minus|half|twice|double|triple|"
    r"thrice|"
    r"half of|(?:double|triple|square|cube|root|reciprocal|opposite|inverse|negative|square root) of|times|"
    r"except(?: for)?|"
    r"all but|anything but|other than|besides|"
    r"apart from|excluding|not|never|nie|nicht|pas|não|non|не|"
    r"(?:mayor|menor|más|mas|menos|superior|inferior)(?: o igual)? (?:que|de|a)|al menos|como (?:máximo|mínimo)|"
    r"por lo menos|"
    r"a lo sumo|casi|excepto|(?:el|o) (?:doble|triple|dobro|triplo) de|la mitad de|"
    r"(?:plus|moins) (?:grande?|petite? )?(?:de|que)|au (?:moins|plus)|(?:supérieure?|"
    r"inférieure?)(?: ou égale?)? à|presque|"
    r"sauf|le (?:double|triple) de|la moitié de|"
    r"(?:größer|kleiner|mehr|weniger|höher|niedriger|geringer)(?: oder gleich)? als|mindestens|höchstens|fast|"
    r"beinahe|außer|"
    r"über|unter|das (?:doppelte|dreifache) von|die hälfte von|minus|"
    r"больше|меньше|более|менее|не (?:менее|более|больше|меньше)|больше чем|меньше чем|почти|кроме|минимум|"
    r"максимум|свыше|"
    r"(?:maggiore|minore|più|meno|superiore|inferiore)(?: o uguale)? (?:di|a)|almeno|al (?:massimo|minimo)|quasi|"
    r"tranne|"
    r"il (?:doppio|triplo) di|la metà di|"
    r"(?:maior|menor|mais|menos)(?: ou igual)? (?:que|do que|de|a)|pelo menos|no (?:máximo|mínimo)|exceto|metade de|"
    r"(?:groter|kleiner|meer|minder) dan|minstens|hoogstens|ten minste|bijna|behalve|"
    r"(?:większ[aey]|mniejsz[aey]|więcej|mniej) niż|co najmniej|co najwyżej|ponad|prawie|oprócz|to nie|"
    r"(?:lebih (?:besar |kecil )?|kurang )dari|setidaknya|paling (?:sedikit|banyak)|hampir|kecuali|"
    r"(?:lớn|nhỏ|nhiều|ít|bé) hơn|ít nhất|nhiều nhất|gần|trừ|större än|mindre än|större enn|større end|minst|"
    r"أكبر من|أقل من|أصغر من|أكثر من|على الأقل|على الأكثر|تقريبا|大于|小于|至少|至多|超过|不到|将近|接近|少なくとも)"
    r"(?:\s(?:the|of|a))?|(?:[<>≤≥≠]|\\(?:leq?|geq?|lt|gt|neq?)(?![a-z])))\s?$",
    re.IGNORECASE,
)
"""Words after which a value is not itself the answer: a bound, a part, a multiple, an exception."""
_GROWS = re.compile(r"\b(?:increases|increased|rises|rose|grows|grew) by\s$", re.IGNORECASE)
_COORDINATED = re.compile(r"[\d$}]\s(?:and|or|to|by|und|oder|et|ou|y|o|e|и|или)\s$")
_UNIT_ENDS_TEXT = (
    "but in for at on to from and or with because since when if that which who as so left remaining more less fewer "
    "without times altogether total "
    "overall each more than after before by of this these during until while through over under into onto out off "
    "away back again now today then still there here too also is are was were has have had can will do does did "
    "gets get makes make per apiece pro im insgesamt und en et y e и a au aux dans por para di tomorrow every "
    "yesterday "
    "ago later earlier different possible such distinct extra additional"
)
_UNIT_ENDS = frozenset(_UNIT_ENDS_TEXT.split())
_WORD = re.compile(r"\s?([^\W\d_][^\W\d_]*(?:[/^²³][\w²³{}^]+)?)")
_AFTER_VALUE = re.compile(
    r"\s?(?:$|[.,;:!?)]|[—–](?!\s?\d)|\((?!not|or)|to\s(?!the\s(?:power|\w+ power))(?=[a-z]{2})|in\s(?!every|each)|"
    r"for\s(?!every|each)|"
    r"and\s(?!an?\s|one|two|three|half|some)|with\s(?!(?:a\s)?remainder)|(?:at|on|from|because|since|when|by|"
    r"during|until|"
    r"now|ago|again|here|there|today|tomorrow|yesterday|left|remaining|every|daily|weekly|monthly|yearly|"
    r"altogether|total|"
    r"overall|together|of|too|away|off|back|so|that|which|who|whose|where|still|also|this|across|inside|through|"
    r"throughout|along|toward|towards|onto|into|per|each|is|are|remain|remains|were|was|will|have|has|can|"
    r"insgesamt|im|"
    r"au|en|pro|por|para|di)\b|in$|[^\x00-\x7f])",
    re.IGNORECASE,
)
"""Words that may follow a value without changing it: not "more than", "or", "times", "to"."""
_MAKES = re.compile(r"^(?:(?:it|this|that)\s)?makes\s(?:it\s)?(?=[\d$\\\-])", re.IGNORECASE)
"""Text before a value, as in "in total that makes 12"; the beginning of such a sentence is not the answer."""
_TRAILING = re.compile(
    r"(?:(?<!\bof),?\s|^)(?:for a total of|leaving(?: \w+)?(?: with)?|which (?:gives|makes|leaves|equals|is|"
    r"means)(?: us)?|"
    r"giving(?: us)?|making|resulting in|totall?ing|yielding|"
    r"i\.e\.,?|that is,|namely|for a (?:sum|profit|cost) of|so (?:the total is|we get|there are|it is|he has|"
    r"she has|they have)|gives|makes|=|equals)\s(?=\S)",
    re.IGNORECASE,
)
_SUBORDINATE = re.compile(
    r"(?:since|after|because|when|with|for|in|on|at|by|as|given|from|of|out of|among|during|over|within|if|once|"
    r"adding|multiplying|dividing|subtracting|"
    r"using|counting|combining|wenn|nach|da|mit|für|après|avec|como|después|con|depois|после|так как)\b",
    re.IGNORECASE,
)
_SHORT_WORD = re.compile(r"[^\W\d_]{2,}")
_COMMAND = re.compile(r"\\(?:begin|end)\{[a-z]+\*?\}|\\[a-zA-Z]+")
_WRAPPED_WORDS = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit|mbox)\s?\{([^{}]*)\}")
_BARE_WORDS_TEXT = (
    "about approximately roughly around exactly usd eur gbp rs us option choice sqrt log ln sin cos tan exp pi "
    "min max gcd lcm mod negative minus plus at least most than more less fewer over under up to or and either "
    "both between from etwa environ circa"
)
_BARE_WORDS = frozenset(_BARE_WORDS_TEXT.split())
_UNITS = r"(?:[\s/]?[^\W\d_]{1,15}(?:/[^\W\d_]{1,12})?){0,4}"
_OPERATION = re.compile(
    rf"[\d)%]{_UNITS}\s?(?:[-+*×÷·−–x]|/{{1,2}}|\\times|\\cdot|"
    rf"\\div)\s?[($€£]{{0,2}}\s?\.?\d[\d,.]{{0,20}}%?\s?\)?{_UNITS}\s?$"
)
"""Two numbers and an operator, before an equals sign."""
_CONTINUES = re.compile(r"\s?(?:[-+*/×÷^=<>]\s?[\d$(]|(?:or|to|und|bis)\s\d)")
_ANOTHER = re.compile(r"(?:[,;]|\b(?:and|but|then|so|while|whereas|leaving)\b)[^.]*\d")
_TRIED = re.compile(
    r"\b(?:suppose|check|checking|verify|verification|let|let's|assume|try|not|n't|never)\b", re.IGNORECASE
)
_BULLET = re.compile(r"^(?:[-*•>+]\s+(?![\d$\\.])|[*•]\s+)+")
"""A bullet at the start of a line; a minus before a number is not a bullet."""
_VERB = re.compile(
    r"\b(?:is|are|was|were|be|been|has|have|had|do|does|did|can|could|will|would|shall|should|may|might|must|need|"
    r"needs|"
    r"think|know|believe|see|let|we|i(?!\s?[-+*/^=(),}]|$)|you|they|he|she|it|this|that|these|those|there|because|"
    r"since|so|if|when|which|"
    r"who)\b",
    re.IGNORECASE,
)
_TAIL = re.compile(
    r",?\s(?:ago|in total|in all|altogether|overall|total|left|remaining|in this case|as (?:required|desired|needed|"
    r"requested|claimed|expected)|exactly|"
    r"respectively|insgesamt|au total|en total|in totale|no total|всего|or so|for short|here|"
    r"(?:i|we) (?:think|believe|guess|suppose|would say|am sure)|i'm sure|in my opinion|of course|as you can see|"
    r"indeed|obviously|clearly)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence's place in its text, its end mark included."""

    start: int
    end: int


def sentences(text: str, *, items: bool = True) -> list[Sentence]:
    """The sentences of `text`, in order. A new line ends one; an abbreviation does not, nor, with `items`, the number
    at the start of a list item."""
    found: list[Sentence] = []
    start = 0
    for match in _BOUNDARY.finditer(text):
        if match[0].startswith(".") and _is_abbreviation(text, start, match.start(), match.end(), items):
            continue
        if text[start : match.end()].strip():
            found.append(Sentence(start, match.end()))
        start = match.end()
    if text[start:].strip():
        found.append(Sentence(start, len(text)))
    return found


def _is_abbreviation(text: str, start: int, point: int, end: int, items: bool) -> bool:
    word = _LAST_WORD.search(text[max(start, point - 12) : point])
    if word is None:
        return False
    token = word[0].lower().strip(".")
    if token.isdigit():
        return items and len(token) <= 2 and not text[start : point - len(word[0])].strip()
    following = text[end : end + 3].strip()[:1]
    if token in ("no", "nos", "nr", "st", "fig", "eq", "eqn", "sec", "ex", "ed", "max", "min", "co"):
        return following.isdigit() if token != "st" else following.isupper()
    if token in ("dr", "mr", "mrs", "ms", "prof", "e.g", "i.e", "vs", "approx", "ca"):
        return True
    return token in _ABBREVIATIONS and not following.isupper()


def without_lead(sentence: str) -> str:
    """`sentence` without the words that draw a conclusion."""
    for _ in range(4):
        match = _LEAD.match(sentence)
        if match is None or match.end() == len(sentence):
            break
        sentence = sentence[match.end() :].lstrip()
    return sentence


def without_stop(text: str) -> str:
    """`text` without white space, emphasis and the mark that ends its sentence."""
    text = _SYMBOLS.sub("", text.strip().strip("*").strip()).removeprefix("= ")
    if text.startswith("[[") and text.endswith("]]") and "]" not in text[:-2]:
        text = text[2:-2].strip()
    if len(text) > 2 and (text[0], text[-1]) in (('"', '"'), ("“", "”"), ("«", "»"), ("「", "」")):
        text = text[1:-1].strip()
    while text.endswith((".", "!", "。", "！", "।", ";")) and not text.endswith(("...", "\\!", "\\;")):
        if text.endswith("!") and re.search(r"[\w)}]!$", text) and re.fullmatch(r"[^\s]{1,12}!", text):
            break  # a factorial
        text = text[:-1].rstrip().rstrip("*").rstrip()
        if len(text) > 2 and text[0] == '"' == text[-1]:
            text = text[1:-1].strip()
    return text


def is_filler(sentence: str) -> bool:
    """True if a sentence only closes the text: "I hope it is correct.", "Let me know …"."""
    return _FILLER.match(sentence.strip().lstrip("*-• ")) is not None or not re.search(r"\w", sentence)


def leading_affirmation(text: str) -> str | None:
    """The "yes", "no", "true" or the like at the start of `text`; None if there is none."""
    match = _AFFIRMATION.match(text)
    return match[1] if match else None


def is_bare(text: str) -> bool:
    """True if `text` is an answer by itself and not a sentence: `72`, `x = 5`, `red`, `18 dollars`, `(2, \\infty)`."""
    if len(text) > LONGEST or _CLOSED.search(text):
        return False
    text = _WRAPPED_WORDS.sub(r" \1 ", text)
    text = _COMMAND.sub(" ", text)
    if _VERB.search(re.sub(r"[$\\{}()\[\]]", " ", text)):
        return False
    before, number, after = _split_at_number(text)
    if not number:
        return len(_SHORT_WORD.findall(text)) <= 4
    first = _SHORT_WORD.findall(before)
    last = _SHORT_WORD.findall(after)
    if (
        first
        and not re.search(r"[=:<>]\s?[$({\[\\]{0,3}\s?$", before)
        and not all(word.lower() in _BARE_WORDS for word in first)
    ):
        return len(first) == 1 and not last
    return len(first) <= 4 and len(last) <= 3


def _split_at_number(text: str) -> tuple[str, str, str]:
    match = re.search(r"\d", text)
    return (text[: match.start()], match[0], text[match.start() :]) if match else (text, "", "")


_FINAL_COPULA = re.compile(
    r"(?<=\S)\s?(?:입니다|이에요|예요|이다|다|です|である|となります|になります|となる|になる|でした|だ|है|हैं|"
    r"होगा|होगी|است|می‌باشد|میباشد|"
    r"olur|vardır|olarak bulunur|şıkkıdır|seçeneğidir|হবে|হয়)$"
)
_TURKISH = re.compile(r"(?<=[\dA-J])['’](?:dir|dır|dur|dür|tir|tır|tur|tür)$")
_IT_IS = re.compile(
    r"^(?:c['’]est|es ist|das ist|it['’]s|es|è|é|это|to jest|应该是|應該是|其实是|其實是|而是|就是|"
    r"正しくは)\s?(?=[-\d$\\(]|[A-J](?![^\W_]))",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"(?:(?:la|die|the|a|l['’])\s?)?(?:option|choice|statement|réponse|reponse|lettre|opción|letra|alternativa|opção|"
    r"opzione|risposta|lettera|antwort|buchstabe|вариант|ответ|chọn(?: đáp án)?|đáp án|seçenek|doğru seçenek|şık|"
    r"सही विकल्प|"
    r"विकल्प|pilihan|opsi|jawaban|odpowiedź|antwoord|optie)\s(?P<letter>[(\[]?[A-J][)\]]?)",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"(?:la|el|le|il|de|die|the)\s(?P<letter>[(\[]?[A-J][)\]]?)")
_EXPLAINED = re.compile(
    r"(?P<letter>[A-J])\s\((?!(?:or|and|not|also|maybe|possibly|perhaps|unsure|incorrect|wrong)\b)[^()]{1,80}[^()\d]\)",
    re.IGNORECASE,
)
"""`D (Paris)`."""
_THERE_ARE = re.compile(r"^(?:一共有|总共有|總共有|一共|共有|有|是|得到|得|即|为|為|共)(?=\s?[\d$\\-])")


def without_copula(text: str) -> str:
    """`text` without a copula at its end, as in Japanese, Korean, Hindi, Persian and Turkish."""
    text = _TURKISH.sub("", text)
    return _FINAL_COPULA.sub("", text)


def without_label(text: str) -> str | None:
    """The letter of `option B` and `la B`, in several languages; None if the text has another form."""
    match = _LABEL.fullmatch(text) or _ARTICLE.fullmatch(text) or _EXPLAINED.fullmatch(text)
    return match["letter"] if match else None


def is_sentence(text: str) -> bool:
    """True if `text` has a verb or words of doubt, so that it is not a bare answer."""
    return _VERB.search(_COMMAND.sub(" ", text)) is not None or _UNSURE.search(text) is not None


def stated_readings(sentence: str) -> list[str]:
    """The readings of a sentence's answer, the likeliest first; empty if it states none, or several."""
    if _CLOSED.search(sentence):
        return []
    whole = without_stop(without_lead(_BULLET.sub("", sentence.strip(), count=1)))
    if not whole:
        return []
    if (other := _NO_BUT.match(whole)) and is_bare(other["meant"]):
        return [other["meant"], other["no"], whole]
    if affirmation := _AFFIRMATION.match(whole):
        if _REVERSED_DECISION.search(whole, affirmation.end()):
            return []
        return [affirmation[1], whole]
    if nothing := _NOTHING.match(whole):
        return [nothing["what"] or nothing["what2"] or nothing["what3"], whole]
    whole = _IT_IS.sub("", _THERE_ARE.sub("", without_copula(whole), count=1), count=1)
    whole = _MAKES.sub("", whole, count=1)
    if (label := without_label(whole)) is not None:
        return [label, whole]
    if is_bare(whole) and not _NEGATED.search(whole):
        return _with_shorter(whole)
    if values := calculation_results(whole):
        return values
    masked = _MATH.sub(lambda formula: "$" * len(formula[0]), whole)
    if (noun := _NOUN_CLAUSE.match(masked)) and (values := _values_after_noun(whole, noun)):
        return values
    if count := _COUNTED_THINGS.match(whole):
        return [count["number"]]
    if meant := _INSTEAD.search(whole):
        return [meant["meant"]] if is_bare(meant["meant"]) else []
    if _UNSURE.search(whole) or _NEGATED.search(whole):
        return []
    if _CITED.match(whole):
        return []
    whole = _NUMBERED.sub("", whole, count=1)
    return _after_copula(whole) or _only_value(whole)


def calculation_results(sentence: str) -> list[str]:
    """The result of a sentence's last calculation, with its unit: `42 pages` in "she reads 84/2 = 42 pages a day"."""
    before, mark, after = sentence.rpartition("=")
    if not mark or before.endswith(("<", ">", "!", "=", ":")) or _OPERATION.search(before[-90:]) is None:
        return []
    after = after.strip()
    match = _NUMBER.match(after)
    if match is None or _TRIED.search(sentence):
        return []
    ends = [_unit_end(after, match.end()), _unit_end(after, match.end(), most=1)]
    if (
        _CONTINUES.match(after[match.end() :])
        or _CONTINUES.match(after[ends[0] :])
        or _ANOTHER.search(after[match.end() :])
    ):
        return []
    return list(dict.fromkeys(after[:end].strip() for end in ends))


_NUMBERED = re.compile(r"\(?\d{1,2}[.)]\s(?=[A-Z][a-z]+\s)")
_CITED = re.compile(r"\[\d{1,3}\]\s(?=[a-z])")
"""`[4] gives the formula`."""
_REVERSED_DECISION = re.compile(r"\b(?:but|however|although)\b[^.!?]{1,80}\b(?:yes|no|true|false)\W*$", re.IGNORECASE)
"""`Yes, but on closer inspection no`."""
_EACH_ITS_OWN = re.compile(
    r"\s(?:is|are|was|were)\s[^\s,;]*\d[^\s;]*,?\s(?:\w+\s)?(?:and|while|whereas|but)\s(?:the|its|his|her|their|our)\s",
    re.IGNORECASE,
)
"""`The sum is 15 and the product is 56`: two values of two things."""
_NO_BUT = re.compile(
    r"(?P<no>no|nope|nein|non|não|нет)[,;:]\s(?:it|that|this|the (?:answer|value|result))(?:['’]s"
    r"|\sis)\s(?:actually |really )?"
    r"(?P<meant>(?=[^a-z]{0,12}[\d$\\])(?!not\b)\S.{0,60})$",
    re.IGNORECASE,
)
"""`Is it 9? No, it is 10.`"""
_NOUN_CLAUSE = re.compile(
    r"(?:the|our|his|her|their|its)\s(?P<noun>[^,;:.!?]{2,80}?)\s(?:that|which|who|whose|"
    r"where)\s(?P<clause>[^;:!?]{3,120})"
    r"\s(?:is|are|was|were|equals)\s(?:thus |therefore |then |exactly |equal to )?(?=\S)",
    re.IGNORECASE,
)
"""`The pair that solves the system is (7, 6)`: the clause belongs to the noun and has its own verb."""
_NOT_A_VALUE = re.compile(
    r"\b(?:fact|claim|claims|belief|idea|assumption|hypothesis|condition|case|guess|answer|mistake|error|student|first|"
    r"next|previous|initial|original|wrong)\b",
    re.IGNORECASE,
)
_OTHERWISE = re.compile(r"\b(?:not|if|unless|would|suppose|wrong|because|since|never)\b|n['’]t\b", re.IGNORECASE)
_COUNTED_THINGS = re.compile(
    r"there\s(?:are|exist|will be)\s(?:exactly |only |precisely |a total of |in total )?"
    r"(?P<number>\$?\d[\d,]{0,30}\$?)\s(?!(?:more|less|fewer|times|or|to|and|more|additional|other|extra|per|out|"
    r"of|by)\b)"
    r"[a-z][^\d,;:$\\]{1,120}$",
    re.IGNORECASE,
)
_INSTEAD = re.compile(
    r"^(?:[\w' ]{0,30}\s)?not\s[^,;.]{1,40}?,?\s(?:it|that)(?:\sis|['’]s)\s"
    r"(?P<meant>(?!not\b)[^\s,;](?:[^,;]|,(?=\d)){0,60})$",
    re.IGNORECASE,
)
"""`It is not 9, it is 10`."""


def _values_after_noun(sentence: str, noun: re.Match[str]) -> list[str]:
    rest = sentence[noun.end() :].strip()
    if _VERB.search(noun["noun"]) or _NOT_A_VALUE.search(noun["noun"]) or _OTHERWISE.search(sentence):
        return []
    if not re.search(r"\s", noun["clause"].strip()) or not is_bare(rest) or not re.search(r"[\d$\\]", rest):
        return []
    return _with_shorter(rest)


def _with_shorter(text: str) -> list[str]:
    shorter = _TAIL.sub("", text)
    return list(dict.fromkeys(part for part in (text, shorter) if part))


def _after_copula(sentence: str) -> list[str]:
    if _EACH_ITS_OWN.search(sentence):
        return []
    masked = _MATH.sub(lambda formula: "$" * len(formula[0]), sentence)
    for copula in reversed(list(_COPULA.finditer(masked))[-8:]):
        if _RELATIVE.search(sentence[max(0, copula.start() - 60) : copula.start()]):
            continue
        rest = sentence[copula.end() :].strip()
        if re.fullmatch(r"\$?[A-Za-z]\$?", rest) and copula[0].strip() == "=":
            continue
        if copula[0].strip() == "=":
            # The whole chain, from the clause's start: its left side decides whether its right side is the answer.
            whole = re.split(r"[,;:]\s", sentence)[-1].strip()
            return [whole, rest] if not _SHORT_WORD.search(rest) and _SHORT_WORD.search(whole) else [whole]
        if not rest or (not is_bare(rest) and not _value(rest)):
            continue
        if "=" in rest and _SHORT_WORD.search(_COMMAND.sub(" ", rest.partition("=")[0])):
            continue  # "attained at x = 3, where f(3) = 9"
        return list(dict.fromkeys([*(_with_shorter(rest) if is_bare(rest) else []), *_value(rest)]))
    return []


def _value(text: str) -> list[str]:
    """A formula or number at the start of `text`, with the unit after it, if no other follows."""
    match = _MATH.match(text) or _NUMBER.match(text)
    if match is None:
        return []
    end = _unit_end(text, match.end())
    rest = text[end:]
    if _MATH.search(rest) or _NUMBER.search(rest) or not _AFTER_VALUE.match(rest):
        return []
    return [text[:end].strip()]


def _only_value(sentence: str) -> list[str]:
    if (trailing := list(_TRAILING.finditer(sentence))) and (value := _value(sentence[trailing[-1].end() :].strip())):
        return value
    for part in (sentence, _main_clause(sentence)):
        formulas = [
            match
            for match in _MATH.finditer(part)
            if not changes_what_follows(part[max(0, match.start() - 40) : match.start()])
        ]
        numbers = [
            match
            for match in _NUMBER.finditer(_MATH.sub(lambda formula: " " * len(formula[0]), part))
            if (not _NAMED.search(before := part[max(0, match.start() - 40) : match.start()]) or _GROWS.search(before))
            and not changes_what_follows(before)
        ]
        found = formulas + numbers
        if len(found) == 1:
            match = found[0]
            if _COORDINATED.search(part[max(0, match.start() - 8) : match.start()]):
                return []
            end = _unit_end(part, match.end())
            return [part[match.start() : end].strip()] if _AFTER_VALUE.match(part[end:]) else []
    return []


def _main_clause(sentence: str) -> str:
    if _SUBORDINATE.match(sentence):
        parts = re.split(r",\s(?!\d)", sentence, maxsplit=1)
        if len(parts) == 2:
            return without_lead(parts[1])
    return re.split(
        r"[,;]\s(?:so|thus|hence|therefore|and so|and thus|also|donc|así que|quindi|portanto|поэтому)\s", sentence
    )[-1]


def _unit_end(text: str, at: int, most: int = 3) -> int:
    """End of the unit after a value: up to `most` words, before a preposition."""
    for _ in range(most):
        word = _WORD.match(text, at)
        if word is None:
            break
        lower = word[1].lower()
        if lower == "per" or (lower == "a" and at):
            following = _WORD.match(text, word.end())
            if following is None:
                break
            at = following.end()
            break
        if lower in _UNIT_ENDS:
            break
        at = word.end()
        if not word[1].isascii() and re.search(r"[\u3000-\u9fff\uac00-\ud7af]", word[1]):
            break
    return at


def changes_what_follows(words: str) -> bool:
    """True if a value after `words` is not itself the answer, as after "at least", "twice" and "except"."""
    return _CHANGES.search(words) is not None


def names_a_number(words: str) -> bool:
    """True if a number after `words` is part of a name ("step 3"), or is changed by them ("twice 3")."""
    return _NAMED.search(f"{words.strip()[-24:]} ") is not None


def without_tail(text: str) -> list[str]:
    """`text` without an "in total" or "altogether" at its end; empty if it has none."""
    shorter = _TAIL.sub("", text)
    return [shorter] if shorter and shorter != text else []
