"""Teachers: the tables [[teachers]]."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, field_validator

from cord_worker.config.base import Table, checked_name


class TeacherConfig(Table):
    """A model with sampling settings; it proposes steps. Several teachers may share one model."""

    name: str = Field(description="Name in tables and reports: letters, digits, `_`, `.` and `-`, at most 63 of them.")
    model: str = Field(description="A key of [models].")
    temperature: float = Field(0.6, ge=0.0, le=5.0, description="Sampling temperature; 0 takes the likeliest token.")
    top_p: float = Field(0.95, gt=0.0, le=1.0, description="Nucleus sampling: share of the probability mass.")
    top_k: int = Field(0, ge=0, description="Number of the likeliest tokens that are considered; 0 considers all.")
    min_p: float = Field(
        0.0, ge=0.0, le=1.0, description="Least probability of a token, as a share of the likeliest one's."
    )
    repetition_penalty: float = Field(1.0, gt=0.0, le=5.0, description="Penalty for repeated tokens; 1 is none.")
    system_prompt: str | None = Field(None, description="System turn in place of the model's own.")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        return checked_name(value, "teacher name")


def require_distinct_names(teachers: Sequence[TeacherConfig]) -> None:
    """Raises ValueError if two teachers have the same name."""
    names = [teacher.name for teacher in teachers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"teacher names must differ; given twice: {', '.join(twice)}")
