"""Compares lists, sets, tuples, vectors and matrices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from cord_worker.verify.answer import equations, expression, labels, numbers, quantities, realsets, structures
from cord_worker.verify.answer.context import Context, Outcome
from cord_worker.verify.answer.expression import Node
from cord_worker.verify.answer.value import compare_constants, same_value

MAX_ITEMS = 200
_MAX_UNORDERED = 60
_SIGN = re.compile(r"\\pm(?![a-z])|\\mp(?![a-z])|\+/-|\+-")
_DECIMAL_COMMA = re.compile(r"-?(?:0,\d+|\d+,\d{1,2})")
"""A number with a comma that cannot separate thousands."""
_DECIMAL_POINT = re.compile(r"-?\d+\.\d+")
_BETWEEN_SOLUTIONS = re.compile(r" ?; ?(?:or |and )?|,? or ")
Item = str | Node


@dataclass(frozen=True, slots=True)
class Elements:
    """The elements of a text.

    Attributes:
        kind: "set", "tuple", "square" (brackets), "half-open" or "list" (without brackets).
        joined: "and", "or", or "" if only commas join them.
        names: one name for each element, as in `x=1, y=2`.
        name: the one name of all elements, as in `x = 1 or x = 2`.
    """

    items: tuple[Item, ...]
    kind: str
    joined: str = ""
    names: tuple[str, ...] | None = None
    name: str | None = None


def elements(text: str) -> Elements:
    """The elements of a text; a text that is not a list is its only element."""
    name: str | None = None
    if match := re.match(r"[a-zA-Z](?:_\w)? ?\\in(?![a-z]) ?(?=\\\{|\{)", text):
        name, text = text[0], text[match.end() :]
    for _ in range(2):
        equation = equations.equation(text) if "=" in text else None
        if equation is not None and equation.name is not None and not equation.between:
            pieces = structures.split(text).items
            if len(pieces) > 1 and sum("=" in piece for piece in pieces) > 1:
                break
            name, text = equation.name, equation.right
    if (solutions := _solutions(text)) is not None:
        return solutions
    brackets = structures.split_brackets(text)
    if brackets is not None and (len(brackets.items) > 1 or brackets.kind == "set" or brackets.kind == "square"):
        return Elements(_expand_signs(brackets.items), brackets.kind, name=name)
    parts = structures.split(text)
    if len(parts.items) < 2:
        both = _expand_signs((text,))
        return Elements(both, "set" if len(both) > 1 else "list", "or" if len(both) > 1 else "", name=name)
    named = [_name_and_value(item) for item in parts.items]
    names = [one[0] if one else None for one in named]
    if all(names):
        values = tuple(one[1] for one in named if one)
        if len(set(names)) == 1:
            return Elements(_expand_signs(values), "list", parts.joined, name=names[0])
        return Elements(values, "list", parts.joined, tuple(str(one) for one in names))
    if names[0] and not any(names[1:]):
        name = names[0]
        items = (named[0][1] if named[0] else parts.items[0], *parts.items[1:])
        return Elements(_expand_signs(items), "list", parts.joined, name=name)
    return Elements(_expand_signs(parts.items), "list", parts.joined, name=name)


def _solutions(text: str) -> Elements | None:
    """The solutions in `x=1, y=2; x=3, y=4` as tuples, each in the order of its names; None for other texts."""
    if text.count("=") < 4 or not _BETWEEN_SOLUTIONS.search(text):
        return None
    tuples: list[str] = []
    names: tuple[str, ...] = ()
    for piece in _BETWEEN_SOLUTIONS.split(text)[:MAX_ITEMS]:
        named = sorted(one for item in structures.split(piece).items if (one := _name_and_value(item)) is not None)
        found = tuple(name for name, _ in named)
        if len(found) != len(structures.split(piece).items) or len(set(found)) < 2 or (names and names != found):
            return None
        names = found
        tuples.append(f"({', '.join(value for _, value in named)})")
    return Elements(tuple(tuples), "list") if len(tuples) > 1 else None


def _name_and_value(item: str) -> tuple[str, str] | None:
    equation = equations.equation(item)
    return (equation.name, equation.right) if equation and equation.name and not equation.between else None


def _expand_signs(items: tuple[str, ...]) -> tuple[Item, ...]:
    """The items, with each ± replaced by two elements."""
    found: list[Item] = []
    for item in items:
        if not _SIGN.search(item):
            found.append(item)
            continue
        tree = expression.parse(re.sub(r"\+/-|\+-", r"\\pm ", item))
        found.extend([item] if tree is None else expression.plus_minus(tree))
    return tuple(found)


def compare_elements(reference: Elements, given: Elements, context: Context) -> Outcome:
    """Compares two lists, in any order if the order does not count."""
    if reference.name and given.name and not equations.same_names(reference.name, given.name):
        return Outcome(False, "the value of another name")
    if reference.names or given.names:
        return _compare_by_names(reference, given, context)
    if reference.kind == "set" and len(reference.items) > 0:
        if given.kind == "tuple":
            equal = _without_order(reference.items, given.items, context, repeated=False).equal
            return Outcome(False if equal is False else None, "a tuple for a set")
        found = _without_order(reference.items, given.items, context, repeated=False)
        if found.equal and given.kind == "square" and len(given.items) == 2:
            return Outcome(None, "an interval, or a list in square brackets")
        return found
    more = len(reference.items) < len(given.items) and reference.kind == given.kind == "list"
    if (
        more
        and not context.ordered
        and all(isinstance(one, str) and structures.split_brackets(one) for one in given.items)
    ):
        # A list of points is a set: a repeated point adds none.
        given = replace(given, items=tuple(dict.fromkeys(_without_spaces(item) for item in given.items)))
    if len(reference.items) != len(given.items):
        if given.kind == "set" and reference.kind == "list":
            return _without_order(reference.items, given.items, context, repeated=False)
        return Outcome(False, f"{len(given.items)} elements for {len(reference.items)}")
    if {reference.kind, given.kind} == {"tuple", "square"} and len(reference.items) == 2:
        equal = _in_order(reference.items, given.items, context).equal
        return Outcome(False if equal is False else None, "round brackets for square ones")
    if (reference.kind == "half-open") != (given.kind == "half-open"):
        return Outcome(False, "other brackets")
    if reference.kind in ("tuple", "half-open"):
        if given.kind == "set":
            equal = _without_order(reference.items, given.items, context, repeated=False).equal
            return Outcome(False if equal is False else None, "a set for a tuple")
        in_order = _in_order(reference.items, given.items, context)
        if in_order.equal and given.kind == "list" and reference.kind == "tuple" and not _order_counts(context):
            return Outcome(None, "the elements of a tuple, without its brackets")
        return in_order
    return _compare_lists(reference, given, context)


def _without_spaces(item: Item) -> Item:
    return item.replace(" ", "") if isinstance(item, str) and not re.search(r"\\[a-z]|[a-z]{2}", item) else item


def _compare_lists(reference: Elements, given: Elements, context: Context) -> Outcome:
    in_order = _in_order(reference.items, given.items, context)
    if in_order.equal and given.kind == "tuple" and reference.kind == "list" and not _order_counts(context):
        return Outcome(None, "a tuple, and the reference has no brackets")
    if in_order.equal or context.ordered:
        return in_order
    unordered = _without_order(reference.items, given.items, context, repeated=True)
    if not unordered.equal:
        return in_order if in_order.equal is None else unordered
    if context.ordered is False or given.kind == "set":
        return unordered
    if given.kind == "tuple":
        return Outcome(None, "a tuple in another order")
    if reference.joined != "or" and _looks_like_a_sequence(reference.items):
        return Outcome(None, "a sequence in another order, or a set")
    return unordered


def _order_counts(context: Context) -> bool:
    """True if the question or the rule says that the order counts, so that a list without brackets is ordered too."""
    return bool(context.ordered)


def _looks_like_a_sequence(items: Sequence[Item]) -> bool:
    """True for three or more numbers that are not sorted: the elements of a set would usually be sorted."""
    if len(items) < 3:
        return any(isinstance(item, str) and r"\ldots" in item for item in items)
    if any(isinstance(item, str) and (r"\ldots" in item or item == "...") for item in items):
        return True
    values: list[Node] = []
    for item in items:
        if isinstance(item, str) and (place := numbers.ordinal(item)) is not None:
            values.append(expression.number(place))
            continue
        found = quantities.quantity(item) or quantities.bare(item) if isinstance(item, str) else None
        if found is None:
            return False
        values.append(found.value)
    steps = [compare_constants(one, other) for one, other in pairwise(values)]
    return None not in steps and len({step for step in steps if step}) > 1


def _compare_by_names(reference: Elements, given: Elements, context: Context) -> Outcome:
    if reference.names and given.names:
        wanted, found = (
            dict(zip(reference.names, reference.items, strict=True)),
            dict(zip(given.names, given.items, strict=True)),
        )
        if len(wanted) < len(reference.names) or len(found) < len(given.names):
            return Outcome(None, "a name is given twice")
        if set(wanted) != set(found):
            return Outcome(False, "other names")
        return _all((same_item(wanted[name], found[name], context) for name in wanted), "each name has the same value")
    listed, plain = (reference, given) if reference.names else (given, reference)
    if len(listed.items) != len(plain.items):
        return Outcome(False, "another number of elements")
    in_order = _in_order(reference.items, given.items, context)
    if in_order.equal is False and given.names and reference.kind == "tuple":
        return in_order
    names = [re.sub(r"\W", "", name) for name in listed.names or ()]
    if in_order.equal and given.names and reference.kind == "tuple" and names == sorted(names):
        return Outcome(True, "the same coordinates, by their names")
    if in_order.equal and plain.kind == "list" and (names == sorted(names) or not _are_coordinates(names)):
        return Outcome(True, "the same values, in the order of their names")
    if in_order.equal is False and not _without_order(reference.items, given.items, context, repeated=True).equal:
        return Outcome(False, "other values")
    return Outcome(None, "names on one side only")


def _are_coordinates(names: Sequence[str]) -> bool:
    """True for consecutive letters, which have their own order: `y=2, x=1` may be (1, 2) or (2, 1)."""
    letters = "".join(sorted(name[:1] for name in names))
    return letters in "abcdefghijklmnopqrstuvwxyz" or letters in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _in_order(reference: Sequence[Item], given: Sequence[Item], context: Context) -> Outcome:
    return _all(
        (same_item(one, other, context) for one, other in zip(reference, given, strict=True)),
        "the same elements in this order",
    )


def _all(found: Iterable[bool | None], why: str) -> Outcome:
    """The outcome of comparing element by element; `why` is the reason if all are the same."""
    undecided = False
    for one in found:
        if one is False:
            return Outcome(False, "another element")
        undecided |= one is None
    return Outcome(None, "an element cannot be decided") if undecided else Outcome(True, why)


def _without_order(reference: Sequence[Item], given: Sequence[Item], context: Context, *, repeated: bool) -> Outcome:
    """Compares elements in any order; with `repeated`, an element must occur as often on both sides."""
    if max(len(reference), len(given)) > _MAX_UNORDERED:
        return Outcome(None, "too many elements to compare without an order")
    undecided = False
    left = list(given)
    for one in reference:
        results = [(other, same_item(one, other, context)) for other in (left if repeated else given)]
        match = next((other for other, same in results if same), None)
        if match is None:
            undecided |= any(same is None for _, same in results)
            if not undecided:
                return Outcome(False, "an element is missing")
        elif repeated:
            left.remove(match)
    if undecided:
        return Outcome(None, "an element cannot be decided")
    if not repeated:
        for other in given:
            if not any(same_item(one, other, context) for one in reference):
                return Outcome(False, "an element too many")
    elif left:
        return Outcome(False, "an element too many")
    return Outcome(True, "the same elements")


def same_item(reference: Item, given: Item, context: Context) -> bool | None:
    """True if two elements are the same; None if that cannot be decided. Elements made from a ± are trees."""
    if isinstance(reference, str) and isinstance(given, str):
        return True if reference == given and reference else context.same(reference, given)
    trees = [_tree(item) for item in (reference, given)]
    if trees[0] is None or trees[1] is None:
        return False
    left, right = (quantities.Quantity(tree) for tree in trees if tree is not None)
    for side, item in ((0, reference), (1, given)):
        if isinstance(item, str) and (found := quantities.quantity(item) or quantities.bare(item)):
            left, right = (found, right) if side == 0 else (left, found)
    return quantities.same_quantity(left, right)


def _tree(item: Item) -> Node | None:
    if not isinstance(item, str):
        return item
    equation = equations.equation(item)
    if equation is not None and equation.name:
        item = equation.right
    found = quantities.quantity(item) or quantities.bare(item)
    return found.value if found else None


def list_family(reference: str, given: str, context: Context) -> tuple[str, Outcome] | None:
    """Compares a reference that lists several answers: its type, such as "set", "tuple" or "list", and the outcome.

    None if the reference is not a list.
    """
    wanted = elements(reference)
    single = len(wanted.items) < 2 and wanted.kind != "set"
    if single or len(wanted.items) > MAX_ITEMS:
        return None
    if wanted.kind == "square" and len(wanted.items) == 2:
        return None
    type_name = {"set": "set", "tuple": "tuple", "square": "list", "half-open": "interval"}.get(wanted.kind, "list")
    texts = tuple(item for item in wanted.items if isinstance(item, str))
    if wanted.kind == "list" and len(texts) == len(wanted.items):
        special = _compare_choices(texts, wanted.joined, given, context) or _compare_pairs(texts, given)
        if special is not None:
            return special
    if wanted.kind == "list" and (comma := numbers.other_reading(reference)) is not None:
        found_number = quantities.bare(given)
        if found_number is not None and found_number.number and found_number.number.value == comma.value:
            if _DECIMAL_COMMA.fullmatch(reference) and _DECIMAL_POINT.fullmatch(given):
                return "number", Outcome(True, "the same number, with a decimal comma")
            return type_name, Outcome(None, "a list, or a decimal comma")
    found = elements(given)
    if wanted.kind == "tuple" and (other := _compare_tuple_notations(wanted, given, context)) is not None:
        return type_name, other
    if wanted.kind in ("set", "list") and len(found.items) == 1 and found.kind == "list" and len(wanted.items) > 1:
        return type_name, Outcome(False, "one element only")
    outcome = compare_elements(wanted, found, context)
    if wanted.kind == "list" and outcome.equal and {wanted.joined, found.joined} == {"and", "or"}:
        if _are_words(texts) or (wanted.names and found.names):
            return type_name, Outcome(False, 'one says "and", the other "or"')
        if not (wanted.name or found.name):
            return type_name, Outcome(None, 'one says "and", the other "or"')
    return type_name, outcome


def _are_words(items: tuple[str, ...]) -> bool:
    return bool(items) and all(re.fullmatch(r"[^\W\d_]+(?: [^\W\d_]+)*", item) for item in items)


def _compare_choices(items: tuple[str, ...], joined: str, given: str, context: Context) -> tuple[str, Outcome] | None:
    """Compares several choices: their order does not count, but "A and B" is not "A or B"."""
    wanted = labels.letters(items)
    if wanted is None:
        return None
    found_parts = structures.split(re.sub(r"^both ", "", given))
    found = labels.letters(found_parts.items)
    if found is None and re.fullmatch("[A-J]{2,10}", given) and "".join(sorted(set(given))) == given:
        found, found_parts = frozenset(given), structures.Parts(tuple(given))
    if found is None:
        return "choice", Outcome(
            None if re.fullmatch("[A-J]{2,10}", given) else False, "another answer than these choices"
        )
    if found != wanted:
        return "choice", Outcome(False, "other choices")
    ranked = list(items) != sorted(items) and joined == ""
    if ranked and context.ordered is None and tuple(items) != found_parts.items:
        return "choice", Outcome(None, "choices that may be a ranking, in another order")
    if context.ordered and tuple(items) != found_parts.items:
        return "choice", Outcome(False, "the choices in another order")
    kinds = {joined, found_parts.joined}
    if kinds == {"and", "or"}:
        return "choice", Outcome(False, 'one says "and", the other "or"')
    if "or" in kinds and len(kinds) > 1:
        return "choice", Outcome(None, 'only one says "or"')
    return "choice", Outcome(True, "the same choices")


def _compare_pairs(items: tuple[str, ...], given: str) -> tuple[str, Outcome] | None:
    wanted = labels.matching(items)
    if wanted is None:
        return None
    found = labels.matching(structures.split(given).items)
    if found is None:
        return "matching", Outcome(None, "no list of pairs")
    return "matching", Outcome(wanted == found, "the same pairs" if wanted == found else "other pairs")


def _compare_tuple_notations(wanted: Elements, given: str, context: Context) -> Outcome | None:
    """Compares a tuple with another notation: a column, unit vectors, or (for an interval) an inequality; None if
    `given` has no such notation."""
    grid = structures.matrix(given)
    if grid is not None:
        flat = [cell for row in grid.rows for cell in row]
        if len(grid.rows) > 1 and len(grid.rows[0]) > 1:
            return Outcome(False, "a matrix")
        same = len(flat) == len(wanted.items) and _in_order(wanted.items, flat, context).equal is not False
        return Outcome(None, "a vector for a tuple") if same else Outcome(False, "other components")
    if len(wanted.items) == 2 and re.search(r"[<>]|\\le|\\ge|\\mathbb", given):
        left = realsets.read(f"({wanted.items[0]}, {wanted.items[1]})")
        right = realsets.read(given)
        if left and right:
            same_as_sets = realsets.same_set(left[0], right[0])
            return Outcome(same_as_sets, "the same interval" if same_as_sets else "another set")
    components = structures.by_unit_vectors(given, len(wanted.items))
    if components is not None:
        return _all(
            (_same_node(one, other) for one, other in zip(wanted.items, components, strict=True)), "the same components"
        )
    return None


def _same_node(item: Item, tree: Node) -> bool | None:
    wanted = _tree(item)
    return None if wanted is None else same_value(wanted, tree)


def matrix_family(reference: str, given: str, context: Context) -> Outcome | None:
    """Compares a reference that is a matrix or a column; None if it is neither."""
    wanted = structures.matrix(reference)
    if wanted is None:
        return None
    equation = equations.equation(given)
    if equation is not None and equation.name:
        given = equation.right
    flat = [cell for row in wanted.rows for cell in row]
    is_vector = len(wanted.rows) == 1 or len(wanted.rows[0]) == 1
    found = structures.matrix(given)
    computed = structures.computed_matrix(given) if found is None else None
    if computed is not None:
        if (len(computed), len(computed[0])) != (len(wanted.rows), len(wanted.rows[0])) or wanted.determinant:
            return Outcome(False, "a matrix of another size")
        trees = [tree for row in computed for tree in row]
        return _all((_same_node(one, tree) for one, tree in zip(flat, trees, strict=True)), "the same matrix, computed")
    if found is None:
        return _compare_with_vector(flat, given, context) if is_vector else Outcome(False, "no matrix")
    if found.determinant != wanted.determinant:
        return Outcome(None, "a matrix or its determinant")
    if (len(found.rows), len(found.rows[0])) != (len(wanted.rows), len(wanted.rows[0])):
        cells = [cell for row in found.rows for cell in row]
        same = is_vector and len(cells) == len(flat) and 1 in (len(found.rows), len(found.rows[0]))
        if same and _in_order(flat, cells, context).equal is not False:
            return Outcome(None, "a row for a column")
        return Outcome(False, "a matrix of another size")
    return _in_order(flat, [cell for row in found.rows for cell in row], context)


def _compare_with_vector(flat: list[str], given: str, context: Context) -> Outcome:
    """Compares the components `flat` of a vector with an answer that is not a matrix."""
    components = structures.by_unit_vectors(given, len(flat))
    if components is not None:
        results = (_same_node(one, other) for one, other in zip(flat, components, strict=True))
        return _all(results, "the same components")
    found = elements(given)
    if len(found.items) == len(flat) > 1 and _in_order(flat, found.items, context).equal is not False:
        return Outcome(None, "a tuple for a vector")
    return Outcome(False, "no vector with these components")
