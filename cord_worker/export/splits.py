"""Divides an export into splits. All rows of a problem are in one split, and it is the same one in every run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Self

from cord_worker.export.file_types import file_type_of
from cord_worker.export.files import STANDARD_OUTPUT
from cord_worker.export.format import OptionError

_NAME = re.compile(r"[A-Za-z0-9_]+")
_SHARE = re.compile(r"[0-9]+\.?[0-9]*|\.[0-9]+")
_EXAMPLE = "as in train=0.9,test=0.1"
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Splits:
    """Names of the splits, and the upper bound of each in (0, 1], ascending. A problem's key gives it a number in
    [0, 1); it belongs to the first split whose bound is above this number."""

    names: tuple[str, ...]
    bounds: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """The splits of a text such as `train=0.9,test=0.1`. Raises OptionError."""
        names, shares = [], []
        for part in text.split(","):
            name, sign, share = (piece.strip() for piece in part.partition("="))
            if not sign or not _NAME.fullmatch(name):
                raise OptionError(
                    f"--split {text!r}: {part.strip()!r} is not a name with its share, {_EXAMPLE}; a name has letters, "
                    "digits and '_' only"
                )
            if name in names:
                raise OptionError(f"--split {text!r}: the name {name!r} is there twice: write different names")
            if not _SHARE.fullmatch(share) or float(share) <= 0:
                raise OptionError(
                    f"--split {text!r}: {share!r} is not a share: write a decimal number above 0 without an exponent, "
                    f"{_EXAMPLE}"
                )
            names.append(name)
            shares.append(float(share))
        if abs(sum(shares) - 1) > _TOLERANCE:
            raise OptionError(f"--split {text!r}: the shares add up to {sum(shares):.12g}, not to 1: change one")
        return cls(tuple(names), (*tuple(accumulate(shares))[:-1], 1.0))

    def of(self, key: str) -> int:
        """Index of the split of the problem with this key."""
        number = int.from_bytes(hashlib.sha256(key.encode("utf-8", "replace")).digest()[:8], "big") / 2**64
        return next((index for index, bound in enumerate(self.bounds) if number < bound), len(self.bounds) - 1)

    def outputs(self, output: str) -> Sequence[str]:
        """The file of each split: `out.jsonl.gz` gives `out-train.jsonl.gz`. Raises OptionError if `output` is not a
        file, and ExportError if its name is unusable."""
        file_type = file_type_of(output)
        if output == STANDARD_OUTPUT or (Path(output).exists() and not Path(output).is_file()):
            raise OptionError(f"--split writes a file for each split, but {output} is not a file: name a file")
        length = len(output) - len(file_type.value)
        return [f"{output[:length]}-{name}{output[length:]}" for name in self.names]
