"""Other graders' public test pairs, and those graders compared with this one: the table of docs/answers-benchmark.md.

    python tests/graders/compare.py --math-verify CHECKOUT --mario CHECKOUT [--mario-python PYTHON] --output FOLDER

Reads the pairs from the checkouts' own tests (none are kept here), writes FOLDER/*.jsonl for
`cordctl check`, runs every grader on every pair, and prints a Markdown table. math-verify is the installed one
(extra `dev`); MARIO_EVAL needs its own versions, so it runs under the named Python (a virtual environment
with its requirements).
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cord_worker.verify import Rule
from cord_worker.verify.pairs import AnswerPair, checked_pairs

SECONDS = 30.0
GRADERS = ("cord-worker", "math-verify", "MARIO_EVAL")


@dataclass(frozen=True, slots=True)
class PublicPair:
    """A pair of a grader's own tests; `place` is file and line."""

    reference: str
    answer: str
    expected: bool
    place: str


def math_verify_pairs(checkout: Path) -> Iterator[PublicPair]:
    """Literal rows of `parametrize("gold, pred, expected …")`; rows with settings are left out."""
    for path in sorted((checkout / "tests").glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("parametrize"):
                continue
            names = [name.strip() for name in str(ast.literal_eval(node.args[0])).split(",")]
            if names not in (["gold", "pred", "expected"], ["gold", "pred", "result"]):
                continue
            assert isinstance(node.args[1], ast.List)
            for row in node.args[1].elts:
                try:
                    gold, pred, expected = ast.literal_eval(row)
                except ValueError:  # computed when their tests run
                    continue
                yield PublicPair(gold, pred, bool(expected), f"{path.name}:{row.lineno}")


_ASKED = {"is_equiv", "are_equal_under_sympy", "_test_is_equiv", "_test_is_not_equiv"}


def mario_pairs(checkout: Path) -> Iterator[PublicPair]:
    """What `assertTrue` and `assertFalse` say of `test_in` and `test_out`, or of each of `test_pairs`."""
    path = checkout / "math_evaluation" / "tests" / "test_is_equiv.py"
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
            yield from _asserted(function.body, {}, path.name)


def _asserted(body: Sequence[ast.stmt], values: dict[str, object], file: str) -> Iterator[PublicPair]:
    for statement in body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                values[name] = ast.literal_eval(value)
            case ast.For(target=ast.Tuple(elts=[ast.Name(id=first), ast.Name(id=second)]), iter=ast.Name(id=listed)):
                rows = values[listed]
                assert isinstance(rows, list)
                for left, right in rows:
                    yield from _asserted(statement.body, {**values, first: left, second: right}, file)
            case ast.Expr(
                value=ast.Call(func=ast.Attribute(attr="assertTrue" | "assertFalse" as wanted), args=[asked])
            ):
                if isinstance(asked, ast.Call) and ast.unparse(asked.func) in _ASKED:
                    left, right = (values[ast.unparse(argument)] for argument in asked.args[:2])
                    yield PublicPair(str(left), str(right), wanted == "assertTrue", f"{file}:{statement.lineno}")


_MATH_VERIFY = """
import json, logging, sys
from math_verify import parse, verify
logging.disable(logging.CRITICAL)

def given(text, boxed):
    # A bare answer without any mark of mathematics is not looked for.
    marked = any(mark in text for mark in ("$", "\\\\(", "\\\\[", "\\\\boxed"))
    return text if marked or " is " in text else ("\\\\boxed{%s}" if boxed else "$%s$") % text

for line in sys.stdin:
    reference, answer = json.loads(line)
    golds = [parse(reference), parse(given(reference, False))]
    found = [parse(answer), parse(given(answer, True))]
    # The better reading of either side counts.
    print(json.dumps(any(verify(gold, one) for gold in golds for one in found if gold and one)), flush=True)
"""

_MARIO = """
import contextlib, io, json, re, signal, sys
from math_evaluation import is_equiv

def end(*_):
    raise TimeoutError

signal.signal(signal.SIGALRM, end)

def inner(text):
    marks = (r"\\\\boxed\\{(.*)\\}", r"\\$\\$?(.+?)\\$\\$?", r"\\\\\\((.+?)\\\\\\)", r"\\\\\\[(.+?)\\\\\\]")
    found = re.findall("|".join(marks), text, re.DOTALL)
    return next(part for part in found[-1] if part) if found else text

for line in sys.stdin:
    reference, answer = json.loads(line)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            signal.alarm(15)
            same = any(bool(is_equiv(r, a)) for r in {reference, inner(reference)} for a in {answer, inner(answer)})
        except Exception:
            same = False
        finally:
            signal.alarm(0)
    print(json.dumps(same), flush=True)
"""


def run_in(python: str, script: str, path: Path | None) -> Callable[[Sequence[PublicPair]], list[bool | None]]:
    """Runs a grader in its own process; a pair that takes too long ends it, and is not accepted."""

    def run(pairs: Sequence[PublicPair]) -> list[bool | None]:
        verdicts: list[bool | None] = []
        while len(verdicts) < len(pairs):
            rest = pairs[len(verdicts) :]
            lines = "".join(json.dumps([pair.reference, pair.answer]) + "\n" for pair in rest)
            try:
                found = subprocess.run(
                    [python, "-W", "ignore", "-c", script],
                    input=lines,
                    capture_output=True,
                    text=True,
                    timeout=SECONDS + 2 * len(rest),
                    cwd=path,
                    check=False,
                ).stdout
            except subprocess.TimeoutExpired as error:
                found = (error.stdout or b"").decode() if isinstance(error.stdout, bytes) else (error.stdout or "")
            verdicts += [json.loads(line) for line in found.splitlines()]
            if len(verdicts) < len(pairs):
                verdicts.append(None)
        return verdicts[: len(pairs)]

    return run


def run_ours(pairs: Sequence[PublicPair]) -> list[bool | None]:
    """`cordctl check` with its default rule."""
    asked = [AnswerPair(n, pair.reference, pair.answer, pair.expected) for n, pair in enumerate(pairs, start=1)]
    return [one.result.correct for one in checked_pairs(asked, Rule(), timeout_seconds=SECONDS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--math-verify", type=Path, required=True, help="checkout of huggingface/Math-Verify")
    parser.add_argument("--mario", type=Path, required=True, help="checkout of MARIO-Math-Reasoning/MARIO_EVAL")
    parser.add_argument("--mario-python", default=sys.executable, help="Python that has MARIO_EVAL's requirements")
    parser.add_argument("--output", type=Path, required=True, help="folder for the pairs and what differs")
    parser.add_argument("--graders", nargs="+", default=[*GRADERS], choices=GRADERS, help="only these")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    suites = {
        "math-verify": list(math_verify_pairs(options.math_verify)),
        "MARIO_EVAL": list(mario_pairs(options.mario)),
    }
    runs = {
        "cord-worker": run_ours,
        "math-verify": run_in(sys.executable, _MATH_VERIFY, None),
        "MARIO_EVAL": run_in(str(Path(options.mario_python).absolute()), _MARIO, options.mario.resolve()),
    }
    verdicts: dict[str, list[bool | None]] = {grader: [] for grader in options.graders}
    print("| pairs of | grader | right refused | wrong accepted |\n|---|---|---|---|")
    for name, pairs in suites.items():
        rows = "".join(
            json.dumps({"reference": one.reference, "answer": one.answer, "expected": one.expected}) + "\n"
            for one in pairs
        )
        (options.output / f"{name}.jsonl").write_text(rows)
        for grader, found in verdicts.items():
            these = runs[grader](pairs)
            found += these
            _tell(name, grader, pairs, these, options.output / f"{name}-missed-by-{grader}.jsonl")
    both = [pair for pairs in suites.values() for pair in pairs]
    for grader, found in verdicts.items():
        _tell("both", grader, both, found, options.output / f"both-missed-by-{grader}.jsonl")


def _tell(name: str, grader: str, pairs: Sequence[PublicPair], verdicts: Sequence[bool | None], missed: Path) -> None:
    """Prints a row of the table, and the pairs that the grader gets wrong."""
    rights = [n for n, pair in enumerate(pairs) if pair.expected]
    wrongs = [n for n, pair in enumerate(pairs) if not pair.expected]
    refused = [n for n in rights if verdicts[n] is not True]
    accepted = [n for n in wrongs if verdicts[n] is True]
    print(
        f"| {name} ({len(rights)} right, {len(wrongs)} wrong) | {grader} | {len(refused)} "
        f"({100 * len(refused) / max(1, len(rights)):.1f} %) | {len(accepted)} "
        f"({100 * len(accepted) / max(1, len(wrongs)):.1f} %) |",
        flush=True,
    )
    lines = (json.dumps({**asdict(pairs[n]), "found": verdicts[n]}, ensure_ascii=False) for n in refused + accepted)
    missed.write_text("".join(line + "\n" for line in lines))


if __name__ == "__main__":
    main()
