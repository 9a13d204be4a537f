"""Training data of the bundled integrator, which merges whole trajectories of the teachers into one, written as JSON.

The prompt equals what the service sends to an integrator. The trajectories contain the teachers' usual mistakes.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

from cord_worker.demo.corpus import TEACHERS, Piece, Step, parts, write
from cord_worker.demo.problems import DemoProblem

if TYPE_CHECKING:
    from cord_worker.demo.training import Encoder, Sample

MERGE = "Merge the attempts into one solution, as JSON."
INTEGRATION_PROMPT = f"{{question}}\n\n{{trajectories}}\n\n{MERGE}"
"""`integration.prompt` of cord.toml for the bundled integrator."""
FORM = ("=== Attempt ", MERGE, '{"integrated_step', '", "integrated_step', '", "answer_part": "')
"""Texts that become one token each, because the context is short and they carry no content."""

_SOURCES, _SOURCES_SHARE = (1, 2, 3), (0.15, 0.25, 0.6)
_ONE_TEACHER = 0.4


def sample(encoder: Encoder, problem: DemoProblem, rng: random.Random) -> Sample:
    """Ids and labels of a request with its reply; only the reply is learnt."""
    turn = encoder.request(request(problem.question, draw_sources(problem, rng)))
    right = write(problem, [next(iter(TEACHERS))] * len(parts(problem)), rng, errors=False)
    return encoder.sample([Piece(turn, False), Piece(reply(right), True)], ends=True)


def whole_text(steps: list[Step]) -> str:
    """A trajectory as one text, without its first marker: a teacher's prompt ends with that marker."""
    first, *others = steps
    return "".join([first.text, *(f"\n### Step {number}.{step.text}" for number, step in enumerate(others, start=2))])


def draw_sources(problem: DemoProblem, rng: random.Random) -> list[str]:
    """Trajectories of one teacher or of several. As in the service's requests, no two are equal."""
    count = rng.choices(_SOURCES, _SOURCES_SHARE)[0]
    same_teacher = rng.random() < _ONE_TEACHER
    names = (
        [rng.choice(list(TEACHERS))] * count
        if same_teacher
        else sorted(rng.sample(list(TEACHERS), count), key=_position)
    )
    drawn = [whole_text(write(problem, [name] * len(parts(problem)), rng, errors=True)) for name in names]
    return list(dict.fromkeys(drawn))


def _position(name: str) -> int:
    return list(TEACHERS).index(name)


def request(question: str, trajectories: list[str]) -> str:
    """The user turn: the question and the trajectories, as the service fills in `INTEGRATION_PROMPT`."""
    attempts = "\n\n".join(
        f"=== Attempt {number} ===\n### Step 1.{text}" for number, text in enumerate(trajectories, start=1)
    )
    return INTEGRATION_PROMPT.replace("{question}", question).replace("{trajectories}", attempts)


def reply(steps: list[Step]) -> str:
    """The merged trajectory and its final answer as the JSON object that the service reads."""
    document = {f"integrated_step{number}": step.text.strip() for number, step in enumerate(steps, start=1)}
    return json.dumps({**document, "answer_part": f"The final answer is {steps[-1].state.answer()}."})
