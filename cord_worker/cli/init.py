"""`cordctl init`."""

from __future__ import annotations

import click

from cord_worker.cli.options import NearChoice

_ANY_PROVER = '[models.prover]\npath = "prover"\n[prover]\nmodel = "prover"\n'
"""A placeholder for the prover that the user must add to a file without one, so that the rest of it can be checked."""
_PRESETS = ("tiny", "smollm2", "paper-hetero", "paper-homo")


@click.command()
@click.option(
    "--preset",
    type=NearChoice(_PRESETS),
    default="tiny",
    show_default=True,
    help="Which of the presets listed above to print.",
)
@click.option(
    "--only-teacher",
    "only_teachers",
    multiple=True,
    metavar="NAME",
    help="Keep this teacher and leave the others out; may be repeated.",
)
@click.option(
    "--set",
    "values",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a value, as in search.beam_width=1; may be repeated.",
)
@click.option("--install", is_flag=True, help="Download the weights of smollm2 (93 MB) if they are missing.")
@click.option(
    "--from-servers",
    is_flag=True,
    help="Instead of a preset, use the models of the servers at the URLs; each model gets a few requests of one token.",
)
@click.option("--model", multiple=True, metavar="NAME", help="With --from-servers: take this model; may be repeated.")
@click.option(
    "--api-key-env",
    "key_variables",
    multiple=True,
    metavar="VARIABLE",
    help="With --from-servers: environment variable of the key (default: OPENAI_API_KEY). Give it once for all URLs, "
    "or once for each.",
)
@click.argument("urls", nargs=-1, metavar="[URL]...")
@click.pass_context
def init(
    context: click.Context,
    preset: str,
    only_teachers: tuple[str, ...],
    values: tuple[str, ...],
    install: bool,
    from_servers: bool,
    model: tuple[str, ...],
    key_variables: tuple[str, ...],
    urls: tuple[str, ...],
) -> None:
    """Print a commented cord.toml.

    \b
    tiny          four bundled models; runs anywhere in seconds
    smollm2       SmolLM2-135M-Instruct as three teachers and the prover
    paper-hetero  R1-Distill-Qwen-32B, QwQ-32B, Phi-4-reasoning-plus
    paper-homo    one model as three teachers

    With --from-servers, the models of OpenAI-compatible servers are the teachers, and the first one that can score is
    the prover. The URL of such a server usually ends in /v1.
    """
    from pathlib import Path

    from cord_worker.config import RunConfig
    from cord_worker.presets import adapted, preset_text

    if from_servers:
        is_preset_given = context.get_parameter_source("preset") is not click.core.ParameterSource.DEFAULT
        if install or is_preset_given:
            raise click.UsageError("--from-servers takes neither --preset nor --install: leave them out.")
        if not urls:
            raise click.UsageError("--from-servers needs the URLs of servers, such as http://127.0.0.1:8000/v1.")
        _print_from_servers(urls, key_variables, model, only_teachers, values)
        return
    if urls or model or key_variables:
        raise click.UsageError("URLs, --model and --api-key-env are for --from-servers: add it, or leave them out.")
    if preset != "smollm2":
        if install:
            raise click.UsageError(
                "--install is for --preset smollm2: the other presets have nothing to download here."
            )
    elif not any(value.startswith("models.smollm2.path") for value in values):
        _ensure_weights(install)
    elif install:
        raise click.UsageError("--install and --set models.smollm2.path=… exclude each other: leave one of them out.")
    text = adapted(preset_text(preset), only_teachers=only_teachers, values=values)
    RunConfig.parse(text, source=f"preset {preset}", folder=Path.cwd())
    click.echo(text, nl=False)


def _ensure_weights(install: bool) -> None:
    from functools import partial

    from cord_worker.presets.smollm2_weights import fetch_smollm2, find_smollm2

    if install:
        fetch_smollm2(partial(click.echo, err=True))
    elif find_smollm2() is None:
        click.echo(
            "SmolLM2's weights are not on this machine. To download them: "
            "cordctl init --preset smollm2 --install > cord.toml",
            err=True,
        )


def _print_from_servers(
    urls: tuple[str, ...],
    key_variables: tuple[str, ...],
    models: tuple[str, ...],
    only_teachers: tuple[str, ...],
    values: tuple[str, ...],
) -> None:
    from functools import partial
    from pathlib import Path

    from pydantic import ValidationError

    from cord_worker.config import OpenAiOptions, RunConfig
    from cord_worker.engines.needed_packages import require_engine

    require_engine("openai")
    from cord_worker.operations.server_configs import NO_PROVER, config_from_servers
    from cord_worker.presets import adapted
    from cord_worker.progress import shown

    if len(key_variables) not in {0, 1, len(urls)}:
        raise click.UsageError(f"--api-key-env is given {len(key_variables)} times for {len(urls)} URLs.")
    variables = key_variables * len(urls) if len(key_variables) == 1 else key_variables
    servers = []
    for index, url in enumerate(urls):
        given = {"base_url": url, **({"api_key_env": variables[index]} if variables else {})}
        try:
            servers.append(OpenAiOptions.model_validate(given))
        except ValidationError as error:
            first = error.errors()[0]
            # The URL itself is not repeated: it may hold a password.
            what = f"URL {index + 1}" if first["loc"] == ("base_url",) else "--api-key-env"
            raise click.UsageError(f"{what} {first['msg'].removeprefix('Value error, ')}.") from None
    tell = partial(click.echo, err=True)
    text, prover = config_from_servers(servers, models, lambda line: tell(shown(line)))
    text = adapted(text, only_teachers=only_teachers, values=values)
    complete = text if prover is not None else text + _ANY_PROVER
    RunConfig.parse(complete, source="the configuration for these servers", folder=Path.cwd())
    click.echo(text, nl=False)
    if prover is None:
        tell(NO_PROVER)
