"""The configuration of a run: cord.toml and the environment.

`RunConfig` is cord.toml. Its *fingerprint* covers everything that decides what is generated (teachers, prover, search,
seed, templates) and nothing that only decides how fast (batch sizes, devices, concurrency). So a run can move to other
machines and stay the same run. `Settings` is the environment: where the services are. Only it holds secrets.
"""

from __future__ import annotations

from cord_worker.config.base import NAME_PATTERN
from cord_worker.config.engine_options import OpenAiOptions, VllmOptions
from cord_worker.config.environment import LIBRARY_VARIABLES, OTHER_VARIABLES, Settings
from cord_worker.config.integration import DEFAULT_INTEGRATION_PROMPT, INTEGRATOR_NAME, IntegrationConfig
from cord_worker.config.models import BUNDLED_PREFIX, ModelConfig, fingerprint_of, model_location
from cord_worker.config.prices import ModelPrices, Prices
from cord_worker.config.run import RunConfig, RunTable
from cord_worker.config.scoring import (
    DEFAULT_BINARY_TEMPLATE,
    DEFAULT_SCORE,
    DEFAULT_SCORING_TEMPLATE,
    BinaryConfig,
    ProverConfig,
    RewardConfig,
    ScoreKind,
)
from cord_worker.config.search import PREFIX_PHRASES, SearchConfig
from cord_worker.config.teachers import TeacherConfig
from cord_worker.config.verify import DEFAULT_JUDGE_TEMPLATE, JudgeConfig, ToleranceConfig, VerifyConfig

__all__ = [
    "BUNDLED_PREFIX",
    "DEFAULT_BINARY_TEMPLATE",
    "DEFAULT_INTEGRATION_PROMPT",
    "DEFAULT_JUDGE_TEMPLATE",
    "DEFAULT_SCORE",
    "DEFAULT_SCORING_TEMPLATE",
    "INTEGRATOR_NAME",
    "LIBRARY_VARIABLES",
    "NAME_PATTERN",
    "OTHER_VARIABLES",
    "PREFIX_PHRASES",
    "BinaryConfig",
    "IntegrationConfig",
    "JudgeConfig",
    "ModelConfig",
    "ModelPrices",
    "OpenAiOptions",
    "Prices",
    "ProverConfig",
    "RewardConfig",
    "RunConfig",
    "RunTable",
    "ScoreKind",
    "SearchConfig",
    "Settings",
    "TeacherConfig",
    "ToleranceConfig",
    "VerifyConfig",
    "VllmOptions",
    "fingerprint_of",
    "model_location",
]
