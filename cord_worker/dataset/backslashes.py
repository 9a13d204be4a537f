"""Rejects rows whose LaTeX lost its backslashes on the way into the file, or restores the backslashes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from cord_worker import latex_repair
from cord_worker.dataset.jsontext import REPAIR_ADVICE
from cord_worker.dataset.records import Json
from cord_worker.dataset.values import Flaw


@dataclass(frozen=True, slots=True)
class Restored:
    """The row with its backslashes, and for each field the restored commands, in order.

    `left`: commands whose backslashes stay lost, in fields that are only stored. `doubtful`: places that may be a
    command or a space; they stay as they are.
    """

    row: dict[str, Json]
    commands: dict[str, list[str]]
    left: dict[str, list[str]] = field(default_factory=dict)
    doubtful: dict[str, list[str]] = field(default_factory=dict)


def restore_row(row: dict[str, Json], names: Iterable[str], *, repair: bool, damaged: str | None) -> Restored | Flaw:
    """Restores the lost backslashes of the row if `repair` is set; otherwise returns a Flaw for the first of them.

    Only the fields `names` can have a Flaw. With `repair`, only a place that may be a command or a space is a Flaw.
    In other fields, backslashes are restored with `repair` and otherwise stay lost. `damaged` is a command whose
    backslash had to be restored to decode the row; then doubtful places count too.
    """
    if damaged is None and not any(map(_may_be_damaged, row.values())):
        return Restored(row, _NOTHING)
    wanted = [name for name in dict.fromkeys(names) if name in row]
    present = [*wanted, *(name for name in row if name not in wanted)]
    named_texts = [(name, text) for name in present for text in _texts(row[name])]
    result = Restored(row, {} if damaged is None else _field_of_command(named_texts, damaged))
    if not any(latex_repair.is_suspect(text) for _, text in named_texts):
        return result
    found = latex_repair.lost_backslashes([text for _, text in named_texts], damaged=damaged is not None)
    mended: dict[str, str] = {}
    for (name, text), spots in zip(named_texts, found, strict=True):
        if name in wanted:
            flaw = _flaw(name, text, spots, repair=repair) if spots else None
            if flaw is not None:
                return flaw
            if not spots and latex_repair.is_suspect(text) and (unclear := latex_repair.doubtful_spots(text)):
                result.doubtful.setdefault(name, []).extend(spot.shown for spot in unclear)
        certain = [spot for spot in spots if spot.meaning is latex_repair.Meaning.COMMAND]
        if certain and repair:
            mended[text] = latex_repair.with_backslashes(text, certain)
            result.commands.setdefault(name, []).extend(spot.shown for spot in certain)
        elif certain:
            result.left.setdefault(name, []).extend(spot.shown for spot in certain)
    if not mended:
        return result
    changed = {name: _map_texts(row[name], lambda text: mended.get(text, text)) for name in present}
    return replace(result, row={name: changed[name] for name in row})


_NOTHING: dict[str, list[str]] = {}


def _may_be_damaged(value: Json) -> bool:
    return latex_repair.is_suspect(value) if isinstance(value, str) else bool(value) and isinstance(value, list | dict)


def _field_of_command(named_texts: list[tuple[str, str]], command: str) -> dict[str, list[str]]:
    """The field whose text holds `command`, with the command; empty if none of `named_texts` does."""
    name = next((name for name, text in named_texts if f"\\{command}" in text), None)
    return {} if name is None else {name: [f"\\{command}"]}


def _flaw(name: str, text: str, spots: list[latex_repair.Spot], *, repair: bool) -> Flaw | None:
    """The flaw of a text with lost backslashes; None if `repair` can restore all of them."""
    doubtful = next((spot for spot in spots if spot.meaning is latex_repair.Meaning.EITHER), None)
    if repair and doubtful is None:
        return None
    spot = doubtful if repair and doubtful is not None else spots[0]
    control, rest = text[spot.at], spot.command[1:]
    what = f"holds {_CONTROL_NAMES[control]} before {rest!r} (character {spot.at + 1})"
    if repair:
        return Flaw(
            name,
            f"{what}, which may be {spot.shown} or meant as it is: write it with a backslash, or put another character "
            "between them",
        )
    return Flaw(
        name,
        f"{what}, which is what JSON makes of {spot.shown} when its backslash is not escaped: write \\{spot.shown} in "
        f"JSON{REPAIR_ADVICE}",
    )


_CONTROL_NAMES = {
    "\a": "a bell character",
    "\b": "a backspace",
    "\t": "a tab",
    "\n": "a line break",
    "\v": "a vertical tab",
    "\f": "a form feed",
    "\r": "a carriage return",
}


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)


def _map_texts(value: Json, change: Callable[[str], str]) -> Json:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_map_texts(item, change) for item in value]
    if isinstance(value, dict):
        return {name: _map_texts(item, change) for name, item in value.items()}
    return value
