"""`cordctl bench answers`: how well answers are checked, measured on a dataset's own references.

Every reference is written in every style that applies to it (`answer_styles`), and the check must accept each of these
texts. With `others`, the other references of the dataset that have a different value (`answer_values`) are also checked
as answers to it, and the check must accept none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cord_worker.bench.answer_styles import in_all_styles
from cord_worker.bench.answer_values import value_key, values_differ
from cord_worker.display_text import counted
from cord_worker.verify.pairs import AnswerPair, CheckedPair, checked_pairs
from cord_worker.verify.rule import Rule

_MAX_MISSES = 200
_PROGRESS_EVERY = 5_000


@dataclass(frozen=True, slots=True)
class Reference:
    """A known answer and its question; `number` is its position in the dataset, from 1."""

    number: int
    answer: str
    question: str | None


@dataclass(slots=True)
class AnswerFigures:
    """The results for a dataset's references.

    `styles` has [accepted, pairs] of each style. `least_styles` is the smallest number of styles that apply to a
    reference. `misses` holds the first 200 wrong results.
    """

    dataset: str
    references: int
    pairs: int = 0
    accepted: int = 0
    undecided: int = 0
    styles: dict[str, list[int]] = field(default_factory=dict)
    least_styles: int = 0
    other_pairs: int = 0
    others_accepted: int = 0
    misses: list[dict[str, Any]] = field(default_factory=list)

    @property
    def accepted_share(self) -> float:
        """Share of accepted texts, over all references and their styles."""
        return self.accepted / self.pairs if self.pairs else 0.0

    def to_json(self) -> dict[str, Any]:
        """A JSON object for scripts; keys are stable."""
        return {
            "dataset": self.dataset,
            "references": self.references,
            "pairs": self.pairs,
            "accepted": self.accepted,
            "accepted_share": round(self.accepted_share, 6),
            "undecided": self.undecided,
            "least_styles_of_a_reference": self.least_styles,
            "other_pairs": self.other_pairs,
            "others_accepted": self.others_accepted,
            "styles": {name: {"accepted": counts[0], "pairs": counts[1]} for name, counts in self.styles.items()},
            "misses": self.misses,
        }


def measure_answers(
    dataset: str,
    references: Sequence[Reference],
    *,
    rule: Rule,
    others: bool = False,
    processes: int | None = None,
    timeout_seconds: float = 5.0,
    tell: Callable[[str], None] | None = None,
) -> AnswerFigures:
    """Checks the references in all styles, and with `others` against each other. `tell` receives the progress."""
    figures = AnswerFigures(dataset, len(references))
    texts = [in_all_styles(reference.answer) for reference in references]
    figures.least_styles = min(map(len, texts), default=0)
    names = [name for found in texts for name in found]
    for name, checked in zip(
        names,
        checked_pairs(_style_pairs(references, texts), rule, processes=processes, timeout_seconds=timeout_seconds),
        strict=True,
    ):
        accepted = checked.result.correct is True
        counts = figures.styles.setdefault(name, [0, 0])
        counts[0] += accepted
        counts[1] += 1
        figures.pairs += 1
        figures.accepted += accepted
        figures.undecided += checked.result.correct is None
        if not accepted:
            _record_miss(figures, name, checked)
        if tell is not None and figures.pairs % _PROGRESS_EVERY == 0:
            tell(f"{dataset}: {figures.pairs:,} of {counted(len(names), 'text')} checked")
    if others:
        for checked in checked_pairs(
            other_pairs(references), rule, processes=processes, timeout_seconds=timeout_seconds
        ):
            figures.other_pairs += 1
            if checked.result.correct is True:
                figures.others_accepted += 1
                _record_miss(figures, "another answer", checked)
            if tell is not None and figures.other_pairs % _PROGRESS_EVERY == 0:
                tell(f"{dataset}: {counted(figures.other_pairs, 'wrong pair')} checked")
    return figures


def _style_pairs(references: Iterable[Reference], texts: Iterable[dict[str, str]]) -> Iterator[AnswerPair]:
    for reference, found in zip(references, texts, strict=True):
        for text in found.values():
            yield AnswerPair(reference.number, reference.answer, text, True, question=reference.question)


def other_pairs(references: Sequence[Reference]) -> Iterator[AnswerPair]:
    """Each reference, paired with every other reference of a different value as a wrong answer.

    Of references with equal values (`value_key`) only the first is used.
    """
    first: dict[str, Reference] = {}
    for reference in references:
        first.setdefault(value_key(reference.answer), reference)
    distinct = list(first.values())
    for reference in distinct:
        for other in distinct:
            if other is not reference and values_differ(reference.answer, other.answer):
                yield AnswerPair(
                    reference.number,
                    reference.answer,
                    f"Therefore $\\boxed{{{other.answer}}}$.",
                    False,
                    question=reference.question,
                )


def _record_miss(figures: AnswerFigures, name: str, checked: CheckedPair) -> None:
    if len(figures.misses) < _MAX_MISSES:
        figures.misses.append({"style": name, **checked.to_json()})


def missed_styles(figures: AnswerFigures) -> Counter[str]:
    """The styles with misses, and how many, most misses first."""
    return Counter({name: pairs - accepted for name, (accepted, pairs) in figures.styles.items() if pairs > accepted})
