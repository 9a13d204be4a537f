"""Every command used wrongly: one message, an exit code, a suggestion, never a traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cord_worker.cli import cli

DATASET = '{"id": "a", "question": "What is 2 + 2?", "answer": "4"}\n'


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("CORD_")]:
        monkeypatch.delenv(name)
    Path("good.toml").write_text(CliRunner().invoke(cli, ["init"]).output, encoding="utf-8")
    Path("rows.jsonl").write_text(DATASET, encoding="utf-8")
    Path("binary.toml").write_bytes(b"\x00\xff\xfe\x80 nothing")
    Path("folder").mkdir()
    Path("nothing.toml").touch()


def used(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("staus", "did you mean 'status'?"),
        ("db upgarde", "did you mean 'upgrade'?"),
        ("bench engin", "did you mean 'engine'?"),
        ("runs --jsno", "--json"),
        ("run --name mine", "--run"),
        ("init --preset tinny", "did you mean 'tiny'?"),
        ("init --set search.beam_with=3", "did you mean 'beam_width'?"),
        ("init --set serch.beam_width=3", "did you mean 'search'?"),
        ("init --set search.pipeline=crod", "did you mean 'cord'?"),
        ("init --set search.beam_width=many", "must be a whole number (got 'many')"),
        ("init --set nothing", "SECTION.KEY=VALUE"),
        ("init --set beam_width=1", "did you mean search.beam_width=1?"),
        ("run good.toml --config good.toml -o out.jsonl", "with --config"),
        ("run nowhere.jsonl --config good.toml -o out.jsonl", "nowhere.jsonl does not exist"),
        ("enqueue nowhere.jsonl --config good.toml", "nowhere.jsonl does not exist"),
        ("init --set teachers.name=x", "by hand"),
        ("init --only-teacher planer", "did you mean 'planner'?"),
        ("validate good.toml", "unknown kind of file"),
        ("validate https://example.org/rows.jsonl", "is a URL: download"),
        ("validate folder", "folder"),
        ("validate rows.jsonl --config rows.jsonl", "is it a dataset?"),
        ("validate rows.jsonl --config folder", "is a directory"),
        ("validate rows.jsonl --config binary.toml", "not text in UTF-8"),
        ("validate rows.jsonl --config nothing.toml", "models: is missing"),
        ("validate rows.jsonl --question-field nothing", "Its fields are"),
        ("enqueue rows.jsonl", "cordctl init"),
        ("run rows.jsonl --config good.toml -o folder", "is a folder"),
        ("run rows.jsonl --config good.toml -o nowhere/out.jsonl", "does not exist. Make it first"),
        ("run rows.jsonl --config good.toml -o /proc/out.jsonl", "cannot be written"),
        ("run rows.jsonl --config good.toml -o out.jsonl --state-dir good.toml", "is a file"),
        ("up --config good.toml --state-dir /proc/nowhere", "cannot be used"),
        ("down --state-dir nowhere", "nothing runs"),
        ("runs --state-dir nowhere", "cordctl up"),
        ("cost --table 16", "not one of"),
        ("cost --prices nowhere.toml", "no such file"),
        ("cost --prices rows.jsonl", "not valid TOML"),
        ("cost --prices binary.toml", "not valid TOML"),
        ("cost --prices good.toml", "currency: is missing"),
        ("compare mine --prices nowhere.toml", "no such file"),
        ("resume mine --max-tokens 0", "must be a positive whole number, or none"),
        ("resume mine --max-cost nan", "must be a positive number, or none"),
        ("stats --csv -", "--table NAME names"),
        ("stats --table tenths", "--table NAME names"),
        ("stats --csv - --table tenth", "did you mean 'tenths'?"),
        ("stats --csv out --plot", "give one of them"),
        ("logs --state-dir nowhere", "there are no logs in"),
        ("logs --follow --json", "give one of them"),
        ("logs --lines -1", "range"),
        ("compare", "RUN..."),
        ("export -o out --format sf", "did you mean 'sft'?"),
        ("export -o out --format sft", "--student MODEL"),
        ("export -o - --json", "give one of them"),
        ("export -o out.jsonl --trim 1", "range"),
        ("export -o out.jsonl --format candidates --trim 0.9", "a trimmed run has no losers"),
        ("report", "give either -o FILE or --bundle DIR"),
        ("report -o out.html --bundle out", "give either -o FILE or --bundle DIR"),
        ("report --bundle out --trees 3", "belong to -o FILE"),
        ("report -o out.html --trees 1 --problem a", "give either --trees or --problem"),
        ("report -o out.html --budget 0", "range"),
        ("report -o out.html --budget nan", "not a finite number"),
        ("report -o rows.jsonl", "is not a report"),
        ("report -o out.html --state-dir nowhere", "cordctl up"),
        ("report --bundle folder/nowhere/out", "does not exist. Make it first"),
        ("view --port 70000", "range"),
        ("view --state-dir nowhere", "cordctl up"),
        ("trim mine", "--above"),
        ("trim --above 0.9", "RUN"),
        ("trim mine --above 1", "range"),
        ("trim mine --above much", "not a valid"),
        ("trim mine --above nan", "not a finite number"),
        ("up --timeout inf", "not a finite number"),
        ("export -o out --format step-dpo --min-margin nan", "not a finite number"),
        ("trim mine --above 0.9 --name", "requires an argument"),
        ("trim mine --above 0.9 --state-dir nowhere", "cordctl up"),
        ("eval", "--of RUN"),
        ("eval rows.jsonl --of mine", "leave out BENCHMARK."),
        ("eval --of mine --model m --samples 16 -o out.jsonl", "leave out --model, --samples, --output."),
        ("eval rows.jsonl --model planer --config good.toml", "did you mean 'planner'?"),
        ("eval rows.jsonl --model m --engine vlm", "did you mean 'vllm'?"),
        ("pause", "RUN"),
        ("rescore", "RUN"),
        ("rescore mine", "--prover MODEL is missing"),
        ("rescore mine --prover provr --config good.toml", "did you mean 'prover'?"),
        ("rescore mine --prover prover --config good.toml", "no embedded services run in"),
        ("rescore mine --prover prover --config good.toml --name a@b", "must begin with a letter or digit"),
        ("rescore mine --remove x --prover prover", "leave the other options out"),
        ("export -o out --rescoring x", "--rescoring has no meaning with --format jsonl"),
        ("retry mine --failed --problem a", "give one of them"),
        ("rm mine", "give --yes"),
        ("priority mine many", "not a valid integer"),
        ("drain", "WORKER"),
        ("worker planer --config good.toml", "did you mean 'planner'?"),
        ("worker planner --config good.toml", "CORD_BROKER_URL"),
        ("coordinator", "CORD_BROKER_URL"),
        ("flower --port 0", "range"),
        ("bench scoring --config nowhere.toml", "no such file"),
        ("bench control-plane --rounds 1", "range"),
        ("db downgrade", "REVISION"),
        ("db grant", "name a role"),
        ("doctor --config folder", "is a directory"),
    ],
)
def test_a_wrong_usage_is_answered_with_a_message(line: str, told: str) -> None:
    result = used(*line.split())
    assert told in " ".join(result.output.split()), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "unexpected" not in result.output
    assert result.exit_code in ({0} if line.startswith("down") else {1, 2, 78})


@pytest.mark.parametrize("option", ["dataset", "--config"])
def test_an_empty_variable_is_no_path(option: str) -> None:
    arguments = ["validate", ""] if option == "dataset" else ["validate", "rows.jsonl", "--config", ""]
    assert "must not be empty" in used(*arguments).output


def test_an_empty_variable_is_no_output() -> None:
    result = used("run", "rows.jsonl", "--config", "good.toml", "-o", "")
    assert result.exit_code == 1
    assert "has no name" in result.stderr


SECRET = "pa55w0rd"


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("CORD_DATBASE_URL", "postgresql://h/d", "did you mean 'CORD_DATABASE_URL'?"),
        ("CORD_BROKER_URI", "redis://h/0", "did you mean 'CORD_BROKER_URL'?"),
        ("CORD_LOG_LEVEL", "loud", "'DEBUG'"),
        ("CORD_SWEEP_SECONDS", "soon", "number"),
        ("CORD_METRICS_PORT", "99999", "65535"),
        ("CORD_DATABASE_URL", "", "is empty"),
        ("CORD_DATABASE_URL", f"postgresq://u:{SECRET}@h/d", "did you mean postgresql://?"),
        ("CORD_DATABASE_URL", f"mysql://u:{SECRET}@h/d", "must be a PostgreSQL URL"),
        ("CORD_DATABASE_URL", f"postgresql+asyncpg://u:{SECRET}@h/d", "write postgresql://"),
        ("CORD_DATABASE_URL", f"postgresql://u:{SECRET}@at@h/d", "%40"),
        ("CORD_DATABASE_URL", f"postgresql://u:{SECRET}/slash@h/d", "%2F"),
        ("CORD_DATABASE_URL", f"postgresql://u:{SECRET}#hash@h/d", "%23"),
        ("CORD_DATABASE_URL", f"postgresql://u:{SECRET}?mark@h/d", "%3F"),
        ("CORD_DATABASE_URL", f"postgresql://u:{SECRET}%@h/d", "%25"),
        ("CORD_DATABASE_URL", f"postgresql://u:{SECRET}@h:port/d", "65535"),
        ("CORD_DATABASE_URL", f" postgresql://u:{SECRET}@h/d", "space"),
        ("CORD_BROKER_URL", f"sqs://key:{SECRET}@", "Amazon SQS is not supported"),
        ("CORD_BROKER_URL", f"sentinel://:{SECRET}@h:26379", "the name of their primary"),
        ("CORD_BROKER_URL", f"reddis://:{SECRET}@h/0", "did you mean redis://?"),
        ("CORD_BROKER_URL", f"amq://u:{SECRET}@h/", "did you mean amqp://?"),
        ("CORD_BROKER_URL", "127.0.0.1:6379", "is not a URL"),
        ("CORD_BROKER_URL", f"redis://:{SECRET}@h/cord", "number of its database"),
        ("CORD_BROKER_URL", f"redis://:{SECRET}/@h/0", "%2F"),
        ("CORD_BROKER_URL", "redis+socket://run/redis.sock", "absolute path"),
    ],
)
@pytest.mark.parametrize("command", [("runs",), ("enqueue", "rows.jsonl", "--config", "good.toml"), ("doctor",)])
def test_a_wrong_variable_is_named_by_every_command_and_its_value_kept(
    monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)
    result = used(*command)
    assert result.exit_code == 1
    assert told in result.stderr
    assert variable in result.stderr
    assert SECRET not in result.output
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%40ss@h:5432/d?sslmode=require",
        "postgres://h/d",
        "postgresql+psycopg:///d?host=/run/postgresql",
        "postgresql://u@[::1]:5432/d",
    ],
)
def test_a_right_database_url_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    from cord_worker.config import Settings

    monkeypatch.setenv("CORD_DATABASE_URL", url)
    assert Settings.from_environment().database_url == f"postgresql+psycopg://{url.partition('://')[2]}"


def test_a_database_url_of_several_hosts_is_taken_as_libpq_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from cord_worker.config import Settings

    monkeypatch.setenv("CORD_DATABASE_URL", "postgresql://h1:5432,h2:5433/d")
    assert Settings.from_environment().database_url == "postgresql+psycopg:///d?host=h1,h2&port=5432,5433"


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("redis://:p%40ss@h:6379/0", "redis://:p%40ss@h:6379/0"),
        ("rediss://h/0?ssl_ca_certs=/ca.pem", "rediss://h/0?ssl_ca_certs=/ca.pem"),
        ("redis+socket:///run/r.sock?virtual_host=1", "redis+socket:///run/r.sock?virtual_host=1"),
        ("unix:///run/r.sock", "redis+socket:///run/r.sock"),
        ("amqp://u:p@h//", "amqp://u:p@h//"),
        ("pyamqp://u:p@h/vhost", "amqp://u:p@h/vhost"),
        ("amqps://u:p@h:5671/", "amqps://u:p@h:5671/"),
    ],
)
def test_a_right_broker_url_is_taken(monkeypatch: pytest.MonkeyPatch, url: str, taken: str) -> None:
    from cord_worker.config import Settings

    monkeypatch.setenv("CORD_BROKER_URL", url)
    assert Settings.from_environment().broker_url == taken


def test_an_unexpected_error_is_one_line_and_a_file_with_the_traceback_without_passwords(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError(f"at postgresql://u:{SECRET}@h/d")

    monkeypatch.setattr("cord_worker.presets.preset_text", broken)
    result = used("init")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "unexpected ZeroDivisionError" in line
    assert "CORD_DEBUG=1" in line
    found = re.search(r"with (\S+\.log)", line)
    assert found is not None
    report = Path(found[1])
    assert "Traceback" in report.read_text(encoding="utf-8")
    assert SECRET not in report.read_text(encoding="utf-8") + line
    report.unlink()
    assert isinstance(used("--debug", "init").exception, ZeroDivisionError)
    monkeypatch.setenv("CORD_DEBUG", "1")
    assert isinstance(used("init").exception, ZeroDivisionError)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["init"], ["--help"], ["validate", "rows.jsonl"]])
def test_a_full_disk_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "cord_worker.cli", *arguments], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == ["error: No space left on device: free some space, or name another place"]


def test_a_wrong_dataset_is_refused_before_anything_is_started() -> None:
    for command in ("run nowhere.jsonl -o out.jsonl", "eval nowhere.jsonl --model planner"):
        result = used(*command.split(), "--config", "good.toml")
        assert result.exit_code == 1
        assert "does not exist" in result.stderr
    assert not Path(".cord").exists()


def test_only_the_similar_section_is_named() -> None:
    assert "There are" not in used("init", "--set", "serch.beam_width=3").stderr


def test_a_teacher_of_an_unknown_model_is_named_by_its_key() -> None:
    text = Path("good.toml").read_text(encoding="utf-8").replace('model = "planner"', 'model = "planer"', 1)
    Path("wrong.toml").write_text(text, encoding="utf-8")
    result = used("run", "rows.jsonl", "--config", "wrong.toml", "-o", "out.jsonl")
    assert "wrong.toml: teachers.planner.model names 'planer', which is not in [models]" in result.stderr
    assert "top level" not in result.stderr


def test_a_question_that_gets_no_reply_stands_on_its_own_line() -> None:
    lines = used("rm", "mine").output.splitlines()
    assert lines[0].endswith("[y/N]:") or lines[0].endswith("[y/N]: ")
