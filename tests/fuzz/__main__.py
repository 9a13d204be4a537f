"""Coverage-guided fuzzing of one target: `python -m tests.fuzz TARGET [--runs N] [--seconds N] [--found FOLDER]`.

Needs atheris (`pip install 'cord-worker[fuzz]'`). What breaks a property is written to FOLDER; copy it to
`tests/fuzz/corpus/TARGET/` once it is fixed, where the tests run it forever.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import atheris

HERE = Path(__file__).parent

with atheris.instrument_imports(include=["cord_worker", "tests.fuzz"], enable_loader_override=False):
    from tests.fuzz import targets


def main() -> None:
    """Fuzz until `--runs` executions or `--seconds` are over; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(targets.TARGETS))
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=0, help="0: no limit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--found", type=Path, default=Path("fuzz-out"))
    options = parser.parse_args()
    options.found.mkdir(parents=True, exist_ok=True)
    target = targets.TARGETS[options.target]
    done = 0
    is_told = False
    started = time.monotonic()

    def one(data: bytes) -> None:
        nonlocal done, is_told
        done += 1
        target(data)
        is_over = done >= options.runs or (options.seconds and time.monotonic() - started >= options.seconds - 1)
        if is_over and not is_told:
            is_told = True
            rate = round(done / (time.monotonic() - started))
            print(json.dumps({"target": options.target, "executions": done, "per_second": rate}), flush=True)

    with tempfile.TemporaryDirectory() as grown:
        seeds = HERE / "corpus" / options.target
        arguments = [sys.argv[0], grown, *([str(seeds)] if seeds.is_dir() else [])]
        arguments += [f"-atheris_runs={options.runs}", f"-artifact_prefix={options.found}/{options.target}-"]
        arguments += [
            f"-seed={options.seed}",
            "-max_len=1024",
            "-timeout=20",
            "-rss_limit_mb=4096",
            "-print_final_stats=1",
        ]
        arguments += [f"-max_total_time={options.seconds}"] if options.seconds else []
        atheris.Setup(arguments, one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
