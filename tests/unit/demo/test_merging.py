"""What the bundled integrator learns from: exactly what the service sends it, and replies that the service reads."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer

import cord_worker.demo
from cord_worker.demo.corpus import Step, parts, write
from cord_worker.demo.merging import FORM, INTEGRATION_PROMPT, draw_sources, reply, request, sample, whole_text
from cord_worker.demo.problems import DemoProblem, generate
from cord_worker.demo.training import NO_LOSS, Encoder
from cord_worker.engines.protocol import Turn
from cord_worker.engines.text_codec import TextCodec
from cord_worker.prompting.integration import integration_prompt, read_integration
from cord_worker.prompting.trajectory import PROMPTED, trajectory_pieces

pytestmark = pytest.mark.slow

MODEL = Path(cord_worker.demo.__file__).parent / "models" / "integrator"


@pytest.fixture(scope="module")
def drawn() -> list[DemoProblem]:
    return generate(100, 2, "train")


def steps_of(problem: DemoProblem) -> list[Step]:
    return write(problem, ["closer"] * len(parts(problem)), random.Random(problem.id), errors=True)


def test_a_request_equals_the_services_prompt_for_an_integrator(drawn: list[DemoProblem]) -> None:
    rng = random.Random(0)
    for problem in drawn:
        trajectories = draw_sources(problem, rng)
        asked = integration_prompt(INTEGRATION_PROMPT, problem.question, [[one] for one in trajectories], PROMPTED)
        assert request(problem.question, trajectories) == asked


def test_a_trajectory_in_one_text_reads_like_its_steps(drawn: list[DemoProblem]) -> None:
    steps = steps_of(drawn[0])
    assert f"### Step 1.{whole_text(steps)}" == "".join(trajectory_pieces([step.text for step in steps], PROMPTED))


def test_the_service_reads_a_reply_back_into_its_steps_and_answer(drawn: list[DemoProblem]) -> None:
    for problem in drawn:
        steps = steps_of(problem)
        found = read_integration(reply(steps), PROMPTED, complete=True)
        assert found is not None
        assert found.text == whole_text(steps)
        assert found.answer == f"The final answer is {steps[-1].state.answer()}."


def test_sources_are_one_to_three_different_trajectories(drawn: list[DemoProblem]) -> None:
    rng = random.Random(1)
    counts = {len(draw_sources(problem, rng)) for problem in drawn}
    assert counts == {1, 2, 3}
    for problem in drawn:
        sources = draw_sources(problem, rng)
        assert len(set(sources)) == len(sources)


def test_a_sample_is_encoded_as_in_the_service_and_only_the_reply_is_learnt(drawn: list[DemoProblem]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    encoder, codec = Encoder(tokenizer), TextCodec(tokenizer)
    for problem in drawn[:50]:
        ids, labels = sample(encoder, problem, random.Random(problem.id))
        sources = draw_sources(problem, random.Random(problem.id))
        (asked,) = codec.reply(Turn(request(problem.question, sources)))
        assert tuple(ids[: len(asked)]) == asked
        assert set(labels[: len(asked)]) == {NO_LOSS}
        assert labels[len(asked) :] == ids[len(asked) :]
        assert ids[-1] == tokenizer.eos_token_id
        found = read_integration(codec.decode(ids[len(asked) : -1]), PROMPTED, complete=True)
        assert found is not None
        assert found.answer == f"The final answer is {problem.answer}."


def test_the_constant_parts_of_requests_and_replies_are_one_token_each() -> None:
    codec = TextCodec(AutoTokenizer.from_pretrained(MODEL))
    question = Turn("How many?").question
    without, with_form = (codec.reply(Turn(text))[0] for text in (question, question + "".join(FORM)))
    assert len(with_form) == len(without) + len(FORM)
