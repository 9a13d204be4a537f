"""Prices of models: what a file of prices says, and what tokens and GPU hours cost by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cord_worker.config import ModelPrices, Prices, RunConfig
from cord_worker.errors import ConfigError

CONFIG = """
[models.a]
path = "org/one"
[models.b]
path = "org/two"
[models.again]
path = "org/two"
batch_size = 3
dtype = "float32"
[[teachers]]
name = "a"
model = "a"
[[teachers]]
name = "again"
model = "again"
[prover]
model = "b"
"""
FREE = "input = 0\noutput = 0\n"


def parsed(addition: str) -> RunConfig:
    return RunConfig.parse(CONFIG + addition, source="cord.toml", folder=Path())


def priced(**tables: str) -> str:
    return '[prices]\ncurrency = "EUR"\n' + "".join(f"[prices.models.{name}]\n{text}" for name, text in tables.items())


def test_tokens_cost_by_the_million_and_cached_ones_less() -> None:
    price = ModelPrices(input=2.0, cached=0.5, output=10.0)
    assert price.of_tokens(3_000_000, 1_000_000, 500_000) == pytest.approx(2 * 2.0 + 0.5 + 5.0)
    assert ModelPrices(input=2.0, output=0.0).of_tokens(1_000_000, 400_000, 9) == pytest.approx(2.0)
    assert ModelPrices(gpu_hour=3.0).of_tokens(1_000_000, 0, 1_000_000) == 0.0


def test_gpu_hours_count_every_gpu_of_a_worker() -> None:
    price = ModelPrices(gpu_hour=3.0, gpus=4)
    assert price.gpu_hours(1800.0) == pytest.approx(2.0)
    assert price.of_gpus(2.0) == pytest.approx(6.0)
    assert ModelPrices(input=1.0, output=1.0).of_gpus(2.0) == 0.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "currency: is missing"),
        ('currency = "EUR"\nmodels = {}', "at least 1 item"),
        ('currency = "E\\nR"\n[models.a]\ngpu_hour = 1', "currency: must be a short name"),
        ('currency = "EUR"\n[models.a]', "models.a: has no price"),
        ('currency = "EUR"\n[models.a]\ninput = 1', "`output` is missing"),
        ('currency = "EUR"\n[models.a]\ncached = 1\ngpu_hour = 1', "`cached` needs"),
        ('currency = "EUR"\n[models.a]\ninput = 1\noutput = 1\ngpus = 2', "`gpus` needs `gpu_hour`"),
        ('currency = "EUR"\n[models.a]\ninput = -1\noutput = 1', "models.a.input"),
        ('currency = "EUR"\n[models.a]\ngpu_hour = inf', "models.a.gpu_hour: must be a finite number"),
        ('currency = "EUR"\n[models.a]\ngpu_hour = 1\ngpu = 2', "did you mean 'gpus'?"),
    ],
)
def test_a_wrong_file_of_prices_is_refused_with_its_name_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        Prices.load(file)
    assert str(file) in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("[run]\nmax_cost = 1.0\n", "run.max_cost needs prices"),
        (priced(a=FREE, b=FREE), "no price for again"),
        (priced(a=FREE, b=FREE, again=FREE, c=FREE), "not in [models]: c"),
        (priced(a=FREE, b=FREE, again="input = 1\noutput = 0\n"), "the same prices"),
    ],
)
def test_prices_in_a_configuration_must_fit_its_models(addition: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        parsed(addition)


def test_prices_and_spending_limits_change_no_fingerprint() -> None:
    limited = parsed(priced(a=FREE, b=FREE, again=FREE) + "[run]\nmax_cost = 1.0\nmax_tokens = 10\n")
    assert limited.fingerprint() == parsed("").fingerprint()
    assert set(limited.price_by_path(limited.prices or Prices.from_stored({}))) == {"org/one", "org/two"}
