"""cord.toml: every mistake is named with its key, and the fingerprint covers all that decides the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.config import ModelConfig, RunConfig, Settings
from cord_worker.errors import ConfigError

GOOD = """
[models.one]
path = "org/one"
[models.two]
path = "org/two"
[[teachers]]
name = "first"
model = "one"
[[teachers]]
name = "second"
model = "one"
temperature = 0.9
[prover]
model = "two"
"""


INTEGRATED = '[search]\npipeline = "integration"\n[integration]\n'


def parse(text: str) -> RunConfig:
    return RunConfig.parse(text, source="cord.toml", folder=Path("/nowhere"))


def test_one_model_serves_several_teachers_and_may_serve_the_prover() -> None:
    config = parse(GOOD.replace('[models.two]\npath = "org/two"\n', "").replace('model = "two"', 'model = "one"'))
    assert [teacher.model for teacher in config.teachers] == ["one", "one"]
    assert config.prover_model is config.models["one"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("[prover]", "[search]\nbeam = 4\n[prover]"), ["search.beam", "unknown key", "beam_width"]),
        (("[prover]", "[search]\nbeam_width = 0\n[prover]"), ["search.beam_width", "greater than or equal to 1"]),
        (("temperature = 0.9", "temperature = -1"), ["teachers.1.temperature", "got -1"]),
        (('model = "two"', 'model = "three"'), ["prover.model", "three", "one, two"]),
        (('name = "second"', 'name = "first"'), ["given twice", "first"]),
        (('name = "second"', 'name = "a b"'), ["teachers.1.name", "letters, digits"]),
        (('[prover]\nmodel = "two"', ""), ["prover", "is missing"]),
        (('path = "org/two"', 'path = "org/one"'), ["one", "two", "same model"]),
        (('[prover]\nmodel = "two"', '[prover]\nmodel = "one"'), ["nothing uses", "two"]),
        (("[prover]", "[search]\nstep_tokens = 99999\n[prover]"), ["step_tokens", "thinking_tokens"]),
        (("[prover]", '[prover]\nscoring_template = "no place"'), ["prover.scoring_template", "{answer}"]),
        (("[prover]", '[binary]\ntemplate = "Time is up:"\n[prover]'), ["binary.template", "</think>"]),
        (("[prover]", "[binary]\njudgments = 0\n[prover]"), ["binary.judgments", "greater than or equal to 1"]),
        (
            (
                "[prover]",
                '[search]\nselection = "binary_judgment"\n[verify]\nmethod = "judge"\njudge.model = "one"\n[prover]',
            ),
            ["binary_judgment", "LLM judge", "verify.method"],
        ),
        (("[prover]", "[prover"), ["not valid TOML"]),
        (("[prover]", '[verify]\nmethod = "guess"\n[prover]'), ["verify.method", "numeric", "got 'guess'"]),
        (("[prover]", '[verify]\nmethod = "judge"\n[prover]'), ["verify", "[verify.judge]"]),
        (("[prover]", '[verify.judge]\nmodel = "three"\n[prover]'), ["verify.judge.model", "three", "one, two"]),
        (("[prover]", '[verify.judge]\nmodel = "one"\ntemplate = "?"\n[prover]'), ["template", "{reference}"]),
        (("[prover]", '[verify.judge]\nmodel = "one"\nseed = 1\n[prover]'), ["verify.judge.seed", "max_rounds"]),
        (("[prover]", "[verify.tolerance]\nrel = 1\n[prover]"), ["verify.tolerance.rel", "relative, absolute"]),
        (
            ("[prover]", "[models.two.vllm]\nquant = 1\n[prover]"),
            ["models.two.vllm.quant", "quantization, kv_cache_dtype,"],
        ),
        (("[prover]", "[models.two.openai]\nurl = 1\n[prover]"), ["models.two.openai.url", "base_url, model, api,"]),
        (("[prover]", '[reward]\nmodel = "two"\nhead = 1\n[prover]'), ["reward.head", "here: model, step_separator"]),
        (("[prover]", "[verify.tolerance]\nrelative = 2\n[prover]"), ["verify.tolerance.relative", "less than 1"]),
        (("[prover]", '[search]\npipeline = "integration"\n[prover]'), ["needs a table [integration]"]),
        (("[prover]", '[integration]\nmodel = "two"\n[prover]'), ["[integration] is only for", "cord"]),
        (("[prover]", f'{INTEGRATED}model = "three"\n[prover]'), ["integration.model", "three", "one, two"]),
        (("[prover]", f'{INTEGRATED}model = "two"\nprompt = "x"\n[prover]'), ["integration.prompt", "{question}"]),
        (("[prover]", f'{INTEGRATED}model = "two"\ntop_k = 1\n[prover]'), ["unknown key", "max_tokens"]),
    ],
)
def test_a_mistake_is_named_with_its_key_and_what_is_allowed(change: tuple[str, str], expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(*change))
    assert "cord.toml" in str(caught.value)
    for part in expected:
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["", "-one", "o ne", "one\\n", "x" * 64])
def test_a_name_that_is_no_plain_word_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="must begin with a letter or digit and may contain only"):
        parse(GOOD.replace("[models.two]", f'[models."{name}"]').replace('model = "two"', f'model = "{name}"'))


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cordctl init"):
        RunConfig.load(tmp_path / "cord.toml")


def test_a_relative_model_folder_is_taken_from_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "cord.toml").write_text(GOOD.replace("org/one", "weights").replace("org/two", "./absent"))
    config = RunConfig.load(tmp_path / "cord.toml")
    assert config.models["one"].path == str(tmp_path.resolve() / "weights")
    assert config.models["two"].path == str(tmp_path.resolve() / "absent")


@pytest.mark.parametrize(
    "operational",
    [{"batch_size": 99}, {"gather_seconds": 1.0}, {"device": "cuda:1"}, {"threads": 7}, {"workers": 3}],
)
def test_options_that_only_decide_the_speed_are_not_in_the_fingerprint(operational: dict[str, Any]) -> None:
    plain = ModelConfig.model_validate({"path": "org/one"})
    assert ModelConfig.model_validate({"path": "org/one", **operational}).fingerprint() == plain.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        ("temperature = 0.9", "temperature = 0.8"),
        ('path = "org/two"', 'path = "org/two"\nrevision = "abc"'),
        ("[prover]", "[run]\nseed = 1\n[prover]"),
        ("[prover]", "[search]\nbeam_width = 5\n[prover]"),
        ('name = "second"', 'name = "other"'),
        ("[prover]", '[search]\nsegmentation = "phrases"\n[prover]'),
        ("[prover]", '[search]\nphrases = ["but wait"]\n[prover]'),
        ("[prover]", '[search]\nfinished = "reserve"\n[prover]'),
        ("[prover]", "[search]\nlength_normalisation = 0.5\n[prover]"),
        ("[prover]", "[search]\nscore_resolution = 0.01\n[prover]"),
        ("[prover]", "[search]\ndiversity_teacher = 0.1\n[prover]"),
        ("[prover]", "[search]\ndiversity_text = 0.1\n[prover]"),
        ("[prover]", "[search]\ntotal_tokens = 5000\n[prover]"),
        ("[prover]", '[prover]\nscore = "mean_probability"'),
        ("[prover]", "[prover]\nscore_full_stop = true"),
    ],
)
def test_options_that_decide_the_result_are_in_the_fingerprint(change: tuple[str, str]) -> None:
    assert parse(GOOD).fingerprint() != parse(GOOD.replace(*change)).fingerprint()


def test_later_options_change_no_fingerprint_unless_they_are_used() -> None:
    """The value is that of the version before `score_resolution`; with another value no existing run can be resumed."""
    assert parse(GOOD).fingerprint() == "c72f9f943857fdfc"
    unused = GOOD.replace("[prover]", "[search]\nscore_resolution = 0.0\n[prover]")
    assert parse(unused).fingerprint() == "c72f9f943857fdfc"
    unused = GOOD.replace("[prover]", '[prover]\nscore = "geometric_mean"\nscore_full_stop = false')
    assert parse(unused).fingerprint() == "c72f9f943857fdfc"


def test_the_full_stop_can_only_be_scored_where_there_is_one() -> None:
    template = r'scoring_template = "</think>{answer}\n"'
    with pytest.raises(ConfigError, match=r"score_full_stop scores the text after \{answer\}"):
        parse(GOOD.replace("[prover]", f"[prover]\n{template}\nscore_full_stop = true"))
    assert parse(GOOD.replace("[prover]", f"[prover]\n{template}")).required_prover.score_full_stop is False


@pytest.mark.parametrize(
    ("phrases", "said"),
    [
        ("[]", "at least 1"),
        ('["..."]', "not a phrase"),
        ('["a\\nb"]', "not a phrase"),
        ('["</think> a"]', "think tag"),
        ('["Wait", "wait"]', "given twice: wait"),
    ],
)
def test_phrases_that_cannot_end_a_step_are_refused(phrases: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(GOOD.replace("[prover]", f"[search]\nphrases = {phrases}\n[prover]"))


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ('finished = "first"\npipeline = "greedy"', 'needs pipeline = "cord"'),
        ('diversity_text = 0.1\npipeline = "curation"', 'needs pipeline = "cord"'),
        ('total_tokens = 5000\npipeline = "curation"', "proposes everything at once"),
        ('total_tokens = 5000\npipeline = "sample"', "proposes everything at once"),
        ("total_tokens = 0", "total_tokens"),
        ('length_normalisation = 1\nselection = "random"', 'needs selection = "predictive_perplexity"'),
        ("score_resolution = 1e-12", "at least 1e-9"),
        ("score_resolution = nan", "score_resolution"),
        ("score_resolution = 2", "score_resolution"),
    ],
)
def test_search_options_of_another_search_are_refused(search: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(GOOD.replace("[prover]", f"[search]\n{search}\n[prover]"))


@pytest.mark.parametrize("host", ['engine = "instant"', 'head = "reward"'])
def test_gather_seconds_is_refused_for_engines_without_it(host: str) -> None:
    with pytest.raises(ConfigError, match="gather_seconds needs"):
        parse(GOOD.replace('path = "org/two"', f'path = "org/two"\ngather_seconds = 1\n{host}'))


def test_a_stored_configuration_is_the_same_configuration() -> None:
    config = parse(GOOD)
    assert RunConfig.from_stored(config.model_dump(mode="json")).fingerprint() == config.fingerprint()


def test_an_unknown_bundled_model_is_answered_with_the_existing_ones() -> None:
    with pytest.raises(ConfigError, match=r"'nobody'.*calculator"):
        ModelConfig.model_validate({"path": "bundled:nobody"}).location()


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_clear_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text)


def test_settings_never_show_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORD_DATABASE_URL", "postgresql://user:hunter2@db/cord")
    monkeypatch.setenv("CORD_BROKER_URL", "redis://:hunter2@broker/0")
    assert "hunter2" not in repr(Settings.from_environment())
    monkeypatch.setenv("CORD_DATABASE_URL", "mysql://user:hunter2@db/cord")
    with pytest.raises(ConfigError) as caught:
        Settings.from_environment()
    assert "hunter2" not in str(caught.value)
    assert "CORD_DATABASE_URL" in str(caught.value)


def test_a_judge_may_be_a_separate_model_and_enters_the_fingerprint() -> None:
    judged = GOOD + '[models.judge]\npath = "org/judge"\n[verify]\nmethod = "judge"\n[verify.judge]\nmodel = "judge"\n'
    config = parse(judged)
    assert config.judge_model is config.models["judge"]
    assert parse(GOOD).judge_model is None
    other = parse(judged.replace("[models.judge]\n", '[models.judge]\nsystem_prompt = "Be strict."\n'))
    prints = {parse(GOOD).fingerprint(), config.fingerprint(), other.fingerprint()}
    prints.add(parse(judged + 'template = "{reference} {answer}"\n').fingerprint())
    prints.add(parse(GOOD + "[verify.tolerance]\nrelative = 0.1\n").fingerprint())
    assert len(prints) == 5


def test_the_prover_judges_if_binary_judgments_select_and_otherwise_their_options_do_not_count() -> None:
    by_score, by_judgment = GOOD, GOOD + '[search]\nselection = "binary_judgment"\n'
    assert parse(by_score).selection_model is None
    config = parse(by_judgment)
    assert config.selection_model is config.prover_model
    twice = "[binary]\njudgments = 20\n"
    assert parse(by_score).fingerprint() == parse(by_score + twice).fingerprint()
    assert parse(by_judgment).fingerprint() != parse(by_judgment + twice).fingerprint()


PRM = '[models.prm]\npath = "org/prm"\nhead = "reward"\n'
BY_REWARD = GOOD + PRM + '[search]\nselection = "reward_model"\n[reward]\nmodel = "prm"\n'


def test_samples_need_no_prover_and_do_not_use_one() -> None:
    sampled = '[search]\npipeline = "sample"\n'
    config = parse(GOOD + sampled)
    assert set(config.served_models) == {"one"}
    without = GOOD.replace('[prover]\nmodel = "two"\n', "").replace('[models.two]\npath = "org/two"\n', "")
    assert parse(without + sampled).fingerprint() == config.fingerprint()
    with pytest.raises(ConfigError, match="scores nothing"):
        _ = config.prover_model
    with pytest.raises(ConfigError, match=r'\[prover\] is missing: pipeline = "cord"'):
        parse(without)


def test_a_reward_model_judges_candidates_and_enters_the_fingerprint() -> None:
    config = parse(BY_REWARD)
    assert set(config.served_models) == {"one", "two", "prm"}
    assert config.selection_model is config.models["prm"]
    assert config.fingerprint() != parse(BY_REWARD + 'step_separator = "<extra_0>"\n').fingerprint()
    plain = ModelConfig(path="org/prm")
    assert config.models["prm"].fingerprint() != plain.fingerprint()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('[prover]\nmodel = "two"', '[prover]\nmodel = "prm"'), ["prm", "reward head", "neither teacher nor prover"]),
        (('[[teachers]]\nname = "first"\nmodel = "one"', '[[teachers]]\nname = "first"\nmodel = "prm"'), ["prm"]),
        (('[reward]\nmodel = "prm"', '[reward]\nmodel = "two"'), ["two", 'lacks head = "reward"']),
        (('[reward]\nmodel = "prm"', '[reward]\nmodel = "nine"'), ["reward.model", "nine", "one, prm, two"]),
        (('[reward]\nmodel = "prm"', ""), ["needs a table [reward]"]),
        (('selection = "reward_model"', 'selection = "random"'), ["search.selection", "remove the table"]),
        (('head = "reward"', 'head = "reward"\nengine = "openai"\nopenai.base_url = "http://x/v1"'), ["transformers"]),
        (('head = "reward"', 'head = "reward"\ngguf_file = "x.gguf"'), ["GGUF"]),
    ],
)
def test_a_mistaken_reward_model_is_explained(change: tuple[str, str], expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(BY_REWARD.replace(*change))
    for part in expected:
        assert part in str(caught.value)


def test_the_integrator_is_one_more_of_all_teachers_and_part_of_the_fingerprint() -> None:
    config = parse(GOOD.replace("[prover]", f'{INTEGRATED}model = "two"\ntemperature = 0.3\n[prover]'))
    assert [writer.name for writer in config.all_teachers] == ["first", "second", "integrator"]
    assert (config.all_teachers[-1].model, config.all_teachers[-1].temperature) == ("two", 0.3)
    other = parse(GOOD.replace("[prover]", f'{INTEGRATED}model = "two"\ntemperature = 0.4\n[prover]'))
    assert config.fingerprint() != other.fingerprint()
    with pytest.raises(ConfigError, match="no teacher may be called 'integrator'"):
        parse(GOOD.replace('"second"', '"integrator"').replace("[prover]", f'{INTEGRATED}model = "two"\n[prover]'))


def test_think_tags_and_template_options_are_a_models_own_and_part_of_what_it_computes() -> None:
    plain = parse(GOOD)
    tags = 'think_open = "[THINK]"\nthink_close = "[/THINK]"\n'
    for addition in (tags, 'template_options = { reasoning_effort = "high" }\n'):
        changed = parse(GOOD.replace("[models.one]\n", f"[models.one]\n{addition}"))
        assert changed.models["one"].fingerprint() != plain.models["one"].fingerprint()
        assert changed.models["two"].fingerprint() == plain.models["two"].fingerprint()
    with pytest.raises(ConfigError, match="go together"):
        parse(GOOD.replace("[models.one]\n", '[models.one]\nthink_open = "[THINK]"\n'))
    with pytest.raises(ConfigError, match="must not be blank"):
        parse(GOOD.replace("[models.one]\n", '[models.one]\nthink_open = "[THINK]"\nthink_close = " "\n'))
