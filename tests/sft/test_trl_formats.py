"""TRL takes the rows of the other export formats, and computes the loss on the right tokens of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from cord_worker.export.format import Choices, LeftOut, Scope, Think
from cord_worker.export.formats import FORMATS
from cord_worker.export.rows import write_rows
from cord_worker.export.student import Student
from tests.support.exported import MODELS, REPLY, RESULT, TREE, scope

ROOT = Path(__file__).parents[2]
STUDENT = str(MODELS / "student")
COMPLETION = REPLY.removeprefix("<think>\n")
WRONG = replace(RESULT, correct=False, answer_text="The final answer is 5.")


def loaded(form: str, folder: Path, of: Scope, unit: Any) -> Any:
    """The rows of a format, written to a file and loaded as a trainer loads them."""
    from datasets import load_dataset

    rows = [row for row in FORMATS[form].rows(of, unit) if not isinstance(row, LeftOut)]
    file = folder / f"{form}.parquet"
    write_rows(str(file), rows * 4, FORMATS[form].fields(of))
    return load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(folder / "cache"))


def options(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "out"),
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "max_steps": 1,
        "per_device_train_batch_size": 2,
    }


def templated(folder: Path, template: str) -> Path:
    """The bundled student with a chat template of TRL."""
    student = folder / "student"
    shutil.copytree(STUDENT, student)
    tokenizer: Any = AutoTokenizer.from_pretrained(student)
    tokenizer.chat_template = resources.files("trl").joinpath(f"chat_templates/{template}.jinja").read_text("utf-8")
    tokenizer.bos_token = "<|system|>"
    tokenizer.save_pretrained(student)
    return student


@pytest.mark.parametrize("template", ["deepseek_r1_distill", "qwen3", "llama3"])
def test_a_pair_of_trajectories_is_compared_with_its_thinking(tmp_path: Path, template: str) -> None:
    from trl import DPOConfig, DPOTrainer

    student = templated(tmp_path, template)
    rows = loaded("dpo", tmp_path, scope(student=Student(str(student))), [RESULT, WRONG])
    trainer = DPOTrainer(str(student), args=DPOConfig(**options(tmp_path)), train_dataset=rows)
    example = trainer.train_dataset[0]
    tokenizer: Any = AutoTokenizer.from_pretrained(student)
    assert tokenizer.decode(example["chosen_ids"]) == COMPLETION + tokenizer.eos_token
    assert tokenizer.decode(example["rejected_ids"]) == COMPLETION.replace("is 4.", "is 5.") + tokenizer.eos_token
    assert tokenizer.decode(example["prompt_ids"]).endswith("<think>\n")
    assert tokenizer.decode(example["prompt_ids"]).count("<think>") == 1
    assert trainer.train().training_loss > 0


def test_steps_are_compared_without_an_end_token_after_them(tmp_path: Path) -> None:
    from trl import DPOConfig, DPOTrainer

    rows = loaded("step-dpo", tmp_path, scope(student=Student(STUDENT)), TREE)
    tokenizer: Any = AutoTokenizer.from_pretrained(STUDENT)
    tokenizer.pad_token, tokenizer.eos_token = tokenizer.pad_token or tokenizer.eos_token, ""
    trainer = DPOTrainer(STUDENT, args=DPOConfig(**options(tmp_path)), train_dataset=rows, processing_class=tokenizer)
    read = {
        (tokenizer.decode(example["chosen_ids"]), tokenizer.decode(example["rejected_ids"]))
        for example in trainer.train_dataset
    }
    assert read == {(row["chosen"], row["rejected"]) for row in rows}
    assert trainer.train().training_loss > 0


def test_the_script_for_step_dpo_trains_and_keeps_the_end_tokens_and_the_tokenizer(tmp_path: Path) -> None:
    run = scope(student=Student(STUDENT))
    rows = [row for row in FORMATS["step-dpo"].rows(run, TREE) if not isinstance(row, LeftOut)]
    (tmp_path / "steps").mkdir()
    write_rows(str(tmp_path / "steps" / "train.jsonl"), rows, FORMATS["step-dpo"].fields(run))
    command = [
        sys.executable, "deploy/sft/step_dpo.py", "--config", "deploy/sft/tiny-step-dpo.yaml",
        "--model_name_or_path", STUDENT, "--dataset_name", str(tmp_path / "steps"), "--max_steps", "1",
        "--output_dir", str(tmp_path / "out"),
    ]  # fmt: skip
    environment = {**os.environ, "HF_HOME": str(tmp_path)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (STUDENT, tmp_path / "out"))
    assert after.generation_config.eos_token_id == before.generation_config.eos_token_id
    assert after.config.eos_token_id == before.config.eos_token_id
    tokenizers: list[Any] = [AutoTokenizer.from_pretrained(path) for path in (STUDENT, tmp_path / "out")]
    assert tokenizers[0].eos_token == tokenizers[1].eos_token == "<|end|>"
    assert tokenizers[0].chat_template == tokenizers[1].chat_template
    assert any((one != other).any() for one, other in zip(before.parameters(), after.parameters(), strict=True))


def test_labelled_results_train(tmp_path: Path) -> None:
    from trl import KTOConfig, KTOTrainer

    rows = loaded("kto", tmp_path, scope(student=Student(STUDENT)), [RESULT, WRONG])
    trainer = KTOTrainer(STUDENT, args=KTOConfig(**options(tmp_path)), train_dataset=rows)
    tokenizer: Any = AutoTokenizer.from_pretrained(STUDENT)
    assert tokenizer.decode(trainer.train_dataset[0]["completion_ids"]) == COMPLETION + tokenizer.eos_token
    assert [row["label"] for row in trainer.train_dataset][:2] == [True, False]
    assert trainer.train().training_loss > 0


@pytest.mark.parametrize(
    ("template", "think"),
    [
        ("qwen3_training", Think.FIELD),
        ("qwen3_training", Think.INLINE),
        ("deepseek_r1_distill_training", Think.INLINE),
        ("llama3_training", Think.INLINE),
    ],
)
def test_chat_messages_are_thought_once_and_learnt_whole(tmp_path: Path, template: str, think: Think) -> None:
    from trl import SFTConfig, SFTTrainer

    student = templated(tmp_path, template)
    rows = loaded("messages", tmp_path, scope(Choices(think=think)), [RESULT])
    settings = SFTConfig(**options(tmp_path), assistant_only_loss=True)
    trainer = SFTTrainer(str(student), args=settings, train_dataset=rows)
    example = trainer.train_dataset[0]
    tokenizer: Any = AutoTokenizer.from_pretrained(student)
    text = tokenizer.decode(example["input_ids"])
    assert text.count("<think>") == text.count("</think>") == 1
    learnt = [token for token, label in zip(example["input_ids"], example["labels"], strict=True) if label != -100]
    assert COMPLETION in tokenizer.decode(learnt)
    assert "How many?" not in tokenizer.decode(learnt)
    assert trainer.train().training_loss > 0


def test_what_is_counted_is_what_the_trainer_reads(tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    student = Student(STUDENT)
    of = scope(student=student)
    rows = loaded("sft", tmp_path, of, [RESULT])
    trainer = SFTTrainer(STUDENT, args=SFTConfig(**options(tmp_path)), train_dataset=rows)
    (text,) = FORMATS["sft"].sequences(of, json.loads(json.dumps(rows[0])))
    assert student.count(text) == len(trainer.train_dataset[0]["input_ids"])
