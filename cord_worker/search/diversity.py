"""A penalty for trajectories that are similar to those already chosen, so that the beam is not filled with near copies
(write-ups of the paper name this as future work).

The slots are filled one after the other. Each goes to the trajectory whose merit is highest after penalties:
`diversity_teacher` for every already chosen trajectory whose last step the same teacher wrote, and `diversity_text`
times the similarity of its last step to the most similar one already chosen. If scores are rounded
(`score_resolution`), the rounded merit is used. Merits themselves, ranks and the winner do not change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from cord_worker.search.types import SearchSettings, Trajectory

_NGRAM = 4
"""Length of an n-gram in characters: words would not work in scripts without spaces."""

Shingles = frozenset[str]
"""The character n-grams of a text."""


def shingles(text: str) -> Shingles:
    """The n-grams of `text`; a run of whitespace counts as one space, and case is ignored."""
    plain = " ".join(text.casefold().split())
    return frozenset(plain[start : start + _NGRAM] for start in range(max(1, len(plain) - _NGRAM + 1)))


def similarity(one: Shingles, other: Shingles) -> float:
    """Jaccard index of two texts' n-grams, in [0, 1]."""
    union = len(one | other)
    return len(one & other) / union if union else 1.0


def diverse_order(
    ordered: Sequence[Trajectory],
    texts: Mapping[int, str],
    settings: SearchSettings,
    rounded_merit: Callable[[Trajectory], float],
) -> list[Trajectory]:
    """`ordered` (best first) in the order in which slots are filled; among ties the better one comes first.

    `rounded_merit` is that of `beam`. `texts` are the last steps by candidate id. A finished trajectory that was in the
    previous beam has no text here; its similarity counts as 0. Without a penalty the order is unchanged.
    """
    if not settings.diversity_teacher and not settings.diversity_text:
        return list(ordered)
    ngrams = {id: shingles(text) for id, text in texts.items()} if settings.diversity_text else {}
    left = list(ordered)
    chosen: list[Trajectory] = []
    teachers: Counter[int] = Counter()
    nearest = dict.fromkeys((trajectory.candidate_id for trajectory in left), 0.0)
    while left:
        penalised = [
            rounded_merit(trajectory)
            - settings.diversity_teacher * teachers[trajectory.teacher]
            - settings.diversity_text * nearest[trajectory.candidate_id]
            for trajectory in left
        ]
        best = left.pop(penalised.index(max(penalised)))
        chosen.append(best)
        teachers[best.teacher] += 1
        if best.candidate_id in ngrams:
            for trajectory in left:
                if trajectory.candidate_id in ngrams:
                    found = similarity(ngrams[trajectory.candidate_id], ngrams[best.candidate_id])
                    nearest[trajectory.candidate_id] = max(nearest[trajectory.candidate_id], found)
    return chosen
