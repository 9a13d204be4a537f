"""Without an engine's packages, one line says which extra installs them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from cord_worker.cli import cli
from cord_worker.config import RunConfig
from cord_worker.engines import load_engine, needed_packages
from cord_worker.engines.needed_packages import OF_ENGINE, OF_GGUF, Needed, needed_for
from cord_worker.engines.tokenizer import load_server_tokenizer
from cord_worker.errors import ConfigError, EngineLoadError
from cord_worker.operations.fleet import check_startable, preloaded_modules
from tests.support.settings import engine_settings

ROOT = Path(__file__).parents[3]
EXTRAS = {**OF_ENGINE, "gguf": OF_GGUF}
INSTALL_TRANSFORMERS = r"pip install 'cord-worker\[transformers\]'"


@pytest.fixture
def base_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As if only the base installation were there; the folder is empty and no service is named."""
    monkeypatch.setattr(needed_packages, "find_spec", lambda _: None)
    monkeypatch.chdir(tmp_path)
    for name in ("CORD_DATABASE_URL", "CORD_BROKER_URL", "CORD_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_installs_the_packages_that_its_engine_asks_for(extra: str) -> None:
    needed: Needed = EXTRAS[extra]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    installed = {re.split(r"[^\w.-]", requirement)[0] for requirement in extras[extra]}
    assert set(needed.packages) <= installed
    assert f"cord-worker[{extra}]" in needed.installing


def test_the_base_installation_has_neither_torch_nor_transformers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[^\w.-]", requirement)[0] for requirement in project["dependencies"]}
    assert {"celery", "sqlalchemy"} <= names
    assert names.isdisjoint({"torch", "transformers", "safetensors", "accelerate", "vllm", "httpx2"})


@pytest.mark.usefixtures("base_only")
@pytest.mark.parametrize("engine", OF_ENGINE)
def test_an_engine_names_its_extra(engine: str) -> None:
    with pytest.raises(EngineLoadError, match=rf'engine = "{engine}" needs .*pip install .cord-worker\[{engine}\]'):
        load_engine(engine_settings(path="anything", engine=engine))


@pytest.mark.usefixtures("base_only")
def test_a_tokenizer_names_the_extras_that_read_it() -> None:
    folder = ROOT / "cord_worker" / "demo" / "models" / "prover"
    with pytest.raises(EngineLoadError, match=r"tokenizers need the package transformers; run: pip install"):
        load_server_tokenizer(engine_settings(path=str(folder)))


@pytest.mark.usefixtures("base_only")
def test_a_run_is_refused_before_anything_starts() -> None:
    preset = CliRunner().invoke(cli, ["init", "--preset", "tiny"])
    assert preset.exit_code == 0
    Path("cord.toml").write_text(preset.stdout, encoding="utf-8")
    Path("problems.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n', encoding="utf-8")
    config = RunConfig.load(Path("cord.toml"))
    assert preloaded_modules(config) == ()
    with pytest.raises(ConfigError, match=rf"model 'planner': .*torch and transformers; run: {INSTALL_TRANSFORMERS}"):
        check_startable(config)
    for command in (["run", "problems.jsonl", "-o", "out.jsonl"], ["worker", "planner"], ["up"]):
        assert not Path(".cord").exists()
        result = CliRunner().invoke(cli, command)
        assert result.exit_code in {1, 78}, result.output
        assert re.search(rf"^error: model 'planner': .*{INSTALL_TRANSFORMERS}$", result.stderr, re.MULTILINE)
    validated = CliRunner().invoke(cli, ["validate", "problems.jsonl", "--config", "cord.toml"])
    assert validated.exit_code == 0, validated.output
    assert "tokenizers need the package transformers" in validated.output


@pytest.mark.usefixtures("base_only")
def test_asking_servers_for_their_models_names_the_extra() -> None:
    result = CliRunner().invoke(cli, ["init", "--from-servers", "http://127.0.0.1:1/v1"])
    assert result.exit_code == 1
    assert "pip install 'cord-worker[openai]'" in result.stderr


@pytest.mark.parametrize(
    ("module", "extra"),
    [("torch", "transformers"), ("tokenizers", "transformers"), ("vllm", "vllm"), ("gguf", "gguf")],
)
def test_a_module_that_is_not_found_is_named_with_its_extra(module: str, extra: str) -> None:
    said = needed_for(module)
    assert said is not None
    assert f"'cord-worker[{extra}]'" in said
    assert needed_for("numbers") is None


def test_a_command_whose_imports_need_an_extra_ends_with_one_line(tmp_path: Path) -> None:
    """In a process in which torch cannot be found."""
    script = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from cord_worker.cli import main\n"
        "sys.argv = ['cordctl', 'bench', 'families']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert re.fullmatch(rf"error: this needs the package torch.*{INSTALL_TRANSFORMERS}", line)
