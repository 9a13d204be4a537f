"""The report's remarks: what was done, and where it cannot be compared with the paper."""

from __future__ import annotations

from collections.abc import Sequence

from cord_worker.reproduce.figures import Finding, Outcome

ABOUT = (
    "Every figure comes from the service itself: tiny models that are part of this package (0.3 to 1.1 million "
    "parameters), word problems that no model was trained on, on a CPU. Intervals are 95 % bootstrap intervals over "
    "the problems; differences are paired, over the same problems.",
    "Only the order of the methods can be compared with the paper, not their figures. The paper's teachers are "
    "32-billion-parameter models that solve most competition problems alone. By design, each of ours is good at one "
    "part of a solution and bad at the others, so they hardly ever solve a problem alone and gain more from working "
    "together. Scores are the prover's own confidence; they depend on the prover and the answers.",
)


def remarks_on(findings: Sequence[Finding]) -> list[str]:
    """Sentences for the top of the report: what it is, and how many of the paper's rankings hold."""
    count = {outcome: sum(finding.outcome is outcome for finding in findings) for outcome in Outcome}
    run = len(findings) - count[Outcome.NOT_RUN]
    others = [
        f"{count[outcome]} {outcome}"
        for outcome in (Outcome.UNDECIDED, Outcome.REVERSED, Outcome.NOT_RUN)
        if count[outcome]
    ]
    in_brackets = f" ({', '.join(others)})" if others else ""
    return [*ABOUT, f"{count[Outcome.AS_IN_THE_PAPER]} of {run} rankings hold as in the paper{in_brackets}."]
