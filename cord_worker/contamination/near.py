"""`NearIndex`: finds near-equal texts by MinHash and locality-sensitive hashing (datasketch).

The similarity is symmetric: a short question inside a long text is not near to it (that is `containment`). The index is
also used for texts that are longer than questions, such as trajectories.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cord_worker.contamination.hits import Hit, HitKind, Question
from cord_worker.contamination.normal_form import is_dense, tokens

_PERMUTATIONS = 128
_SEED = 1
_CANDIDATES_FROM = 0.8
"""The hash tables look for this share of the wanted similarity, so that they miss few pairs that reach the wanted one.
The pairs that they find are compared exactly."""
_MOST_SHOWN = 40


@dataclass(frozen=True, slots=True)
class NearThresholds:
    """`similarity`: least Jaccard similarity of two sets of n-grams. `gram`: their length, in words, and in characters
    for scripts that are compared by characters."""

    similarity: float = 0.4
    gram: tuple[int, int] = (2, 4)


DEFAULT_NEAR = NearThresholds()


class NearIndex:
    """Texts prepared for looking up near-equal ones."""

    def __init__(self, questions: Iterable[Question], thresholds: NearThresholds = DEFAULT_NEAR) -> None:
        from datasketch import MinHash, MinHashLSH

        self._thresholds = thresholds
        self._generator = MinHash(num_perm=_PERMUTATIONS, seed=_SEED, hashfunc=_identity)
        self._tables = MinHashLSH(threshold=_CANDIDATES_FROM * thresholds.similarity, num_perm=_PERMUTATIONS)
        self._questions: list[Question] = []
        self._numbers: dict[Question, int] = {}
        self._sets: list[frozenset[int]] = []
        with self._tables.insertion_session() as session:
            for question in questions:
                grams = frozenset(self._grams(tokens(question.text)))
                session.insert(len(self._questions), self._signature(grams), check_duplication=False)
                self._numbers[question] = len(self._questions)
                self._questions.append(question)
                self._sets.append(grams)

    def hits(self, texts: Sequence[str]) -> list[list[Hit]]:
        """For each text its hits, the nearest first."""
        return [[hit for hit, _ in self._near(tokens(text))] for text in texts]

    def repeats(self, questions: Sequence[Question]) -> list[list[Hit]]:
        """Like `hits`, for the questions from which the index was made: the hits of each on the questions before it."""
        return [
            [hit for hit, other in self._near(tokens(question.text)) if other < self._numbers[question]]
            for question in questions
        ]

    def _near(self, form: list[str]) -> list[tuple[Hit, int]]:
        if not form:
            return []
        grams = self._grams(form)
        found: list[tuple[Hit, int]] = []
        for number in self._tables.query(self._signature(grams)):
            other = self._sets[number]
            shared = grams.keys() & other
            similarity = len(shared) / (len(grams) + len(other) - len(shared))
            if similarity >= self._thresholds.similarity:
                matching = " … ".join([grams[one] for one in grams if one in shared][:_MOST_SHOWN])
                found.append((Hit(HitKind.NEAR, self._questions[number], similarity, matching), number))
        return sorted(found, key=lambda one: (-one[0].score, one[1]))

    def _signature(self, grams: Iterable[int]) -> object:
        found = self._generator.copy()
        found.update_batch(list(grams))
        return found

    def _grams(self, form: list[str]) -> dict[int, str]:
        """The n-grams by their 32-bit hashes, in order; a text shorter than an n-gram is one by itself."""
        size = min(self._thresholds.gram[is_dense(form)], max(1, len(form)))
        texts = [" ".join(form[place : place + size]) for place in range(len(form) - size + 1)]
        return {zlib.crc32(text.encode("utf-8", "surrogatepass")): text for text in texts}


def _identity(value: int) -> int:
    """The hash function for n-grams that are already hashes."""
    return value
