"""The installed wheel works outside the checkout: it holds migrations, presets and demonstration."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the programs of an environment that holds the wheel and takes everything else from this one."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    site = next(home.glob("lib/python*/site-packages"))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    python = home / "bin" / "python"
    subprocess.run(
        [
            python,
            "-m",
            "pip",
            "install",
            "-qqq",
            "--no-index",
            "--no-deps",
            "--ignore-installed",
            "--no-compile",
            wheel,
        ],
        check=True,
        capture_output=True,
    )
    return home / "bin"


def test_it_holds_the_built_web_view_and_not_its_sources(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("cord_worker/web/")]
    assert {"cord_worker/web/static/app.js", "cord_worker/web/static/app.css"} <= set(names)
    assert not [name for name in names if name.startswith("cord_worker/web/front/")]


def call(program: Path, *arguments: str, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CORD_", "PYTHON"))}
    done = subprocess.run(
        [str(program), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_files_that_are_not_code(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "cord_worker/py.typed",
        "cord_worker/__init__.pyi",
        "cord_worker/alembic.ini",
        "cord_worker/migrations/env.py",
        "cord_worker/migrations/versions/0001_initial.py",
        "cord_worker/presets/tiny.toml",
        "cord_worker/demo/problems.jsonl",
        "cord_worker/demo/models/prover/model.safetensors",
    ):
        assert name in names
    assert not [name for name in names if name.startswith(("tests/", "deploy/"))]
    licences = {Path(name).name for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "THIRD-PARTY-LICENCES.txt"}


@pytest.mark.long
def test_the_installed_command_runs_a_dataset_from_any_folder(installed: Path, tmp_path: Path) -> None:
    where = call(installed / "python", "-c", "import cord_worker; print(cord_worker.__file__)", folder=tmp_path)
    assert where.startswith(str(installed.parent))
    (tmp_path / "cord.toml").write_text(
        """
        models.one = { path = "one", engine = "instant" }
        teachers = [{ name = "first", model = "one" }, { name = "second", model = "one" }]
        prover.model = "one"
        search.max_steps = 4
        """,
        encoding="utf-8",
    )
    problems = installed.parent.glob("lib/python*/site-packages/cord_worker/demo/problems.jsonl")
    call(installed / "cordctl", "run", str(next(problems)), "--limit", "3", "-o", "out.jsonl", folder=tmp_path)
    assert len((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()) == 3
