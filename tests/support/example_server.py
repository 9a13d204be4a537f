"""A made-up server for the examples of docs/examples: hosted chat models, and a prover like vLLM's.

It writes the steps of `tests/fixtures/examples/written.json`. The more right steps its prover reads, the higher is the
score of the known answer. So the winners are the same on every machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from tests.support.openai_local_server import Json, LocalServer, Reply, chunks, completion

_WRITTEN = Path(__file__).parents[1] / "fixtures" / "examples" / "written.json"
_HOSTED = ("deepseek-chat", "glm-4.6", "kimi-k2")
_WITHOUT_STEPS = -2.0
_EASIER = 0.4
"""Factor of the log-probability of every answer token for each right step."""


def example_server(tokenizer_folder: Path) -> LocalServer:
    """A server of all the models; the prover's tokens are those of this tokenizer."""
    problems: dict[str, Json] = json.loads(_WRITTEN.read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    prover = {"id": "Qwen/Qwen2.5-7B-Instruct", "owned_by": "vllm"}
    return LocalServer(
        {
            "/v1/models": lambda _: {"object": "list", "data": [prover]},
            "/hosted/models": lambda _: {
                "object": "list",
                "data": [{"id": name, "owned_by": "hosted"} for name in _HOSTED],
            },
            "/v1/completions": _scores(problems, lambda ids: str(tokenizer.decode(ids))),
            "/hosted/chat/completions": lambda body: chunks(*_texts(problems, body), chat=True),
        }
    )


def _problem(problems: dict[str, Json], text: str) -> Json:
    return next((problem for begins, problem in problems.items() if begins in text), {})


def _texts(problems: dict[str, Json], body: Json) -> list[str]:
    """A step, a final answer, a verdict, or a word in reply to a probe."""
    said = [message["content"] for message in body["messages"]]
    problem = _problem(problems, "\n".join(said))
    written = problem.get(body["model"])
    if written is None:
        return [" two", "."]
    if body["messages"][-1]["role"] != "assistant":  # the judge
        knows = any(answer in said[-1].partition("Student's answer:")[2] for answer in ("8.1 mmHg", "far away"))
        return [json.dumps({"correctness": str(knows)})]
    if "</think>" in said[-1]:
        return [written["answer"]]
    number = len(re.findall(r"### Step \d+", said[-1]))
    steps = written["steps"]
    ending = "\n</think>" if number >= len(steps) else f"\n### Step {number + 1}."
    return [f" {steps[min(number, len(steps)) - 1]}", ending]


def _scores(problems: dict[str, Json], decode: Callable[[list[int]], str]) -> Callable[[Json], Any]:
    writes = completion(" 2", stop_reason=None)

    def answer(body: Json) -> Any:
        if "logprob_token_ids" in body:
            return Reply({"error": {"message": "logprob_token_ids is not supported"}}, status=400)
        reply = writes(body)
        if "prompt_logprobs" in body:
            text = decode(body["prompt"])
            right = sum(step in text for step in _problem(problems, text).get("right", ()))
            value = {"logprob": _WITHOUT_STEPS * _EASIER**right}
            reply["choices"][0]["prompt_logprobs"] = [None, *({str(token): value} for token in body["prompt"][1:])]
        return reply

    return answer
