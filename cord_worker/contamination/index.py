"""`QuestionIndex`: finds the questions of a benchmark in other questions.

Memory grows with the benchmark alone: words that it does not have are all the same unknown word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cord_worker.contamination.grams import Hashes, HashTable, Ids, Weights, joined, random_values, windows
from cord_worker.contamination.hits import Hit, HitKind, Question
from cord_worker.contamination.normal_form import NUMBER, is_dense, tokens, without_numbers

_GAP = " … "
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts as a hit. Lengths are pairs: in words, and in characters for scripts that are compared by characters.

    Attributes:
        run: consecutive tokens in common for `ngram`; a shorter question of the benchmark must occur whole.
        shortest: tokens of the shortest question that can have a hit other than `exact`.
        boilerplate: a run that more than this many different questions of the benchmark have is a common phrase, not a
            hit.
        gram: length of the n-grams of `containment`.
        contained: least share of the benchmark question's n-grams for `containment`. They are weighted by
            log((questions + 1) / questions with it), so that common phrases count little.
    """

    run: tuple[int, int] = (13, 30)
    shortest: tuple[int, int] = (8, 16)
    boilerplate: int = 3
    gram: tuple[int, int] = (3, 4)
    contained: float = 0.4


DEFAULT_THRESHOLDS = Thresholds()


class _Entry(NamedTuple):
    """A question of the benchmark; equal questions share one entry, which holds the first. `ids` are its tokens in the
    vocabulary; `dense`: its script is compared by characters."""

    question: Question
    ids: list[int]
    dense: bool


class _Runs(NamedTuple):
    """The n-grams of one length: their table, and the entry and place of each key."""

    table: HashTable
    entries: Ids
    places: Ids


class _Contained(NamedTuple):
    """The n-grams of one length for `containment`: a table of the rarest ones of each entry, and by entry all of them
    with their weights, whose sum is 1."""

    table: HashTable
    entries: Ids
    grams: dict[int, tuple[Hashes, Weights]]


class QuestionIndex:
    """The questions of a benchmark, prepared for looking them up."""

    def __init__(self, questions: Iterable[Question], thresholds: Thresholds = DEFAULT_THRESHOLDS) -> None:
        self.count = 0
        """Number of questions, equal ones included."""
        self._thresholds = thresholds
        self._vocabulary: dict[str, int] = {}
        self._entries: list[_Entry] = []
        self._exact: dict[str, int] = {}
        self._renumbered: dict[str, int] = {}
        for question in questions:
            self.count += 1
            self._add(question)
        self._values = random_values(len(self._vocabulary) + 1)
        self._runs = dict(self._prepared_runs())
        self._contained = dict(self._prepared_contained())

    def hits(self, texts: Sequence[str]) -> list[list[Hit]]:
        """For each text its hits, at most one for each different question of the benchmark, the strongest first.

        Some thousand texts in one call are faster than one at a time.
        """
        return [_sorted(found.values()) for found in self._find([tokens(text) for text in texts])]

    def repeats(self, questions: Sequence[Question]) -> list[list[Hit]]:
        """Like `hits`, for the questions from which the index was made: the hits of each on the questions before it.

        A question that repeats an earlier one exactly has only that hit.
        """
        forms = [tokens(question.text) for question in questions]
        own = [self._exact.get(" ".join(form), 0) for form in forms]
        return [
            _sorted(hit for other, hit in found.items() if other < entry)
            if self._entries[entry].question == question
            else [hit for other, hit in found.items() if other == entry]
            for question, entry, found in zip(questions, own, self._find(forms), strict=True)
        ]

    def _add(self, question: Question) -> None:
        form = tokens(question.text)
        whole = " ".join(form)
        if not form or whole in self._exact:
            return
        number = len(self._entries)
        self._exact[whole] = number
        vocabulary = self._vocabulary
        dense = is_dense(form)
        self._entries.append(_Entry(question, [vocabulary.setdefault(one, len(vocabulary) + 1) for one in form], dense))
        key = self._renumbered_key(form, dense)
        if key is not None:
            self._renumbered.setdefault(key, number)

    def _renumbered_key(self, form: list[str], dense: bool) -> str | None:
        """The form without its numbers; None if it has no number, or too few other tokens."""
        bare = without_numbers(form)
        numbers = bare.count(NUMBER)
        if not numbers or len(bare) - numbers < self._thresholds.shortest[dense]:
            return None
        return " ".join(bare)

    def _prepared_runs(self) -> Iterator[tuple[int, _Runs]]:
        """The n-grams for `ngram`, by length: that of `run`, or the whole entry if it is shorter."""
        by_size: dict[int, list[int]] = {}
        for number, entry in enumerate(self._entries):
            if len(entry.ids) >= self._thresholds.shortest[entry.dense]:
                by_size.setdefault(min(self._thresholds.run[entry.dense], len(entry.ids)), []).append(number)
        for size, numbers in by_size.items():
            hashes, entries, places = self._grams(numbers, size)
            _, groups, counts = np.unique(hashes, return_inverse=True, return_counts=True)
            rare = counts[groups] <= self._thresholds.boilerplate
            yield size, _Runs(HashTable(hashes[rare]), entries[rare], places[rare])

    def _prepared_contained(self) -> Iterator[tuple[tuple[int, bool], _Contained]]:
        """The n-grams for `containment`, by their length and whether the script is compared by characters.

        Only the rarest n-grams of each entry are looked up. The others together weigh less than `contained`, so a text
        with none of the rarest cannot reach that share.
        """
        for dense in (False, True):
            size = self._thresholds.gram[dense]
            least = self._thresholds.shortest[dense]
            numbers = [n for n, entry in enumerate(self._entries) if entry.dense is dense and len(entry.ids) >= least]
            if not numbers:
                continue
            hashes, entries, _ = self._grams(numbers, size)
            _, groups, counts = np.unique(hashes, return_inverse=True, return_counts=True)
            weights = np.log((len(numbers) + 1) / counts[groups])
            order = np.lexsort((-weights, entries))
            hashes, entries, weights = hashes[order], entries[order], weights[order]
            looked_up = np.zeros(len(hashes), bool)
            grams = {}
            firsts = np.flatnonzero(np.diff(entries, prepend=-1)).tolist()
            for first, end in zip(firsts, [*firsts[1:], len(hashes)], strict=True):
                shares = weights[first:end] / weights[first:end].sum()
                others = 1 - np.cumsum(shares)
                needed = int(np.count_nonzero(others >= self._thresholds.contained - _ROUNDING)) + 1
                looked_up[first : first + needed] = True
                grams[int(entries[first])] = (hashes[first:end], shares)
            yield (size, dense), _Contained(HashTable(hashes[looked_up]), entries[looked_up], grams)

    def _grams(self, numbers: Sequence[int], size: int) -> tuple[Hashes, Ids, Ids]:
        """The different n-grams of each of these entries: hash, entry, first place in it."""
        flat, starts = joined([self._entries[number].ids for number in numbers])
        for _, places, hashes in windows(flat, self._values, [size]):
            owners = np.searchsorted(starts, places, "right") - 1
            first = _first_of_each(owners, hashes)
            owners, places, hashes = owners[first], places[first], hashes[first]
            return hashes, np.asarray(numbers, np.int64)[owners], places - starts[owners]
        return np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64)

    def _find(self, forms: Sequence[list[str]]) -> list[dict[int, Hit]]:
        """For each form the strongest hit on each entry, by the entry's number."""
        found: list[dict[int, Hit]] = [self._same_form(form) for form in forms]
        known = self._vocabulary.get
        id_lists = [[known(token, 0) for token in form] for form in forms]
        flat, starts = joined(id_lists)
        sizes = {*self._runs, *(size for size, _ in self._contained)}
        for size, places, hashes in windows(flat, self._values, sorted(sizes)):
            owners = np.searchsorted(starts, places, "right") - 1
            first = _first_of_each(owners, hashes)
            owners, places, hashes = owners[first], places[first], hashes[first]
            if size in self._runs:
                for text, entry, hit in self._common_runs(
                    size, id_lists, forms, owners, places - starts[owners], hashes
                ):
                    _keep(found[text], entry, hit)
            for dense in (False, True):
                contained = self._contained.get((size, dense))
                if contained is not None:
                    for text, entry, hit in self._containments(
                        size, contained, forms, owners, places - starts[owners], hashes
                    ):
                        _keep(found[text], entry, hit)
        return found

    def _same_form(self, form: list[str]) -> dict[int, Hit]:
        """Hits on the entries that are equal to this form, with or without its numbers."""
        found: dict[int, Hit] = {}
        whole = " ".join(form)
        number = self._exact.get(whole)
        if number is not None:
            found[number] = self._hit(HitKind.EXACT, number, 1.0, whole)
        for dense in (False, True):
            key = self._renumbered_key(form, dense)
            number = None if key is None else self._renumbered.get(key)
            if number is not None and number not in found and self._entries[number].dense is dense:
                found[number] = self._hit(HitKind.RENUMBERED, number, 1.0, str(key))
        return found

    def _hit(self, kind: HitKind, number: int, score: float, matching: str) -> Hit:
        return Hit(kind, self._entries[number].question, score, matching)

    def _common_runs(
        self,
        size: int,
        id_lists: Sequence[list[int]],
        forms: Sequence[list[str]],
        owners: Ids,
        places: Ids,
        hashes: Hashes,
    ) -> Iterator[tuple[int, int, Hit]]:
        """(text, entry, hit) for the longest run of tokens that a text has in common with an entry, if it is long
        enough."""
        runs = self._runs[size]
        at, key = runs.table.find(hashes)
        texts, entries = owners[at], runs.entries[key]
        here, there = places[at], runs.places[key]
        longest: dict[tuple[int, int], tuple[int, int]] = {}
        ends: dict[tuple[int, int, int], int] = {}
        order = np.lexsort((here, entries, texts))
        for text, entry, mine, theirs in zip(
            *(one[order].tolist() for one in (texts, entries, here, there)), strict=True
        ):
            diagonal = (text, entry, mine - theirs)
            if mine < ends.get(diagonal, 0):
                continue  # part of the previous run
            begin, end = _run(id_lists[text], self._entries[entry].ids, mine, theirs)
            ends[diagonal] = end
            length, _ = longest.get((text, entry), (0, 0))
            if end - begin > max(length, size - 1):
                longest[text, entry] = (end - begin, begin)
        for (text, entry), (length, begin) in longest.items():
            score = length / len(self._entries[entry].ids)
            matching = " ".join(forms[text][begin : begin + length])
            yield text, entry, self._hit(HitKind.NGRAM, entry, score, matching)

    def _containments(
        self, size: int, contained: _Contained, forms: Sequence[list[str]], owners: Ids, places: Ids, hashes: Hashes
    ) -> Iterator[tuple[int, int, Hit]]:
        """(text, entry, hit) for each text that contains enough n-grams of an entry."""
        at, key = contained.table.find(hashes)
        if not len(at):
            return
        pairs = np.unique(np.stack([owners[at], contained.entries[key]]), axis=1)
        begins = np.searchsorted(owners, pairs[0], "left").tolist()
        ends = np.searchsorted(owners, pairs[0], "right").tolist()
        last, here = -1, hashes[:0]
        for text, entry, begin, end in zip(*pairs.tolist(), begins, ends, strict=True):
            if text != last:
                last, here = text, np.sort(hashes[begin:end])
            wanted, shares = contained.grams[entry]
            there = here[np.minimum(np.searchsorted(here, wanted), len(here) - 1)] == wanted
            share = float(shares[there].sum())
            if share < self._thresholds.contained - _ROUNDING:
                continue
            covered = np.sort(places[begin:end][np.isin(hashes[begin:end], wanted[there])])
            matching = _pieces(forms[text], covered.tolist(), size)
            yield text, entry, self._hit(HitKind.CONTAINMENT, entry, min(share, 1.0), matching)


def _first_of_each(owners: Ids, hashes: Hashes) -> Ids:
    """Indices of the first of equal (owner, hash) pairs, ascending; owners are ascending."""
    order = np.lexsort((hashes, owners))
    is_new = np.ones(len(order), bool)
    is_new[1:] = (np.diff(owners[order]) != 0) | (hashes[order][1:] != hashes[order][:-1])
    return np.sort(order[is_new])


def _run(mine: list[int], theirs: list[int], at: int, there: int) -> tuple[int, int]:
    """Begin and end, in `mine`, of the longest run of equal known tokens around these places."""
    begin, other = at, there
    while begin > 0 and other > 0 and mine[begin - 1] == theirs[other - 1]:
        begin, other = begin - 1, other - 1
    end, other = at, there
    while end < len(mine) and other < len(theirs) and mine[end] == theirs[other]:
        end, other = end + 1, other + 1
    return begin, end


def _pieces(form: list[str], places: list[int], size: int) -> str:
    """The tokens of the n-grams of this size at these ascending places, with a mark where tokens are left out."""
    pieces: list[list[str]] = []
    end = -1
    for place in places:
        if place > end or not pieces:
            pieces.append([])
        pieces[-1] += form[max(place, end) if pieces[-1] else place : place + size]
        end = place + size
    return _GAP.join(" ".join(piece) for piece in pieces)


def _keep(found: dict[int, Hit], entry: int, hit: Hit) -> None:
    """Keeps `hit` unless `found` has a stronger one of this entry."""
    before = found.get(entry)
    if before is None or _strength(hit) < _strength(before):
        found[entry] = hit


_ORDER = {kind: place for place, kind in enumerate(HitKind)}


def _strength(hit: Hit) -> tuple[int, float]:
    return _ORDER[hit.kind], -hit.score


def _sorted(hits: Iterable[Hit]) -> list[Hit]:
    return sorted(hits, key=_strength)
