"""`cordctl init`."""

from __future__ import annotations

import click

from cord_worker.cli.options import NearChoice

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
def init(preset: str, only_teachers: tuple[str, ...], values: tuple[str, ...], install: bool) -> None:
    """Print a commented cord.toml.

    \b
    tiny          four bundled models; runs anywhere in seconds
    smollm2       SmolLM2-135M-Instruct as three teachers and the prover
    paper-hetero  R1-Distill-Qwen-32B, QwQ-32B, Phi-4-reasoning-plus
    paper-homo    one model as three teachers
    """
    from pathlib import Path

    from cord_worker.config import RunConfig
    from cord_worker.presets import adapted, preset_text

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
