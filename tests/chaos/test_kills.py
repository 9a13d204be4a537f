"""Every pipeline, selection and option: killed with SIGKILL in the middle and run again, it ends with the results of an
undisturbed run.

The variants come from the registries of the search and from the fields of [search]; a new one is included by itself,
or the first tests say what is missing. One cluster does them all; killed at once are a teacher's worker within a
step that is not the first (a rollout of a tree search), the worker that scores or judges, and the coordinator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from cord_worker.config import RunConfig, SearchConfig
from cord_worker.errors import ConfigError
from cord_worker.search.pipelines import PIPELINES
from cord_worker.search.types import Criterion
from cord_worker.store.database import Database
from tests.support.cluster import Cluster
from tests.support.configurations import INSTANT, INTEGRATOR, REWARD
from tests.support.tables import content, count, differences

PROBLEMS = 2
SIZES = {
    *("beam_width", "max_steps", "step_tokens", "thinking_tokens", "answer_tokens", "trajectories"),
    *("loop_ngram", "loop_repeats", "max_rounds"),
}
"""Settings that every search has; no variants."""
VALUES = {
    "samples_per_teacher": ["2"],
    "exploration": ["0.3"],
    "phrases": ['["wait"]'],
    "length_normalisation": ["0.5"],
    "score_resolution": ["0.1"],
    "diversity_teacher": ["0.05"],
    "diversity_text": ["0.1"],
    "total_tokens": ["200"],
}
"""Values of options that are not one of a few words."""
CHOICES = {
    name: [f'"{value}"' for value in get_args(field.annotation) if value != field.default]
    for name, field in SearchConfig.model_fields.items()
    if get_origin(field.annotation) is Literal
}
OPTIONS = {name: values for name, values in (CHOICES | VALUES).items() if name not in ("pipeline", "selection")}

QUICK = '[verify]\nmethod = "exact"\n[binary]\njudgments = 3\n'
GENTLE = {"CORD_HEARTBEAT_SECONDS": "0.3", "CORD_WORKER_TIMEOUT_SECONDS": "2", "CORD_RESEND_SECONDS": "1"}


def text_of(search: dict[str, str]) -> str:
    """cord.toml with these settings of [search] and the models that they need."""
    settings = "".join(f"{name} = {value}\n" for name, value in search.items())
    small = INSTANT.replace("beam_width = 3\nmax_steps = 8\n", "beam_width = 2\nmax_steps = 5\ntrajectories = 2\n")
    text = small.replace("[search]\n", f"[search]\n{settings}") + QUICK
    text += INTEGRATOR if search.get("pipeline") == '"integration"' else ""
    return text + (REWARD if search.get("selection") == '"reward_model"' else "")


def config_of(search: dict[str, str]) -> RunConfig | None:
    """Its configuration; None if one option excludes another."""
    try:
        return RunConfig.parse(text_of(search), source="cord.toml", folder=Path())
    except ConfigError:
        return None


def variants() -> dict[str, dict[str, str]]:
    """Every pipeline with every selection, and with as many options at once as it accepts, once for each value."""
    found = {}
    for pipeline in PIPELINES:
        for selection in Criterion:
            search = {"pipeline": f'"{pipeline}"', "selection": f'"{selection.value}"'}
            if config_of(search) is not None:
                found[f"{pipeline}, {selection.value}"] = search
        for place in range(max(map(len, OPTIONS.values()))):
            search = {"pipeline": f'"{pipeline}"'}
            for name, values in OPTIONS.items():
                more = {**search, name: values[place % len(values)]}
                search = more if config_of(more) is not None else search
            found[f"{pipeline}, options {place + 1}"] = search
    return found


VARIANTS = variants()


def test_every_setting_of_a_search_is_a_size_or_has_variants() -> None:
    assert set(SearchConfig.model_fields) == SIZES | set(CHOICES) | set(VALUES)


def test_every_pipeline_selection_and_value_of_an_option_has_a_variant() -> None:
    everything = {(name, value) for name, values in (CHOICES | VALUES).items() for value in values}
    tried = {item for search in VARIANTS.values() for item in search.items()}
    assert everything <= tried
    assert {get_args(SearchConfig.model_fields["pipeline"].annotation)} == {tuple(PIPELINES)}
    assert len(VARIANTS) > 35


@pytest.fixture(scope="module")
def worked(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Callable[[], AbstractContextManager[str]],
    broker_url: str,
) -> Iterator[tuple[Cluster, Database]]:
    """A cluster that hosts every model."""
    everyone = text_of({"pipeline": '"integration"', "selection": '"reward_model"'})
    with (
        migrated_database() as url,
        Cluster(tmp_path_factory.mktemp("kills"), url, broker_url, everyone) as cluster,
    ):
        cluster.environment |= GENTLE
        database = Database(url)
        cluster.start()
        yield cluster, database
        database.close()


def undisturbed(name: str) -> str:
    return f"undisturbed {name}"


def known(name: str) -> RunConfig:
    config = config_of(VARIANTS[name])
    assert config is not None
    return config


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.timeout(900)
def test_a_search_killed_in_the_middle_ends_like_an_undisturbed_one(
    name: str, worked: tuple[Cluster, Database]
) -> None:
    cluster, database = worked
    config = known(name)
    cluster.enqueue(database, PROBLEMS, run=undisturbed(name), config=config)
    cluster.wait_until(lambda: count(database, "finished_at IS NULL") == 0, 200)
    with ExitStack() as later:
        with ExitStack() as gates:
            victims, only = first_victims(config)
            second = second_victim(config)
            if second is not None:
                shut(later, cluster, database, second, config, only)
            for group in victims:
                for victim in group:
                    shut(gates, cluster, database, victim, config, only)
            cluster.enqueue(database, PROBLEMS, run=name, config=config)
            held = [wait_for_one(cluster, database, group, config, only) for group in victims]
            for victim in held:
                cluster.kill(victim)
            cluster.kill("coordinator")
        cluster.start(*held, "coordinator")
        if second is not None:
            wait_for_one(cluster, database, [second], config, only)
            cluster.kill(second)
            cluster.kill("coordinator")
    if second is not None:
        cluster.start(second, "coordinator")
    run = f"run_id = (SELECT id FROM runs WHERE name = '{name}')"
    cluster.wait_until(lambda: count(database, f"finished_at IS NULL AND {run}") == 0, 200)
    expected = content(database, undisturbed(name))
    assert differences(expected, content(database, name)) == []
    of_run = f"problem_id IN (SELECT id FROM problems WHERE {run})"
    assert count(database, f"propose_attempts > 1 AND {of_run}", "candidates") > 0
    if config.selection_model is not None:
        assert count(database, f"judgment_attempts > 1 AND {of_run}", "candidates") > 0
        assert count(database, f"state = 'scored' AND judgment IS NULL AND {of_run}", "candidates") == 0


def first_victims(config: RunConfig) -> tuple[list[list[str]], str]:
    """Processes that are killed at once, one of each group, while working on a candidate (SQL about OLD).

    While one teacher is held up, the other teacher's texts are scored and judged.
    """
    match config.search.pipeline:
        case "mcts":
            return [["alpha", "beta"]], "OLD.whole"
        case "integration" | "sample":
            return [["beta"]], "true"
        case "curation":
            return [["beta"], [judging(config)]], "true"
        case _:
            return [["beta"], [judging(config)]], "OLD.step >= 2"


def second_victim(config: RunConfig) -> str | None:
    """The process that is killed later, because it works only after the first kill."""
    match config.search.pipeline:
        case "mcts":
            return judging(config)
        case "integration":
            return judging(config) if config.selection_model is not None else "merger"
        case _:
            return None


def judging(config: RunConfig) -> str:
    """The model that judges candidates if judgments select, else the one that scores them."""
    return "prm" if config.search.selection == "reward_model" else "judge"


def judges(config: RunConfig, name: str) -> bool:
    """Whether this model is to be killed while judging, not scoring or writing."""
    return config.selection_model is not None and name == judging(config)


def shut(gates: ExitStack, cluster: Cluster, database: Database, name: str, config: RunConfig, only: str) -> None:
    gate = cluster.no_judgment_of if judges(config, name) else cluster.no_result_of
    gates.enter_context(gate(name, database, only))


def wait_for_one(cluster: Cluster, database: Database, names: list[str], config: RunConfig, only: str) -> str:
    """The first of these model workers that works on such a candidate."""

    def works(name: str) -> bool:
        at = f"{only} AND OLD.state = 'judging'" if judges(config, name) else only
        return cluster.holds_a_lease(name, database, at)

    cluster.wait_until(lambda: any(map(works, names)), 200)
    return next(name for name in names if works(name))
