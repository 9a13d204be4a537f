"""Teachers: the tables [[teachers]]."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, field_validator

from cord_worker.config.base import Section, checked_name


class TeacherConfig(Section):
    """A model with sampling settings: what proposes steps. Several teachers may share one model."""

    name: str = Field(description="Shown in tables and reports; letters, digits, `_`, `.` and `-`.")
    model: str = Field(description="A key of [models].")
    temperature: float = Field(0.6, ge=0.0, le=5.0)
    top_p: float = Field(0.95, gt=0.0, le=1.0)
    top_k: int = Field(0, ge=0, description="0 considers every token.")
    min_p: float = Field(0.0, ge=0.0, le=1.0)
    repetition_penalty: float = Field(1.0, gt=0.0, le=5.0)
    system_prompt: str | None = Field(None, description="Replaces the model's own system turn.")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        return checked_name(value, "teacher name")


def require_different_names(teachers: Sequence[TeacherConfig]) -> None:
    """Raises ValueError where two teachers have one name."""
    names = [teacher.name for teacher in teachers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"teacher names must differ; given twice: {', '.join(twice)}")
