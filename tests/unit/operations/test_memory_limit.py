"""Under a low limit of addresses nothing imports torch, which would end the process; the limit is named instead."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, pathlib, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
from cord_worker.config import RunConfig, Settings
from cord_worker.operations.doctor import run_checks
from cord_worker.operations.fitting import ContextCheck
folder = pathlib.Path(sys.argv[1])
path = folder / "cord.toml"
findings = run_checks(Settings(state_dir=folder / "state"), path)
config = RunConfig.parse(path.read_text(), source="cord.toml", folder=folder)
told = [f"{one.level} {one.subject}: {one.found}{one.advice and ' -> ' + one.advice}" for one in findings]
lines = told + ContextCheck(config).skipped
print(json.dumps([lines, "torch" in sys.modules]))
"""
CONFIG = """
[models.prover]
path = "bundled:prover"
[[teachers]]
name = "first"
model = "prover"
[prover]
model = "prover"
"""


def test_doctor_and_the_check_of_contexts_name_the_limit_without_torch(tmp_path: Path) -> None:
    (tmp_path / "cord.toml").write_text(CONFIG, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    lines, has_torch = json.loads(ended.stdout)
    assert not has_torch
    for subject in ("model prover", "contexts", "devices"):
        assert f"warn {subject}: not checked: torch gets too little memory (see `memory`)" in lines
    (limit,) = (line for line in lines if line.startswith("fail memory: "))
    assert "a process may use 512 MiB of addresses" in limit
    assert lines[-1].startswith("model 'prover': its tokenizer is not loaded: a process may use 512 MiB")
