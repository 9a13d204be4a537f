"""Reports the progress of loading while transformers reads the weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers

from cord_worker.engines.protocol import Describe

_LOADING = "Loading weights"
"""The name that transformers gives the loop over all tensors."""
_TENTHS = 10


@contextmanager
def report_progress(describe: Describe, folder: Path, suffixes: tuple[str, ...]) -> Iterator[None]:
    """While the `with` block loads the weights in `folder`, reports after each tenth of the tensors how much is
    done."""
    size = sum(path.stat().st_size for path in folder.iterdir() if path.suffix in suffixes and path.is_file())
    amount, begun = _bytes(size), time.monotonic()

    def tell(tenth: int) -> None:
        describe(f"loads its model, {100 * tenth // _TENTHS} % of {amount}", since=begun)

    def replace_bar(factory: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """transformers calls this where it would make a progress bar by `factory`."""
        if options.get("desc") != _LOADING or not args:
            return factory(*args, **options)
        return _in_tenths(list(args[0]), tell)

    tell(0)
    set_hook = getattr(transformers.utils.logging, "set_tqdm_hook", None)  # since 5.1
    if set_hook is None:
        yield
        return
    before = set_hook(replace_bar)
    try:
        yield
    finally:
        set_hook(before)


def _in_tenths(items: list[Any], tell: Callable[[int], None]) -> Iterator[Any]:
    told = 0
    for number, item in enumerate(items):
        if (tenth := _TENTHS * number // len(items)) > told:
            told = tenth
            tell(tenth)
        yield item


def _bytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
