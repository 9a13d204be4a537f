"""`cordctl init`."""

from __future__ import annotations

import click

from cord_worker.cli.options import NearChoice

_PRESETS = ("tiny", "smollm2", "paper-hetero", "paper-homo")


@click.command()
@click.option("--preset", type=NearChoice(_PRESETS), default="tiny", show_default=True, help="Which setting.")
@click.option("--only-teacher", "only_teachers", multiple=True, metavar="NAME", help="Leave the other teachers out.")
@click.option("--set", "values", multiple=True, metavar="KEY=VALUE", help="Set a value, as in search.beam_width=1.")
def init(preset: str, only_teachers: tuple[str, ...], values: tuple[str, ...]) -> None:
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

    text = adapted(preset_text(preset), only_teachers=only_teachers, values=values)
    RunConfig.parse(text, source=f"preset {preset}", folder=Path.cwd())
    click.echo(text, nl=False)
