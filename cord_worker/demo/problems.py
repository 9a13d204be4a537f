"""Seeded word problems whose answer lists every intermediate amount.

Such an answer gives even the first step a meaningful score: a prover that can compute one operation ahead predicts
each listed amount from the one before it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "heldout"]
Listing = Literal["all", "new"]

LARGEST_AMOUNT = 99
HELDOUT_BUCKETS = 10  # one question in ten is held out, by the hash of its text

_PEOPLE = (
    ("Tom", "He"), ("Ben", "He"), ("Omar", "He"), ("Ivan", "He"), ("Leo", "He"), ("Max", "He"),
    ("Anna", "She"), ("Mia", "She"), ("Sara", "She"), ("Lena", "She"), ("Ruth", "She"), ("Nora", "She"),
)  # fmt: skip
_THINGS = ("apples", "pears", "books", "stamps", "coins", "cards", "shells", "beads", "pens", "eggs")
_OPENINGS = (
    "{name} has {number} {things}.",
    "{name} starts with {number} {things}.",
    "At first {name} has {number} {things}.",
    "There are {number} {things} in the box of {name}.",
)
_GAINS = (
    "{they} buys {number} more.",
    "{they} finds {number} more.",
    "Then {number} more are added.",
    "A friend brings {number} more.",
)
_LOSSES = (
    "{they} gives away {number}.",
    "{they} sells {number}.",
    "Then {number} of them are lost.",
    "A friend takes {number}.",
)
_BAG_GAINS = (
    "{they} buys {bags} bags of {number}.",
    "Then {bags} bags of {number} are added.",
    "A friend brings {bags} bags of {number}.",
)
_BAG_LOSSES = (
    "{they} sells {bags} bags of {number}.",
    "{they} gives away {bags} bags of {number}.",
    "A friend takes {bags} bags of {number}.",
)
_QUESTIONS: dict[Listing, tuple[str, ...]] = {
    "all": (
        "How many {things} are there at the start and after each change?",
        "List the start and the number of {things} after each change.",
    ),
    "new": (
        "How many {things} are there after each change?",
        "List only the number of {things} after each change.",
    ),
}


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the amount: `number` things, or `bags` bags of `number` things each."""

    sign: Literal[1, -1]
    number: int
    bags: int | None = None

    @property
    def amount(self) -> int:
        """Number of things added (positive) or removed (negative)."""
        return self.sign * self.number * (1 if self.bags is None else self.bags)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a question asks for: the start, the changes in order, and whether the start is also listed."""

    start: int
    changes: tuple[Change, ...]
    listing: Listing

    def amounts(self) -> tuple[int, ...]:
        """The start and the amount after each change: `len(changes) + 1` numbers."""
        amounts = [self.start]
        for change in self.changes:
            amounts.append(amounts[-1] + change.amount)
        return tuple(amounts)


@dataclass(frozen=True, slots=True)
class DemoProblem:
    """A question in words, its answer ("11, 27, 39, 25") and the plan from which both are made."""

    id: str
    question: str
    answer: str
    plan: Plan


def answer_text(amounts: tuple[int, ...], listing: Listing) -> str:
    """The list of amounts as texts and answers write it. `amounts` begins with the start, which the listing "new"
    leaves out."""
    return ", ".join(str(amount) for amount in (amounts if listing == "all" else amounts[1:]))


def in_range(amounts: tuple[int, ...]) -> bool:
    """True if all amounts are in the range that the problems use."""
    return all(0 <= amount <= LARGEST_AMOUNT for amount in amounts)


def split_of(question: str) -> Split:
    """The split of a question: a function of its text alone, so that the two splits never share one."""
    digest = hashlib.sha256(question.encode()).digest()
    return "heldout" if int.from_bytes(digest[:4]) % HELDOUT_BUCKETS == 0 else "train"


def problems(seed: int, split: Split) -> Iterator[DemoProblem]:
    """An endless stream of distinct problems of a split, the same for the same seed."""
    rng = random.Random(f"{split}-{seed}")
    seen: set[str] = set()
    while True:
        plan = _random_plan(rng)
        question = _question(plan, rng)
        if split_of(question) != split or question in seen:
            continue
        seen.add(question)
        answer = answer_text(plan.amounts(), plan.listing)
        yield DemoProblem(f"demo-{split}-{seed}-{len(seen):05d}", question, answer, plan)


def generate(count: int, seed: int, split: Split) -> list[DemoProblem]:
    """The first `count` distinct problems of a split for a seed."""
    stream = problems(seed, split)
    return [next(stream) for _ in range(count)]


def _random_plan(rng: random.Random) -> Plan:
    while True:
        count = rng.choices((2, 3, 4), weights=(3, 5, 2))[0]
        changes = [_random_single(rng) for _ in range(count)]
        if rng.random() < 0.5:
            changes[rng.randrange(count)] = _random_bags(rng)
        listing: Listing = "all" if rng.random() < 0.5 else "new"
        plan = Plan(rng.randint(5, 80), tuple(changes), listing)
        if in_range(plan.amounts()):
            return plan


def _random_sign(rng: random.Random) -> Literal[1, -1]:
    return 1 if rng.random() < 0.5 else -1


def _random_single(rng: random.Random) -> Change:
    return Change(_random_sign(rng), rng.randint(2, 9))


def _random_bags(rng: random.Random) -> Change:
    return Change(_random_sign(rng), number=rng.randint(2, 5), bags=rng.randint(2, 3))


def _question(plan: Plan, rng: random.Random) -> str:
    name, they = rng.choice(_PEOPLE)
    things = rng.choice(_THINGS)
    sentences = [rng.choice(_OPENINGS).format(name=name, things=things, number=plan.start)]
    for change in plan.changes:
        if change.bags is None:
            template = rng.choice(_GAINS if change.sign > 0 else _LOSSES)
        else:
            template = rng.choice(_BAG_GAINS if change.sign > 0 else _BAG_LOSSES)
        sentences.append(template.format(they=they, number=change.number, bags=change.bags))
    sentences.append(rng.choice(_QUESTIONS[plan.listing]).format(things=things))
    return " ".join(sentences)


def main() -> None:
    """Print held-out problems as JSON lines with the keys id, question and answer."""
    parser = argparse.ArgumentParser(prog="python -m cord_worker.demo.problems", description=main.__doc__)
    parser.add_argument("--count", type=int, default=40, help="how many problems (default: 40)")
    parser.add_argument("--seed", type=int, default=1, help="which problems (default: 1)")
    options = parser.parse_args()
    for problem in generate(options.count, options.seed, "heldout"):
        line = {"id": problem.id, "question": problem.question, "answer": problem.answer}
        sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
