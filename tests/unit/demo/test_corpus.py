"""Training trajectories: the consequences of right and wrong steps."""

from __future__ import annotations

import random
from typing import get_args

import pytest

from cord_worker.demo.corpus import TEACHERS, Part, Step, parts, prover_pieces, teacher_pieces, write
from cord_worker.demo.problems import DemoProblem, generate, in_range


@pytest.fixture(scope="module")
def drawn() -> list[DemoProblem]:
    return generate(300, 2, "train")


def _by_one(problem: DemoProblem, name: str, rng: random.Random, *, errors: bool) -> list[Step]:
    return write(problem, [name] * len(parts(problem)), rng, errors=errors)


@pytest.mark.parametrize("name", list(TEACHERS))
def test_a_trajectory_without_mistakes_ends_in_the_answer(name: str, drawn: list[DemoProblem]) -> None:
    rng = random.Random(0)
    for problem in drawn:
        steps = _by_one(problem, name, rng, errors=False)
        assert all(step.right for step in steps)
        assert {step.state.answer() for step in steps} == {problem.answer}
        assert problem.answer in steps[-1].text


@pytest.mark.parametrize("name", list(TEACHERS))
def test_a_single_mistake_leads_to_another_answer_from_that_step_on(name: str, drawn: list[DemoProblem]) -> None:
    rng, found = random.Random(0), set()
    for problem in drawn:
        steps = _by_one(problem, name, rng, errors=True)
        wrong = [index for index, step in enumerate(steps) if not step.right]
        amounts = [change.amount for change in problem.plan.changes]
        if len(wrong) != 1 or len(set(amounts)) < len(amounts):
            continue
        found.add(parts(problem)[wrong[0]])
        answers = [step.state.answer() for step in steps]
        assert set(answers[: wrong[0]]) <= {problem.answer}
        assert problem.answer not in answers[wrong[0] :]
        assert len(set(answers[wrong[0] :])) == 1
    assert found == {"plan", "change", "last change", "list"}


def test_mistakes_never_leave_the_range_of_amounts(drawn: list[DemoProblem]) -> None:
    rng = random.Random(0)
    for problem in drawn:
        teachers = [rng.choice(list(TEACHERS)) for _ in parts(problem)]
        for step in write(problem, teachers, rng, errors=True):
            assert in_range(step.state.all_amounts())


def test_each_teacher_is_most_reliable_at_its_own_part() -> None:
    surest = {part: min(TEACHERS, key=lambda name: TEACHERS[name].wrong[part]) for part in get_args(Part)}
    assert surest == {"plan": "planner", "change": "calculator", "last change": "closer", "list": "closer"}


def test_a_teacher_reads_as_one_text_and_learns_its_own_steps_and_every_marker(
    drawn: list[DemoProblem],
) -> None:
    problem = next(one for one in drawn if len(one.plan.changes) == 2)
    teachers = ["planner", "calculator", "closer", "closer"]
    steps = write(problem, teachers, random.Random(0), errors=False)
    pieces = teacher_pieces("Q<think>\n", steps, "closer")
    assert "".join(piece.text for piece in pieces) == (
        f"Q<think>\n### Step 1.{steps[0].text}\n### Step 2.{steps[1].text}\n### Step 3.{steps[2].text}"
        f"\n### Step 4.{steps[3].text}\n</think>\n\nThe final answer is {problem.answer}."
    )
    learnt = [piece.text for piece in pieces if piece.learnt]
    assert learnt[:5] == ["\n### Step 2.", "\n### Step 3.", steps[2].text, "\n### Step 4.", steps[3].text]


def test_the_prover_reads_a_prefix_and_learns_the_answer_that_follows_from_it(
    drawn: list[DemoProblem],
) -> None:
    rng = random.Random(1)
    for problem in drawn:
        steps = _by_one(problem, "closer", rng, errors=True)
        for kept, step in enumerate(steps, start=1):
            *_, last = prover_pieces("Q<think>\n", problem, steps, kept)
            assert last.learnt
            assert last.text == f"\n</think>\n\nThe final answer is {step.state.answer()}."
