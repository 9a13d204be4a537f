"""Steps, answers and scores of the transformers engine, one request at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cord_worker.config import DEFAULT_SCORING_TEMPLATE
from cord_worker.engines.protocol import FinishReason, Turn
from cord_worker.engines.transformers.engine import TransformersEngine
from cord_worker.errors import RequestError
from cord_worker.prompting.trajectory import Segmentation
from tests.support.transformers_engine import (
    ANSWERS,
    GREEDY,
    SettingsOf,
    answering,
    outcome,
    proposing,
    sampling,
    scoring,
    together,
)

pytestmark = pytest.mark.slow


def independent_log_probabilities(
    folder: Path, question: str, steps: Sequence[str], answer: str, *, full_stop: bool = False
) -> list[float]:
    """Those of the answer's tokens by one plain forward, written without the engine's code."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    pieces = [f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n<think>\n"]
    for number, step in enumerate(steps, start=1):
        pieces += [("\n" if number > 1 else "") + f"### Step {number}.", step]
    ids = [token for piece in pieces for token in tokenizer(piece)["input_ids"]]
    closing = f"\n</think>\n\nThe final answer is {answer}."
    encoded = tokenizer(closing, return_offsets_mapping=True)
    start = closing.index(answer)
    end = len(closing) if full_stop else start + len(answer)
    inside = [index for index, (left, right) in enumerate(encoded["offset_mapping"]) if right > start and left < end]
    with torch.no_grad():
        logits = model(torch.tensor([ids + encoded["input_ids"]])).logits[0].double()
    log_probabilities = torch.log_softmax(logits, -1)
    return [log_probabilities[len(ids) + index - 1, encoded["input_ids"][index]].item() for index in inside]


@pytest.mark.parametrize("full_stop", [False, True])
@pytest.mark.parametrize("steps", [[" We add 12 and 27.\n", " Then we halve it"], []], ids=["two steps", "no step"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_score_equals_a_plain_forward(
    settings_of: SettingsOf, random_folder: Path, answer: str, steps: list[str], full_stop: bool
) -> None:
    engine = TransformersEngine(settings_of(random_folder))
    try:
        result = together(engine, [scoring("How many?", steps, answer, full_stop=full_stop)])[0]
        logarithms = independent_log_probabilities(random_folder, "How many?", steps, answer, full_stop=full_stop)
        total, tokens = sum(logarithms), len(logarithms)
        assert result.answer_tokens == tokens
        assert result.log_prob_sum == pytest.approx(total, abs=1e-4)
        assert result.score == pytest.approx(math.exp(total / tokens), rel=1e-4)
        assert result.mean_probability == pytest.approx(sum(map(math.exp, logarithms)) / tokens, rel=1e-4)
        again = together(engine, [scoring("How many?", steps, answer, full_stop=full_stop)])[0]
        assert outcome(again) == outcome(result)
        assert again.cached_tokens > result.cached_tokens
    finally:
        engine.stop()


def test_a_step_ends_at_the_next_marker(parrot: TransformersEngine) -> None:
    result = together(parrot, [proposing("write a step", [], GREEDY)])[0]
    assert (result.text, result.finish_reason) == (" We add the numbers.\n", FinishReason.STEP)


def test_a_step_ends_at_think_end(parrot: TransformersEngine) -> None:
    result = together(parrot, [proposing("close", [], GREEDY)])[0]
    assert (result.text, result.finish_reason) == (" That is all.\n", FinishReason.THINK_END)


def test_a_step_ends_at_the_end_of_the_sequence(parrot: TransformersEngine) -> None:
    result = together(parrot, [proposing("just end", [], GREEDY)])[0]
    assert (result.text, result.finish_reason) == (" It ends", FinishReason.EOS)


def test_a_step_ends_at_the_cap(parrot: TransformersEngine) -> None:
    result = together(parrot, [proposing("write a step", [], sampling(temperature=0.0, max_tokens=3))])[0]
    assert result.finish_reason is FinishReason.LENGTH
    assert result.completion_tokens == 3
    assert " We add the numbers.\n".startswith(result.text)


def test_headings_and_inline_markers_stay_in_the_step(parrot: TransformersEngine) -> None:
    result = together(parrot, [proposing("write headings", [], GREEDY)])[0]
    assert result.text == " See ### Step 1 above.\n### Note\nIt is 三."
    assert result.finish_reason is FinishReason.STEP


def test_a_whole_trajectory_continues_past_markers_and_ends_at_think_end(parrot: TransformersEngine) -> None:
    whole, step, closed = together(
        parrot,
        [
            lambda engine: engine.complete(Turn("write a step"), [], GREEDY),
            proposing("write a step", [], GREEDY),
            lambda engine: engine.complete(Turn("close"), [], GREEDY),
        ],
    )
    assert whole.text.startswith(f"{step.text}\n### Step 2.")
    assert (closed.text, closed.finish_reason) == (" That is all.\n", FinishReason.THINK_END)


LINE_BREAK = Segmentation.of("line_break", ())
PHRASES = Segmentation.of("phrases", ["wait"])


@pytest.mark.parametrize(
    ("question", "segmentation", "text", "ended"),
    [
        ("write paragraphs", LINE_BREAK, "We add the numbers.\nThen wait.", FinishReason.STEP),
        ("write paragraphs", PHRASES, "\n\nWe add the numbers.\nThen wait.\n\nWe halve it.\n", FinishReason.THINK_END),
        ("write doubts", LINE_BREAK, "Wait, we add the numbers. I can wait.", FinishReason.STEP),
        ("write doubts", PHRASES, "Wait, we add the numbers. I can wait.", FinishReason.STEP),
        ("just end", LINE_BREAK, "It ends", FinishReason.EOS),
        ("just end", PHRASES, "It ends", FinishReason.EOS),
    ],
)
def test_a_step_without_markers_ends_by_its_segmentation(
    free_parrot: TransformersEngine, question: str, segmentation: Segmentation, text: str, ended: FinishReason
) -> None:
    turn = Turn(question, segmentation=segmentation)
    step, whole = together(
        free_parrot,
        [lambda engine: engine.propose(turn, [], GREEDY), lambda engine: engine.complete(turn, [], GREEDY)],
    )
    assert (step.text, step.finish_reason) == (text, ended)
    assert whole.text.lstrip().startswith(text.lstrip())
    assert whole.finish_reason is (FinishReason.EOS if ended is FinishReason.EOS else FinishReason.THINK_END)


@pytest.mark.parametrize("segmentation", [LINE_BREAK, PHRASES])
def test_steps_without_markers_continue_from_the_prefix_cache(
    free_parrot: TransformersEngine, segmentation: Segmentation
) -> None:
    turn = Turn(f"How many are left with {segmentation.rule}?", segmentation=segmentation)
    steps = ["We add the numbers.", " Wait, we halve them.", " Done."]
    known = 0
    for depth in range(4):
        prefix = steps[:depth]
        result, sibling = (
            together(free_parrot, [lambda engine: engine.propose(turn, prefix, sampling(seed))])[0]  # noqa: B023
            for seed in range(2)
        )
        assert result.cached_tokens == known
        assert sibling.cached_tokens == result.prompt_tokens - 1
        known = result.prompt_tokens - 1


@pytest.mark.parametrize("segmentation", [LINE_BREAK, PHRASES])
def test_a_step_that_only_closes_the_thinking_changes_no_score(
    free_parrot: TransformersEngine, segmentation: Segmentation
) -> None:
    turn = Turn("write doubts", segmentation=segmentation)
    open_ended, closed = together(
        free_parrot,
        [
            lambda engine, steps=steps: engine.score(turn, steps, "204", DEFAULT_SCORING_TEMPLATE)
            for steps in (["We add.", " Wait, we halve.\n"], ["We add.", " Wait, we halve.", "\n"])
        ],
    )
    assert outcome(closed) == outcome(open_ended)


def test_spaces_survive_decoding(parrot: TransformersEngine) -> None:
    assert together(parrot, [proposing("write spaces", [], GREEDY)])[0].text == "   two  spaces   here."


def test_the_answer_follows_the_closed_trajectory(parrot: TransformersEngine) -> None:
    result = together(parrot, [answering("close", [" That is all."], GREEDY)])[0]
    assert (result.text, result.finish_reason) == ("The final answer is 204.", FinishReason.EOS)


def test_the_same_seed_gives_the_same_text_and_another_seed_another(parrot: TransformersEngine) -> None:
    hot = [proposing("write a step", [], sampling(seed, temperature=2.0, top_p=1.0)) for seed in (1, 1, 2, 2**64 - 1)]
    first, same, other, largest = (result.text for result in together(parrot, hot))
    assert first == same
    assert len({first, other, largest}) == 3


def test_the_known_answer_scores_higher_than_a_wrong_one(parrot: TransformersEngine) -> None:
    right, wrong = together(parrot, [scoring("close", [" That is all."], answer) for answer in ("204", "39")])
    assert right.score > 0.9 > wrong.score


@pytest.mark.parametrize("prefix_cache", [0, 10**9])
def test_the_score_before_any_step_does_not_depend_on_what_else_is_scored(
    settings_of: SettingsOf, random_folder: Path, prefix_cache: int
) -> None:
    """Before any step the first turn is the whole prompt. For other requests of the same batch it is only the first
    piece."""
    engine = TransformersEngine(settings_of(random_folder, prefix_cache_bytes=prefix_cache))
    try:
        requests = [scoring("How many?", [" We add."][:count], answer) for answer in ANSWERS[:3] for count in (0, 1)]
        apart = [outcome(together(engine, [request])[0]) for request in requests]
        assert [outcome(result) for result in together(engine, requests)] == apart
        assert [outcome(result) for result in together(engine, requests[::-1])] == apart[::-1]
    finally:
        engine.stop()


def test_the_cap_is_cut_to_the_room_that_is_left(parrot: TransformersEngine) -> None:
    prompt = ["We add the numbers. " * 12]
    result = together(parrot, [proposing("q", prompt, sampling(temperature=5.0, top_p=1.0, max_tokens=10_000))])[0]
    assert result.prompt_tokens + result.completion_tokens <= parrot.max_model_len


@pytest.mark.parametrize("steps", [[], ()])
def test_an_answer_to_no_steps_is_refused(parrot: TransformersEngine, steps: Sequence[str]) -> None:
    with pytest.raises(RequestError, match="no step"):
        together(parrot, [answering("q", steps, GREEDY)])


def test_the_scoring_mode_names_number_format_and_path(parrot: TransformersEngine) -> None:
    assert parrot.scoring_mode == "transformers-float64-cached"
