"""`cordctl completion`, and what a shell completes besides commands, options and files."""

from __future__ import annotations

from pathlib import Path

import click

from cord_worker.cli.options import NearChoice


@click.command()
@click.argument("shell", type=NearChoice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script with which SHELL completes cordctl's commands, options and words.

    \b
      eval "$(cordctl completion bash)"     a line for ~/.bashrc (bash 4.4 or newer)
      eval "$(cordctl completion zsh)"      a line for ~/.zshrc, after compinit
      cordctl completion fish | source      a line for ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    if (kind := get_completion_class(shell)) is None:
        raise click.UsageError(f"this version of click completes nothing in {shell}")
    click.echo(kind(context.find_root().command, {}, "cordctl", "_CORDCTL_COMPLETE").source(), nl=False)


def models_of_the_configuration(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of the models in cord.toml, or in the file of `--config`, that begin with `incomplete`.

    The file is only parsed: checking it imports much more. An unreadable file has no names.
    """
    import tomllib

    path = context.params.get("config_path") or Path("cord.toml")
    try:
        models = tomllib.loads(Path(path).read_text(encoding="utf-8")).get("models", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return []
    return [name for name in models if name.startswith(incomplete)] if isinstance(models, dict) else []
