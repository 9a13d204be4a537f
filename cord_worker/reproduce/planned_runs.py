"""The runs that fill the tables. Each is the tiny preset with some changes. A new variant is one entry of RUNS."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import tomlkit

from cord_worker.demo.merging import INTEGRATION_PROMPT
from cord_worker.demo.problems import generate
from cord_worker.export.files import replaced_file

HELDOUT, EXAM = "heldout.jsonl", "exam.jsonl"
"""The datasets: the problems of the runs, and those of the students' exam."""
PROBLEMS = 200
"""Held-out problems of every other run."""
TRAINING_PROBLEMS = 1_000
"""Held-out problems of each run whose output a student learns from."""
_HELDOUT_SEED, _EXAM_SEED = 1, 2
_ENGINE = {"dtype": "float32", "batch_size": 128, "gather_seconds": 0.5}
"""Large batches, which wait until they are full, and float32. This takes half the time of the preset's float64, and
scores agree to 1e-5."""
_MAX_ACTIVE = 256
_PAPER_SEARCH = {"beam_width": 4, "score_resolution": 0.0}
"""The paper's values, which replace those of the preset."""

PROVER = "prover"
INTEGRATOR = "integrator"
REWARD = "reward"
BEST_TEACHER = "closer"
"""The only teacher of the homogeneous runs."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """A bundled model as a teacher, and its temperature."""

    name: str
    model: str
    temperature: float = 0.6


HETEROGENEOUS = tuple(Teacher(name, name) for name in ("planner", "calculator", "closer"))
HOMOGENEOUS = tuple(Teacher(f"{BEST_TEACHER}-{heat}", BEST_TEACHER, heat) for heat in (0.5, 0.6, 0.7))
PLAIN = tuple(Teacher(teacher.name, f"{teacher.model}-plain") for teacher in HETEROGENEOUS)
"""The same teachers, trained to write without numbered steps."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of the service over a `dataset` of the reproduction's folder.

    `search` changes the preset's table of that name. `models` names the models that neither teach nor score, each with
    further entries of its table. `paths` gives the folders of models that are not bundled. `tables` adds further tables
    of cord.toml.
    """

    run: str
    search: Mapping[str, Any] = field(default_factory=dict)
    problems: int = PROBLEMS
    teachers: tuple[Teacher, ...] = HETEROGENEOUS
    prover: str = PROVER
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dataset: str = HELDOUT

    def limited_to(self, problems: int | None) -> PlannedRun:
        """The run with at most this many problems."""
        return self if problems is None else replace(self, problems=min(self.problems, problems))

    def write(self, folder: Path) -> Path:
        """Writes the configuration to the reproduction's folder of configurations; returns its path."""
        path = folder / "configurations" / f"{self.run}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.cord_toml(), encoding="utf-8")
        return path

    def cord_toml(self) -> str:
        """The configuration as TOML."""
        preset = tomllib.loads((files("cord_worker") / "presets" / "tiny.toml").read_text(encoding="utf-8"))
        engine = {**preset["models"][PROVER], **_ENGINE}
        names = dict.fromkeys([*(teacher.model for teacher in self.teachers), *self.models, self.prover])
        sampling = preset["teachers"][0]
        document: dict[str, Any] = {
            "models": {
                name: {**engine, "path": self.paths.get(name, f"bundled:{name}"), **self.models.get(name, {})}
                for name in names
            },
            "teachers": [
                {**sampling, "name": teacher.name, "model": teacher.model, "temperature": teacher.temperature}
                for teacher in self.teachers
            ],
            "prover": {**preset["prover"], "model": self.prover},
            "search": {**preset["search"], **_PAPER_SEARCH, **self.search},
            "run": {**preset["run"], "max_active": _MAX_ACTIVE},
            **self.tables,
        }
        return tomlkit.dumps(document)


def _alone(teacher: Teacher) -> PlannedRun:
    return PlannedRun(f"{teacher.name}-alone", {"pipeline": "curation", "trajectories": 1}, teachers=(teacher,))


def _integration(run: str, teachers: tuple[Teacher, ...]) -> PlannedRun:
    """One trajectory of each teacher, merged by the bundled integrator, whose context has no room for more."""
    table = {"model": INTEGRATOR, "max_tokens": 256, "prompt": INTEGRATION_PROMPT}
    return PlannedRun(
        run,
        {"pipeline": "integration", "trajectories": 1},
        teachers=teachers,
        models={INTEGRATOR: {}},
        tables={"integration": table},
    )


CURATION = {"pipeline": "curation"}

# The runs begin in this order, long ones first. Binary judgments come after the longest runs, because they block the
# prover for all other runs. The reward model must not be last, because it judges one candidate at a time.
RUNS: tuple[PlannedRun, ...] = (
    PlannedRun("cord", problems=TRAINING_PROBLEMS),
    PlannedRun("curation", CURATION, problems=TRAINING_PROBLEMS),
    PlannedRun(
        "binary-judgment",
        {"selection": "binary_judgment"},
        tables={"binary": {"judgments": 10, "tokens": 24, "template": "\n</think>\n\nThe final answer is"}},
    ),
    *(_alone(teacher) for teacher in HETEROGENEOUS),
    PlannedRun("line-break", {"segmentation": "line_break"}, teachers=PLAIN, prover="prover-plain"),
    PlannedRun("phrases", {"segmentation": "phrases"}, teachers=PLAIN, prover="prover-plain"),
    PlannedRun("greedy", {"pipeline": "greedy"}),
    PlannedRun("greedy-once", {"pipeline": "greedy", "trajectories": 1}),
    PlannedRun(
        "reward-model",
        {"selection": "reward_model"},
        models={REWARD: {"head": "reward", "gather_seconds": 0.0}},
        tables={"reward": {"model": REWARD}},
    ),
    PlannedRun("mcts", {"pipeline": "mcts"}),
    PlannedRun("curation-twice", {**CURATION, "trajectories": 8}),
    PlannedRun("random", {**CURATION, "selection": "random"}),
    PlannedRun("max-length", {**CURATION, "selection": "max_length"}),
    PlannedRun("cord-homogeneous", teachers=HOMOGENEOUS),
    PlannedRun("curation-homogeneous", CURATION, teachers=HOMOGENEOUS),
    PlannedRun("weak-prover", prover="weak-prover"),
    _integration("integration", HETEROGENEOUS),
    _integration("integration-homogeneous", HOMOGENEOUS),
)


STUDENTS = ("curation", "cord")
"""Runs whose output a student learns from."""
EXAM_PROBLEMS = 500
EXAMS = ("student-base", *(f"student-{run}" for run in STUDENTS))
"""Runs in which each student, the untrained one first, writes one answer to each problem of the exam: Pass@1."""


def exam(run: str, path: str) -> PlannedRun:
    """The exam of the student in `path`."""
    alone = _alone(Teacher(run, run))
    return replace(alone, run=run, problems=EXAM_PROBLEMS, paths={run: path}, dataset=EXAM)


def write_problems(folder: Path) -> None:
    """Writes both datasets to the reproduction's folder. No model was trained on their problems."""
    for name, count, seed in ((HELDOUT, TRAINING_PROBLEMS, _HELDOUT_SEED), (EXAM, EXAM_PROBLEMS, _EXAM_SEED)):
        with replaced_file(str(folder / name)) as file:
            for problem in generate(count, seed, "heldout"):
                line = {"id": problem.id, "question": problem.question, "answer": problem.answer}
                file.write(json.dumps(line).encode() + b"\n")
