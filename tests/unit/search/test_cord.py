from __future__ import annotations

import dataclasses
import hashlib
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cord_worker
from cord_worker.search import types
from cord_worker.search.cord import decide, initial
from cord_worker.search.decision import Decision, EndSearch, Expand, Fail, Resample
from cord_worker.search.seeds import lineage
from cord_worker.search.types import (
    Beam,
    Candidate,
    Expansion,
    InvalidReason,
    SearchError,
    SearchSettings,
    SeedScope,
    Trajectory,
)
from tests.support.candidates import SCOPE, candidate_of
from tests.support.settings import search_settings, small_search

ROOT = Path(cord_worker.__file__).parents[1]
TEACHERS = ("r1", "qwq", "phi")
SETTINGS = small_search()


def filled(expansion: Expansion, id: int, **changes: object) -> Candidate:
    """The candidate of an expansion after a good proposal and a score."""
    own = {"text": f"text {expansion.lineage}", "thinking_tokens": 10 * expansion.step}
    return candidate_of(expansion, id, **{**own, **changes})


def all_invalid(expansions: Sequence[Expansion], reason: str = "loop") -> list[Candidate]:
    return [filled(item, id, invalid_reason=reason, score=None) for id, item in enumerate(expansions, start=500)]


@dataclass
class Table:
    """What the coordinator stores: every turn with its beam before, its candidates and the decision."""

    settings: SearchSettings
    world: int
    invalid_percent: int
    shuffle: int = 0
    first_id: int = 1
    turns: list[tuple[int, int, Beam, list[Candidate], Decision]] = field(default_factory=list)
    rows: dict[int, Candidate] = field(default_factory=dict)

    def draw(self, seed: int, what: str, below: int) -> int:
        digest = hashlib.sha256(f"{self.world}/{seed}/{what}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % below

    def propose_and_score(self, item: Expansion, id: int) -> Candidate:
        """A deterministic stand-in for the models: everything follows from the seed, as in a real run."""
        if self.draw(item.seed, "invalid", 100) < self.invalid_percent:
            return filled(item, id, invalid_reason="loop", score=None, thinking_tokens=None)
        parent = self.rows[item.parent_id].thinking_tokens if item.parent_id is not None else 0
        return filled(
            item,
            id,
            text=("same", f"own {item.seed}")[self.draw(item.seed, "text", 4) > 0],
            score=(1 + self.draw(item.seed, "score", 6)) / 6,
            thinking_tokens=(parent or 0) + 1 + self.draw(item.seed, "tokens", 20),
            finish_reason=("step", "step", "step", "length", "think_end", "eos")[self.draw(item.seed, "finish", 6)],
        )

    def search(self) -> Decision:
        decision: Decision = initial(self.settings, SCOPE, TEACHERS)
        beam: Beam = ()
        step, next_id = 1, self.first_id
        order = random.Random(self.shuffle)
        while not isinstance(decision, EndSearch | Fail):
            if isinstance(decision, Expand):
                step, beam = decision.step, decision.beam
            expansions = list(decision.expansions)
            order.shuffle(expansions)
            candidates = [self.propose_and_score(item, next_id + index) for index, item in enumerate(expansions)]
            next_id += len(candidates)
            self.rows |= {candidate.id: candidate for candidate in candidates}
            round = decision.round
            decision = decide(
                self.settings, SCOPE, TEACHERS, step=step, round=round, beam=beam, candidates=candidates, spent=0
            )
            self.turns.append((step, round, beam, candidates, decision))
        return decision


SEARCHES = st.builds(
    Table,
    settings=st.builds(
        search_settings,
        beam_width=st.integers(1, 5),
        samples_per_teacher=st.integers(1, 2),
        max_steps=st.integers(1, 6),
        thinking_tokens=st.integers(16, 80),
        step_tokens=st.just(16),
        loop_ngram=st.just(12),
        loop_repeats=st.just(8),
        max_rounds=st.integers(1, 3),
    ),
    world=st.integers(0, 10**6),
    invalid_percent=st.sampled_from([0, 20, 60, 90]),
)


def beams(table: Table) -> Iterator[Beam]:
    for *_, decision in table.turns:
        if isinstance(decision, Expand | EndSearch):
            yield decision.beam


def test_step_one_asks_every_teacher_and_sample_for_one_step_of_the_empty_trajectory() -> None:
    first = initial(dataclasses.replace(SETTINGS, samples_per_teacher=2), SCOPE, TEACHERS)
    assert (first.step, first.round, first.beam, first.ranking, first.invalid) == (1, 0, (), (), {})
    assert [(item.teacher, item.sample) for item in first.expansions] == [(k, s) for k in range(3) for s in range(2)]
    assert {(item.parent_id, item.parent_rank, item.step, item.round) for item in first.expansions} == {(None, 0, 1, 0)}
    assert {item.max_tokens for item in first.expansions} == {16}
    assert len({item.seed for item in first.expansions}) == 6


def test_fewer_candidates_than_slots_all_enter_the_beam() -> None:
    first = initial(SETTINGS, SCOPE, TEACHERS)
    candidates = [filled(item, id) for id, item in enumerate(first.expansions)]
    decision = decide(SETTINGS, SCOPE, TEACHERS, step=1, round=0, beam=(), candidates=candidates, spent=0)
    assert isinstance(decision, Expand)
    assert [member.candidate_id for member in decision.beam] == [0, 1, 2]
    assert len(decision.expansions) == 3 * 3


@settings(deadline=None)
@given(SEARCHES)
def test_every_search_ends_with_finished_trajectories_or_a_counted_failure(table: Table) -> None:
    end = table.search()
    assert len(table.turns) <= table.settings.max_steps * table.settings.max_rounds
    if isinstance(end, EndSearch):
        assert 1 <= len(end.beam) <= table.settings.beam_width
        assert all(member.finish is not None for member in end.beam)
        assert end.winner == end.beam[0]
        assert end.winner.score == max(member.score or 0.0 for member in end.beam)
    else:
        assert isinstance(end, Fail)
        assert not any(member.finish is not None for member in table.turns[-1][2])
        assert f"{sum(reason is InvalidReason.LOOP for reason in end.invalid.values())} loop" in end.reason


@settings(deadline=None)
@given(SEARCHES)
def test_only_live_trajectories_are_expanded_once_for_every_teacher_and_sample(table: Table) -> None:
    table.search()
    for _, _, _, _, decision in table.turns:
        if isinstance(decision, Expand):
            live = {m.candidate_id: rank for rank, m in enumerate(decision.beam) if m.finish is None}
            wanted = {
                (id, rank, teacher, sample)
                for id, rank in live.items()
                for teacher in range(len(TEACHERS))
                for sample in range(table.settings.samples_per_teacher)
            }
            got = [(item.parent_id, item.parent_rank, item.teacher, item.sample) for item in decision.expansions]
            assert len(got) == len(wanted)
            assert set(got) == wanted


@settings(deadline=None)
@given(SEARCHES)
def test_a_step_never_outgrows_the_budget_that_is_left(table: Table) -> None:
    table.search()
    for _, _, _, _, decision in table.turns:
        for item in getattr(decision, "expansions", ()):
            spent = 0 if item.parent_id is None else table.rows[item.parent_id].thinking_tokens or 0
            left = table.settings.thinking_tokens - spent
            assert item.max_tokens == min(table.settings.step_tokens, left)
            assert item.max_tokens >= 1


@settings(deadline=None)
@given(SEARCHES)
def test_no_seed_and_no_lineage_is_given_twice_in_a_search(table: Table) -> None:
    table.search()
    expansions = [item for *_, decision in table.turns for item in getattr(decision, "expansions", ())]
    expansions += initial(table.settings, SCOPE, TEACHERS).expansions
    assert len({item.seed for item in expansions}) == len(expansions)
    assert len({item.lineage for item in expansions}) == len(expansions)


@settings(deadline=None)
@given(SEARCHES, st.integers(), st.integers(1, 10**9))
def test_arrival_order_and_database_ids_do_not_change_the_trajectories(table: Table, order: int, first: int) -> None:
    other = dataclasses.replace(table, shuffle=order, first_id=first, turns=[], rows={})
    table.search()
    other.search()
    assert [[m.lineage for m in beam] for beam in beams(other)] == [[m.lineage for m in beam] for beam in beams(table)]
    assert type(other.turns[-1][4]) is type(table.turns[-1][4])


@settings(deadline=None)
@given(SEARCHES)
def test_deciding_again_on_the_stored_rows_gives_the_same_decision(table: Table) -> None:
    table.search()
    for step, round, beam, candidates, decision in table.turns:
        stored = sorted(candidates, key=lambda candidate: candidate.id)
        told = [dataclasses.replace(c, invalid_reason=decision.invalid.get(c.id, c.invalid_reason)) for c in stored]
        for rows in (stored, told):
            rebuilt = tuple(Trajectory.of(table.rows[member.candidate_id], member.finish) for member in beam)
            again = decide(
                table.settings, SCOPE, TEACHERS, step=step, round=round, beam=rebuilt, candidates=rows, spent=0
            )
            assert again == decision


@settings(deadline=None)
@given(SEARCHES)
def test_the_winner_beats_every_finished_trajectory_that_was_ever_kept(table: Table) -> None:
    end = table.search()
    if isinstance(end, EndSearch):
        kept = [member for beam in beams(table) for member in beam if member.finish is not None]
        assert end.winner is not None
        assert end.winner.score is not None
        assert all(member.score is not None and member.score <= end.winner.score for member in kept)


@settings(deadline=None)
@given(SEARCHES)
def test_with_one_slot_the_search_follows_the_best_candidate_of_every_step(table: Table) -> None:
    greedy = dataclasses.replace(table, settings=dataclasses.replace(table.settings, beam_width=1), turns=[], rows={})
    greedy.search()
    for *_, decision in greedy.turns:
        if isinstance(decision, Expand | EndSearch) and decision.ranking:
            assert [member.candidate_id for member in decision.beam] == [decision.ranking[0]]


def test_a_step_whose_candidates_are_all_invalid_is_tried_again_with_new_seeds() -> None:
    first = initial(SETTINGS, SCOPE, TEACHERS)
    rounds = [first.expansions]
    for round in range(2):
        decision = decide(
            SETTINGS, SCOPE, TEACHERS, step=1, round=round, beam=(), candidates=all_invalid(rounds[-1]), spent=0
        )
        assert isinstance(decision, Resample)
        assert decision.round == round + 1
        assert set(decision.invalid.values()) == {InvalidReason.LOOP}
        rounds.append(decision.expansions)
    assert [[item.teacher for item in expansions] for expansions in rounds] == [[0, 1, 2]] * 3
    assert len({item.seed for expansions in rounds for item in expansions}) == 9
    decision = decide(SETTINGS, SCOPE, TEACHERS, step=1, round=2, beam=(), candidates=all_invalid(rounds[-1]), spent=0)
    assert isinstance(decision, Fail)


def test_a_resampling_that_succeeds_continues_with_round_zero_of_the_next_step() -> None:
    first = initial(SETTINGS, SCOPE, TEACHERS)
    resample = decide(
        SETTINGS, SCOPE, TEACHERS, step=1, round=0, beam=(), candidates=all_invalid(first.expansions), spent=0
    )
    assert isinstance(resample, Resample)
    good = [filled(item, id) for id, item in enumerate(resample.expansions)]
    decision = decide(SETTINGS, SCOPE, TEACHERS, step=1, round=1, beam=(), candidates=good, spent=0)
    assert isinstance(decision, Expand)
    assert (decision.step, decision.round) == (2, 0)


def test_a_failure_counts_the_reasons() -> None:
    settings = dataclasses.replace(SETTINGS, max_rounds=1)
    first = initial(settings, SCOPE, TEACHERS)
    candidates = [
        dataclasses.replace(candidate, invalid_reason=reason)
        for candidate, reason in zip(all_invalid(first.expansions), ("loop", "empty", "loop"), strict=True)
    ]
    decision = decide(settings, SCOPE, TEACHERS, step=1, round=0, beam=(), candidates=candidates, spent=0)
    assert isinstance(decision, Fail)
    assert "all 3 candidates of step 1 are invalid" in decision.reason
    assert "(1 empty, 2 loop)" in decision.reason


def mixed_beam() -> Beam:
    """One finished trajectory behind a live one."""
    return (
        Trajectory(1, 1, 0.9, None, 0, 0, 0, 10, "one"),
        Trajectory(2, 1, 0.4, types.Finish.EOS, 0, 1, 0, 10, "two"),
    )


def expansions_of(beam: Beam, step: int, round: int) -> tuple[Expansion, ...]:
    """The expansions of the live members of `beam`; their seeds and token limits do not matter in these tests."""
    return tuple(
        Expansion(
            member.candidate_id,
            rank,
            teacher,
            0,
            step,
            round,
            lineage(member.lineage, step, round, name, 0),
            0,
            1,
            step,
        )
        for rank, member in enumerate(beam)
        if member.finish is None
        for teacher, name in enumerate(TEACHERS)
    )


def test_after_the_last_round_finished_trajectories_end_the_search() -> None:
    beam = mixed_beam()
    for round in (0, 1):
        candidates = all_invalid(expansions_of(beam, 2, round))
        decision = decide(SETTINGS, SCOPE, TEACHERS, step=2, round=round, beam=beam, candidates=candidates, spent=0)
        assert isinstance(decision, Resample)
    candidates = all_invalid(expansions_of(beam, 2, 2))
    decision = decide(SETTINGS, SCOPE, TEACHERS, step=2, round=2, beam=beam, candidates=candidates, spent=0)
    assert isinstance(decision, EndSearch)
    assert decision.beam == (beam[1],)
    assert decision.winner == beam[1]
    assert decision.ranking == ()


def test_a_finished_trajectory_keeps_its_slot_while_live_ones_continue() -> None:
    beam = mixed_beam()
    candidates = [filled(item, 10 + id, score=0.6) for id, item in enumerate(expansions_of(beam, 2, 0))]
    decision = decide(SETTINGS, SCOPE, TEACHERS, step=2, round=0, beam=beam, candidates=candidates, spent=0)
    assert isinstance(decision, Expand)
    assert [member.candidate_id for member in decision.beam] == [10, 11, 12, 2]
    assert {item.parent_id for item in decision.expansions} == {10, 11, 12}


def test_a_finished_trajectory_loses_its_slot_to_enough_better_ones() -> None:
    settings = dataclasses.replace(SETTINGS, beam_width=2)
    beam = mixed_beam()
    candidates = [filled(item, 10 + id, score=0.6) for id, item in enumerate(expansions_of(beam, 2, 0))]
    decision = decide(settings, SCOPE, TEACHERS, step=2, round=0, beam=beam, candidates=candidates, spent=0)
    assert isinstance(decision, Expand)
    assert [member.candidate_id for member in decision.beam] == [10, 11]


def test_the_step_cap_finishes_every_kept_trajectory() -> None:
    settings = dataclasses.replace(SETTINGS, max_steps=1)
    candidates = [filled(item, id) for id, item in enumerate(initial(settings, SCOPE, TEACHERS).expansions)]
    decision = decide(settings, SCOPE, TEACHERS, step=1, round=0, beam=(), candidates=candidates, spent=0)
    assert isinstance(decision, EndSearch)
    assert {member.finish for member in decision.beam} == {types.Finish.MAX_STEPS}


@pytest.mark.parametrize("change", ["missing", "twice", "other step", "other round", "other parent", "other lineage"])
def test_candidates_that_are_not_the_expansions_are_refused(change: str) -> None:
    candidates = [filled(item, id) for id, item in enumerate(initial(SETTINGS, SCOPE, TEACHERS).expansions)]
    last = candidates.pop()
    candidates += {
        "missing": [],
        "twice": [last, dataclasses.replace(last, id=99)],
        "other step": [dataclasses.replace(last, step=2)],
        "other round": [dataclasses.replace(last, round=1)],
        "other parent": [dataclasses.replace(last, parent_id=4)],
        "other lineage": [dataclasses.replace(last, lineage="ab")],
    }[change]
    with pytest.raises(SearchError, match="1 of the candidates to decide on are"):
        decide(SETTINGS, SCOPE, TEACHERS, step=1, round=0, beam=(), candidates=candidates, spent=0)


def test_a_finished_beam_is_not_decided_again() -> None:
    with pytest.raises(SearchError, match="nothing to decide"):
        decide(SETTINGS, SCOPE, TEACHERS, step=2, round=0, beam=mixed_beam()[1:], candidates=[], spent=0)


def test_the_search_needs_nothing_but_the_standard_library_and_the_error_tree() -> None:
    code = (
        "import pkgutil, sys, cord_worker.search as room\n"
        "for module in pkgutil.iter_modules(room.__path__): __import__(f'cord_worker.search.{module.name}')\n"
        "print(*(name for name in sys.modules if name.startswith('cord_worker')))\n"
        "print(*({name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    )
    told = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    ours, others = (line.split() for line in told.stdout.splitlines())
    assert {name for name in ours if not name.startswith("cord_worker.search")} == {"cord_worker", "cord_worker.errors"}
    assert set(others) <= {"cord_worker", "__main__"}


def test_seeds_depend_on_the_teachers_name_not_on_its_place() -> None:
    forward = initial(SETTINGS, SCOPE, TEACHERS).expansions
    backward = initial(SETTINGS, SCOPE, TEACHERS[::-1]).expansions
    assert [item.seed for item in forward] == [item.seed for item in reversed(backward)]


def test_another_problem_or_run_seed_gives_other_seeds_but_the_same_lineages() -> None:
    base = initial(SETTINGS, SCOPE, TEACHERS).expansions
    for scope in (SeedScope(4, "limo-17"), SeedScope(3, "limo-18")):
        other = initial(SETTINGS, scope, TEACHERS).expansions
        assert not {item.seed for item in base} & {item.seed for item in other}
        assert [item.lineage for item in base] == [item.lineage for item in other]
