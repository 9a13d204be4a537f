"""The paper's tables and rankings, and the run that corresponds to each row. A new row is one entry of ROWS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TABLES: Mapping[str, str] = {
    "Table 2": "Curation, integration and CoRD, with teachers of different models and of one",
    "Teachers alone": "One trajectory of each teacher, which the paper gives for its benchmarks only",
    "Table 4": "Segmentation: what ends a step",
    "Table 5": "Selection: what decides which candidates are kept",
    "Table 6": "Pipelines",
    "Table 9": "Choice of the prover",
    "Table 15": "Curation with twice the budget",
    "Table 3": "Students trained on what the pipelines wrote, Pass@1",
}
"""The subject of each table, in the order of the report."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: the corresponding run, and the paper's figures by metric."""

    table: str
    title: str
    run: str = ""
    paper: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    absent: str = "not run"
    metrics: tuple[str, ...] = ("accuracy", "score", "tokens")


def _row(table: str, title: str, run: str, accuracy: float, score: float, note: str = "") -> Row:
    return Row(table, title, run, {"accuracy": accuracy, "score": score}, note=note)


_PLAIN = "teachers and prover trained further on text without step numbers; we chose how often it has a break or phrase"


def _cord(table: str, title: str) -> Row:
    return _row(table, title, "cord", 0.931, 0.774)


_MERGED = "one trajectory of each teacher, merged by a model that was trained for this alone"


def _student(title: str, run: str, paper: float) -> Row:
    return Row("Table 3", title, run, {"pass@1": paper}, "paper: AIME24", "not run: needs TRL (--trl)", ("pass@1",))


ROWS: tuple[Row, ...] = (
    _row("Table 2", "Curation, different teachers", "curation", 0.848, 0.652),
    _row("Table 2", "Integration, different teachers", "integration", 0.912, 0.223, _MERGED),
    _cord("Table 2", "CoRD, different teachers"),
    _row("Table 2", "Curation, one teacher", "curation-homogeneous", 0.774, 0.664),
    _row("Table 2", "Integration, one teacher", "integration-homogeneous", 0.886, 0.215, _MERGED),
    _row("Table 2", "CoRD, one teacher", "cord-homogeneous", 0.900, 0.726),
    Row("Teachers alone", "planner", "planner-alone"),
    Row("Teachers alone", "calculator", "calculator-alone"),
    Row("Teachers alone", "closer", "closer-alone"),
    _row("Table 4", "line break", "line-break", 0.884, 0.734, _PLAIN),
    _row("Table 4", "marker phrases", "phrases", 0.913, 0.747, _PLAIN),
    _cord("Table 4", "prompt-guided"),
    _row("Table 5", "random, whole trajectories", "random", 0.804, 0.494),
    _row("Table 5", "longest, whole trajectories", "max-length", 0.800, 0.502),
    _row(
        "Table 5",
        "process reward model, steps",
        "reward-model",
        0.826,
        0.591,
        "trained on these teachers' mistakes; paper: Qwen2.5-Math-PRM-72B",
    ),
    _row("Table 5", "binary judgment, steps", "binary-judgment", 0.917, 0.626),
    _cord("Table 5", "predictive perplexity, steps"),
    Row("Table 6", "greedy, one chain", "greedy-once"),
    _row("Table 6", "greedy, four chains", "greedy", 0.816, 0.719),
    _row(
        "Table 6",
        "MCTS",
        "mcts",
        0.896,
        0.755,
        "four rollouts, each written by one teacher; ours are seldom right; half the tokens of CoRD",
    ),
    _cord("Table 6", "CoRD"),
    Row(
        "Table 9",
        "weak prover",
        "weak-prover",
        {"score": 0.641},
        note="paper: R1-Qwen, the weakest of its three provers; scores of two provers are not comparable",
    ),
    Row("Table 9", "strong prover", "cord", {"score": 0.774}, note="paper: QwQ"),
    _row("Table 15", "Curation", "curation", 0.848, 0.652),
    _row("Table 15", "Curation, twice the trajectories", "curation-twice", 0.903, 0.712),
    _cord("Table 15", "CoRD"),
    _student("before any training", "student-base", 0.716),
    _student("trained on Curation", "student-curation", 0.750),
    _student("trained on CoRD", "student-cord", 0.796),
)


@dataclass(frozen=True, slots=True)
class HitRates:
    """Figure 2: which teacher's steps are selected at which position. `specialists` are ordered by the position in a
    solution at which they are good."""

    table: str
    run: str
    specialists: tuple[str, ...]

    def order(self, teacher: str) -> int:
        """Position of a teacher in the report."""
        return self.specialists.index(teacher) if teacher in self.specialists else len(self.specialists)


HIT_RATES = HitRates("Figure 2", "cord", ("planner", "calculator", "closer"))


@dataclass(frozen=True, slots=True)
class Claim:
    """An order of runs that the paper found: `better` is above each of `worse`, in each of `metrics`. `otherwise`
    explains why our order differs; it is shown only if it does."""

    text: str
    better: str
    worse: tuple[str, ...]
    otherwise: str = ""
    metrics: tuple[str, ...] = ("accuracy", "score")


_MCTS = (
    "One teacher writes the whole rest of a trajectory in a rollout. By design, our teachers write only 2 to 10 % of "
    "whole trajectories right, so the values of the tree's nodes say little. The paper's teachers solve most problems "
    "alone. Four rollouts are also less than half of the text that the other pipelines write."
)
_WHOLE = (
    "One teacher writes a whole trajectory, and all our teachers are equally bad at that. They differ in the part of a "
    "solution that they are good at, so several teachers help only if their steps are mixed, as in CoRD."
)

CLAIMS: tuple[Claim, ...] = (
    Claim("CoRD above Curation", "cord", ("curation",)),
    Claim(
        "Curation above the best teacher alone", "curation", ("planner-alone", "calculator-alone", "closer-alone")
    ),
    Claim(
        "CoRD above greedy, four chains", "cord", ("greedy",),
        "Four chains draw twelve first steps and keep the four best. CoRD draws only three, because its beam is empty "
        "at the first step, and keeps them all. By design, our teachers misread 15, 55 and 55 % of the questions. So "
        "often only one or two plans in the beam are right, and only three to six of the twelve candidates of the "
        "second step extend them. Solutions of five steps are too short for CoRD to make up for that. It needs fewer "
        "tokens.",
    ),
    Claim("CoRD above greedy, one chain", "cord", ("greedy-once",)),
    Claim(
        "Curation above greedy, four chains", "curation", ("greedy",),
        "Curation can choose only among whole trajectories, and our teachers hardly ever write a right one. So a chain "
        "of steps, each by the best teacher, is far ahead here; with the paper's teachers it is a little behind.",
        metrics=("accuracy",),
    ),
    Claim("CoRD above Curation with twice the trajectories", "cord", ("curation-twice",)),
    Claim("Curation with twice the trajectories above Curation", "curation-twice", ("curation",)),
    Claim("CoRD above MCTS", "cord", ("mcts",)),
    Claim("MCTS above Curation", "mcts", ("curation",), _MCTS),
    Claim("MCTS above greedy, four chains", "mcts", ("greedy",), _MCTS),
    Claim("CoRD above integration", "cord", ("integration",)),
    Claim("Integration above Curation", "integration", ("curation",), metrics=("accuracy",)),
    Claim(
        "Curation above integration", "curation", ("integration",),
        "The paper's merged texts score low although they are right, presumably because they are condensed and its "
        "prover predicts answers badly from such texts. Our integrator was trained to write as our teachers do, so a "
        "right merged text scores high.",
        metrics=("score",),
    ),
    Claim("CoRD with different teachers above one teacher", "cord", ("cord-homogeneous",)),
    Claim("Curation with different teachers above one teacher", "curation", ("curation-homogeneous",), _WHOLE),
    Claim(
        "Integration with different teachers above one teacher", "integration", ("integration-homogeneous",), _WHOLE
    ),
    Claim(
        "One teacher: CoRD above Curation", "cord-homogeneous", ("curation-homogeneous",),
        "By design, our best teacher misreads 55 % of the questions, always in the same way. CoRD draws three plans. "
        "Often all three are wrong, and no later step mends a plan. Curation draws twelve. If the plan is right, "
        "choosing step by step is better: CoRD reaches the same result with two thirds of the tokens.",
    ),
    Claim(
        "One teacher: CoRD above integration", "cord-homogeneous", ("integration-homogeneous",),
        "Our integrator was trained to merge what our teachers write, misread questions included, so it mends wrong "
        "plans. CoRD can choose only among the steps of the one teacher.",
    ),
    Claim("Prompt-guided steps above line breaks", "cord", ("line-break",)),
    Claim("Prompt-guided steps above marker phrases", "cord", ("phrases",)),
    Claim(
        "Marker phrases above line breaks", "phrases", ("line-break",),
        "We chose how often phrases and blank lines stand in the texts that our plain teachers learned. Phrases give "
        "4.5 steps of 30 tokens, blank lines 4.9 steps of 20, and with fewer and longer steps there is less to choose "
        "from.",
    ),
    Claim("Predictive perplexity above random", "cord", ("random",)),
    Claim("Predictive perplexity above the longest", "cord", ("max-length",)),
    Claim("Predictive perplexity above a process reward model", "cord", ("reward-model",)),
    Claim("Predictive perplexity above binary judgment", "cord", ("binary-judgment",)),
    Claim("Binary judgment above a process reward model", "binary-judgment", ("reward-model",)),
    Claim("A process reward model above random", "reward-model", ("random",)),
    # Each prover has its own scores, so only accuracies are compared.
    Claim("Strong prover above a weak one", "cord", ("weak-prover",), metrics=("accuracy",)),
    Claim("Student of CoRD above student of Curation", "student-cord", ("student-curation",), metrics=("pass@1",)),
    Claim("Student of CoRD above the untrained student", "student-cord", ("student-base",), metrics=("pass@1",)),
)  # fmt: skip
