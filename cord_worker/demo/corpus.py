"""Trajectories for training: what each teacher writes, the mistakes that it makes, and their consequences.

Each teacher is reliable at one part of a solution and often errs at the others. A mistake has one form per teacher and
part, because sampling at temperature 0.6 would suppress many rare forms. All teachers share their wording, so that a
prover's preference in style cannot decide between them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from cord_worker.demo.problems import (
    LARGEST_AMOUNT,
    Change,
    DemoProblem,
    Listing,
    Plan,
    in_range,
    listed,
)

Part = Literal["plan", "change", "last change", "list"]

THINK_OPEN = "<think>\n"
THINK_CLOSE = "\n</think>"
_PLANS = (" Plan: start {start}{changes}, list {listing}.", " Start with {start}{changes}, list {listing}.")
_SUMS = (" {sum}.", " Now {sum}.", " So {sum}.")
_LISTS = (" The amounts are {amounts}.", " The numbers are {amounts}.", " In order: {amounts}.")


@dataclass(frozen=True, slots=True)
class State:
    """What the steps so far tell a reader: the plan, the amounts reached, and the list once it is written."""

    plan: Plan
    amounts: tuple[int, ...]
    written: str | None = None

    def answer(self) -> str:
        """The answer that follows from the steps so far if the rest is done without a mistake."""
        return self.written or listed(self.continued(), self.plan.listing)

    def continued(self) -> tuple[int, ...]:
        """All amounts: those reached, then those that follow from the plan's remaining changes."""
        rest = Plan(self.amounts[-1], self.plan.changes[len(self.amounts) - 1 :], self.plan.listing)
        return self.amounts[:-1] + rest.amounts()


@dataclass(frozen=True, slots=True)
class Step:
    """One step as text, its author, whether it is right given the earlier steps, the state after it, and the position
    of the first character that differs from the right text in the same wording, if any."""

    text: str
    author: str
    right: bool
    state: State
    slip: int | None = None


@dataclass(frozen=True, slots=True)
class Author:
    """How often each part is wrong, and the form of a wrong plan, result, last result or list."""

    wrong: Mapping[Part, float]
    misread: Callable[[Plan], Plan]
    miscalculate: Callable[[int, Change], tuple[Change, int]]
    misfinish: Callable[[int, Change], tuple[Change, int]]
    mislist: Callable[[tuple[int, ...], Listing], str]


def _flip(change: Change) -> Change:
    return replace(change, sign=-change.sign)


def _flip_first(plan: Plan) -> Plan:
    return replace(plan, changes=(_flip(plan.changes[0]), *plan.changes[1:]))


def _flip_last(plan: Plan) -> Plan:
    return replace(plan, changes=(*plan.changes[:-1], _flip(plan.changes[-1])))


def _swap_first_two(plan: Plan) -> Plan:
    first, second, *rest = plan.changes
    return replace(plan, changes=(second, first, *rest))


def _off_by_ten(amount: int, change: Change) -> tuple[Change, int]:
    result = amount + change.amount
    return change, result + 10 if result + 10 <= LARGEST_AMOUNT else result - 10


def _off_by_one(amount: int, change: Change) -> tuple[Change, int]:
    result = amount + change.amount
    return change, result + 1 if result % 10 < 9 else result - 1


def _wrong_sign(amount: int, change: Change) -> tuple[Change, int]:
    return _flip(change), amount - change.amount


def _swap_last_two(amounts: tuple[int, ...], listing: Listing) -> str:
    return listed((*amounts[:-2], amounts[-1], amounts[-2]), listing)


def _other_listing(amounts: tuple[int, ...], listing: Listing) -> str:
    return listed(amounts, "new" if listing == "all" else "all")


SURE, UNSURE = 0.15, 0.55
RIGHT: Mapping[Part, float] = {"plan": 0.0, "change": 0.0, "last change": 0.0, "list": 0.0}
AUTHORS: Mapping[str, Author] = {
    "planner": Author(
        {"plan": SURE, "change": 0.5, "last change": UNSURE, "list": 0.5},
        misread=_flip_last, miscalculate=_off_by_ten, misfinish=_off_by_ten, mislist=_other_listing,
    ),
    "calculator": Author(
        {"plan": UNSURE, "change": SURE, "last change": UNSURE, "list": 0.5},
        misread=_flip_first, miscalculate=_off_by_one, misfinish=_wrong_sign, mislist=_swap_last_two,
    ),
    "closer": Author(
        {"plan": UNSURE, "change": 0.5, "last change": SURE, "list": SURE},
        misread=_swap_first_two, miscalculate=_off_by_one, misfinish=_off_by_ten, mislist=_swap_last_two,
    ),
}  # fmt: skip


def write(
    problem: DemoProblem, authors: list[str], rng: random.Random, *, errors: bool, flawless: int = 0
) -> list[Step]:
    """A whole trajectory, with one author per step in turn: a plan, a step per change, the list.

    `authors` needs `len(problem.plan.changes) + 2` names. The first `flawless` steps never have mistakes. A draw whose
    mistakes lead outside the range of amounts is discarded and repeated.
    """
    while True:
        state = State(problem.plan, (problem.plan.start,))
        steps: list[Step] = []
        for part, name in zip(parts(problem), authors, strict=True):
            author = AUTHORS[name]
            wrong = errors and len(steps) >= flawless and rng.random() < author.wrong[part]
            wording = rng.getstate()
            text, after = _write_step(part, author, state, wrong, rng)
            slip = _slip(text, _write_step(part, author, state, False, _resumed(wording))[0]) if wrong else None
            steps.append(Step(text, name, not wrong, after, slip))
            state = after
        if all(in_range(step.state.continued()) for step in steps):
            return steps


def _resumed(state: Any) -> random.Random:
    rng = random.Random()
    rng.setstate(state)
    return rng


def _slip(text: str, right: str) -> int | None:
    """Position where `text` departs from `right`; None if they are equal. Neither is a prefix of the other: each ends
    in its only full stop."""
    return next((place for place, pair in enumerate(zip(text, right, strict=False)) if pair[0] != pair[1]), None)


def parts(problem: DemoProblem) -> list[Part]:
    """The part of each step of a full trajectory, in order."""
    middle: list[Part] = ["change"] * (len(problem.plan.changes) - 1)
    return ["plan", *middle, "last change", "list"]


def _write_step(part: Part, author: Author, state: State, wrong: bool, rng: random.Random) -> tuple[str, State]:
    if part == "plan":
        plan = author.misread(state.plan) if wrong else state.plan
        return plan_text(plan, rng), State(plan, (plan.start,))
    if part == "list":
        read = author.mislist if wrong else listed
        amounts = read(state.amounts, state.plan.listing)
        return rng.choice(_LISTS).format(amounts=amounts), replace(state, written=amounts)
    before = state.amounts[-1]
    change = state.plan.changes[len(state.amounts) - 1]
    result = before + change.amount
    if wrong:
        change, result = (author.misfinish if part == "last change" else author.miscalculate)(before, change)
    return change_text(before, change, result, rng), replace(state, amounts=(*state.amounts, result))


def plan_text(plan: Plan, rng: random.Random) -> str:
    """The step that restates a question, in one of the shared wordings."""
    changes = "".join(f", {_sign(change)} {_count(change)}" for change in plan.changes)
    listing = "all values" if plan.listing == "all" else "new values"
    return rng.choice(_PLANS).format(start=plan.start, changes=changes, listing=listing)


def change_text(before: int, change: Change, result: int, rng: random.Random) -> str:
    """The step that performs one change, in one of the shared wordings."""
    total = abs(change.amount)
    sum_ = f"{before} {_sign(change)} {total} = {result}"
    if change.bags is not None:
        sum_ = f"{_count(change)} = {total}, {sum_}"
    return rng.choice(_SUMS).format(sum=sum_)


def _sign(change: Change) -> str:
    return "+" if change.sign > 0 else "-"


def _count(change: Change) -> str:
    return str(change.number) if change.bags is None else f"{change.bags} x {change.number}"


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that is encoded on its own, and whether the model is trained to write it."""

    text: str
    learnt: bool


def teacher_pieces(first_turn: str, steps: list[Step], author: str | None) -> list[Piece]:
    """A full trajectory and its final answer. The steps of `author` are learnt (None: those of all authors); the
    markers are always learnt."""
    pieces = [Piece(first_turn, False), Piece("### Step 1.", False)]
    for number, step in enumerate(steps, start=1):
        if number > 1:
            pieces.append(Piece(f"\n### Step {number}.", True))
        pieces.append(Piece(step.text, author in (None, step.author)))
    answer = steps[-1].state.answer()
    return [*pieces, Piece(f"{THINK_CLOSE}\n\n", True), Piece(f"The final answer is {answer}.", True)]


def prover_pieces(first_turn: str, problem: DemoProblem, steps: list[Step], kept: int) -> list[Piece]:
    """The first `kept` steps and, in one piece, the close with the answer that follows from them."""
    pieces = [Piece(first_turn, False)]
    for number, step in enumerate(steps[:kept], start=1):
        pieces.append(Piece(f"{'' if number == 1 else chr(10)}### Step {number}.", number > 1))
        pieces.append(Piece(step.text, step.right))
    answer = steps[kept - 1].state.answer() if kept else problem.answer
    return [*pieces, Piece(f"{THINK_CLOSE}\n\nThe final answer is {answer}.", True)]


PARAGRAPH, PHRASE = 0.6, 0.4
_PHRASES = ("Wait, ", "Let me check: ")


def plain_pieces(first_turn: str, steps: list[Step], author: str, rng: random.Random) -> list[Piece]:
    """Like `teacher_pieces`, but for a model that was not told to number its steps: two of them are separated by a
    blank line (with the share `PARAGRAPH`) or a line end, and some begin with a marker phrase (`PHRASE`)."""
    pieces = [Piece(first_turn, False), *_plain_steps(steps, rng, lambda step: step.author == author)]
    answer = steps[-1].state.answer()
    return [*pieces, Piece(f"{THINK_CLOSE}\n\n", True), Piece(f"The final answer is {answer}.", True)]


def plain_prover_pieces(
    first_turn: str, problem: DemoProblem, steps: list[Step], kept: int, rng: random.Random
) -> list[Piece]:
    """Like `prover_pieces`, for steps written as in `plain_pieces`."""
    pieces = [Piece(first_turn, False), *_plain_steps(steps[:kept], rng, lambda step: step.right)]
    answer = steps[kept - 1].state.answer() if kept else problem.answer
    return [*pieces, Piece(f"{THINK_CLOSE}\n\nThe final answer is {answer}.", True)]


def _plain_steps(steps: list[Step], rng: random.Random, learnt: Callable[[Step], bool]) -> list[Piece]:
    pieces: list[Piece] = []
    for number, step in enumerate(steps, start=1):
        if number > 1:
            pieces.append(Piece("\n\n" if rng.random() < PARAGRAPH else "\n", True))
            if rng.random() < PHRASE:
                pieces.append(Piece(rng.choice(_PHRASES), True))
        pieces.append(Piece(step.text.lstrip(), learnt(step)))
    return pieces


@dataclass(frozen=True, slots=True)
class JudgedPiece:
    """Text that is encoded on its own, for a reward model. It holds whether the right answer still follows from a
    trajectory that ends before character `slip` of the text, and from one that ends later (`slip` is None if this never
    changes). `judged` is false for the question, of which nothing is learnt."""

    text: str
    judged: bool
    before: bool = True
    after: bool = True
    slip: int | None = None


def judged_pieces(first_turn: str, problem: DemoProblem, steps: list[Step]) -> list[JudgedPiece]:
    """A trajectory as a reward model learns to judge it, at every token."""
    pieces = [JudgedPiece(first_turn, judged=False)]
    before = True
    for number, step in enumerate(steps, start=1):
        pieces.append(JudgedPiece(f"{'' if number == 1 else chr(10)}### Step {number}.", True, before, before))
        after = step.state.answer() == problem.answer
        pieces.append(JudgedPiece(step.text, True, before, after, step.slip))
        before = after
    return pieces
