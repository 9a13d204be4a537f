"""The bundled models through the whole service: the same bytes every time, and scores as documented."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import cord_worker.demo
from cord_worker.demo.problems import generate
from cord_worker.store.database import Database
from tests.support.cordctl_process import Cordctl, prepared

PROVER = Path(cord_worker.demo.__file__).parent / "models" / "prover"
ANSWERS = ("204", "-3", r"\frac{1}{2}", "三", "The train arrives at noon, an hour late.")


@pytest.fixture
def tiny(cordctl: Cordctl) -> Cordctl:
    """With the preset `tiny`; three problems have their original answers, five have odd ones."""
    return with_tiny_models(cordctl)


@pytest.fixture
def embedded_tiny(embedded_cordctl: Cordctl) -> Cordctl:
    """The same with no services but those that the commands embed."""
    return with_tiny_models(embedded_cordctl)


def with_tiny_models(cordctl: Cordctl) -> Cordctl:
    config = cordctl("init", "--preset", "tiny").stdout
    (cordctl.folder / "cord.toml").write_text(config, encoding="utf-8")
    lines = []
    for index, problem in enumerate(generate(3 + len(ANSWERS), seed=1, split="heldout")):
        answer = problem.answer if index < 3 else ANSWERS[index - 3]
        lines.append(json.dumps({"id": problem.id, "question": problem.question, "answer": answer}))
    (cordctl.folder / "problems.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return cordctl


def run(cordctl: Cordctl, output: str) -> bytes:
    cordctl("run", "problems.jsonl", "--run", "tiny", "-o", output, timeout=240)
    return (cordctl.folder / output).read_bytes()


@pytest.mark.long
def test_equal_runs_give_equal_bytes_and_true_scores_in_any_batch(
    tiny: Cordctl,
    database_url: str,
    migrated_database: Callable[[], AbstractContextManager[str]],
    tmp_path: Path,
) -> None:
    first = run(tiny, "first.jsonl")
    assert len(first.splitlines()) == 3 + len(ANSWERS)

    with migrated_database() as url:
        (tmp_path / "again").mkdir()
        again = prepared(tmp_path / "again", {**tiny.environment, "CORD_DATABASE_URL": url})
        for name in ("cord.toml", "problems.jsonl"):
            text = (tiny.folder / name).read_text(encoding="utf-8")
            (again.folder / name).write_text(text.replace("batch_size = 128", "batch_size = 3"), encoding="utf-8")
        assert run(again, "second.jsonl") == first

    check_scores(database_url)


@pytest.mark.long
def test_a_killed_forked_worker_is_replaced_and_the_result_is_the_same(embedded_tiny: Cordctl) -> None:
    undisturbed = run(embedded_tiny, "first.jsonl")
    process = embedded_tiny.start("run", "problems.jsonl", "--run", "again", "-o", "second.jsonl")
    parent = psutil.Process(process.pid)
    killed = None
    while killed is None and process.poll() is None:
        for child in parent.children():
            with suppress(psutil.Error):
                if "-m cord_worker.cli worker planner" in " ".join(child.cmdline()):
                    child.kill()
                    killed = child
    _, said = process.communicate()
    assert killed is not None
    assert process.returncode == 0, said
    assert "worker-planner failed" in said
    kept = [
        json.loads(line) for line in (embedded_tiny.folder / "second.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [row["trajectory"] for row in kept] == [json.loads(line)["trajectory"] for line in undisturbed.splitlines()]


def check_scores(url: str) -> None:
    database = Database(url)
    rows = database.run(
        lambda connection: connection.execute(
            sa.text(
                """
                WITH RECURSIVE path AS (
                    SELECT id AS leaf, parent_id, step, text FROM candidates WHERE state = 'scored'
                    UNION ALL
                    SELECT path.leaf, c.parent_id, c.step, c.text FROM path JOIN candidates c ON c.id = path.parent_id
                )
                SELECT p.question, p.answer, c.score, c.answer_tokens,
                       (SELECT array_agg(path.text ORDER BY path.step) FROM path WHERE path.leaf = c.id) AS steps
                FROM candidates c JOIN problems p ON p.id = c.problem_id
                WHERE c.state = 'scored' ORDER BY p.key, c.lineage
                """
            )
        ).all()
    )
    usage = "SELECT sum(requests) AS requests, sum(cached_tokens) AS cached FROM model_usage WHERE kind = 'answer'"
    used = database.run(lambda c: c.execute(sa.text(usage)).one())
    assert used.requests == 3 + len(ANSWERS)
    assert used.cached > 0
    database.close()
    assert {row.answer for row in rows} >= set(ANSWERS)
    prover = _Prover()
    for row in rows[::5]:
        score, answer_tokens = prover.score(row.question, row.steps, row.answer)
        assert answer_tokens == row.answer_tokens
        assert score == pytest.approx(row.score, abs=1e-4)
        assert score == pytest.approx(row.score, rel=1e-5)  # rotary angles are of float32 in transformers


class _Prover:
    """The score as docs/what-is-computed.md#2-score states it, by one plain forward over the whole text."""

    def __init__(self) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(PROVER)
        self._model: Any = AutoModelForCausalLM.from_pretrained(PROVER, dtype=torch.float64)

    def score(self, question: str, steps: list[str], answer: str) -> tuple[float, int]:
        turn = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        pieces = [turn if turn.endswith("<think>\n") else f"{turn}<think>\n"]
        for number, text in enumerate([*steps[:-1], steps[-1].rstrip()], start=1):
            pieces += ["### Step 1." if number == 1 else f"\n### Step {number}.", text]
        before = [token for piece in pieces for token in self._encode(piece).input_ids]
        closing = f"\n</think>\n\nThe final answer is {answer}."
        start = closing.index(answer)
        encoded = self._encode(closing)
        wanted = [
            index
            for index, (begin, end) in enumerate(encoded.offset_mapping)
            if begin < start + len(answer) and end > start
        ]
        ids = torch.tensor([before + encoded.input_ids])
        with torch.inference_mode():
            log_probabilities = self._model(ids).logits[0].log_softmax(-1)
        total = sum(float(log_probabilities[len(before) + index - 1, encoded.input_ids[index]]) for index in wanted)
        return math.exp(total / len(wanted)), len(wanted)

    def _encode(self, text: str) -> Any:
        return self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
