"""`cordctl init --from-servers` asks servers for their models, and says which of them can score."""

from __future__ import annotations

import importlib.util
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cord_worker.cli import cli
from cord_worker.config import RunConfig
from tests.support.openai_local_server import Json, LocalServer, Reply, chunks, completion

if importlib.util.find_spec("httpx2") is None:
    pytest.skip("the openai engine's package is not installed", allow_module_level=True)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cord_worker.engines.openai import pauses

COMPLETIONS, CHAT, MODELS = "/v1/completions", "/v1/chat/completions", "/v1/models"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "_FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of single characters."""
    core = Tokenizer(models.BPE({character: n for n, character in enumerate(string.printable)}, []))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.add_special_tokens(["<|end|>"])
    folder = tmp_path_factory.mktemp("tokenizer")
    fast = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>")
    fast.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|end|>{% endfor %}[assistant]"
    fast.save_pretrained(folder)
    return folder


def listing(*cards: Json) -> Any:
    return lambda _: {"object": "list", "data": list(cards)}


def vllm(folder: Path | str, name: str = "Qwen/QwQ-32B", length: int = 40_960) -> LocalServer:
    """A server like vLLM, which gives log-probabilities of a prompt."""
    card = {"id": name, "owned_by": "vllm", "root": str(folder), "max_model_len": length}
    return LocalServer({MODELS: listing(card), COMPLETIONS: completion(" 2", stop_reason=None)})


def hosted(*names: str, key: str | None = None, refuses: frozenset[str] = frozenset()) -> LocalServer:
    """A hosted API: chat only, of models that continue no assistant's text, behind a key if one is given."""
    refusal = Reply({"error": {"message": "Incorrect API key provided"}}, status=401)
    server = LocalServer({})

    def guarded(answer: Any) -> Any:
        def answered(body: Json) -> Any:
            sent = server.asked[-1].headers["authorization"]
            return answer(body) if key is None or sent == f"Bearer {key}" else refusal

        return answered

    def chat(body: Json) -> Any:
        if body["model"] in refuses:
            return Reply({"error": {"message": "This is not a chat model"}}, status=404)
        if body["messages"][-1]["role"] == "assistant":
            return Reply({"error": {"message": "last message must be from the user"}}, status=400)
        return chunks(" Two.", chat=True)

    server.answers = {MODELS: guarded(listing(*({"id": name} for name in names))), CHAT: guarded(chat)}
    return server


@pytest.fixture
def scoring(tokenizer_folder: Path) -> Iterator[LocalServer]:
    with vllm(tokenizer_folder).running() as server:
        yield server


def init(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["init", "--from-servers", *arguments])


def parsed(result: Result) -> RunConfig:
    assert result.exit_code == 0, result.output
    return RunConfig.parse(result.stdout, source="cord.toml", folder=Path())


def test_all_models_become_teachers_and_the_one_that_can_score_is_the_prover(
    scoring: LocalServer, tokenizer_folder: Path
) -> None:
    with hosted("deepseek-r1", "org/Kimi K2 (new)").running() as api:
        printed = init(api.url, scoring.url)
    config = parsed(printed)
    assert [teacher.name for teacher in config.teachers] == ["deepseek-r1", "kimi-k2-new", "qwq-32b"]
    assert config.required_prover.model == "qwq-32b"
    prover, kimi = config.models["qwq-32b"], config.models["kimi-k2-new"]
    assert prover.openai is not None
    assert kimi.openai is not None
    assert (prover.path, prover.openai.model, prover.openai.base_url) == (
        str(tokenizer_folder),
        "Qwen/QwQ-32B",
        scoring.url,
    )
    assert (kimi.path, kimi.openai.model, kimi.openai.base_url) == ("org/Kimi K2 (new)", "org/Kimi K2 (new)", api.url)
    assert f"Qwen/QwQ-32B at {scoring.url}: can write and score\n" in printed.stderr
    assert f"deepseek-r1 at {api.url}: can write; cannot score" in printed.stderr
    assert "scores: prompt_logprobs" in printed.stdout
    assert printed.stdout.count("an instruction asks for each step") == 2
    assert (config.search.thinking_tokens, config.search.answer_tokens) == (16_384, 4096)


def test_the_key_comes_from_the_environment_and_is_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST_KEY", "sk-first")
    monkeypatch.setenv("SECOND_KEY", "sk-second")
    with hosted("one", key="sk-first").running() as first, hosted("two", key="sk-second").running() as second:
        printed = init(first.url, second.url, "--api-key-env", "FIRST_KEY", "--api-key-env", "SECOND_KEY")
        refused = init(first.url, second.url, "--api-key-env", "FIRST_KEY")
        missing = init(first.url)
    assert printed.exit_code == 0, printed.output
    assert 'api_key_env = "SECOND_KEY"' in printed.stdout
    assert "sk-" not in printed.output + refused.output
    assert refused.exit_code == missing.exit_code == 1
    assert f"the server at {second.url} refuses access (HTTP 401): the environment variable FIRST_KEY" in refused.stderr
    assert "holds a key that it does not accept" in refused.stderr
    assert "OPENAI_API_KEY (openai.api_key_env) is not set" in missing.stderr
    assert refused.stdout == missing.stdout == ""


def test_without_a_model_that_scores_the_file_offers_a_prover_and_the_command_says_so() -> None:
    with hosted("one", "two", "three").running() as api:
        printed = init(api.url)
        chosen = init(api.url, "--only-teacher", "two", "--set", "search.beam_width=2")
    assert printed.exit_code == 0, printed.output
    assert "none of these models can score" in printed.stderr
    assert "[prover] is missing" in str(CliRunner().invoke(cli, ["doctor", "--config", save(printed)]).output)
    uncommented = printed.stdout
    for line in ("[models.prover]", 'path = "Qwen/Qwen2.5-7B-Instruct"', 'engine = "vllm"', "[prover]"):
        uncommented = uncommented.replace(f"# {line}", line, 1)
    uncommented = uncommented.replace('# model = "prover"', 'model = "prover"', 1)
    config = RunConfig.parse(uncommented, source="cord.toml", folder=Path())
    assert (len(config.teachers), config.prover_model.engine) == (3, "vllm")
    assert chosen.stdout.count("[[teachers]]\n") == 1
    assert "beam_width = 2" in chosen.stdout


def save(printed: Result) -> str:
    path = Path("cord.toml")
    path.write_text(printed.stdout, encoding="utf-8")
    return str(path)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_vllm_model_whose_tokenizer_is_not_here_is_a_teacher_and_the_reason_is_said(tmp_path: Path) -> None:
    with vllm(tmp_path / "gone", name="qwq").running() as server:
        server.answers[CHAT] = lambda _: {
            "choices": [{"index": 0, "message": {"content": " 2"}, "finish_reason": "stop", "stop_reason": None}]
        }
        printed = init(server.url)
    assert printed.exit_code == 0, printed.output
    assert "qwq at" in printed.stderr
    assert "can write; cannot score: tokenizer folder" in printed.stderr
    assert "gone' does not exist" in printed.stdout
    corrected = printed.stdout.replace('path = "qwq"', 'path = "Qwen/QwQ-32B"')
    corrected = corrected.replace('# [prover]\n# model = "qwq"', '[prover]\nmodel = "qwq"')
    assert RunConfig.parse(corrected, source="cord.toml", folder=tmp_path).prover_model.path == "Qwen/QwQ-32B"


def test_budgets_fit_the_shortest_context(tokenizer_folder: Path) -> None:
    with vllm(tokenizer_folder, length=2000).running() as server:
        config = parsed(init(server.url))
    search = config.search
    assert (search.thinking_tokens, search.answer_tokens, search.step_tokens) == (1000, 500, 1000)


def test_a_model_that_does_not_write_is_left_out_with_the_reason_and_refused_if_it_was_named() -> None:
    with hosted("writer", "embedding", refuses=frozenset({"embedding"})).running() as api:
        printed, named, only = init(api.url), init(api.url, "--model", "embedding"), init(api.url, "--model", "writer")
    assert f"\n\n# embedding at {api.url} is left out: " in printed.stdout
    assert "This is not a chat model" in printed.stdout
    assert printed.stdout.count("[[teachers]]\n") == only.stdout.count("[[teachers]]\n") == 1
    assert (named.exit_code, named.stdout) == (1, "")
    assert "This is not a chat model" in named.stderr


def test_a_model_that_two_servers_have_is_taken_once(scoring: LocalServer, tokenizer_folder: Path) -> None:
    with vllm(tokenizer_folder).running() as other:
        printed = init(scoring.url, other.url)
    assert len(parsed(printed).models) == 1
    assert f"left out: it is served at {scoring.url} too" in printed.stderr


def test_models_whose_names_have_equal_ends_become_teachers_with_different_names() -> None:
    with hosted("a/same", "b/same", "???").running() as api:
        printed = init(api.url)
    names = [f'[[teachers]]\nname = "{name}"' for name in ("same", "same-2", "model")]
    assert all(name in printed.stdout for name in names)


def test_a_name_that_looks_like_toml_stays_a_name(scoring: LocalServer) -> None:
    names = ['x"]\\\n[run', 'a"] # {urls} {model}']
    with hosted(*names).running() as api:
        models = parsed(init(api.url, scoring.url)).models
    assert [model.openai.model for model in models.values() if model.openai] == [names[1], "Qwen/QwQ-32B"]


def test_many_models_are_not_all_asked(scoring: LocalServer) -> None:
    with hosted(*(f"model-{n}" for n in range(30))).running() as api:
        refused = init(api.url)
        assert api.bodies(CHAT) == []
        chosen = init(api.url, scoring.url, "--model", "model-3", "--model", "Qwen/QwQ-32B")
        misspelt = init(api.url, "--model", "modl-3")
    assert "30 models: choose some with --model NAME" in refused.stderr
    assert "model-29" in refused.stderr
    assert list(parsed(chosen).models) == ["model-3", "qwq-32b"]
    assert "no model of the servers is called 'modl-3': did you mean 'model-3'?" in misspelt.stderr
    assert refused.exit_code == misspelt.exit_code == 1


def test_a_server_that_is_away_or_has_no_models_is_named() -> None:
    with hosted().running() as empty:
        without = init(empty.url)
        elsewhere = init(empty.url.removesuffix("/v1"))
    away = init(empty.url)
    assert f"the server at {empty.url} lists no models" in without.stderr
    assert "which ends in /v1 as a rule" in elsewhere.stderr
    assert f"the server at {empty.url} failed" in away.stderr
    assert "no connection" in away.stderr
    for result in (without, elsewhere, away):
        assert (result.exit_code, result.stdout) == (1, "")
        assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--from-servers"], "needs the URLs"),
        (["http://127.0.0.1:1/v1"], "are for --from-servers"),
        (["--model", "x"], "are for --from-servers"),
        (["--from-servers", "http://127.0.0.1:1/v1", "--preset", "tiny"], "neither --preset nor --install"),
        (["--from-servers", "127.0.0.1:8000"], "URL 1 must be an http(s) URL"),
        (["--from-servers", "http://me:secret@host/v1"], "must not contain user, password"),
        (["--from-servers", "http://h/v1", "--api-key-env", "sk-1234"], "must be the name of an environment variable"),
        (["--from-servers", "http://h/v1", "--api-key-env", "A", "--api-key-env", "B"], "2 times for 1 URL"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_asked(arguments: list[str], reason: str) -> None:
    refused = CliRunner().invoke(cli, ["init", *arguments])
    assert refused.exit_code == 2
    assert reason in refused.stderr
    assert "secret" not in refused.stderr
    assert "sk-1234" not in refused.stderr
