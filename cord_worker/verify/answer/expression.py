"""Parses mathematics, in LaTeX or plain, to a tree of tuples. A text that is not understood completely is rejected.

The parser is stricter than those made for typesetting: a word is never a product of its letters, `AB` is one name, the
case of letters counts, and nothing may be left over. A node is one of

    ("num", Fraction) ("sym", name) ("const", "pi" | "e" | "i" | "inf") ("neg", a) ("pm", a) ("mp", a) ("fact", a)
    ("add", parts) ("mul", parts) ("div", a, b) ("pow", a, b) ("fn", name, arguments) ("diff", name, a)
    ("big", "sum" | "prod" | "int", name, low, high, body)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

Node = tuple[Any, ...]

MAX_CHARACTERS = 2000
_MAX_DEPTH = 60
_MAX_NODES_DEEP = 100
_MAX_DIGITS = 5000

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{1,4}(?![\w.]))?)"
    r"|(?P<command>\\[a-zA-Z]+|\\[{}])|(?P<word>[A-Za-z]+)|(?P<sign>[-+*/^_!|()\[\]{}',=])|(?P<end>$))"
)
_TIMES_X = re.compile(r"(?<=[\d)}])\s*[xX]\s*(?=\d)")
FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc asin acos atan sinh cosh tanh coth sech csch "
    "arcsinh arccosh arctanh ln log lg exp abs sqrt cbrt max min gcd lcm floor ceil sgn sign det erf Re Im arg".split()
)
_SAME_FUNCTION = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "sign": "sgn"}
_GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell hbar".split()
)
_ACCENTS = frozenset("overline bar hat vec widehat overrightarrow mathbf mathcal mathbb tilde dot".split())
_SMALL_WORDS = frozenset(
    "no on to in is it at of or so us we up do go he hi if me my an as be by am oh ok and but not for the yes one two "
    "six ten red day all any are can dog cat man men god big boy cm mm km kg mg ft yd mi lb oz ml hr min sec pm cup "
    "mph old new low top out set sum mod net per may her his she who why how now war way ant bat act tip pit pot "
    "era ear "
    "tea eat arm ram car arc sun mon tue wed thu fri sat jan feb mar apr jun jul aug sep oct nov dec usd "
    "eur gbp".split()
)

NAMES = _GREEK | {"pi", "inf", "infty", "infinity"}
"""Words that are mathematical names, not products of letters."""


class Unread(ValueError):
    """The text is not mathematics that this parser understands."""


@lru_cache(maxsize=1024)
def parse(text: str) -> Node | None:
    """The tree of a cleaned text; None if it is not understood."""
    if len(text) > MAX_CHARACTERS or not text:
        return None
    try:
        return _Parser(text).whole()
    except (Unread, RecursionError):
        return None


@lru_cache(maxsize=256)
def parse_tight(text: str) -> Node | None:
    """Like `parse`, but `1/2x` is 1/(2x) and `e^2x` is e^(2x); also None if the text has no such place."""
    if len(text) > MAX_CHARACTERS or not text:
        return None
    try:
        parser = _Parser(text, tight=True)
        tree = parser.whole()
    except (Unread, RecursionError):
        return None
    return tree if parser.unclear else None


def symbols(tree: Node) -> frozenset[str]:
    """The free names of a tree."""
    kind = tree[0]
    if kind == "sym":
        return frozenset((tree[1],))
    if kind == "big":
        return (symbols(tree[5]) - {tree[2]}) | symbols(tree[3]) | symbols(tree[4])
    if kind == "diff":
        return symbols(tree[2]) | {tree[1]}
    found: frozenset[str] = frozenset()
    for child in children(tree):
        found |= symbols(child)
    return found


def children(tree: Node) -> tuple[Node, ...]:
    """The direct child nodes."""
    kind = tree[0]
    if kind in ("num", "sym", "const"):
        return ()
    if kind in ("add", "mul"):
        return tuple(tree[1])
    if kind == "fn":
        return tuple(tree[2])
    if kind == "big":
        return tuple(tree[3:])
    return (tree[2],) if kind == "diff" else tuple(tree[1:])


def holds(tree: Node, *kinds: str) -> bool:
    """True if the tree holds a node of one of these kinds."""
    return tree[0] in kinds or any(holds(child, *kinds) for child in children(tree))


def plus_minus(tree: Node) -> list[Node]:
    """The two values of a tree with ± (all of its signs change together), or the tree itself."""
    if not holds(tree, "pm", "mp"):
        return [tree]
    return [_choose_signs(tree, upper=True), _choose_signs(tree, upper=False)]


def _choose_signs(tree: Node, *, upper: bool) -> Node:
    kind = tree[0]
    if kind in ("pm", "mp"):
        inner = _choose_signs(tree[1], upper=upper)
        return inner if (kind == "pm") == upper else ("neg", inner)
    return map_children(tree, lambda child: _choose_signs(child, upper=upper))


def substitute(tree: Node, name: str, by: Node) -> Node:
    """The tree with every free `name` replaced."""
    if tree == ("sym", name):
        return by
    if tree[0] in ("big", "diff") and name == tree[2 if tree[0] == "big" else 1]:
        return tree
    return map_children(tree, lambda child: substitute(child, name, by))


def map_children(tree: Node, change: Callable[[Node], Node]) -> Node:
    """The node with `change` applied to its direct children."""
    kind = tree[0]
    if kind in ("num", "sym", "const"):
        return tree
    if kind in ("add", "mul"):
        return (kind, tuple(change(child) for child in tree[1]))
    if kind == "fn":
        return (kind, tree[1], tuple(change(child) for child in tree[2]))
    return tuple(change(part) if isinstance(part, tuple) else part for part in tree)


def number(value: int | Fraction) -> Node:
    """A node for a rational number."""
    return ("num", Fraction(value))


class _Parser:
    """A parser by recursive descent, one method a level: sum, product, power, postfix, primary.

    `tight` changes what a slash or a power reaches (`parse_tight`); `unclear` is set where both readings are possible.
    `bars` counts the open bars of absolute values; `bound` holds the index names of the series being read.
    """

    def __init__(self, text: str, *, tight: bool = False) -> None:
        self.tokens = _tokens(_TIMES_X.sub(r" \\times ", text))
        self.at = 0
        self.depth = 0
        self.bars = 0
        self.tight = tight
        self.unclear = False
        self.bound: list[str] = []

    def whole(self) -> Node:
        tree = self.sum()
        if self.kind != "end" or _is_deep(tree):
            raise Unread
        return tree

    @property
    def kind(self) -> str:
        return self.tokens[self.at][0]

    @property
    def text(self) -> str:
        return self.tokens[self.at][1]

    def take(self, *texts: str) -> bool:
        if self.kind != "number" and self.text in texts:
            self.at += 1
            return True
        return False

    def need(self, text: str) -> None:
        if not self.take(text):
            raise Unread

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise Unread
        parts = [self.signed_product()]
        while self.kind != "end":
            if self.take("+"):
                parts.append(self.signed_product())
            elif self.take("-"):
                parts.append(("neg", self.signed_product()))
            elif self.take("\\pm"):
                parts.append(("pm", self.signed_product()))
            elif self.take("\\mp"):
                parts.append(("mp", self.signed_product()))
            else:
                break
        self.depth -= 1
        return parts[0] if len(parts) == 1 else ("add", tuple(parts))

    def signed_product(self) -> Node:
        if self.take("-"):
            return ("neg", self.signed_product())
        if self.take("+"):
            return self.signed_product()
        if self.take("\\pm"):
            return ("pm", self.signed_product())
        if self.take("\\mp"):
            return ("mp", self.signed_product())
        return self.product()

    def product(self) -> Node:
        result = self.mixed_or_power()
        while self.kind != "end":
            if self.take("\\times", "\\cdot", "*"):
                result = _times(result, self.factor_after_sign())
            elif self.take("/", "\\div"):
                below = self.factor_after_sign()
                while self.starts_factor() and below[0] != "fn":
                    self.unclear = True
                    if not self.tight:
                        break
                    below = _times(below, self.power())
                result = ("div", result, below)
            elif self.take("\\bmod", "\\mod") or (self.kind == "word" and self.take("mod")):
                result = ("fn", "mod", (result, self.factor_after_sign()))
            elif self.starts_factor():
                if self.kind == "number" and self.tokens[self.at - 1][0] == "number":
                    raise Unread
                result = _times(result, self.power())
            else:
                break
        return result

    def factor_after_sign(self) -> Node:
        if self.take("-"):
            return ("neg", self.factor_after_sign())
        if self.take("+"):
            return self.factor_after_sign()
        return self.mixed_or_power()

    def mixed_or_power(self) -> Node:
        """An integer directly before a fraction of numbers is a mixed number: `2\\frac{1}{3}`, `5 1/4`."""
        if self.kind == "number" and self.text.isdigit():
            whole = int(self.text) if len(self.text) < 100 else None
            follows = self.tokens[self.at + 1]
            if whole is not None and follows == ("command", "\\frac"):
                start = self.at
                self.at += 1
                part = self.power()
                if part[0] == "div" and part[1][0] == part[2][0] == "num" and 0 < part[1][1] < part[2][1]:
                    return number(whole + part[1][1] / part[2][1])
                self.at = start
            elif whole is not None and follows[0] == "number" and self.tokens[self.at + 2][1] == "/":
                upper, lower = follows, self.tokens[self.at + 3]
                if lower[0] == "number" and upper[1].isdigit() and lower[1].isdigit():
                    if len(upper[1] + lower[1]) > 100 or not 0 < int(upper[1]) < int(lower[1]):
                        raise Unread
                    self.at += 4
                    return number(whole + Fraction(int(upper[1]), int(lower[1])))
        return self.power()

    def starts_factor(self) -> bool:
        kind, text = self.tokens[self.at]
        if kind in ("number", "word"):
            return text != "mod"
        if kind == "command":
            return text not in _NO_FACTOR and text != "\\}"
        return text in ("(", "[", "{") or (text == "|" and self.bars == 0)

    def power(self) -> Node:
        base = self.postfix(self.primary())
        if self.take("^"):
            if self.take("\\circ"):
                return self.postfix(_times(base, ("fn", "degree", ())))
            if self.kind == "sign" and self.text == "'":
                raise Unread
            exponent = self.exponent()
            base = self.postfix(("pow", base, exponent))
            if self.take("^"):
                base = ("pow", base, self.exponent())
        return base

    def exponent(self) -> Node:
        if self.take("-"):
            return ("neg", self.exponent())
        if self.take("+"):
            return self.exponent()
        if self.kind == "sign" and self.text == "{":
            return self.postfix(self.primary())
        result = self.postfix(self.primary())
        if self.take("^"):
            result = ("pow", result, self.exponent())
        if result[0] == "num" and self.kind == "word":
            self.unclear = True
            if self.tight:
                result = _times(result, self.power())
        return result

    def postfix(self, base: Node) -> Node:
        while self.kind == "sign":
            if self.take("!"):
                base = ("fact", base) if base[0] != "fact" else ("fn", "double factorial", base[1:])
            elif self.text == "'" and base[0] == "sym":
                self.at += 1
                base = ("sym", base[1] + "'")
            else:
                break
        return base

    def primary(self) -> Node:
        kind, text = self.tokens[self.at]
        self.at += 1
        if kind == "number":
            return _number(text)
        if kind == "word":
            return self.word(text)
        if kind == "command":
            return self.command(text[1:])
        if text in ("(", "[", "{"):
            return self.group({"(": ")", "[": "]", "{": "}"}[text])
        if text == "|":
            return self.absolute()
        raise Unread

    def group(self, close: str) -> Node:
        bars, self.bars = self.bars, 0
        inner = self.sum()
        if close == "}" and self.take("\\over"):
            inner = ("div", inner, self.sum())
        self.bars = bars
        self.need(close)
        return inner

    def absolute(self) -> Node:
        self.bars += 1
        inner = self.sum()
        self.bars -= 1
        self.need("|")
        return ("fn", "abs", (inner,))

    def word(self, text: str) -> Node:
        if text in FUNCTIONS:
            return self.function(text)
        if text in ("pi", "infinity", "inf", "infty"):
            return ("const", "pi" if text == "pi" else "inf")
        if text in _GREEK:
            return self.subscript(text)
        if len(text) == 1:
            return self.letter(text)
        for name in ("sin", "cos", "tan", "ln", "log"):
            if text.startswith(name) and len(text) == len(name) + 1:
                return ("fn", name, (_letter(text[-1]),))
        if text.casefold() in _SMALL_WORDS or len(text) > 3:
            raise Unread
        if text.isupper():
            # Points: AB is a segment, ABC a triangle.
            return self.subscript(text)
        if not text.islower():
            raise Unread
        self.tokens[self.at - 1 : self.at] = [("word", letter) for letter in text]
        self.at -= 1
        return self.primary()

    def letter(self, text: str) -> Node:
        if text in ("f", "g") and self.kind == "sign" and self.text == "(":
            self.at += 1
            return ("fn", f"call {text}", self.arguments(")"))
        return self.subscript(text)

    def subscript(self, name: str) -> Node:
        if not self.take("_"):
            return ("sym", name) if name in self.bound else _letter(name)
        return ("sym", f"{name}_{self.raw_argument()}")

    def raw_argument(self) -> str:
        """The text of the next token or group, as part of a name."""
        if not self.take("{"):
            self.at += 1
            if self.tokens[self.at - 1][0] in ("end", "sign"):
                raise Unread
            return self.tokens[self.at - 1][1]
        parts, depth = [], 1
        while depth:
            kind, text = self.tokens[self.at]
            if kind == "end":
                raise Unread
            self.at += 1
            depth += (text == "{") - (text == "}")
            parts.append(text)
        return "".join(parts[:-1])

    def argument(self) -> Node:
        """An argument of `\\frac` or `\\sqrt`: a group, one digit, one letter or one command."""
        kind, text = self.tokens[self.at]
        if kind == "number" and len(text) > 1:
            if not text[0].isdigit():
                raise Unread
            self.tokens[self.at] = ("number", text[1:])
            return _number(text[0])
        if kind == "word" and len(text) > 1:
            self.tokens[self.at : self.at + 1] = [("word", text[0]), ("word", text[1:])]
        return self.primary()

    def arguments(self, close: str) -> tuple[Node, ...]:
        bars, self.bars = self.bars, 0
        found = [self.sum()]
        while self.take(","):
            found.append(self.sum())
        self.bars = bars
        self.need(close)
        return tuple(found)

    def command(self, name: str) -> Node:  # noqa: PLR0911, RUF100
        if name == "frac":
            return self.fraction()
        if name == "sqrt":
            index = self.group("]") if self.take("[") else number(2)
            return _root(self.argument(), index)
        if name in ("surd", "cbrt", "qdrt"):
            return _root(self.primary(), number({"surd": 2, "cbrt": 3, "qdrt": 4}[name]))
        if name == "binom":
            return ("fn", "binom", (self.argument(), self.argument()))
        if name == "pi":
            return ("const", "pi")
        if name == "infty":
            return ("const", "inf")
        if name in _GREEK:
            return self.subscript(name)
        if name in FUNCTIONS:
            return self.function(name)
        if name in ("lfloor", "lceil"):
            inner = self.sum()
            self.need("\\r" + name[1:])
            return ("fn", "floor" if name == "lfloor" else "ceil", (inner,))
        if name in ("sum", "prod", "int"):
            return self.big(name)
        if name in _ACCENTS:
            return self.subscript(f"{name} {self.raw_argument()}")
        raise Unread

    def fraction(self) -> Node:
        start = self.at
        variable = self.derivative()
        if variable is not None:
            return ("diff", variable, self.product())
        self.at = start
        upper = self.argument()
        return ("div", upper, self.argument())

    def derivative(self) -> str | None:
        """The variable of `\\frac{d}{dx}`."""
        try:
            upper, lower = self.raw_argument(), self.raw_argument()
        except Unread:
            return None
        match = re.fullmatch(r"d([a-zA-Z])", lower)
        return match[1] if match and upper == "d" else None

    def big(self, name: str) -> Node:
        low: Node | None = None
        high: Node | None = None
        variable: str | None = None
        for _ in range(2):
            if self.take("_"):
                if name == "int":
                    low = self.argument()
                else:
                    self.need("{")
                    kind, variable = self.tokens[self.at]
                    self.at += 1
                    if kind != "word" or len(variable) != 1:
                        raise Unread
                    self.need("=")
                    low = self.sum()
                    self.need("}")
            elif self.take("^"):
                high = self.argument()
        if low is None or high is None:
            raise Unread
        if name != "int":
            # In \sum_{i=1}^n i, the letter i is an index, not the imaginary unit.
            self.bound.append(str(variable))
            body = self.product()
            self.bound.pop()
            return ("big", name, variable, low, high, body)
        return self.integral(low, high)

    def integral(self, low: Node, high: Node) -> Node:
        for at in range(self.at, len(self.tokens)):
            kind, text = self.tokens[at]
            if kind == "word" and re.fullmatch("d[a-zA-Z]", text):
                self.tokens[at] = ("sign", "")
                body = self.sum() if at > self.at else number(1)
                self.need("")
                return ("big", "int", text[1], low, high, body)
        raise Unread

    def function(self, name: str) -> Node:
        name = _SAME_FUNCTION.get(name, name)
        power: Node | None = None
        base: Node | None = None
        for _ in range(2):
            if self.take("^"):
                power = self.exponent_of_function()
            elif name in ("log", "max", "min") and self.take("_"):
                base = self.argument()
        if name == "sqrt":
            return _root(self.function_argument()[0], number(2))
        if name == "cbrt":
            return _root(self.function_argument()[0], number(3))
        arguments = self.function_argument()
        if name in ("ln", "lg"):
            name, base = "log", ("const", "e") if name == "ln" else number(10)
        if name == "exp":
            tree: Node = ("pow", ("const", "e"), arguments[0])
        elif name == "log" and base is not None:
            tree = ("fn", "log", (arguments[0], base))
        elif power == ("neg", number(1)) and name in ("sin", "cos", "tan", "cot", "sec", "csc"):
            return ("fn", f"arc{name}", arguments)
        else:
            tree = ("fn", name, arguments)
        return tree if power is None else ("pow", tree, power)

    def exponent_of_function(self) -> Node:
        if self.kind == "number" or (self.kind == "sign" and self.text == "{"):
            return self.primary()
        return self.exponent()

    def function_argument(self) -> tuple[Node, ...]:
        if self.take("("):
            return self.arguments(")")
        if self.take("["):
            return self.arguments("]")
        if self.take("{"):
            return self.arguments("}")
        if self.take("-"):
            return (("neg", self.function_argument()[0]),)
        result = self.power()
        while self.starts_factor() and not self.at_function() and self.text not in ("(", "["):
            result = _times(result, self.power())
        return (result,)

    def at_function(self) -> bool:
        return self.kind in ("word", "command") and self.text.lstrip("\\") in FUNCTIONS


_NO_FACTOR = frozenset(
    r"\times \cdot \div \pm \mp \over \le \ge \ne \cup \cap \in \to \setminus \approx \equiv \Rightarrow \ldots \pmod "
    r"\rfloor \rceil \circ \bmod \mod \rangle \subset \subseteq \sim \neg \lor".split()
)


def _is_deep(tree: Node) -> bool:
    """True if the tree is too deep for recursive functions."""
    level: tuple[Node, ...] = (tree,)
    for _ in range(_MAX_NODES_DEEP):
        level = tuple(child for node in level for child in children(node))
        if not level:
            return False
    return True


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise Unread
        if match.lastgroup == "end":
            break
        found.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    # Several end tokens, so that looking ahead needs no check.
    return [*found, ("end", ""), ("end", ""), ("end", ""), ("end", "")]


def _number(text: str) -> Node:
    if len(text) > _MAX_DIGITS:
        raise Unread
    text = text.replace(",", "")
    mantissa, _, exponent = text.lower().partition("e")
    value = Fraction(mantissa)
    return ("num", value * Fraction(10) ** int(exponent) if exponent else value)


def _letter(name: str) -> Node:
    return ("const", name) if name in ("e", "i") else ("sym", name)


def _times(left: Node, right: Node) -> Node:
    return ("mul", (*(left[1] if left[0] == "mul" else (left,)), right))


def _root(inner: Node, index: Node) -> Node:
    return ("fn", "root", (inner, index))
