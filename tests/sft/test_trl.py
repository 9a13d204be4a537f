"""From a run of the service to a student trained by TRL, with no code of ours between."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import cord_worker.demo
from cord_worker.demo.problems import generate
from cord_worker.engines import load_engine
from cord_worker.engines.protocol import Generation, Turn
from cord_worker.export.student import Student
from cord_worker.prompting.trajectory import PROMPTED
from cord_worker.store.reports.results import Result, ResultStep
from tests.support.settings import engine_settings, greedy

ROOT = Path(__file__).parents[2]
MODELS = Path(cord_worker.demo.__file__).parent / "models"
COMPLETION = "### Step 1. Count: 2 and 2.\n### Step 2. So 2 + 2 = 4.\n</think>\n\nThe final answer is 4."
RESULT = Result(
    position=0, key="p1", question="How many?", answer="4", passage=None, attributes={}, base_score=0.1, score=0.9,
    finish="think_end", answer_text="The final answer is 4.", correct=True, verification=None,
    steps=(
        ResultStep(1, "a", " Count: 2 and 2.", 0.5, "step", 5), ResultStep(2, "b", " So 2 + 2 = 4.", 0.9, "eos", 5),
    ),
)  # fmt: skip


def run(*command: str, environment: dict[str, str], folder: Path = ROOT) -> None:
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=540, check=False
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]


def test_a_student_trained_on_a_run_is_hosted_and_thinks_in_steps(
    tmp_path: Path,
    migrated_database: Callable[[], AbstractContextManager[str]],
    broker_url: str,
    fresh_keys: Callable[[], AbstractContextManager[str]],
) -> None:
    rows = [{"id": one.id, "question": one.question, "answer": one.answer} for one in generate(20, 1, "heldout")]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "sft").mkdir()
    cordctl = (sys.executable, "-m", "cord_worker.cli")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CORD_")}
    with migrated_database() as url, fresh_keys() as prefix:
        services = {"CORD_DATABASE_URL": url, "CORD_BROKER_URL": broker_url, "CORD_KEY_PREFIX": prefix}
        environment = {**inherited, **services, "PYTHONPATH": str(ROOT)}
        written = subprocess.run([*cordctl, "init"], env=environment, capture_output=True, text=True, check=True)
        (tmp_path / "cord.toml").write_text(written.stdout, encoding="utf-8")
        run(*cordctl, "run", "problems.jsonl", "--run", "r", "-o", "out.jsonl",
            environment=environment, folder=tmp_path)  # fmt: skip
        run(*cordctl, "export", "r", "--format", "sft", "--student", "bundled:student", "--only-correct",
            "-o", "sft/train.jsonl", environment=environment, folder=tmp_path)  # fmt: skip
    trl = Path(sys.executable).parent / "trl"
    run(str(trl), "sft", "--config", "deploy/sft/tiny.yaml", "--dataset_name", str(tmp_path / "sft"),
        "--max_steps", "5", "--output_dir", str(tmp_path / "student"),
        environment={**inherited, "HF_HOME": str(tmp_path)})  # fmt: skip
    assert (tmp_path / "student" / "model.safetensors").read_bytes() != (
        MODELS / "student" / "model.safetensors"
    ).read_bytes()
    generation = asyncio.run(_written(tmp_path / "student", rows[0]["question"]))
    assert "\n### Step 2." in generation.text
    assert generation.completion_tokens > 10


async def _written(folder: Path, question: str) -> Generation:
    engine = load_engine(engine_settings(path=str(folder), dtype="float64", device="cpu"))
    try:
        return await engine.complete(Turn(question), [], greedy(max_tokens=200, seed=0))
    finally:
        await engine.close()


@pytest.mark.parametrize("template", ["deepseek_r1_distill", "qwen3", "qwen2_5", "llama3", "gemma"])
def test_the_loss_covers_the_whole_thinking_and_the_answer(tmp_path: Path, template: str) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    student = tmp_path / "student"
    shutil.copytree(MODELS / "student", student)
    tokenizer: Any = AutoTokenizer.from_pretrained(student)
    tokenizer.chat_template = resources.files("trl").joinpath(f"chat_templates/{template}.jinja").read_text("utf-8")
    tokenizer.bos_token = "<|system|>"
    tokenizer.save_pretrained(student)
    texts = Student(str(student)).trajectory(RESULT, PROMPTED)
    assert texts is not None
    row = {"prompt": texts[0], "completion": texts[1]}
    settings = SFTConfig(str(tmp_path / "out"), use_cpu=True, bf16=False, report_to="none")
    trainer = SFTTrainer(str(student), args=settings, train_dataset=Dataset.from_list([row] * 2))
    example = trainer.train_dataset[0]
    learnt = [token for token, label in zip(example["input_ids"], example["labels"], strict=True) if label != -100]
    assert tokenizer.decode(learnt) == COMPLETION + tokenizer.eos_token
    unlearnt = tokenizer.decode(example["input_ids"][: -len(learnt)])
    assert unlearnt.endswith("<think>\n")
    assert unlearnt.count("How many?") == 1


def test_the_papers_configuration_has_the_papers_values() -> None:
    import yaml
    from trl.scripts.sft import make_parser

    for name in ("paper", "tiny"):
        path = ROOT / "deploy" / "sft" / f"{name}.yaml"
        known = {action.dest for action in make_parser()._actions}
        assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) <= known
    paper = yaml.safe_load((ROOT / "deploy" / "sft" / "paper.yaml").read_text(encoding="utf-8"))
    processes = yaml.safe_load(resources.files("trl").joinpath("accelerate_configs/zero3.yaml").read_text("utf-8"))
    batch = paper["per_device_train_batch_size"] * paper["gradient_accumulation_steps"] * processes["num_processes"]
    assert batch == 8
    assert (paper["num_train_epochs"], paper["learning_rate"], paper["max_length"]) == (5, 5e-6, 20_480)
    assert paper["lr_scheduler_type"] == "cosine"
