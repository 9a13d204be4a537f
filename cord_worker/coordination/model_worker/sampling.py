"""Sampling settings of a teacher's requests."""

from __future__ import annotations

from cord_worker.config import TeacherConfig
from cord_worker.engines.protocol import Sampling


def sampling_of(teacher: TeacherConfig, max_tokens: int, seed: int, *, answer_tokens: int = 0) -> Sampling:
    """The settings of one of the teacher's requests. `max_tokens`, and `answer_tokens`, for which the context must have
    room afterwards, are counted in the teacher's own tokens."""
    return Sampling(
        temperature=teacher.temperature,
        top_p=teacher.top_p,
        top_k=teacher.top_k,
        min_p=teacher.min_p,
        repetition_penalty=teacher.repetition_penalty,
        max_tokens=max_tokens,
        seed=seed,
        answer_tokens=answer_tokens,
    )
