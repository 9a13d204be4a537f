"""Seeds and lineages: hashes of a candidate's identity, never a base seed plus a counter
(docs/what-is-computed.md#seeds).

Fields are hashed as a JSON list that starts with the purpose of the hash, so that different lists of fields never have
the same encoding. Teachers enter by name and parents by lineage, so that seeds survive a reordered configuration and do
not depend on database ids.
"""

from __future__ import annotations

import hashlib
import json


def candidate_seed(
    run_seed: int, problem_key: str, step: int, parent_lineage: str, teacher_name: str, sample: int, round: int
) -> int:
    """Seed of one proposal, in [0, 2**63). Another attempt keeps it; a new `round` changes it."""
    return _seed("candidate", run_seed, problem_key, step, parent_lineage, teacher_name, sample, round)


def answer_seed(run_seed: int, problem_key: str, lineage: str, teacher_name: str, draw: int = 0) -> int:
    """Seed of the final answer after the trajectory `lineage`, in [0, 2**63).

    Another attempt keeps it; a new `draw`, after a content filter refused one, changes it. Draw 0 is not hashed: runs
    of versions without draws keep their seeds, which `verify-db` and `replay` compute again.
    """
    return _seed("answer", run_seed, problem_key, lineage, teacher_name, *([draw] if draw else []))


def verdict_seed(run_seed: int, problem_key: str, lineage: str, round: int) -> int:
    """Seed of the LLM judge's reply on the final answer after the trajectory `lineage`, in [0, 2**63)."""
    return _seed("verdict", run_seed, problem_key, lineage, round)


def judgment_seed(run_seed: int, problem_key: str, lineage: str, index: int) -> int:
    """Seed of the answer number `index` (0-based) in the binary judgment of the candidate `lineage`."""
    return _seed("judgment", run_seed, problem_key, lineage, index)


def random_merit(run_seed: int, problem_key: str, lineage: str) -> float:
    """The random merit of the candidate `lineage`, in [0, 1), if selection is random."""
    return _seed("selection", run_seed, problem_key, lineage) / 2**63


def lineage(parent_lineage: str, step: int, round: int, teacher_name: str, sample: int) -> str:
    """32 hex digits that name a candidate by its path.

    At step 1 the parent's lineage is "", in the pipeline `greedy` "chain N".
    """
    return _digest("lineage", parent_lineage, step, round, teacher_name, sample).hex()


def _seed(*fields: str | int) -> int:
    return int.from_bytes(_digest(*fields)[:8], "big") >> 1


def _digest(*fields: str | int) -> bytes:
    return hashlib.blake2b(json.dumps(fields).encode("ascii"), digest_size=16).digest()
