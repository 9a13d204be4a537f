"""`cordctl schema`."""

from __future__ import annotations

import click


@click.command()
def schema() -> None:
    """Print the JSON schema of cord.toml, for editors.

    \b
      cordctl schema > cord.schema.json
      #:schema ./cord.schema.json        the first line of cord.toml

    Editors with a TOML extension (Even Better TOML, or another one of Taplo) then complete keys, explain them, and
    underline unknown ones. What depends on several keys is checked by `cordctl doctor`.
    """
    import json

    from cord_worker.config.json_schema import cord_toml_schema

    click.echo(json.dumps(cord_toml_schema(), indent=2, ensure_ascii=False))
