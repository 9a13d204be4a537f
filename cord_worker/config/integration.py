"""The integrator: the table [integration]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field, field_validator

from cord_worker.config.base import Table
from cord_worker.config.models import ModelConfig, require_model
from cord_worker.config.teachers import TeacherConfig

DEFAULT_INTEGRATION_PROMPT = """\
Several attempts were made at the problem below, by different authors. Some may be wrong or unfinished.

=== Problem ===
{question}

{trajectories}

=== Task ===
Merge these attempts into one solution: the best and most careful reasoning of all of them, in order, without
repetitions, with mistakes corrected and every step that the result needs. Write it as one continuous line of thought,
without a word about the attempts or their authors.

Reply with one JSON object and nothing else, in this form, with as many steps as are needed:
{"integrated_step1": "...", "integrated_step2": "...", "integrated_stepN": "...", "answer_part": "..."}
Each step is a text; answer_part is the final answer to the problem, as it is given to the reader.
"""
"""The integrator's prompt (docs/what-is-computed.md#integration); all braces except the two placeholders are text."""

INTEGRATOR_NAME = "integrator"
"""The integrator's name among a run's teachers."""


class IntegrationConfig(Table):
    """The integrator of `search.pipeline = "integration"`: the model that merges whole trajectories into one."""

    model: str = Field(description="A key of [models].")
    temperature: float = Field(0.6, ge=0.0, le=5.0, description="Sampling temperature.")
    top_p: float = Field(0.95, gt=0.0, le=1.0, description="Nucleus sampling: share of the probability mass.")
    max_tokens: int = Field(16_384, ge=1, description="Token limit of its reply, in its own tokens.")
    prompt: str = Field(
        DEFAULT_INTEGRATION_PROMPT,
        description="Its prompt; must contain `{question}` and `{trajectories}` once each, and request a JSON object "
        "of integrated_step1, integrated_step2, … and answer_part. Without answer_part it writes the answer "
        "afterwards.",
    )

    @field_validator("prompt")
    @classmethod
    def _has_both_placeholders(cls, value: str) -> str:
        for placeholder in ("{question}", "{trajectories}"):
            if value.count(placeholder) != 1:
                raise ValueError(f"must contain the placeholder {placeholder} exactly once")
        return value

    def as_teacher(self) -> TeacherConfig:
        """The integrator as an additional teacher."""
        return TeacherConfig(name=INTEGRATOR_NAME, **self.model_dump(include={"model", "temperature", "top_p"}))


def require_integration(
    integration: IntegrationConfig | None,
    models: Mapping[str, ModelConfig],
    *,
    pipeline: str,
    teacher_names: Iterable[str],
) -> None:
    """Raises ValueError if the pipeline needs an integrator and there is none, if there is one that the pipeline does
    not use, if it names an unknown model, or if a teacher has its name."""
    if integration is None:
        if pipeline == "integration":
            raise ValueError('search.pipeline = "integration" needs a table [integration] that names a model')
        return
    if pipeline != "integration":
        raise ValueError(
            f'[integration] is only for search.pipeline = "integration" (it is "{pipeline}"): remove the table'
        )
    require_model("integration.model", integration.model, models)
    if INTEGRATOR_NAME in teacher_names:
        raise ValueError(f"with an integrator, no teacher may be called {INTEGRATOR_NAME!r}: rename it")
