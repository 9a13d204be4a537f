"""`cordctl run`, `up` and `down` with embedded services: interrupted, killed, failing, reused."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import psutil
from cordctl_process import Cordctl, problem


def processes_of(state_dir: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            text = " ".join(process.cmdline()) + process.cwd() + process.environ().get("CORD_STATE_DIR", "")
        except psutil.Error:
            continue
        if state_dir in text and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def wait_for_no_process(state_dir: str, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while (left := processes_of(state_dir)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def wait_for_log(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"{text!r} was never said; exit code {process.wait()}")


def test_a_run_ends_with_a_summary_an_export_and_no_process(embedded_cordctl: Cordctl) -> None:
    result = embedded_cordctl("run", "problems.jsonl", "--run", "mine", "-o", "out.jsonl")
    assert "5 problems added" in result.stderr
    assert "5: 5 done, 0 failed" in result.stdout
    assert "alpha-hot" in result.stdout
    assert len((embedded_cordctl.folder / "out.jsonl").read_text(encoding="utf-8").splitlines()) == 5
    state_dir = embedded_cordctl.environment["CORD_STATE_DIR"]
    wait_for_no_process(state_dir)
    # What it left behind is there to be asked, without any service running.
    assert json.loads(embedded_cordctl("status", "--json").stdout)["problems"]["done"] == 5
    wait_for_no_process(state_dir)


def test_interrupted_it_stops_in_good_order_and_goes_on_the_next_time(embedded_cordctl: Cordctl) -> None:
    embedded_cordctl.write_problems(*(problem(number) for number in range(60)))
    process = embedded_cordctl.start("run", "problems.jsonl", "--run", "mine", "-o", "out.jsonl")
    wait_for_log(process, "problems added")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again to go on" in error
    assert "Traceback" not in error
    assert not (embedded_cordctl.folder / "out.jsonl").exists()
    wait_for_no_process(embedded_cordctl.environment["CORD_STATE_DIR"])
    result = embedded_cordctl("run", "problems.jsonl", "--run", "mine", "-o", "out.jsonl")
    assert "nothing new (60 already there)" in result.stderr
    assert "60 done" in result.stdout


def test_killed_it_leaves_no_process_and_goes_on_to_the_same_bytes(embedded_cordctl: Cordctl) -> None:
    embedded_cordctl.write_problems(*(problem(number) for number in range(40)))
    embedded_cordctl("run", "problems.jsonl", "--run", "mine", "-o", "whole.jsonl")
    other = Cordctl(embedded_cordctl.folder, {"CORD_STATE_DIR": embedded_cordctl.environment["CORD_STATE_DIR"] + "2"})
    process = other.start("run", "problems.jsonl", "--run", "mine", "-o", "killed.jsonl", "--json")
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["problems"].get("searching", 0):
            break
    process.kill()
    process.communicate()
    wait_for_no_process(other.environment["CORD_STATE_DIR"])
    other("run", "problems.jsonl", "--run", "mine", "-o", "killed.jsonl")
    whole, killed = (embedded_cordctl.folder / name for name in ("whole.jsonl", "killed.jsonl"))
    assert whole.read_bytes() == killed.read_bytes()


def test_a_model_that_cannot_be_loaded_is_one_clear_error(embedded_cordctl: Cordctl) -> None:
    folder = embedded_cordctl.folder / "broken"
    folder.mkdir()
    config = embedded_cordctl.folder / "cord.toml"
    text = config.read_text(encoding="utf-8").replace('path = "judge"\nengine = "instant"', 'path = "./broken"')
    config.write_text(text, encoding="utf-8")
    result = embedded_cordctl("run", "problems.jsonl", "-o", "out.jsonl", exits=1)
    assert result.stderr.count("error:") <= 2
    assert "worker-judge" in result.stderr
    assert "broken" in result.stderr
    assert "Traceback" not in result.stderr
    wait_for_no_process(embedded_cordctl.environment["CORD_STATE_DIR"])


def test_what_cannot_work_is_refused_before_anything_starts(embedded_cordctl: Cordctl) -> None:
    assert "missing.jsonl" in embedded_cordctl("run", "missing.jsonl", "-o", "out.jsonl", exits=1).stderr
    assert "does not exist" in embedded_cordctl("run", "problems.jsonl", "-o", "no/out.jsonl", exits=1).stderr
    assert not Path(embedded_cordctl.environment["CORD_STATE_DIR"]).exists()


def test_up_serves_later_commands_until_down(embedded_cordctl: Cordctl) -> None:
    cordctl = embedded_cordctl
    started = cordctl("up").stdout
    assert "ready: judge" in started
    assert "coordinator.log" in started
    assert "already running" in cordctl("up").stdout
    cordctl("enqueue", "problems.jsonl", "--run", "mine")
    assert "done" in cordctl("status", "mine", "--watch").stdout
    cordctl("export", "mine", "-o", "up.jsonl")
    assert len((cordctl.folder / "up.jsonl").read_text(encoding="utf-8").splitlines()) == 5
    reused = cordctl("run", "problems.jsonl", "--run", "again", "-o", "out.jsonl")
    assert "workers that run in the background" in reused.stderr
    other = (cordctl.folder / "cord.toml").read_text(encoding="utf-8").replace('path = "judge"', 'path = "other"')
    (cordctl.folder / "other.toml").write_text(other, encoding="utf-8")
    refused = cordctl("run", "problems.jsonl", "--config", "other.toml", "-o", "out.jsonl", exits=1)
    assert "cordctl down" in refused.stderr
    assert cordctl("down").stdout == "stopped\n"
    assert "nothing runs" in cordctl("down").stdout
    wait_for_no_process(cordctl.environment["CORD_STATE_DIR"])
