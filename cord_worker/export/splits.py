"""Divides an export into splits, by problem: all rows of a problem are in one split, and in any run the same problem is
in the same one."""

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

_PART = re.compile(r"([A-Za-z0-9_]+)=([0-9.]+)")
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Splits:
    """Names of splits, and up to which number in (0, 1] a problem belongs to each of them, ascending."""

    names: tuple[str, ...]
    bounds: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """The splits of a text such as `train=0.9,test=0.1`. Raises OptionError."""
        found = [_PART.fullmatch(part.strip()) for part in text.split(",")]
        names = [match[1] for match in found if match]
        try:
            shares = [float(match[2]) for match in found if match]
        except ValueError:
            shares = []
        if len(shares) != len(found) or len(set(names)) != len(names) or min(shares) <= 0:
            raise OptionError(f"--split {text!r}: write different names with their shares, as in train=0.9,test=0.1")
        if abs(sum(shares) - 1) > _TOLERANCE:
            raise OptionError(f"--split {text!r}: the shares add up to {sum(shares):g}, not to 1")
        return cls(tuple(names), (*tuple(accumulate(shares))[:-1], 1.0))

    def of(self, key: str) -> int:
        """Index of the split of the problem with this key."""
        number = int.from_bytes(hashlib.sha256(key.encode("utf-8", "replace")).digest()[:8], "big") / 2**64
        return next((place for place, bound in enumerate(self.bounds) if number < bound), len(self.bounds) - 1)

    def outputs(self, output: str) -> Sequence[str]:
        """The file of each split: `out.jsonl.gz` gives `out-train.jsonl.gz`. Raises OptionError if `output` is no file,
        and ExportError if its name is unusable."""
        file_type = file_type_of(output)
        if output == STANDARD_OUTPUT or (Path(output).exists() and not Path(output).is_file()):
            raise OptionError(f"--split writes a file for each split, and {output} is none: name a file")
        length = len(output) - len(file_type.value)
        return [f"{output[:length]}-{name}{output[length:]}" for name in self.names]
