"""`cordctl view`."""

from __future__ import annotations

from pathlib import Path

import click

from cord_worker.cli.options import newest_run_argument, read_settings, state_dir_option


@click.command()
@newest_run_argument
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Unless it is loopback, visitors need a token: CORD_VIEW_TOKEN, or a random one.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8484,
    show_default=True,
    help="Port to listen on; 0 means any free one.",
)
@click.option(
    "--known-as",
    "names",
    multiple=True,
    metavar="NAME",
    help="Another host name under which browsers reach the server; may be repeated.",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
@state_dir_option
def view(run: str | None, host: str, port: int, names: tuple[str, ...], opens: bool, state_dir: Path | None) -> None:
    """Show runs in the browser, with live updates, until Ctrl-C.

    It opens on RUN, by default the newest one, and shows all runs. It only reads the database.
    """
    from cord_worker.operations.database import open_database
    from cord_worker.web.server import address, serve
    from cord_worker.web.view import access_of, site_of_server

    settings = read_settings(state_dir)
    access = access_of(settings, host, names)
    with open_database(settings) as database:
        site = site_of_server(database, run)

        def on_ready(open_port: int) -> None:
            url = address(host, open_port, access.token)
            click.echo(f"open {url}")
            click.echo("Ctrl-C ends it", err=True)
            if opens:
                click.launch(url)

        serve(database, site, access, host=host, port=port, on_ready=on_ready)
