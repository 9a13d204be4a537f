"""Computes derived columns again (reasons, states, lineages, seeds, fingerprints, results); finds missing candidates.

`cordctl replay` and `verify-db` both do this, without a model. Findings name the row (`store.audit.row_names`) and the
column.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.config import RunConfig, fingerprint_of
from cord_worker.coordination.decision import answer_seeds
from cord_worker.coordination.run_context import RunContext
from cord_worker.engines.protocol import FinishReason
from cord_worker.errors import ConfigError
from cord_worker.search.expanding import token_cap
from cord_worker.search.greedy import root_lineage
from cord_worker.search.integration import INTEGRATOR
from cord_worker.search.seeds import candidate_seed, lineage
from cord_worker.search.types import InvalidReason
from cord_worker.search.validity import invalid_reason, text_key
from cord_worker.store.audit.derived_columns import (
    CandidateToRecompute,
    LiveSlot,
    SearchToRecompute,
    configured_columns,
    models_of,
    trajectory_names,
)
from cord_worker.store.audit.digest_invariants import findings_of_models, findings_of_rescorings, findings_of_run
from cord_worker.store.audit.row_names import candidate_name, missing_candidate, trajectory_name
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import configuration_columns
from cord_worker.store.runs.recheck import StoredAnswer, read_stored_answers
from cord_worker.store.runs.runs import RunRow, find_run, list_runs, read_teachers
from cord_worker.store.schema.tables import CandidateState, TeacherRole
from cord_worker.verify import AnswerChecker, CheckResult, rule_of
from cord_worker.verify.pairs import usable_processors

_WITHOUT_TEXT = frozenset({CandidateState.PENDING, CandidateState.PROPOSING})
_REFUSALS = frozenset(
    {
        InvalidReason.TOO_LONG,
        InvalidReason.CONTENT_FILTER,
        InvalidReason.NOT_FINITE,
        InvalidReason.MALFORMED_REQUEST,
        InvalidReason.ENGINE_FAULT,
    }
)
"""Reasons why a model gave no result. They cannot be computed again; the digest of the row covers them."""
_WITH_WHOLE_TRAJECTORIES = ("curation", "integration", "sample")
"""Pipelines in which each teacher writes `search.trajectories` whole trajectories."""
_REPLACEMENT_CHARACTER = "\ufffd"
_BATCH = 200
_NO_RESULT = ("timeout", "crashed")


def name_of(one: CandidateToRecompute) -> str:
    """Name of the candidate in findings."""
    return candidate_name(one.id, step=one.step, round=one.round, teacher=one.name, sample=one.sample)


def finding(row: str, column: str, stored: object, recomputed: object) -> str:
    """One finding: the stored value of a column and the recomputed one."""
    return f"{row}: {column}: stored {_shown(stored)}, recomputed {_shown(recomputed)}"


IMPOSSIBLE_ROW_ERRORS = (LookupError, ValueError, TypeError, ArithmeticError)
"""Errors that a computation may raise on rows that the service cannot have written."""


def wrong_candidates(context: RunContext, search: SearchToRecompute) -> Iterator[str]:
    """Findings on the candidates of one problem: wrong derived columns, and missing candidates."""
    try:
        yield from _wrong_candidates(context, search)
    except IMPOSSIBLE_ROW_ERRORS as error:
        yield contradiction(error)


def contradiction(error: Exception) -> str:
    """The finding for a problem from whose rows nothing can be computed, because they contradict each other."""
    return f"its rows: they contradict each other or those of its run: {type(error).__name__}: {error}"


def _wrong_candidates(context: RunContext, search: SearchToRecompute) -> Iterator[str]:
    candidates = search.candidates  # in the order of their keys, so parents come before children
    by_id = {one.id: one for one in candidates}
    reasons = _reasons(context, candidates)
    originals = _originals(candidates, reasons) if context.config.is_scored else {}
    for one in candidates:
        parent = None if one.parent_id is None else by_id.get(one.parent_id)
        yield from _wrong_identity(context, one, parent)
        yield from _wrong_plan(context, one, parent)
        if one.state in _WITHOUT_TEXT:
            if one.text_key is not None:
                yield finding(name_of(one), "text_key", one.text_key, None)
            continue
        reason = reasons[one.id]
        may_repeat = context.config.is_scored and reason is None
        key = text_key(one.text or "") if may_repeat else None
        # Workers of older versions wrote no `text_key`; duplicates among their candidates are found by the decision.
        if (one.text_key is not None or search.has_digests) and one.text_key != key:
            yield finding(name_of(one), "text_key", one.text_key, key)
        yield from _wrong_state(context, one, reason, originals.get(one.id, one.id))
    if context.trim_above is None:  # otherwise the candidates are copies of one path
        yield from _missing_candidates(context, search)


def _wrong_identity(
    context: RunContext, one: CandidateToRecompute, parent: CandidateToRecompute | None
) -> Iterator[str]:
    """Findings on `lineage` and `seed`."""
    is_integrator = one.role == TeacherRole.INTEGRATOR
    name = INTEGRATOR if is_integrator else one.name
    if is_integrator:
        parent_lineage = ""
    elif parent is not None:
        parent_lineage = parent.lineage
    else:
        parent_lineage = root_lineage(one.parent_rank) if context.search.pipeline == "greedy" else ""
    expected = lineage(parent_lineage, one.step, one.round, name, one.sample)
    if one.lineage != expected:
        yield finding(name_of(one), "lineage", one.lineage, expected)
    seed = candidate_seed(context.config.run.seed, one.key, one.step, parent_lineage, name, one.sample, one.round)
    if one.seed != seed:
        yield finding(name_of(one), "seed", one.seed, seed)


def _wrong_plan(context: RunContext, one: CandidateToRecompute, parent: CandidateToRecompute | None) -> Iterator[str]:
    """Findings on `whole`, `max_tokens` and the seed of the final answer."""
    is_tree_search = context.search.pipeline == "mcts"  # at any step it may plan rollouts or single steps
    whole = one.whole if is_tree_search else context.search.pipeline in _WITH_WHOLE_TRAJECTORIES
    if one.whole != whole:
        yield finding(name_of(one), "whole", one.whole, whole)
    if one.role == TeacherRole.INTEGRATOR:
        cap = context.search.integration_tokens
    elif one.parent_id is None:
        cap = token_cap(context.search, 0, whole=whole)
    elif parent is not None and parent.thinking_tokens is not None:
        cap = token_cap(context.search, parent.thinking_tokens, whole=whole)
    else:  # another invariant reports the missing parent or its missing tokens
        cap = one.max_tokens
    if one.max_tokens != cap:
        yield finding(name_of(one), "max_tokens or whole" if is_tree_search else "max_tokens", one.max_tokens, cap)
    if one.answer_seed is not None and one.trajectory_id is not None:
        seeds = answer_seeds(context, one.key, one.lineage, one.name)
        if one.answer_seed not in seeds:
            yield finding(trajectory_name(one.trajectory_id, name_of(one)), "answer_seed", one.answer_seed, seeds[0])


def _missing_candidates(context: RunContext, search: SearchToRecompute) -> Iterator[str]:
    """Findings on candidates that were planned with others of their step and round, but are missing or have another
    `parent_rank`."""
    live: dict[int, list[LiveSlot]] = defaultdict(list)
    for slot in search.live:
        live[slot.step].append(slot)
    teacher_of = {one.id: one.teacher for one in search.candidates}
    by_round: dict[tuple[int, int], list[CandidateToRecompute]] = defaultdict(list)
    for one in search.candidates:
        by_round[one.step, one.round].append(one)
    for (step, round), group in sorted(by_round.items()):
        # The trajectories of the pipeline greedy have no parents at step 1; only their ranks differ.
        there = {
            (one.parent_id, one.parent_rank if one.parent_id is None else None, one.teacher, one.sample): one
            for one in group
        }
        changed_slots: set[int | None] = set()
        is_rollout = context.search.pipeline == "mcts" and any(one.whole for one in group)
        for parent, rank, teacher, sample in _planned(context, step, live[step - 1]):
            if is_rollout and (teacher != teacher_of.get(parent or 0) or sample > 0):
                continue
            found = there.get((parent, rank if parent is None else None, teacher, sample))
            if found is not None and found.parent_rank != rank:
                # If a sibling has the slot's rank, this row was changed; if none has it, the slot was.
                ranks = {one.parent_rank for one in group if one.parent_id == parent}
                if rank in ranks:
                    yield finding(name_of(found), "parent_rank", found.parent_rank, rank)
                elif parent not in changed_slots:
                    changed_slots.add(parent)
                    yield finding(f"step {step - 1}", f"the beam (rank of candidate {parent})", rank, min(ranks))
            elif found is None:
                name = missing_candidate(
                    step=step,
                    round=round,
                    teacher=context.teachers[teacher].name,
                    sample=sample,
                    parent=parent,
                    chain=rank,
                )
                yield f"{name}: its row: missing, though it was planned"


def _planned(context: RunContext, step: int, live: Sequence[LiveSlot]) -> Iterator[tuple[int | None, int, int, int]]:
    """The candidates that a search plans for one step, as (parent, its rank, teacher, sample). `live` are the live
    slots of the step before. For a rollout of a tree search it yields more candidates than are planned."""
    settings, teachers = context.search, len(context.teacher_names)
    samples = settings.samples_per_teacher
    parents: list[tuple[int | None, int]] = [(slot.candidate_id, slot.rank) for slot in live]
    if step == 1:
        parents = [(None, chain) for chain in range(settings.trajectories if settings.pipeline == "greedy" else 1)]
        if settings.pipeline in _WITH_WHOLE_TRAJECTORIES:
            samples = settings.trajectories
    elif settings.pipeline == "integration":
        yield None, 0, teachers, 0
        return
    for parent, rank in parents:
        for teacher in range(teachers):
            for sample in range(samples):
                yield parent, rank, teacher, sample


def _reasons(context: RunContext, candidates: Iterable[CandidateToRecompute]) -> dict[int, str | None]:
    """Why each candidate was invalid when it was proposed; the stored reason if the text does not decide it."""
    has_text: dict[int | None, bool] = {None: False}
    found: dict[int, str | None] = {}
    for one in candidates:
        follows_text = has_text.get(one.parent_id, False)
        found[one.id] = _reason(context, one, follows_text=follows_text)
        has_text[one.id] = follows_text or bool((one.text or "").strip())
    return found


def _reason(context: RunContext, one: CandidateToRecompute, *, follows_text: bool) -> str | None:
    """Why the candidate is invalid; `follows_text`: whether an earlier step of its trajectory has text."""
    if one.finish_reason is None:
        return one.invalid_reason if one.invalid_reason in _REFUSALS else "a refusal, because finish_reason is none"
    if not context.config.is_scored:
        return None
    text = one.text or ""
    if one.invalid_reason == InvalidReason.UNSTORABLE and _REPLACEMENT_CHARACTER in text:
        return one.invalid_reason
    search = context.search
    if one.role == TeacherRole.INTEGRATOR:
        if one.invalid_reason == InvalidReason.MALFORMED and not text:
            return one.invalid_reason
        return invalid_reason(text, loop_ngram=search.loop_ngram, loop_repeats=search.loop_repeats)
    has_markers = context.segmentation.has_markers
    closes = one.finish_reason in (FinishReason.THINK_END, FinishReason.EOS)
    return invalid_reason(
        text,
        loop_ngram=search.loop_ngram,
        loop_repeats=search.loop_repeats,
        was_cut=one.finish_reason == FinishReason.LENGTH,
        has_markers=has_markers,
        may_be_empty=closes and not has_markers and follows_text,
    )


def _originals(candidates: Iterable[CandidateToRecompute], reasons: dict[int, str | None]) -> dict[int, int]:
    """For each valid candidate, the sibling that stands for its text: the first by teacher and sample."""
    first: dict[tuple[object, ...], int] = {}
    found: dict[int, int] = {}
    for one in sorted(candidates, key=lambda one: (one.teacher, one.sample)):
        if reasons[one.id] is None and one.state not in _WITHOUT_TEXT:
            words = " ".join((one.text or "").split())
            siblings_with_text = (one.step, one.round, one.parent_id, one.parent_rank, words)
            found[one.id] = first.setdefault(siblings_with_text, one.id)
    return found


def _wrong_state(context: RunContext, one: CandidateToRecompute, reason: str | None, original: int) -> Iterator[str]:
    """Findings on `state`, `invalid_reason` and `duplicate_of`. `original` is the key of the sibling that the candidate
    repeats, or its own."""
    state = CandidateState(one.state)
    is_duplicate = original != one.id
    if is_duplicate and (state == CandidateState.PROPOSED or (state != CandidateState.INVALID and not one.text_key)):
        return  # the duplicate has not been found yet
    if reason is None and is_duplicate:
        reason = InvalidReason.DUPLICATE
        if one.duplicate_of != original:
            yield finding(name_of(one), "duplicate_of", one.duplicate_of, original)
    elif one.duplicate_of is not None:
        yield finding(name_of(one), "duplicate_of", one.duplicate_of, None)
    expected: Collection[CandidateState]
    if reason is not None:
        expected = (CandidateState.INVALID,)
    elif one.was_scored and not one.has_score:
        reason, expected = _reason_without_result(one, InvalidReason.UNSCORABLE), (CandidateState.INVALID,)
    elif one.was_judged and not one.has_judgment:
        reason, expected = _reason_without_result(one, InvalidReason.UNJUDGEABLE), (CandidateState.INVALID,)
    elif not context.config.is_scored:
        expected = (CandidateState.UNSCORED,)
    elif not one.was_scored:
        expected = (CandidateState.PROPOSED, CandidateState.SCORING)
    elif context.search.selection.is_judged and not one.was_judged:
        expected = (CandidateState.UNJUDGED, CandidateState.JUDGING)
    else:
        expected = (CandidateState.SCORED,)
    if one.invalid_reason != reason:
        yield finding(name_of(one), "invalid_reason", one.invalid_reason, reason)
    if state not in expected:
        yield finding(name_of(one), "state", state, " or ".join(expected))


def _reason_without_result(one: CandidateToRecompute, usual: InvalidReason) -> str:
    """Why a model gave no score or judgment: the stored reason if it can be the cause, else the `usual` one."""
    can_be_cause = one.invalid_reason is not None and (one.invalid_reason in _REFUSALS or one.invalid_reason == usual)
    return str(one.invalid_reason) if can_be_cause else usual.value


def wrong_configuration(connection: sa.Connection, run: RunRow) -> Iterator[str]:
    """Findings on the run's own row: columns that are not as enqueued, above all the configuration."""
    yield from findings_of_run(connection, run.id)
    try:
        config = RunConfig.from_stored(run.config)
    except ConfigError as error:
        yield f"its row: config: {str(error).partition(chr(10))[0]}"
        return
    if run.trim_above is None:
        columns, expected = "config or config_fingerprint", config.fingerprint()
    else:
        columns = "config, config_fingerprint or trim_above"
        expected = config.trimmed_fingerprint(run.trim_above)
    if expected != run.config_fingerprint:
        yield finding("its row", columns, run.config_fingerprint, expected)
    yield from wrong_source(connection, run, config)


def wrong_source(connection: sa.Connection, run: RunRow, config: RunConfig) -> Iterator[str]:
    """Findings on what the run's row says about the run that it was trimmed from."""
    if run.trimmed_from is None:
        if run.source_run_id is not None:
            yield finding("its row", "source_run_id", run.source_run_id, None)
        return
    if run.source_run_id is None:
        # The source was removed. A run with its name is another one, if it was made later than the trimmed run.
        other = find_run(connection, run.trimmed_from)
        if other is not None and other.created_at < run.created_at:
            yield finding("its row", "source_run_id", None, other.id)
        return
    source = next((one for one in list_runs(connection) if one.id == run.source_run_id), None)
    if source is None or source.name != run.trimmed_from:
        yield finding("its row", "source_run_id or trimmed_from", run.trimmed_from, source and source.name)
    elif source.config_fingerprint != config.fingerprint():
        yield finding("its row", "source_run_id or config", config.fingerprint(), source.config_fingerprint)


def wrong_run(connection: sa.Connection, run: RunRow) -> Iterator[str]:
    """Findings on the rows of the run, its teachers, models and rescorings: columns that do not follow from the
    configuration, or were changed after they were written."""
    yield from findings_of_models(connection, run.id)
    yield from findings_of_rescorings(connection, run.id)
    yield from wrong_configuration(connection, run)
    try:
        config = RunConfig.from_stored(run.config)
    except ConfigError:  # already among the findings
        return
    if config.run.seed != run.seed:
        yield finding("its row", "seed", run.seed, config.run.seed)
    configured = configuration_columns(config)
    for column, value in configured_columns(connection, run.id, configured).items():
        if value != configured[column]:
            yield finding("its row", f"{column} or config", value, configured[column])
    if config.run.date is not None and config.run.date != run.prompt_date:
        yield finding("its row", "prompt_date", run.prompt_date, config.run.date)
    if not config.is_scored and run.scoring_mode is not None:
        yield finding("its row", "scoring_mode", run.scoring_mode, None)
    teachers = read_teachers(connection, run.id)
    if len(teachers) != len(config.all_teachers):
        yield finding("its row", "teachers", len(teachers), len(config.all_teachers))
    models = {}
    for place, (row, teacher) in enumerate(zip(teachers, config.all_teachers, strict=False)):
        is_teacher = place < len(config.teachers)
        models[f"teacher {row.name}"] = config.teacher_model(teacher)
        expected = {
            "ordinal": place,
            "name": teacher.name,
            "role": TeacherRole.TEACHER if is_teacher else TeacherRole.INTEGRATOR,
            "sampling": teacher.model_dump(mode="json", exclude={"name", "model", "system_prompt"}),
            "system_prompt": config.system_prompt(teacher),
        }
        for column, value in expected.items():
            if getattr(row, column) != value:
                yield finding(f"teacher {row.name}", column, getattr(row, column), value)
    if config.is_scored:
        models["prover"] = config.prover_model
    others = {"selection": config.selection_model, "judge": config.judge_model}
    models |= {use: model for use, model in others.items() if model is not None}
    stored = {one.used_by: one for one in models_of(connection, run.id)}
    for use in sorted(set(models) - set(stored)):
        yield finding("its row", f"model of {use}", None, models[use].path)
    for use, one in sorted(stored.items()):
        if fingerprint_of(one.identity) != one.fingerprint:
            yield finding(f"model {one.path}", "fingerprint or identity", one.fingerprint, fingerprint_of(one.identity))
        elif use not in models:
            yield finding("its row", f"model of {use}", one.path, None)
        elif models[use].fingerprint() != one.fingerprint:
            yield finding("its row", f"model of {use}", one.fingerprint, models[use].fingerprint())
        elif models[use].path != one.path:
            yield finding(f"model {one.path}", "path", one.path, models[use].path)


@dataclass(slots=True)
class ComparedAnswers:
    """Counts of answers: `compared` again, or left out because a model `judged` them, because nothing checks them
    (`unchecked`), or because the first check or this one gave no result (`kept`)."""

    compared: int = 0
    judged: int = 0
    unchecked: int = 0
    kept: int = 0


def wrong_check_results(
    database: Database, run: RunRow, counts: ComparedAnswers, timeout_seconds: float = 5.0
) -> Iterator[tuple[str, str]]:
    """Compares the answers of the run's finished problems again; yields (problem, finding), and adds to `counts`."""
    verify = RunConfig.from_stored(run.config).verify
    count = usable_processors()
    after = 0
    with AnswerChecker(timeout_seconds, workers=count) as checker, ThreadPoolExecutor(2 * count) as threads:

        def check(answer: StoredAnswer) -> CheckResult:
            return checker.check(answer.text, answer.reference, rule_of(verify, answer.method), answer.question)

        while batch := database.run(lambda c, after=after: read_stored_answers(c, run.id, after, _BATCH)):  # type: ignore[misc]
            after = batch[-1].trajectory_id
            to_check = [answer for answer in batch if _must_compare(answer, counts)]
            wrong = {}
            for answer, result in zip(to_check, threads.map(check, to_check), strict=True):
                if result.method in _NO_RESULT:
                    counts.kept += 1
                    continue
                counts.compared += 1
                if result.correct is not answer.correct:
                    wrong[answer.trajectory_id] = (answer, result)
            names = database.run(lambda c, ids=list(wrong): trajectory_names(c, ids)) if wrong else {}  # type: ignore[misc]
            for key, (answer, result) in wrong.items():
                yield answer.key, finding(names[key], "correct", answer.correct, result.correct)


def _must_compare(answer: StoredAnswer, counts: ComparedAnswers) -> bool:
    """Whether to compare the answer; counts those that are not compared."""
    if answer.method == "none":
        counts.unchecked += 1
    elif answer.method == "judge" or answer.is_judged:
        counts.judged += 1
    elif (answer.verification or {}).get("method") in (*_NO_RESULT, "failed", None):
        counts.kept += 1
    else:
        return True
    return False


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
