"""Configurations of the instant engine, one for every pipeline and what only some runs do."""

from __future__ import annotations

from cord_worker.dataset import ProblemRecord
from cord_worker.dataset.records import Json

FAST = {
    "CORD_HEARTBEAT_SECONDS": "0.3",
    "CORD_WORKER_TIMEOUT_SECONDS": "1.5",
    "CORD_RESEND_SECONDS": "1",
    "CORD_SWEEP_SECONDS": "0.2",
    "CORD_GRACE_SECONDS": "2",
    "CORD_STEAL_SECONDS": "0.3",
    "OMP_NUM_THREADS": "1",
}
"""Short times, so that recovery takes seconds."""

SEARCHES = {
    "cord": "beam_width = 3\n",
    "greedy": 'pipeline = "greedy"\ntrajectories = 2\n',
    "curation": 'pipeline = "curation"\ntrajectories = 2\n',
    "integration": 'pipeline = "integration"\ntrajectories = 2\n',
    "mcts": 'pipeline = "mcts"\ntrajectories = 3\n',
    "sample": 'pipeline = "sample"\ntrajectories = 3\n',
    "rewarded": 'beam_width = 2\nselection = "reward_model"\n',
    "judged": 'beam_width = 2\nselection = "binary_judgment"\n',
}
"""Every pipeline, and both selections whose candidates are judged."""

CHECKED = {"cord", "sample", "judged"}
"""Searches whose answers are compared, except those for the judge."""


_MODELS = {
    name: f'[models.{name}]\npath = "{name}"\nengine = "instant"\n' for name in ("alpha", "beta", "prover", "referee")
}
_MODELS["critic"] = '[models.critic]\npath = "critic"\nengine = "instant"\nhead = "reward"\n'


HOSTED = ("cord", "rewarded")
"""Searches to which gamma, a teacher on a server, contributes if there is a server."""


GAMMA = """
[models.gamma]
path = "gamma"
engine = "openai"
[models.gamma.openai]
base_url = "{url}"
api = "chat"
timeout_seconds = 5
max_retries = 2
"""


def configuration(
    search: str,
    *,
    seed: int = 0,
    max_active: int = 32,
    max_attempts: int = 1000,
    max_steps: int = 6,
    few: bool = False,
    hosted: str | None = None,
) -> str:
    """A cord.toml of one of `SEARCHES`; with `few` alpha hosts both teachers, and the prover judges; gamma is on the
    server at `hosted`.

    Many attempts are allowed: a process that is killed often must not park its problem.
    """
    beta, referee = ("alpha", "prover") if few else ("beta", "referee")
    used = ["alpha", beta, referee]
    used += ["prover"] if search != "sample" else []
    used += ["critic"] if search == "rewarded" else []
    text = "".join(_MODELS[model] for model in dict.fromkeys(used))
    text += f'[[teachers]]\nname = "alpha"\nmodel = "alpha"\n[[teachers]]\nname = "beta"\nmodel = "{beta}"\n'
    if hosted is not None and search in HOSTED:
        text += GAMMA.format(url=hosted) + '[[teachers]]\nname = "gamma"\nmodel = "gamma"\n'
    text += '[prover]\nmodel = "prover"\n' if "prover" in used else ""
    text += '[reward]\nmodel = "critic"\n' if "critic" in used else ""
    text += f'[verify]\nmethod = "none"\n[verify.judge]\nmodel = "{referee}"\n'
    text += f'[integration]\nmodel = "{referee}"\n' if search == "integration" else ""
    text += f"[search]\nmax_steps = {max_steps}\n{SEARCHES[search]}"
    return text + f"[run]\nseed = {seed}\nmax_active = {max_active}\nmax_attempts = {max_attempts}\n"


EVERYTHING = configuration("rewarded")
"""A configuration with every model: workers are started with it and serve every run."""


def problems(count: int, *, addition: str = "", exact: bool = False) -> list[ProblemRecord]:
    """Problems of which every third is decided by the judge; `addition` ends their questions.

    With `exact` the others are compared, every second by a process that reads formulas.
    """

    def method(number: int) -> dict[str, Json]:
        if number % 3 == 0:
            return {"verify": "judge"}
        return {"verify": "math" if number % 2 else "exact"} if exact else {}

    return [
        ProblemRecord(
            key=f"problem-{number}",
            question=f"What is {number} + {number}?{addition}",
            answer=str(2 * number),
            passage=None,
            metadata=method(number),
            location=f"x:{number}",
        )
        for number in range(count)
    ]
