"""Students: TRL's own `trl sft` on what a run wrote, as a user would train one (deploy/sft)."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cord_worker.errors import TrainingFailed
from cord_worker.reproduce.carrying_out import Workplace
from cord_worker.store.database import Database

_LOOK_SECONDS = 0.5
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True, slots=True)
class School:
    """How students are trained: the `trl` command, its YAML, and the model that all of them begin as."""

    trl: Path
    settings: Path
    beginner: str


def train_students(runs: Sequence[str], school: School, database: Database, place: Workplace) -> dict[str, Path]:
    """Trains one student on the output of each run, all side by side on a thread each; returns their folders by run.

    Students that are there already are left alone. Raises TrainingFailed.
    """
    folders = {run: place.folder / "students" / run for run in runs}
    training: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for run, folder in folders.items():
            if not folder.is_dir():
                training[run] = _begin(run, folder, school, database)
                place.say(f"student of {run}: training")
        while any(process.poll() is None for process in training.values()):
            place.check_interrupted()
            time.sleep(_LOOK_SECONDS)
    finally:
        for process in training.values():
            if process.poll() is None:
                process.kill()
            process.wait()
    for run, process in training.items():
        _conclude(folders[run], process.returncode)
        place.say(f"student of {run}: trained")
    return folders


def _begin(run: str, folder: Path, school: School, database: Database) -> subprocess.Popen[bytes]:
    from cord_worker.export.sft import Student, export_sft  # imports torch, which takes seconds

    lessons = folder.with_name(f"{folder.name}.lessons")
    lessons.mkdir(parents=True, exist_ok=True)
    export_sft(database, run, str(lessons / "train.jsonl"), Student(school.beginner))
    unfinished = _unfinished(folder)
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [
        str(school.trl), "sft", "--config", str(school.settings), "--model_name_or_path", school.beginner,
        "--dataset_name", str(lessons), "--output_dir", str(unfinished),
    ]  # fmt: skip
    environment: Mapping[str, str] = {**os.environ, **_ONE_THREAD, "HF_HUB_OFFLINE": "1"}
    with _log(folder).open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def _conclude(folder: Path, code: int) -> None:
    if code:
        raise TrainingFailed(f"trl sft ended with exit code {code}; look at {_log(folder)}")
    _unfinished(folder).rename(folder)


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.unfinished")


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")
