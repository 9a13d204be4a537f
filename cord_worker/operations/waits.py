"""Says what a run waits for: which model, how much of its work, and why it is not done."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from cord_worker.operations.fleet import COORDINATOR
from cord_worker.progress import Condition, duration, shown
from cord_worker.store.reports.backlog import BacklogRow
from cord_worker.store.reports.status import LiveWorkers

_STARTING = "is being started"
_SILENT = "gives no sign of life"
_SINGULAR_AND_PLURAL = {"admission": ("problem to begin", "problems to begin")}


def waits(
    backlog: Sequence[BacklogRow],
    live: Sequence[LiveWorkers],
    conditions: Sequence[Condition],
    names: Mapping[str, str],
    *,
    are_starting: bool,
    seen: Collection[str | None] = (),
) -> dict[str, str]:
    """Why the work in `backlog` is not done, by the name of its model (`names` has them by fingerprint). Each value is
    a sentence without its subject, which is the name.

    `are_starting`: this command is starting the missing workers. `seen`: the models that have had a worker.
    """
    is_ready = {worker.model: worker.ready > 0 for worker in live}
    texts = {}
    for model in dict.fromkeys(one.model for one in backlog):
        work = [one for one in backlog if one.model == model]
        name = COORDINATOR if model is None else names.get(model, work[0].path or model)
        condition = next((one for one in conditions if one.model == name), None)
        if condition is not None:
            texts[name] = f"{shown(condition.text)} (for {duration(condition.seconds)}; {_amount(work)})"
        elif model not in is_ready:
            why = _STARTING if model not in seen else _SILENT
            texts[name] = f"{why if are_starting else 'has NO WORKER'} ({_amount(work)})"
        else:
            texts[name] = f"has {_amount(work)}, {_progress(work)}" if is_ready[model] else f"starts ({_amount(work)})"
    if are_starting:
        texts |= {name: _STARTING for model, name in names.items() if model not in is_ready and name not in texts}
    return texts


def _amount(work: Sequence[BacklogRow]) -> str:
    kinds = []
    for one in work:
        number = one.waiting + one.in_work
        forms = _SINGULAR_AND_PLURAL.get(one.kind, (one.kind, f"{one.kind}s"))
        kinds.append(f"{number:,} {forms[number != 1]}")
    return ", ".join(kinds)


def _progress(work: Sequence[BacklogRow]) -> str:
    in_work = sum(one.in_work for one in work)
    if not in_work:
        return "not started yet"
    longest = max(one.seconds or 0.0 for one in work)
    return f"{in_work:,} in work (for {duration(longest)})"
