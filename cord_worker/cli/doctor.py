"""`cordctl doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from cord_worker.cli.exit_codes import FOUND_SOMETHING
from cord_worker.cli.options import FilePath, json_option, print_json, read_settings, state_dir_option

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.option(
    "--config",
    "config_path",
    type=FilePath(path_type=Path, dir_okay=False),
    help="Also check this configuration (default: ./cord.toml if it exists).",
)
@state_dir_option
@json_option
def doctor(config_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Check this machine: packages, services, models, devices.

    Exits with 4 if a check fails.
    """
    from cord_worker.operations.doctor import Level, run_checks
    from cord_worker.progress import shown

    findings = run_checks(read_settings(state_dir), config_path)
    fails = any(finding.level is Level.FAIL for finding in findings)
    if as_json:
        print_json({"ok": not fails, "findings": [finding.to_json() for finding in findings]})
    else:
        for finding in findings:
            mark = click.style(f"{finding.level.value:<4}", fg=_COLOURS[finding.level.value])
            click.echo(f"{mark}  {finding.subject}: {shown(finding.found)}")
            if finding.advice:
                click.echo(f"      -> {shown(finding.advice)}")
    if fails:
        raise SystemExit(FOUND_SOMETHING)
