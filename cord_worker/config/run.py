"""The table [run], and cord.toml as a whole with the checks across its tables."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, ValidationInfo, model_validator

from cord_worker.config.base import Table, short_hash
from cord_worker.config.integration import IntegrationConfig, require_integration
from cord_worker.config.models import (
    ModelConfig,
    require_distinct_models,
    require_language_heads,
    require_model,
    require_names,
)
from cord_worker.config.prices import ModelPrices, Prices
from cord_worker.config.scoring import BinaryConfig, ProverConfig, RewardConfig, require_prover, require_reward
from cord_worker.config.search import SearchConfig
from cord_worker.config.teachers import TeacherConfig, require_distinct_names
from cord_worker.config.toml_file import read_document, read_text
from cord_worker.config.validation_messages import validation_message
from cord_worker.config.verify import VerifyConfig
from cord_worker.errors import ConfigError

_UNUSED_MODELS = "unused_models"
"""Key in the validator's context; its value says whether the file may have models that no other table names."""


class RunTable(Table):
    """How a run is executed. Only `seed` and `date` decide what is generated."""

    seed: int = Field(0, ge=0, lt=2**63, description="Seed from which the seeds of all requests are derived.")
    date: datetime.date | None = Field(
        None,
        description="The date that chat templates see as today, such as 2025-01-31, on every machine for the whole "
        "run. By default the day on which the run is enqueued, stored with it; set it to get the same text on another "
        "day.",
    )
    max_active: int = Field(256, ge=1, description="Maximum number of problems in flight.")
    priority: int = Field(
        0,
        ge=-1000,
        le=1000,
        description="Among runs that share a model, problems of the run with the higher number start first (cordctl "
        "priority changes it).",
    )
    max_attempts: int = Field(
        5,
        ge=1,
        description="Technical attempts at one piece of work before its problem is parked as failed. At least two "
        "attempts are made. The first two share the worker with other work (only the first if max_attempts is 1 or 2). "
        "Later ones run alone.",
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="Spending limit: the run pauses once its models have generated this many tokens (`tokens out` of "
        "cordctl cost).",
    )
    max_cost: float | None = Field(
        None,
        gt=0.0,
        allow_inf_nan=False,
        description="Spending limit: the run pauses once its tokens and GPU hours have cost this much, by [prices].",
    )


class RunConfig(Table):
    """cord.toml as a whole."""

    models: dict[str, ModelConfig]
    teachers: Annotated[list[TeacherConfig], Field(min_length=1)]
    prover: ProverConfig | None = Field(None, description="Required except by the pipeline `sample`, which ignores it.")
    search: SearchConfig = SearchConfig()
    verify: VerifyConfig = VerifyConfig()
    reward: RewardConfig | None = None
    binary: BinaryConfig = BinaryConfig()
    integration: IntegrationConfig | None = None
    run: RunTable = RunTable()
    prices: Prices | None = Field(None, description="What the models cost, for cordctl cost and `run.max_cost`.")

    @model_validator(mode="after")
    def _tables_agree(self, info: ValidationInfo) -> Self:
        models, search, judge = self.models, self.search, self.verify.judge
        require_names(models)
        for teacher in self.teachers:
            require_model(f"teachers.{teacher.name}.model", teacher.model, models)
        require_prover(self.prover, models, pipeline=search.pipeline, is_scored=self.is_scored)
        if judge is not None:
            require_model("verify.judge.model", judge.model, models)
        require_distinct_names(self.teachers)
        if search.selection == "binary_judgment" and self.verify.method == "judge":
            raise ValueError(
                'search.selection = "binary_judgment" checks many answers per candidate, and the LLM judge is not '
                "used for that: choose another verify.method, or select by predictive_perplexity"
            )
        names = [teacher.name for teacher in self.teachers]
        require_integration(self.integration, models, pipeline=search.pipeline, teacher_names=names)
        require_distinct_models(models)
        used = {teacher.model for teacher in self.all_teachers}
        used |= {part.model for part in (self.prover, judge) if part is not None}
        require_language_heads(used, models)
        require_reward(self.reward, models, selection=search.selection)
        used |= set() if self.reward is None else {self.reward.model}
        unused = sorted(set(models) - used)
        if unused and not (info.context or {}).get(_UNUSED_MODELS):
            raise ValueError(
                f"models that nothing uses: {', '.join(unused)}; remove them or use them (a prover that only `cordctl "
                "rescore` uses belongs in a separate file)"
            )
        if self.run.max_cost is not None and self.prices is None:
            raise ValueError(
                "run.max_cost needs prices: add `currency` to a table [prices], and a table "
                "[prices.models.NAME] for each model"
            )
        if self.prices is not None:
            unknown_models = sorted(set(self.prices.models) - set(models))
            if unknown_models:
                raise ValueError(
                    f"prices.models names models that are not in [models]: {', '.join(unknown_models)}. There are: "
                    f"{', '.join(sorted(models))}"
                )
            self.price_by_path(self.prices)
        return self

    def price_by_path(self, prices: Prices) -> dict[str, ModelPrices]:
        """The price of each model that needs a worker. The key is the path of its weights, as in reports of cost.

        Raises ValueError if a model has no price, or models with the same weights have different ones.
        """
        missing = sorted(set(self.served_models) - set(prices.models))
        if missing:
            raise ValueError(
                f"no price for {', '.join(missing)}: add a table [models.{missing[0]}] to the prices, with `input` and "
                "`output` or `gpu_hour` (0 if it is free)"
            )
        found: dict[str, tuple[str, ModelPrices]] = {}
        for name, model in self.served_models.items():
            first, price = found.setdefault(model.path, (name, prices.models[name]))
            if price != prices.models[name]:
                raise ValueError(
                    f"the models {first} and {name} have the same weights, so their costs cannot be told apart: "
                    "give them the same prices"
                )
        return {path: price for path, (_, price) in found.items()}

    @property
    def all_teachers(self) -> list[TeacherConfig]:
        """The teachers, followed by the integrator if there is one."""
        if self.integration is None:
            return self.teachers
        return [*self.teachers, self.integration.as_teacher()]

    def teacher_model(self, teacher: TeacherConfig) -> ModelConfig:
        """The model that hosts `teacher`."""
        return self.models[teacher.model]

    @property
    def is_scored(self) -> bool:
        """Whether candidates are scored; if not, a configured prover is not used."""
        return self.search.pipeline != "sample"

    @property
    def required_prover(self) -> ProverConfig:
        """The prover. Raises ConfigError if nothing is scored."""
        if self.prover is None or not self.is_scored:
            raise ConfigError(f'there is no prover: pipeline = "{self.search.pipeline}" scores nothing')
        return self.prover

    @property
    def prover_model(self) -> ModelConfig:
        """The model that scores. Raises ConfigError if nothing is scored."""
        return self.models[self.required_prover.model]

    @property
    def served_models(self) -> dict[str, ModelConfig]:
        """The models that need a worker, by name. A model that is used only for scores or judgments of candidates needs
        none if candidates are not scored."""
        used = {teacher.model for teacher in self.all_teachers}
        if self.is_scored:
            used.add(self.required_prover.model)
            if self.reward is not None:
                used.add(self.reward.model)
        if self.verify.judge is not None:
            used.add(self.verify.judge.model)
        return {name: model for name, model in self.models.items() if name in used}

    @property
    def judge_model(self) -> ModelConfig | None:
        """The LLM that judges final answers; None if they are only compared."""
        return None if self.verify.judge is None else self.models[self.verify.judge.model]

    @property
    def selection_model(self) -> ModelConfig | None:
        """The model that gives selection judgments; None if judgments do not select."""
        if not self.is_scored:
            return None
        if self.reward is not None:
            return self.models[self.reward.model]
        return self.prover_model if self.search.selection == "binary_judgment" else None

    @property
    def prompt_date(self) -> datetime.date:
        """The date that chat templates see as today. Raises ConfigError if the run's stored date is not set yet."""
        if self.run.date is None:
            raise ConfigError("the configuration has no date: set run.date, or read the run's stored date")
        return self.run.date

    def system_prompt(self, teacher: TeacherConfig) -> str | None:
        """System turn of `teacher`: its own, else its model's."""
        if teacher.system_prompt is not None:
            return teacher.system_prompt
        return self.models[teacher.model].system_prompt

    def fingerprint(self) -> str:
        """16 hex digits over everything that decides what is generated and how final answers are checked."""
        by_binary_judgment = self.search.selection == "binary_judgment"
        return short_hash(
            {
                "integration": None if self.integration is None else self.integration.model_dump(mode="json"),
                "models": {name: model.identity() for name, model in self.served_models.items()},
                "teachers": [teacher.model_dump(mode="json") for teacher in self.teachers],
                "system_prompts": [self.system_prompt(teacher) for teacher in self.all_teachers],
                "prover": self.required_prover.identity() if self.is_scored else None,
                "prover_system_prompt": self.prover_model.system_prompt if self.is_scored else None,
                "search": self.search.identity(),
                "seed": self.run.seed,
                **({} if self.run.date is None else {"date": self.run.date.isoformat()}),
                "verify": self.verify.identity(),
                "judge_system_prompt": None if self.judge_model is None else self.judge_model.system_prompt,
                **({"reward": self._reward_identity()} if self.reward is not None else {}),
                **({"binary": self.binary.model_dump(mode="json")} if by_binary_judgment else {}),
            }
        )

    def trimmed_fingerprint(self, above: float) -> str:
        """The fingerprint of a trimmed run. Its source has this configuration; its winners are trimmed at `above`."""
        return short_hash({"fingerprint": self.fingerprint(), "trim_above": above})

    @property
    def for_answers(self) -> RunConfig:
        """This configuration without the models that score or judge candidates, for starting the workers of a trimmed
        run. Use only `served_models` and what follows from it: other parts differ from the run's configuration."""
        without_scores = self.search.model_copy(update={"pipeline": "sample"})
        return self.model_copy(update={"search": without_scores})

    def _reward_identity(self) -> dict[str, Any]:
        assert self.reward is not None
        system_prompt = self.models[self.reward.model].system_prompt
        return {**self.reward.model_dump(mode="json"), "system_prompt": system_prompt}

    @classmethod
    def load(cls, path: Path, *, unused_models: bool = False) -> RunConfig:
        """Reads cord.toml; relative model folders are relative to its folder. With `unused_models` it may have models
        that no other table names. Raises ConfigError."""
        text, folder = read_text(path), path.resolve().parent
        return cls.parse(text, source=str(path), folder=folder, unused_models=unused_models)

    @classmethod
    def parse(cls, text: str, *, source: str, folder: Path, unused_models: bool = False) -> RunConfig:
        """Like `load`, from TOML text; `source` is named in errors."""
        document = read_document(text, source=source, folder=folder)
        return cls._from_document(document, source, unused_models=unused_models)

    @classmethod
    def from_stored(cls, document: dict[str, Any]) -> RunConfig:
        """The configuration stored in a run's row. Raises ConfigError."""
        return cls._from_document(document, "the stored configuration")

    @classmethod
    def _from_document(cls, document: dict[str, Any], source: str, *, unused_models: bool = False) -> RunConfig:
        try:
            return cls.model_validate(document, context={_UNUSED_MODELS: unused_models})
        except ValidationError as error:
            raise ConfigError(validation_message(error, source, cls)) from None
