"""Trains the bundled models from scratch: `python -m cord_worker.demo.train --out DIR --seed 0`.

Two models are trained concurrently. Each uses one thread, so that a run on the same build of PyTorch repeats exactly.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from cord_worker.demo.deriving import DERIVED, derive_model
from cord_worker.demo.training import SCHEDULE, train_model

log = logging.getLogger(__name__)

LONGEST_FIRST = ("prover", "planner", "calculator", "closer", "student", "weak-prover")


def _set_up_process() -> None:
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr, force=True)
    for noisy in ("httpx", "transformers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def main() -> None:
    """Train the bundled teachers, prover and student on the CPU, two at a time."""
    parser = argparse.ArgumentParser(prog="python -m cord_worker.demo.train", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder that receives one folder per model")
    parser.add_argument("--seed", type=int, default=0, help="seed of data, weights and order (default: 0)")
    parser.add_argument(
        "--only",
        choices=sorted({**SCHEDULE, **DERIVED}),
        action="append",
        help="train only this model; may be repeated",
    )
    parser.add_argument("--processes", type=int, default=2, help="models trained at a time (default: 2)")
    options = parser.parse_args()
    _set_up_process()
    started = time.monotonic()
    names = [name for name in LONGEST_FIRST if options.only is None or name in options.only]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=spawn, initializer=_set_up_process) as pool:
        runs = [pool.submit(train_model, name, options.seed, options.out / name) for name in names]
        for run in runs:
            run.result()
        derived = [name for name in DERIVED if options.only is None or name in options.only]
        runs = [
            pool.submit(derive_model, name, options.seed, _origin(name, options.out), options.out / name)
            for name in derived
        ]
        for run in runs:
            run.result()
    log.info("trained %s in %.0f s", ", ".join([*names, *derived]), time.monotonic() - started)


def _origin(name: str, out: Path) -> Path:
    """Folder of the model from which `name` is derived: the newly trained model, otherwise the bundled one."""
    origin = DERIVED[name][0]
    trained = out / origin
    return trained if trained.is_dir() else Path(__file__).parent / "models" / origin


if __name__ == "__main__":
    main()
