"""What all tables of cord.toml share: strict keys, names, short hashes."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
"""Names of models, teachers and runs; to be used with `fullmatch`."""


class Table(BaseModel):
    """A table of cord.toml; unknown keys are errors, and instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def without_defaults_of(self, *names: str) -> dict[str, Any]:
        """The options as JSON, without those of `names` that have their default value.

        These options were added later; without this, runs of older versions would change their fingerprints.
        """
        fields = type(self).model_fields
        unset = {name for name in names if getattr(self, name) == fields[name].default}
        return self.model_dump(mode="json", exclude=unset)


def short_hash(document: Any) -> str:
    """16 hex digits (SHA-256) over a JSON document; the order of its keys makes no difference."""
    canonical = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def checked_name(value: str, what: str) -> str:
    """`value`, if it is a valid name; `what` names it in the error. Raises ValueError."""
    if not NAME_PATTERN.fullmatch(value):
        raise ValueError(
            f"{what} {value!r} must begin with a letter or digit and may contain only letters, digits, '_', '.' and "
            "'-', at most 63 characters"
        )
    return value
