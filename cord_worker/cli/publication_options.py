"""Options of `cordctl export` for the dataset's card and the hub."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--card", is_flag=True, help="Also write README.md, the card of the dataset, beside the file."),
    click.option("--license", metavar="NAME", help="Licence of the dataset in its card, such as cc-by-4.0."),
    click.option(
        "--push", metavar="ORG/NAME", help="Push the files and the card to this dataset of the Hugging Face hub."
    ),
    click.option(
        "--private/--public", default=None, help="Visibility of the dataset if --push makes it (default: --private)."
    ),
    click.option(
        "--revision", metavar="BRANCH", help="Push to this branch, which is made if needed (default: the main one)."
    ),
    click.option("--commit-message", metavar="TEXT", help="Message of the commit (default: names the run)."),
    click.option("--replace-card", is_flag=True, help="Replace a README.md that was written or changed by hand."),
)


def publication_options(function: _F) -> _F:
    """Decorator: adds the options for the card and the hub."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
