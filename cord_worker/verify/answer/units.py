"""Units: which words and symbols name one unit, and whether two units measure the same. pint converts them.

A word that is not a unit, a currency or a word about numbers may be a counted noun ("5 apples").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

_NAMES = """
meter: m meter meters metre metres mtr mètre mètres metro metros Meter Metern 米 公尺 미터 متر метр метров
meter: метра メートル
centimeter: cm cms centimeter centimeters centimetre centimetres 厘米 公分 센티미터 سم см センチ センチメートル
millimeter: mm millimeter millimeters millimetre millimetres 毫米 мм
kilometer: km kms kilometer kilometers kilometre kilometres kilómetros 公里 千米 킬로미터 كم км キロメートル
decimeter: dm decimeter decimeters decimetre decimetres
micrometer: um micrometer micrometers micrometre micrometres micron microns
nanometer: nm nanometer nanometers nanometre nanometres
inch: in inch inches ins
foot: ft foot feet
yard: yd yds yard yards
mile: mi mile miles
nautical_mile: nmi
light_year: ly lightyear lightyears light-year light-years
angstrom: angstrom angstroms Å
gram: g gram grams gramme grammes gm gms 克 그램 غرام جرام г грамм граммов
kilogram: kg kgs kilogram kilograms kilogramme kilogrammes kilo kilos 千克 公斤 킬로그램 كغ كجم кг
kilogram: килограмм килограммов キログラム
milligram: mg milligram milligrams 毫克
microgram: ug mcg microgram micrograms
pound: lb lbs pound pounds
ounce: oz ounce ounces
metric_ton: t tonne tonnes 吨
ton: ton tons
second: s sec secs second seconds 秒 초 ثانية ثوان ثوانٍ секунд секунды секунда сек segundos secondes Sekunden
minute: min mins minute minutes 分钟 分鐘 분 دقيقة دقائق минут минуты минута мин minutos Minuten
hour: h hr hrs hour hours 小时 小時 시간 ساعة ساعات час часа часов ч horas hora heures heure Stunden Stunde 時間
day: d day days 天 日 يوم أيام день дня дней días jours Tage Tagen
week: wk wks week weeks 周 週 星期 semanas semaines Wochen
month: mo month months 个月 月 أشهر месяц месяца месяцев meses mois Monate
year: yr yrs year years 年 岁 歲 سنة سنوات год года лет años ans Jahre
decade: decade decades
century: century centuries
millisecond: ms millisecond milliseconds
microsecond: us microsecond microseconds
nanosecond: ns nanosecond nanoseconds
liter: l L liter liters litre litres ℓ 升 公升 리터 لتر л литр литра литров
milliliter: ml mL milliliter milliliters millilitre millilitres 毫升 мл
centiliter: cl cL centiliter centiliters
deciliter: dl dL deciliter deciliters
gallon: gal gals gallon gallons
quart: qt qts quart quarts
pint: pt pts pint pints
cup: cup cups
tablespoon: tbsp tablespoon tablespoons
teaspoon: tsp teaspoon teaspoons
newton: N newton newtons Newton Newtons
kilonewton: kN kilonewton kilonewtons
joule: J joule joules Joule Joules
kilojoule: kJ kilojoule kilojoules
megajoule: MJ megajoule megajoules
calorie: cal calorie calories
kilocalorie: kcal kilocalorie kilocalories Cal
electron_volt: eV electronvolt electronvolts
kiloelectron_volt: keV
megaelectron_volt: MeV
watt: W watt watts Watt Watts
kilowatt: kW kilowatt kilowatts
megawatt: MW megawatt megawatts
milliwatt: mW milliwatt milliwatts
kilowatt_hour: kWh kilowatt-hour kilowatt-hours
horsepower: hp horsepower
volt: V volt volts Volt Volts
millivolt: mV millivolt millivolts
kilovolt: kV kilovolt kilovolts
ampere: A amp amps ampere amperes Ampere
milliampere: mA milliamp milliamps milliampere milliamperes
ohm: Ω \\Omega ohm ohms
kiloohm: kΩ kohm kilohm kilohms kiloohm
hertz: Hz hertz Hertz
kilohertz: kHz kilohertz
megahertz: MHz megahertz
gigahertz: GHz gigahertz
pascal: Pa pascal pascals Pascal Pascals
kilopascal: kPa kilopascal kilopascals
megapascal: MPa megapascal megapascals
bar: bar bars
atmosphere: atm atmosphere atmospheres
mmHg: mmHg
psi: psi
mole: mol mole moles mols
millimole: mmol millimole millimoles
molar: M molar
coulomb: C coulomb coulombs Coulomb
microcoulomb: uC
farad: F farad farads
microfarad: uF microfarad microfarads
tesla: T tesla teslas
weber: Wb weber webers
henry: H henry henries
kelvin: K kelvin kelvins Kelvin
acre: acre acres
hectare: ha hectare hectares
knot: kn knot knots
mile_per_hour: mph MPH
kilometer_per_hour: kmh kph
byte: byte bytes
kilobyte: kB KB kilobyte kilobytes
megabyte: MB megabyte megabytes
gigabyte: GB gigabyte gigabytes
terabyte: TB terabyte terabytes
bit: bit bits
lumen: lm lumen lumens
lux: lx lux
candela: cd candela
becquerel: Bq becquerel
decibel: dB decibel decibels
degree: degree degrees deg degs ° 度 도 درجة градус градусов градуса grados Grad
radian: rad rads radian radians
arcminute: arcmin arcminute arcminutes
celsius: celsius Celsius centigrade °C
fahrenheit: fahrenheit Fahrenheit °F
unit: unit units 单位 단위
"""
_CURRENCIES = """
USD: $ US$ USD dollar dollars buck bucks 美元 달러 دولار دولارات доллар долларов доллара dólares dollar(s) ドル
EUR: € EUR euro euros 欧元 유로 يورو евро
GBP: £ GBP sterling quid 英镑 파운드 фунтов
JPY: ¥ JPY yen 日元 円 엔
CNY: CNY RMB yuan 元 人民币 块 위안 юаней
KRW: ₩ KRW won 원 韩元
INR: ₹ INR rupee rupees Rs Rs. rs 卢比
RUB: ₽ RUB ruble rubles rouble roubles рубль рубля рублей руб
CHF: CHF franc francs
CAD: CAD C$ CA$
AUD: AUD A$ AU$
HKD: HKD HK$
SGD: SGD S$
MXN: MXN peso pesos
BRL: BRL R$ reais real
TRY: ₺ TRY lira liras
PHP: ₱ PHP
ILS: ₪ ILS shekel shekels
VND: ₫ VND đồng dong
SEK: SEK kr krona kronor
"""
_CENTS = "cent cents ¢ cts centavo centavos 美分 센트".split()
_SUBUNITS = {"pence": "GBP", "penny": "GBP", "paise": "INR", "paisa": "INR", "kopecks": "RUB", "角": "CNY"}
WITH_CENTS = frozenset("USD EUR CAD AUD HKD SGD MXN CHF".split())
"""Currencies whose hundredth is a cent."""
_PINT_NAMES = {"kilometer_per_hour": "kilometer / hour", "mile_per_hour": "mile / hour", "mmHg": "millimeter_Hg"}
_PINT_NAMES |= {"molar": "mole / liter"}

_NOT_NOUNS = frozenset(
    "is are was were be been being not no nor or and but to than then minus plus times over under above below more "
    "less fewer least most mod modulo base half halves dozen dozens gross score squared cubed factorial percent wrong "
    "incorrect false right correct true between about except hundred hundreds thousand thousands million millions "
    "billion billions trillion lakh crore tens ten twice thrice pair pairs couple double triple if where when since "
    "because so which that who what how can could may might will would should do does did has have had it they he she "
    "pm am bc bce ad ce th st nd rd divided multiplied subtracted added zero one two three four five six seven eight "
    "nine negative positive only never none neither either without unless instead rather quarter quarters third thirds "
    "fourth fourths fifth fifths sixth sixths seventh sevenths eighth eighths ninth ninths tenth tenths hundredth "
    "hundredths thousandth thousandths k mn bn ago clock short approximately maybe perhaps root power log sin cos tan "
    "prozent percentile percentiles weniger mehr menos moins scores nahi nahin kein keine ohne sin sans "
    "as bound trăm nghìn ngàn vạn triệu tỷ tỉ chục tá ratus ribu juta miliar triliun puluh lusin yüz bin milyon milyar "
    "hundert millionen milliarden dutzend cien cientos miles millones millón docenas cent cents mille mila millions "
    "milliards douzaines milioni miliardi milhão milhões bilhões тысяч тысячи миллионов миллиона сотен десятков дюжин "
    "tysięcy tysiące miliony milionów honderd duizend miljoen miljard "
    "ish fails fail gives give shows makes "
    "works holds ist sind wäre falsch unrichtig inkorrekt è sbagliato errato jest błędne błędny "
    "yanlış değil es est está incorrecto falso incorreto errado faux fausse fout onjuist salah sai неправильный "
    "неверный неверно ответ это "
    "oder und ou et o y e и или nicht pas no non не sqrt pi max min mil mille tausend mio mrd".split()
)
_NOT_NOUNS |= {"or,", "and,"}  # words of a tail keep their comma
_TAIL = re.compile(
    r" (?:in (?=\S)|for|from|at|with|on|of|left|remaining|each|total|altogether|together|apiece|old|tall|long|wide|high"
    r"|deep|older|younger|taller|longer|more|fewer|extra|away|apart|thick|long|overall|every|in all|now|needed)\b.*"
)
_RATE = re.compile(r" ?(?:/| per | ?a (?=day|week|month|year|hour|minute|person|piece|share)| an (?=hour)| each$)")
_POWER = re.compile(r"(.+?) ?(?:\^ ?(?:\{ ?(-?\d) ?\}|(-?\d))|\*\*(\d))")
_SHORT_POWER = re.compile(r"(mm|cm|dm|m|km|ft|in|yd|mi)([23])")
_PREFIXED_POWER = re.compile(r"(square(?= )|sq\.?|cubic(?= )|cu(?:\.|(?= ))) ?(.+)", re.IGNORECASE)
_SUFFIXED_POWER = re.compile(r"(.+?) (squared|cubed)", re.IGNORECASE)
_FRACTION = re.compile(r"\\frac ?\{([^{}]+)\} ?\{([^{}]+)\}")
_DEGREES = re.compile(
    r"(?:\^ ?\\circ|degrees?|deg\.?|°) ?(?P<scale>[CFK]|celsius|fahrenheit|centigrade|kelvin)?", re.IGNORECASE
)
_HAN = re.compile(
    "[个個只隻本张張条條颗顆块塊名位人次种種件套辆輛台支枝朵棵头頭匹双雙瓶杯盒箱包袋页頁层層组組排对點点分道步元円]"
    "?[\u3040-\u30ff\u3400-\u9fff]{0,4}"
)
_FOREIGN_SCRIPTS = re.compile(r"[\u0621-\u064a\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_INDIC = re.compile(r"[\u0900-\u0dff\u0e00-\u0e7f]{2,20}(?: [\u0900-\u0dff\u0e00-\u0e7f]{2,20})?")
_NOT_INDIC = re.compile(
    r"(?:^| )(?:सौ|हज़ार|हजार|लाख|करोड़|करोड|अरब|दर्जन|दशमलव|प्रतिशत|नहीं|से|तक|या|और|आधा|आधे|गुना|कम|ज़्यादा|ज्यादा|अधिक|"
    r"शून्य|एक|दो|तीन|चार|पाँच|पांच|छह|सात|आठ|नौ|दस|শত|শো|হাজার|লক্ষ|লাখ|কোটি|ডজন|না|নয়|থেকে|বা|এবং|অর্ধেক|গুণ|কম|বেশি"
    r"|அல்ல|இல்லை|కాదు|ಅಲ್ಲ|അല്ല)(?: |$)"
    r"|ร้อย|พัน|หมื่น|แสน|ล้าน|โหล|ไม่|หรือ|ถึง|กว่า|เท่า|ครึ่ง|และ"
)
"""Words of number, doubt and denial in Hindi, Bengali and Thai; words of denial in Tamil, Telugu, Kannada and
Malayalam."""
_NOT_HAN = re.compile(
    "[百千万萬亿億兆多余餘或和是不非错錯倍半以左约約打分之一二三四五六七八九十两兩负負至到比]|未|超|ない|じゃ|以"
)
_NOT_KOREAN = re.compile("[백천만억조배]|이상|이하|미만|초과|또는|아니|정도|에서|부터|까지|분의")
_NOT_ARABIC = re.compile(
    r"(?:^| )(?:أو|و|ليس|ليست|مئة|مائة|ألف|آلاف|مليون|ملايين|مليار|نصف|أكثر|أقل|تقريبا|في|على|إلى|ضعف)(?: |$)"
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A product of powers of units, currencies and counted nouns.

    Attributes:
        parts: (name, power), sorted; names are pint's, currency codes, or `noun …`.
        in_cents: whether it counts hundredths of a currency.
        attached: a single letter without a space before it, which may be a variable.
    """

    parts: tuple[tuple[str, int], ...]
    in_cents: bool = False
    attached: bool = field(default=False, compare=False)

    @property
    def empty(self) -> bool:
        return not self.parts

    @property
    def currency(self) -> str | None:
        return next((name for name, power in self.parts if power == 1 and (name in _CODES or name == "cent")), None)

    @property
    def nouns(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.parts if name.startswith("noun "))

    def without_rate(self) -> Unit:
        """The unit without its rate: dollars, or apples, for dollars or apples per hour.

        A unit without a currency or a noun, such as km per hour, is returned unchanged.
        """
        top = tuple((name, power) for name, power in self.parts if power > 0)
        return Unit(top, self.in_cents) if self.currency or self.nouns else self


def _entries(table: str) -> dict[str, str]:
    return {
        word: name
        for line in table.strip().splitlines()
        for name, _, words in [line.partition(":")]
        for word in words.split()
    }


_UNITS = _entries(_NAMES)
_CURRENCY = _entries(_CURRENCIES)
_CODES = frozenset(_CURRENCY.values())
_CASELESS = {word.casefold(): name for word, name in _UNITS.items() if len(word) > 3 or not word.isascii()}
_CASELESS |= {word.casefold(): name for word, name in _CURRENCY.items() if len(word) > 2}
SYMBOLS = tuple(
    sorted((word for word in _CURRENCY if not word.isalpha() or word.isupper() or word == "Rs"), key=len, reverse=True)
)
"""Symbols that may stand before an amount of money."""


def currency_code(symbol: str) -> str:
    """The code of a currency's symbol."""
    return _CURRENCY[symbol]


@lru_cache(maxsize=512)
def unit(text: str) -> Unit | None:
    """The unit that the whole (cleaned) text names; None if it names none."""
    text = text.strip().rstrip(".")
    if not text or len(text) > 60:
        return None
    degrees = _DEGREES.fullmatch(text)
    if degrees:
        scale = (degrees["scale"] or "").casefold()
        name = {"": "degree", "c": "celsius", "f": "fahrenheit", "k": "kelvin"}.get(scale[:1] or "", "celsius")
        return Unit(((name, 1),))
    if not text.isascii():
        found = _foreign(text)
        if found is not None or _FOREIGN_SCRIPTS.search(text):
            return found
    known = _parse_unit(text)
    if known is not None:
        return known
    return _noun(text)


def _parse_unit(text: str) -> Unit | None:
    """The unit of a text that holds only units and currencies, and counted nouns on either side of "per"."""
    bare = _without_tail(text)
    if bare is None:
        return None
    if bare.startswith(("per ", "an ")):
        bare = f" {bare}"
    top, *below = _RATE.split(bare) if _RATE.search(bare) else [bare]
    if match := _FRACTION.fullmatch(bare):
        top, below = match[1], [match[2]]
    parts: dict[str, int] = {}
    in_cents = False
    if top.strip():
        upper = _product(top)
        if upper is None and below:
            upper = _noun(top)
        if upper is None:
            return None
        in_cents = upper.in_cents
        parts.update(upper.parts)
    for text_below in below:
        lower = _product(text_below.strip("( )")) or _noun(text_below)
        if lower is None:
            if " each" in text:
                continue
            return None
        for name, power in lower.parts:
            parts[name] = parts.get(name, 0) - power
    return Unit(tuple(sorted((name, power) for name, power in parts.items() if power)), in_cents)


def _product(text: str) -> Unit | None:
    parts: dict[str, int] = {}
    in_cents = False
    whole = _factor(text.strip())
    pieces = [text] if whole else re.split(r"\\cdot|\\times|\*|·| (?!\^)|(?<=[a-z])-(?=[a-z])", text.strip())
    for piece in pieces:
        if not piece.strip():
            continue
        factor = _factor(piece.strip())
        if factor is None:
            return None
        name, power = factor
        if name == "cent":
            in_cents = True
        if name != "unit":
            parts[name] = parts.get(name, 0) + power
    return Unit(tuple(sorted(parts.items())), in_cents)


def _factor(text: str) -> tuple[str, int] | None:
    power = 1
    if match := _POWER.fullmatch(text):
        text, power = match[1], int(match[2] or match[3] or match[4])
    elif match := _SHORT_POWER.fullmatch(text):
        text, power = match[1], int(match[2])
    elif match := _PREFIXED_POWER.fullmatch(text):
        text, power = match[2], 2 if match[1].casefold().startswith("s") else 3
    elif match := _SUFFIXED_POWER.fullmatch(text):
        text, power = match[1], 2 if match[2].casefold() == "squared" else 3
    text = text.strip("() .")
    if text in ("cc", "ccm"):
        return "centimeter", 3
    if text in ("fl oz", "fluid ounce", "fluid ounces", "fl. oz"):
        return "fluid_ounce", power
    if text in ("nautical mile", "nautical miles"):
        return "nautical_mile", power
    if text in ("metric ton", "metric tons"):
        return "metric_ton", power
    if text in ("light year", "light years"):
        return "light_year", power
    text = text.replace("\\mu ", "u").replace("\\mu", "u")
    name = _UNITS.get(text) or _CURRENCY.get(text)
    if name is None and (text in _CENTS or text.casefold() in _CENTS):
        name = "cent"
    if name is None and text.casefold() in _SUBUNITS:
        return None
    if name is None:
        low = text.casefold()
        name = _CASELESS.get(low) or (_UNITS.get(low) if low in ("cm", "km", "kg", "ft", "lb", "lbs") else None)
    return (name, power) if name else None


def changes_a_number(word: str) -> bool:
    """True if a word after a number changes or denies the number, so that it is not a noun."""
    return word.casefold() in _NOT_NOUNS


def subunit(text: str) -> str | None:
    """The currency of which `text` is the hundredth, if the hundredth has its own name (pence)."""
    return _SUBUNITS.get(text.strip().casefold())


def _noun(text: str) -> Unit | None:
    """A counted noun: `red apples` becomes the unit `noun red apple`."""
    bare = _without_tail(f" {text}")
    if bare is None:
        return None
    words = bare.split()
    if not words:
        return Unit(())
    if words == ["times"]:
        return Unit((("noun time", 1),))
    if len(words) > 4:
        return None
    for word in words:
        if not re.fullmatch(r"[^\W\d_]+(?:['-][^\W\d_]+)*", word) or word.casefold().strip(".") in _NOT_NOUNS:
            return None
    if (len(words[-1]) < 3 and (text.isascii() or len(words) < 2)) or (words[-1].isupper() and len(words[-1]) < 4):
        return None
    named = [*(word.casefold() for word in words[:-1]), singular(words[-1].casefold())]
    return Unit(((f"noun {' '.join(named)}", 1),))


def _without_tail(text: str) -> str | None:
    """The text without a tail such as "in total", "of flour" or "old"; None if the tail may change the number."""
    match = _TAIL.search(text)
    if match is None:
        return text
    dropped = match[0].casefold().split()[1:]
    if any(word in _NOT_NOUNS or any(char.isdigit() for char in word) for word in dropped):
        return None
    return text[: match.start()]


_IRREGULAR_NOUNS = """
people:person persons:person men:man women:woman children:child oxen:ox feet:foot teeth:tooth geese:goose mice:mouse
dice:die loaves:loaf knives:knife leaves:leaf wolves:wolf halves:half shelves:shelf lives:life wives:wife calves:calf
scarves:scarf thieves:thief hooves:hoof elves:elf pennies:penny gases:gas lenses:lens lens:lens shoes:shoe toes:toe
canoes:canoe hoes:hoe foes:foe oboes:oboe aloes:aloe movies:movie cookies:cookie pies:pie ties:tie dies:die
calories:calorie zombies:zombie selfies:selfie brownies:brownie smoothies:smoothie quizzes:quiz series:series
species:species headaches:headache caches:cache
"""
_IRREGULAR = {plural: one for plural, _, one in (pair.partition(":") for pair in _IRREGULAR_NOUNS.split())}


def singular(word: str) -> str:
    """The singular of a noun, by simple rules; both sides of a comparison go through them."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search("(?:ch|sh|x|ss|zz|tz|o|(?<!o)us)es$", word) and len(word) > 4:
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3 else word


def _foreign(text: str) -> Unit | None:
    name = _UNITS.get(text) or _CURRENCY.get(text) or _CASELESS.get(text.casefold())
    if name:
        return Unit(((name, 1),)) if name != "unit" else Unit(())
    if _INDIC.fullmatch(text):
        return None if _NOT_INDIC.search(text) else Unit((("noun " + text, 1),))
    square = re.fullmatch("(平方|立方|مربع|квадратных )(.+)", text)
    if square and (name := _UNITS.get(square[2])):
        return Unit(((name, 3 if square[1] == "立方" else 2),))
    if _HAN.fullmatch(text):
        return None if _NOT_HAN.search(text) else Unit((("noun " + text, 1),))
    if re.fullmatch(r"[\uac00-\ud7af]{1,6}(?: [\uac00-\ud7af]{1,6})?", text):
        return None if _NOT_KOREAN.search(text) else Unit((("noun " + text, 1),))
    if re.fullmatch(r"[\u0621-\u064a]+(?: [\u0621-\u064a]+)?", text):
        return None if _NOT_ARABIC.search(text) else Unit((("noun " + text, 1),))
    return None


def factor_between(left: Unit, right: Unit) -> Fraction | None:
    """How many of `right` make one of `left`; None if they do not measure the same."""
    if left.parts == right.parts:
        return Fraction(1)
    first, second = _in_base(left.parts), _in_base(right.parts)
    if first is None or second is None or first[1] != second[1]:
        return None
    return first[0] / second[0]


@lru_cache(maxsize=256)
def _in_base(parts: tuple[tuple[str, int], ...]) -> tuple[Fraction, tuple[tuple[str, Fraction], ...]] | None:
    factor = Fraction(1)
    dimensions: dict[str, Fraction] = {}
    for name, power in parts:
        if (
            name in _CODES
            or name.startswith("noun ")
            or name in ("degree", "radian", "celsius", "fahrenheit", "decibel")
        ):
            found: tuple[Fraction, dict[str, Fraction]] = Fraction(1), {name: Fraction(1)}
        elif name == "cent":
            found = Fraction(1, 100), {"USD": Fraction(1)}
        elif name == "arcminute":
            found = Fraction(1, 60), {"degree": Fraction(1)}
        elif name == "decade":
            found = Fraction(315_576_000), {"[time]": Fraction(1)}
        else:
            found = _by_pint(name)
        factor *= found[0] ** power
        for dimension, exponent in found[1].items():
            dimensions[dimension] = dimensions.get(dimension, Fraction(0)) + exponent * power
    return factor, tuple(sorted((name, exponent) for name, exponent in dimensions.items() if exponent))


@lru_cache(maxsize=256)
def _by_pint(name: str) -> tuple[Fraction, dict[str, Fraction]]:
    quantity = _registry().Quantity(Fraction(1), _PINT_NAMES.get(name, name)).to_base_units()
    dimensions = {str(key): Fraction(value) for key, value in quantity.dimensionality.items()}
    # Bits have no dimension, but they must not vanish.
    return Fraction(quantity.magnitude), dimensions or {"bit": Fraction(1)}


@lru_cache(maxsize=1)
def _registry() -> Any:
    # Imported here: needed only to compare two different units.
    import pint

    return pint.UnitRegistry(non_int_type=Fraction)
