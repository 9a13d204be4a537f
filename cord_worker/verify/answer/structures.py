"""Splits texts with several answers at their outermost signs: lists, sets, tuples, vectors and matrices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from cord_worker.verify.answer import expression
from cord_worker.verify.answer.expression import Node

_OPEN = frozenset("([{")
_CLOSE = frozenset(")]}")
_WORDS = re.compile(
    r",? (?:and|or|und|oder|et|ou|и|или|和|或|또는|و|أو|as well as) "
    r"|(?<=[\w)}]) ?(?:或|和|以及|또는) ?(?=[\w(\\-])|,? & |(?<!\\)\\(?:lor|land) "
    r"|(?<=[\d)}\]]) ?(?:or|and) ?(?=[\d(\[\\-]|[A-Za-z](?:_\w)?(?: ?\([a-z]\))? ?=)"
)
_THOUSANDS = re.compile(r",\d{3}(?!\d)")
_OR = re.compile(r"\b(?:or|oder|ou|или)\b|\\lor|或|또는|أو")
_AND = re.compile(r"\b(?:and|und|et|as well as)\b|&|\\land|和|以及|(?:^|\s)(?:и|و)(?:\s|$)")
_MATRIX = re.compile(
    r"\\begin ?\{(?P<kind>[a-zA-Z]*matrix|array)\*?\}(?: ?\{[lcr| ]*\})?(?P<body>.*)\\end ?\{(?P=kind)\*?\}", re.DOTALL
)
_BRACKETED_GRID = re.compile(
    r"(?:\[|\() ?(\\begin ?\{(?:array|matrix)\}.*\\end ?\{(?:array|matrix)\}) ?(?:\]|\))\Z", re.DOTALL
)
_MAX_PARTS = 200


@dataclass(frozen=True, slots=True)
class Parts:
    """The elements of a list, in order; `joined` is "and", "or", or "" if only commas join them."""

    items: tuple[str, ...]
    joined: str = ""


@dataclass(frozen=True, slots=True)
class Bracketed:
    """Elements within brackets: `kind` is "set", "tuple" (round or angle brackets), "square" or "half-open"."""

    items: tuple[str, ...]
    kind: str
    brackets: str


@lru_cache(maxsize=512)
def split(text: str, *, inside: bool = False) -> Parts:
    """The elements of a cleaned list; a text that is not a list is its only element.

    With `inside` (the text stood in brackets), a comma without a space also separates: `(1,200)`.
    """
    spaced = re.search(r", |;|\band\b|\bor\b", text) is not None
    parts: list[str] = []
    joints: list[str] = []
    depth = at = start = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            if text.startswith((r"\{", r"\langle"), at):
                depth += 1
            elif text.startswith((r"\}", r"\rangle"), at):
                depth -= 1
            elif depth <= 0 and at > start and (word := _WORDS.match(text, at)) is not None:
                joints.append(word[0])
                parts.append(text[start:at])
                at = start = word.end()
                continue
            at += 2
            continue
        if char in _OPEN:
            depth += 1
        elif char in _CLOSE:
            depth -= 1
        elif depth <= 0:
            word = _WORDS.match(text, at) if char in ", 或和以또oa" else None
            if word is not None and at > start:
                joints.append(word[0])
                parts.append(text[start:at])
                at = start = word.end()
                continue
            if char == ";" or (char == "," and not _is_thousands(text, at, allowed=spaced or not inside)):
                joints.append(",")
                parts.append(text[start:at])
                start = at + 1
        at += 1
        if len(parts) > _MAX_PARTS:
            return Parts((text,))
    parts.append(text[start:])
    items = tuple(
        part for part in (part.strip().removeprefix("and ").removeprefix("or ").strip() for part in parts) if part
    )
    if len(items) < 2:
        return Parts(items or (text,))
    whole = " ".join(joints + [part.strip()[:4] for part in parts[1:]])
    return Parts(items, "or" if _OR.search(whole) else "and" if _AND.search(whole) else "")


def _is_thousands(text: str, at: int, *, allowed: bool) -> bool:
    if not allowed or at == 0 or not text[at - 1].isdigit() or not _THOUSANDS.match(text, at):
        return False
    before = re.search(r"[\d,]*$", text[max(0, at - 40) : at])
    digits = before[0] if before else ""
    return re.fullmatch(r"\d{1,3}(?:,\d{3})*", digits) is not None


def split_brackets(text: str) -> Bracketed | None:
    """The elements of one pair of brackets around the whole text; None if there is no such pair."""
    for opening, closing, kind in (
        (r"\{", r"\}", "set"), (r"\langle", r"\rangle", "tuple"), ("{", "}", "set"), ("(", ")", "tuple"),
        ("[", "]", "square"), ("<", ">", "tuple"), ("[", ")", "half-open"), ("(", "]", "half-open"),
    ):  # fmt: skip
        if len(text) > len(opening + closing) and text.startswith(opening) and text.endswith(closing):
            inner = text[len(opening) : -len(closing)].strip()
            if not _closes_at_end(text):
                continue
            if opening == "<" and re.search("[<>]", inner):
                continue
            return Bracketed(split(inner, inside=True).items, kind, opening + closing)
    return None


def _closes_at_end(text: str) -> bool:
    depth = 0
    for match in re.finditer(r"\\[a-zA-Z]+|\\?[()\[\]{}<>]", text):
        sign = match[0].lstrip("\\")
        if sign in ("(", "[", "{", "langle") or (sign == "<" and match.start() == 0):
            depth += 1
        elif sign in (")", "]", "}", "rangle") or (sign == ">" and match.end() == len(text)):
            depth -= 1
            if depth == 0 and match.end() < len(text):
                return False
    return depth == 0


@dataclass(frozen=True, slots=True)
class Matrix:
    """Cells row by row; `determinant` if the matrix stands between bars."""

    rows: tuple[tuple[str, ...], ...]
    determinant: bool = False


@lru_cache(maxsize=128)
def matrix(text: str) -> Matrix | None:
    """The matrix that a text writes in LaTeX, or as a list of lists of one length; None if it is not a matrix."""
    text = text.strip()
    if match := _MATRIX.fullmatch(_BRACKETED_GRID.sub(r"\1", text)):
        body = match["body"]
        if r"\begin" in body:
            return None
        rows = [row.strip() for row in re.split(r"\\\\(?: ?\[[^\]]*\])?|\\cr\b", body)]
        cells = tuple(tuple(cell.strip() for cell in row.split("&")) for row in rows if row.strip(" &"))
        if not cells or len({len(row) for row in cells}) != 1:
            return None
        return Matrix(cells, match["kind"] in ("vmatrix", "Vmatrix"))
    outer = split_brackets(text) if text.startswith(("[[", "[ [", "((")) else None
    if outer is None or len(outer.items) < 1:
        return None
    found = []
    for item in outer.items:
        row = split_brackets(item)
        if row is None or row.kind not in ("square", "tuple"):
            return None
        found.append(row.items)
    return Matrix(tuple(found)) if len({len(row) for row in found}) == 1 else None


_GRID = re.compile(r"\\begin ?\{([a-z]*matrix)\}(?:(?!\\begin|\\end).)*\\end ?\{\1\}", re.DOTALL)
_OPERATION = re.compile(r" ?(\+|-|\\cdot|\\times|\*|) ?")
_MAX_CELLS = 16
Trees = tuple[tuple[Node, ...], ...]


def computed_matrix(text: str) -> Trees | None:
    """The value of a sum, a difference or a product of small matrices, or of a number times one; otherwise None."""
    grids = list(_GRID.finditer(text))
    if not 1 <= len(grids) <= 4 or text[grids[-1].end() :].strip():
        return None
    factor = _factor(text[: grids[0].start()].strip())
    if factor is None or (len(grids) == 1 and factor == expression.number(1)):
        return None
    terms: list[Trees] = []
    for before, grid in zip([None, *grids], grids, strict=False):
        sign = _OPERATION.fullmatch(text, before.end(), grid.start()) if before else None
        cells = _trees(grid[0])
        if cells is None or (before and sign is None):
            return None
        if sign is None or sign[1] in ("+", "-"):
            negative = sign is not None and sign[1] == "-"
            signed = ("neg", expression.number(1)) if negative else expression.number(1) if terms else factor
            terms.append(tuple(tuple(("mul", (signed, cell)) for cell in row) for row in cells))
            continue
        product = _product(terms[-1], cells)
        if product is None:
            return None
        terms[-1] = product
    if len({(len(term), len(term[0])) for term in terms}) != 1:
        return None
    return tuple(tuple(("add", cells) for cells in zip(*rows, strict=True)) for rows in zip(*terms, strict=True))


def _factor(text: str) -> Node | None:
    """The number before a matrix; 1 if there is none."""
    if text in ("", "-"):
        return expression.number(-1 if text else 1)
    tree = expression.parse(re.sub(r" ?(?:\\cdot|\\times|\*)$", "", text)) if len(text) < 60 else None
    return None if tree is None or expression.symbols(tree) else tree


def _trees(text: str) -> Trees | None:
    found = matrix(text)
    if found is None or found.determinant or len(found.rows) * len(found.rows[0]) > _MAX_CELLS:
        return None
    trees = [[expression.parse(cell) for cell in row] for row in found.rows]
    known = tuple(tuple(tree for tree in row if tree is not None) for row in trees)
    return known if all(len(row) == len(found.rows[0]) for row in known) else None


def _product(left: Trees, right: Trees) -> Trees | None:
    if len(left[0]) != len(right):
        return None
    columns = list(zip(*right, strict=True))
    return tuple(
        tuple(("add", tuple(("mul", pair) for pair in zip(row, column, strict=True))) for column in columns)
        for row in left
    )


_BASES = ("i", "j", "k")


def by_unit_vectors(text: str, size: int) -> tuple[Node, ...] | None:
    """The components of `2\\mathbf{i}-\\mathbf{j}`; None if the text is not such a sum."""
    tree = expression.parse(text)
    if tree is None or not 2 <= size <= 3:
        return None
    named = {name for name in expression.symbols(tree) if name.split()[-1] in _BASES and not name.startswith("mathbb")}
    marked = {name for name in named if " " in name}
    if not marked and not {"j", "k"} & named:
        return None
    names = marked or named | {"i"}
    at_zero = _with_numbers(tree, dict.fromkeys(names, 0))
    found: list[Node] = []
    for base in _BASES[:size]:
        at_one = _with_numbers(tree, {name: int(name.split()[-1] == base) for name in names})
        found.append(("add", (at_one, ("neg", at_zero))))
    if size == 2 and any(name.split()[-1] == "k" for name in named):
        return None
    return tuple(found)


def _with_numbers(tree: Node, values: dict[str, int]) -> Node:
    if tree[0] in ("sym", "const") and tree[1] in values:
        return expression.number(values[tree[1]])
    return expression.map_children(tree, lambda child: _with_numbers(child, values))
