"""Checks the stored answers of a run again: `cordctl recheck`.

It works through the answers of finished problems in the order of their keys, one batch per transaction. It can be
killed at any moment: what was written is right, and the same command does the rest. A result is replaced only if it is
still the one that was read, and if question, reference and answer match their digests. If they do not match, they were
changed, and the digest of a new result would hide this.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import cord_worker
from cord_worker.config import RunConfig, VerifyConfig
from cord_worker.operations.recomputing import wrong_configuration
from cord_worker.store.audit.invariants import Violation
from cord_worker.store.database import Database
from cord_worker.store.runs.recheck import (
    NewResult,
    StoredAnswer,
    count_answers,
    count_unfinished,
    read_stored_answers,
    write_new_results,
)
from cord_worker.store.runs.runs import resolve_run
from cord_worker.verify import AnswerChecker, CheckResult, rule_of
from cord_worker.verify.pairs import usable_processors

_BATCH = 200
_REPORT_SECONDS = 10.0
_NO_RESULT = ("timeout", "crashed", "failed")
"""Methods of a check without a result; `failed` was written by older releases after faults of the machine."""


@dataclass(frozen=True, slots=True)
class ChangedAnswer:
    """An answer whose correctness has changed; `before` is the old one."""

    key: str
    sample: int | None
    reference: str
    before: bool | None
    method_before: str | None
    result: CheckResult

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "id": self.key,
            "sample": self.sample,
            "reference": self.reference,
            "before": self.before,
            "method_before": self.method_before,
            "correct": self.result.correct,
            **self.result.to_json(),
        }


@dataclass(slots=True)
class RecheckResult:
    """The result of checking a run again.

    `checked` answers were compared: `rewritten` ones have another result or reason now; `kept` ones keep their old
    result, because the new check gave none. Not compared were `judged` answers, answers without a check (`unchecked`),
    those of `unfinished` problems, and `left_broken` ones, whose rows were changed after they were written. `broken`
    names these rows, or the run's own row; if the run's own row is broken, no answer is compared.
    """

    run: str
    dry_run: bool
    unfinished: int = 0
    checked: int = 0
    rewritten: int = 0
    kept: int = 0
    judged: int = 0
    unchecked: int = 0
    left_broken: int = 0
    broken: dict[Violation, None] = field(default_factory=dict)
    changes: list[ChangedAnswer] = field(default_factory=list)

    def became(self, correct: bool | None) -> int:
        """Number of answers whose correctness changed to `correct`."""
        return sum(change.result.correct is correct for change in self.changes)

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "run": self.run,
            "dry_run": self.dry_run,
            "checked": self.checked,
            "became_right": self.became(True),
            "became_wrong": self.became(False),
            "became_undecided": self.became(None),
            "rewritten": self.rewritten,
            "kept_without_result": self.kept,
            "judged": self.judged,
            "unchecked": self.unchecked,
            "unfinished_problems": self.unfinished,
            "left_broken": self.left_broken,
            "broken": [asdict(violation) for violation in self.broken],
            "changes": [change.to_json() for change in self.changes],
        }


def recheck_run(
    database: Database,
    name: str,
    *,
    dry_run: bool = False,
    judged: bool = False,
    processes: int | None = None,
    timeout_seconds: float = 5.0,
    on_progress: Callable[[int, int], None] | None = None,
) -> RecheckResult:
    """Checks the answers of the run's finished problems again and writes what changed, unless it is a `dry_run`.

    With `judged`, answers that the judge decided after an undecided check are compared too; the verdict stays if the
    comparison is still undecided. While answers are left, `on_progress` is called every few seconds with the number of
    answers read so far and that of all answers.

    Answers whose rows were changed after they were written are left alone (`RecheckResult.broken`). If the run's own
    row was changed, this holds for all answers. Raises RunNotFound, and ProcessPoolError if no process can be started.
    """
    run = database.run(lambda connection: resolve_run(connection, name))
    total = database.run(lambda connection: count_answers(connection, run.id))
    found = RecheckResult(run.name, dry_run, database.run(lambda connection: count_unfinished(connection, run.id)))
    wrong = database.run(lambda connection: list(wrong_configuration(connection, run)))
    if wrong:
        found.left_broken = total
        found.broken = dict.fromkeys(Violation(run.name, None, one) for one in wrong)
        return found
    verify = RunConfig.from_stored(run.config).verify
    count = processes or usable_processors()
    seen = after = 0
    reported_at = time.monotonic()
    with AnswerChecker(timeout_seconds, workers=count) as checker, ThreadPoolExecutor(2 * count) as threads:
        while batch := database.run(lambda c, after=after: read_stored_answers(c, run.id, after, _BATCH)):  # type: ignore[misc]
            to_check = [answer for answer in batch if _must_check(answer, found, judged=judged)]
            results = list(threads.map(lambda answer: _check(checker, verify, answer), to_check))
            _write_changes(database, found, to_check, results)
            after = batch[-1].trajectory_id
            seen += len(batch)
            if on_progress is not None and seen < total and time.monotonic() - reported_at > _REPORT_SECONDS:
                reported_at = time.monotonic()
                on_progress(seen, total)
    return found


def _must_check(answer: StoredAnswer, found: RecheckResult, *, judged: bool) -> bool:
    """Whether to compare the answer; counts those that are not compared."""
    if answer.broken:
        found.left_broken += 1
        found.broken |= dict.fromkeys(Violation(found.run, answer.key, one) for one in answer.broken)
        return False
    if answer.method == "none":
        found.unchecked += 1
        return False
    if answer.method == "judge" or (answer.is_judged and not judged):
        found.judged += 1
        return False
    return True


def _check(checker: AnswerChecker, verify: VerifyConfig, answer: StoredAnswer) -> CheckResult:
    return checker.check(answer.text, answer.reference, rule_of(verify, answer.method), answer.question)


def _write_changes(
    database: Database, found: RecheckResult, answers: Sequence[StoredAnswer], results: Sequence[CheckResult]
) -> None:
    """Writes the results that have changed, and adds to the counts of `found`."""
    new: list[NewResult] = []
    changes: dict[int, ChangedAnswer] = {}
    for answer, result in zip(answers, results, strict=True):
        found.checked += 1
        before = answer.verification or {}
        if result.method in _NO_RESULT and before.get("method") not in _NO_RESULT:
            found.kept += 1
            continue
        if answer.is_judged and result.correct is None:
            found.judged += 1  # still undecided, so the verdict stays
            continue
        document = result.to_json()
        is_change = result.correct is not answer.correct
        if is_change:
            document["rechecked"] = {
                "correct": answer.correct,
                "method": before.get("method"),
                "by": cord_worker.__version__,
            }
            changes[answer.trajectory_id] = ChangedAnswer(
                answer.key, answer.sample, answer.reference, answer.correct, before.get("method"), result
            )
        elif "rechecked" in before:
            document["rechecked"] = before["rechecked"]
        if answer.is_judged:
            document["judged"] = before.get("judged") or before
        if document != answer.verification:
            new.append(
                NewResult(
                    answer.trajectory_id,
                    result.correct,
                    json.dumps(document),
                    None if answer.verification is None else json.dumps(answer.verification),
                )
            )
    written = {one.trajectory_id for one in new}
    if new and not found.dry_run:
        written = database.run(lambda connection: write_new_results(connection, new))
    found.rewritten += len(written)
    found.changes.extend(change for key, change in changes.items() if key in written)
