"""Questions that do not fit a model's context are found without any weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cord_worker.config import RunConfig
from cord_worker.errors import ConfigError
from cord_worker.operations.enqueue import DatasetSource, validate_dataset
from cord_worker.operations.fitting import Fit, room_remarks

CONFIG = """
[models.planner]
path = "bundled:planner"
max_model_len = 256
[models.prover]
path = "bundled:prover"
[models.away]
path = "owner/not-here"
[[teachers]]
name = "first"
model = "planner"
[[teachers]]
name = "second"
model = "away"
[prover]
model = "prover"
[search]
step_tokens = 32
thinking_tokens = {thinking}
answer_tokens = 32
"""


@pytest.fixture
def source(tmp_path: Path) -> DatasetSource:
    """A question that fits and one that does not."""
    rows = [
        {"id": "short", "question": "2 + 2?", "answer": "4"},
        {"id": "long", "question": "2 + " * 200, "answer": "4"},
    ]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return DatasetSource(tmp_path / "d.jsonl")


def config(thinking: int) -> RunConfig:
    return RunConfig.parse(CONFIG.format(thinking=thinking), source="cord.toml", folder=Path("/"))


def test_the_numbers_add_up_and_name_the_question(source: DatasetSource) -> None:
    found = validate_dataset(source, config(64))
    assert found.fitting is not None
    teacher, prover = found.fitting.fits
    assert (teacher.role, teacher.context, teacher.thinking) == ("teacher first", 256, 64)
    assert teacher.end > 32, "what closes the thinking is kept free, too, as engines/room_in_context.py does"
    assert teacher.room == 256 - teacher.overhead - 64 - teacher.end
    assert teacher.misfit_count == 1
    (misfit,) = teacher.misfits
    assert (misfit.key, misfit.location) == ("long", "d.jsonl:2")
    assert misfit.prompt - teacher.overhead == teacher.longest > teacher.room
    total = misfit.prompt + teacher.end
    assert (
        f"{misfit.prompt:,} prompt + {teacher.end} answer with its opening = {total:,} tokens leave no room"
        in teacher.misfit_lines()[0]
    )
    assert teacher.line().endswith("; 1 does not fit")
    assert prover.role == "prover"
    assert not found.is_sound
    assert "away" in found.fitting.skipped[0]


def test_budgets_that_leave_no_room_are_reported_and_do_not_refuse_every_question(source: DatasetSource) -> None:
    found = validate_dataset(source, config(4096))
    assert found.fitting is not None
    teacher = found.fitting.fits[0]
    assert teacher.room < 0
    assert "thinking ends where the context is full, before search.thinking_tokens = 4,096" in teacher.line()
    left = 256 - teacher.overhead - teacher.end
    assert f"- {teacher.end} answer with its opening = {left} left for question and thinking;" in teacher.line()
    assert [misfit.key for misfit in teacher.misfits] == ["long"]
    assert teacher.cut_count == 1


def measured(source: DatasetSource, context: int, thinking: int = 64) -> Fit:
    """The findings for the first teacher, with a context of this length."""
    text = CONFIG.format(thinking=thinking).replace("max_model_len = 256", f"max_model_len = {context}")
    found = validate_dataset(source, RunConfig.parse(text, source="cord.toml", folder=Path("/")))
    assert found.fitting is not None
    assert found.is_sound == (not any(fit.misfit_count for fit in found.fitting.fits))
    return found.fitting.fits[0]


def test_a_question_fits_as_long_as_a_step_has_room_and_the_reported_numbers_add_up(tmp_path: Path) -> None:
    row = {"id": "only", "question": "2 + " * 10, "answer": "4"}
    (tmp_path / "d.jsonl").write_text(json.dumps(row), encoding="utf-8")
    source = DatasetSource(tmp_path / "d.jsonl")
    ample = measured(source, 1024)
    prompt, end = ample.overhead + ample.longest, ample.end
    assert ample.line().endswith("; all fit")

    whole = measured(source, prompt + 64 + end)
    assert (whole.misfit_count, whole.cut_count, whole.room) == (0, 0, whole.longest)
    cut = measured(source, prompt + 63 + end)
    assert (cut.misfit_count, cut.cut_count) == (0, 1)
    assert cut.line().endswith("; 1 fits, but leaves less room than search.thinking_tokens = 64")
    least = measured(source, prompt + 17 + end)
    assert (least.misfit_count, least.cut_count) == (0, 1)
    assert least.line().endswith("; all leave room for a step") or least.has_room
    none = measured(source, prompt + 16 + end)
    assert (none.misfit_count, none.cut_count) == (1, 0)
    assert none.line().endswith("; 1 does not fit")
    assert (
        f"{prompt} prompt + {end} answer with its opening = {prompt + end} tokens leave no room for a step"
        in none.misfit_lines()[0]
    )


def test_without_a_configuration_no_model_is_looked_at(source: DatasetSource) -> None:
    found = validate_dataset(source)
    assert found.fitting is None
    assert found.is_sound


def test_a_thinking_budget_that_does_not_fit_is_reported_without_a_tokenizer() -> None:
    assert room_remarks(config(64)) == []
    (remark,) = room_remarks(config(512))
    assert "teacher 'first': the context of model 'planner' holds 256 tokens" in remark
    assert "question and thinking share 224 tokens of it" in remark
    assert "before search.thinking_tokens = 512 is used up; 32 are kept for the final answer" in remark
    assert len(room_remarks(config(4096))) == 2, "the prover's 1,024 are too few, too"


def test_a_context_without_room_for_a_step_and_its_answer_is_refused() -> None:
    tight = RunConfig.parse(
        CONFIG.format(thinking=64).replace("answer_tokens = 32", "answer_tokens = 250"),
        source="cord.toml",
        folder=Path("/"),
    )
    with pytest.raises(ConfigError, match=r"no room for a step; 250 are kept for the final answer.*Lower search"):
        room_remarks(tight)
