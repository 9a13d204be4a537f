"""Trains students with TRL's `trl sft` on the output of a run, as a user would do it (deploy/sft)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cord_worker.errors import TrainingFailed
from cord_worker.export.exporting import Request, export_run
from cord_worker.export.formats import FORMATS
from cord_worker.store.database import Database

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_LOWEST_PRIORITY = 19
"""Nice value of a training: a student uses only processor time that the service's models leave."""


@dataclass(slots=True)
class StudentTrainer:
    """Trains a student on the output of each run, while other runs continue. Its fields are the `trl` command, its
    YAML, the initial model of all students, the folder for the trained ones, and a function that prints a message."""

    trl: Path
    settings: Path
    initial_model: str
    folder: Path
    say: Callable[[str], None]
    _training: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _trained: dict[str, Path] = field(default_factory=dict)

    @property
    def is_busy(self) -> bool:
        """True while a student is being trained, and until `take_trained` has returned a trained one."""
        return bool(self._training or self._trained)

    def begin(self, run: str, database: Database) -> None:
        """Starts training a student on the output of `run`; see `train`."""
        from cord_worker.export.student import Student  # imports torch, which takes seconds

        training_rows = self.folder / f"{run}.lessons"
        if not (self.folder / run).is_dir():
            training_rows.mkdir(parents=True, exist_ok=True)
            learnt = Request(format=FORMATS["sft"], student=Student(self.initial_model))
            export_run(database, run, str(training_rows / "train.jsonl"), learnt)
        self.train(run, self.sft(training_rows))

    def sft(self, training_rows: Path) -> Sequence[str]:
        """The command that trains the initial model on the rows in the folder `training_rows`."""
        return [
            str(self.trl), "sft", "--config", str(self.settings), "--model_name_or_path", self.initial_model,
            "--dataset_name", str(training_rows),
        ]  # fmt: skip

    def train(self, student: str, command: Sequence[str]) -> None:
        """Starts `command` on one thread; it writes the student to its `--output_dir`. A student that already exists is
        not trained again."""
        folder = self.folder / student
        if folder.is_dir():
            self._trained[student] = folder
            return
        self._training[student] = self._start(folder, command)
        self.say(f"student {student}: training")

    def take_trained(self) -> dict[str, Path]:
        """Folders of the students whose training has ended since the last call, by name. Raises TrainingFailed."""
        for student, process in list(self._training.items()):
            code = process.poll()
            if code is None:
                continue
            del self._training[student]
            folder = self.folder / student
            if code:
                raise TrainingFailed(
                    f"the training of student {student} ended with exit code {code}; look at {_log(folder)}"
                )
            _unfinished(folder).rename(folder)
            self._trained[student] = folder
            self.say(f"student {student}: trained")
        found, self._trained = self._trained, {}
        return found

    def close(self) -> None:
        """Stops all running trainings."""
        for process in self._training.values():
            process.kill()
            process.wait()
        self._training.clear()

    def _start(self, folder: Path, command: Sequence[str]) -> subprocess.Popen[bytes]:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = _unfinished(folder)
        shutil.rmtree(unfinished, ignore_errors=True)
        environment: Mapping[str, str] = {**os.environ, **_ONE_THREAD, "HF_HUB_OFFLINE": "1"}
        with _log(folder).open("wb") as log:
            process = subprocess.Popen(
                [*command, "--output_dir", str(unfinished)], stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        psutil.Process(process.pid).nice(_LOWEST_PRIORITY)
        return process


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.unfinished")


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")
