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
    answer_text,
    in_range,
)

Part = Literal["plan", "change", "last change", "list"]

THINK_OPEN = "<think>\n"
THINK_CLOSE = "\n</think>"
_PLANS = (" Plan: start {start}{changes}, list {listing}.", " Start with {start}{changes}, list {listing}.")
_SUMS = (" {sum}.", " Now {sum}.", " So {sum}.")
_LISTS = (" The amounts are {amounts}.", " The numbers are {amounts}.", " In order: {amounts}.")


@dataclass(frozen=True, slots=True)
class State:
    """What the steps so far say: the plan, the amounts so far, and the text of the list if it is written."""

    plan: Plan
    amounts: tuple[int, ...]
    list_text: str | None = None

    def answer(self) -> str:
        """The answer that follows from the steps so far if the rest is done without a mistake."""
        return self.list_text or answer_text(self.all_amounts(), self.plan.listing)

    def all_amounts(self) -> tuple[int, ...]:
        """The amounts so far, then the amounts that follow from the plan's remaining changes."""
        rest = Plan(self.amounts[-1], self.plan.changes[len(self.amounts) - 1 :], self.plan.listing)
        return self.amounts[:-1] + rest.amounts()


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a trajectory.

    Attributes:
        text: the step without its marker.
        teacher: the teacher that writes it.
        right: whether it is right, given the earlier steps.
        state: the state after it.
        slip: position of the first character that differs from the right text in the same wording, or None.
    """

    text: str
    teacher: str
    right: bool
    state: State
    slip: int | None = None


@dataclass(frozen=True, slots=True)
class Habits:
    """A teacher's mistakes: the probability of a mistake in each part (`wrong`), and the form of a wrong plan
    (`misread`), result, last result and list."""

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
    return answer_text((*amounts[:-2], amounts[-1], amounts[-2]), listing)


def _other_listing(amounts: tuple[int, ...], listing: Listing) -> str:
    return answer_text(amounts, "new" if listing == "all" else "all")


SURE, UNSURE = 0.15, 0.55
RIGHT: Mapping[Part, float] = {"plan": 0.0, "change": 0.0, "last change": 0.0, "list": 0.0}
TEACHERS: Mapping[str, Habits] = {
    "planner": Habits(
        {"plan": SURE, "change": 0.5, "last change": UNSURE, "list": 0.5},
        misread=_flip_last, miscalculate=_off_by_ten, misfinish=_off_by_ten, mislist=_other_listing,
    ),
    "calculator": Habits(
        {"plan": UNSURE, "change": SURE, "last change": UNSURE, "list": 0.5},
        misread=_flip_first, miscalculate=_off_by_one, misfinish=_wrong_sign, mislist=_swap_last_two,
    ),
    "closer": Habits(
        {"plan": UNSURE, "change": 0.5, "last change": SURE, "list": SURE},
        misread=_swap_first_two, miscalculate=_off_by_one, misfinish=_off_by_ten, mislist=_swap_last_two,
    ),
}  # fmt: skip


def write(
    problem: DemoProblem, teachers: list[str], rng: random.Random, *, errors: bool, flawless: int = 0
) -> list[Step]:
    """A whole trajectory: a plan, a step per change, the list. `teachers` names the teacher of each step, so it has
    `len(problem.plan.changes) + 2` names.

    The first `flawless` steps never have mistakes. A trajectory whose mistakes lead to an amount outside the range is
    discarded, and another one is drawn.
    """
    while True:
        state = State(problem.plan, (problem.plan.start,))
        steps: list[Step] = []
        for part, name in zip(parts(problem), teachers, strict=True):
            habits = TEACHERS[name]
            wrong = errors and len(steps) >= flawless and rng.random() < habits.wrong[part]
            wording = rng.getstate()
            text, after = _write_step(part, habits, state, wrong, rng)
            slip = _slip(text, _write_step(part, habits, state, False, _generator_at(wording))[0]) if wrong else None
            steps.append(Step(text, name, not wrong, after, slip))
            state = after
        if all(in_range(step.state.all_amounts()) for step in steps):
            return steps


def _generator_at(state: Any) -> random.Random:
    rng = random.Random()
    rng.setstate(state)
    return rng


def _slip(text: str, right: str) -> int | None:
    """Position where `text` departs from `right`; None if they are equal. Neither is a prefix of the other: each ends
    in its only full stop."""
    return next((index for index, pair in enumerate(zip(text, right, strict=False)) if pair[0] != pair[1]), None)


def parts(problem: DemoProblem) -> list[Part]:
    """The part of each step of a full trajectory, in order."""
    middle: list[Part] = ["change"] * (len(problem.plan.changes) - 1)
    return ["plan", *middle, "last change", "list"]


def _write_step(part: Part, habits: Habits, state: State, wrong: bool, rng: random.Random) -> tuple[str, State]:
    if part == "plan":
        plan = habits.misread(state.plan) if wrong else state.plan
        return plan_text(plan, rng), State(plan, (plan.start,))
    if part == "list":
        list_amounts = habits.mislist if wrong else answer_text
        amounts = list_amounts(state.amounts, state.plan.listing)
        return rng.choice(_LISTS).format(amounts=amounts), replace(state, list_text=amounts)
    before = state.amounts[-1]
    change = state.plan.changes[len(state.amounts) - 1]
    result = before + change.amount
    if wrong:
        change, result = (habits.misfinish if part == "last change" else habits.miscalculate)(before, change)
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
    """Text that is encoded alone, and whether the model is trained to write it."""

    text: str
    learnt: bool


def teacher_pieces(first_turn: str, steps: list[Step], teacher: str | None) -> list[Piece]:
    """A full trajectory and its final answer. Learnt are the steps of `teacher` (all steps if None) and every marker
    that the model writes."""
    pieces = [Piece(first_turn, False), Piece("### Step 1.", False)]
    for number, step in enumerate(steps, start=1):
        if number > 1:
            pieces.append(Piece(f"\n### Step {number}.", True))
        pieces.append(Piece(step.text, teacher in (None, step.teacher)))
    answer = steps[-1].state.answer()
    return [*pieces, Piece(f"{THINK_CLOSE}\n\n", True), Piece(f"The final answer is {answer}.", True)]


def prover_pieces(first_turn: str, problem: DemoProblem, steps: list[Step], kept: int) -> list[Piece]:
    """The first `kept` steps, and in one piece the closing part with the answer that follows from them."""
    pieces = [Piece(first_turn, False)]
    for number, step in enumerate(steps[:kept], start=1):
        pieces.append(Piece(f"{'' if number == 1 else chr(10)}### Step {number}.", number > 1))
        pieces.append(Piece(step.text, step.right))
    answer = steps[kept - 1].state.answer() if kept else problem.answer
    return [*pieces, Piece(f"{THINK_CLOSE}\n\nThe final answer is {answer}.", True)]


PARAGRAPH, PHRASE = 0.6, 0.4
_PHRASES = ("Wait, ", "Let me check: ")


def plain_pieces(first_turn: str, steps: list[Step], teacher: str, rng: random.Random) -> list[Piece]:
    """Like `teacher_pieces`, but for a model that does not number its steps. A blank line (with probability
    `PARAGRAPH`) or a line end separates two steps; with probability `PHRASE` a step begins with a marker phrase."""
    pieces = [Piece(first_turn, False), *_plain_steps(steps, rng, lambda step: step.teacher == teacher)]
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
    """Text that is encoded alone, for a reward model.

    Attributes:
        text: the text.
        judged: False for the question, from which the model learns nothing.
        before: whether the right answer still follows from a trajectory that ends in the text before `slip`.
        after: the same for a trajectory that ends later in the text.
        slip: position of the first wrong character, or None.
    """

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
