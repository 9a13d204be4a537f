"""Digests: bytes written with each result, so that a later change of it can be found (docs/provenance.md).

PostgreSQL computes a digest from the values of the row, in the statement that writes them. So it covers exactly what is
stored: a float8 as its 8 bytes, a jsonb as PostgreSQL writes it. A digest is a sequence of parts of `_BYTES` bytes,
each the beginning of a SHA-256 sum. The first part covers the identity of the row, so that the contents of another row
do not fit. Then each group of columns has one part, so that a difference names its columns.

Values that follow from other rows have no digest, because a check can compute them again (`operations.recomputing`,
`operations.replaying`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_BYTES = 4
"""Bytes of one part of a digest."""
_FLOATS = frozenset(
    {
        *("propose_seconds", "score", "log_prob_sum", "score_seconds", "judgment", "judgment_seconds"),
        *("answer_seconds", "mean_probability", "seconds"),
        *("base_score", "base_log_prob_sum", "base_mean_probability", "base_score_seconds"),
    }
)
"""The columns of type float8 that digests cover."""


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest of one row of `table`, stored in its column `column`. In SQL the row has the alias `row`.

    `groups` are the groups of columns that it covers. `owner` is the SQL of the row's identity; findings name
    `owner_column` for it. `as_written` is for columns that other statements change later: it has the SQL of their
    values when the digest was written. `shared` are columns that may also be set without the digest. Digests of older
    versions are shorter: they have no parts for the last `added` groups.
    """

    table: str
    column: str
    row: str
    groups: tuple[tuple[str, ...], ...]
    owner: str
    owner_column: str
    as_written: Mapping[str, str]
    shared: frozenset[str] = frozenset()
    added: int = 0

    def sql(self, values: Mapping[str, str] | None = None, *, owner: str | None = None) -> str:
        """SQL: the digest of the row as stored; `values` (SQL by column) replace its own values."""
        given = {} if values is None else values
        parts = [f"convert_to({self.owner if owner is None else owner}, 'UTF8')"]
        for group in self.groups:
            sqls = [given.get(name) or self.as_written.get(name) or f"{self.row}.{name}" for name in group]
            parts.append(_bytes_of(group, sqls))
        return "(" + " || ".join(f"substr(sha256({part}), 1, {_BYTES})" for part in parts) + ")"

    def copied_sql(self, stored: str, own: Mapping[str, str], *, owner: str) -> str:
        """SQL: the digest of a copy of the row. `owner` (SQL) is the identity of the copy, `stored` (SQL) the digest of
        the original.

        The parts of the stored digest are taken over, except those of groups with a column in which the copy differs
        (`own` has the SQL of these columns). So if the original does not match its digest, neither does the copy. NULL
        if `stored` is NULL.
        """
        parts = [f"substr(sha256(convert_to({owner}, 'UTF8')), 1, {_BYTES})"]
        for place, group in enumerate(self.groups, start=1):
            if own.keys() & set(group):
                values = _bytes_of(group, [own.get(name) or f"{self.row}.{name}" for name in group])
                parts.append(f"substr(sha256({values}), 1, {_BYTES})")
            else:
                parts.append(f"substr({stored}, {1 + place * _BYTES}, {_BYTES})")
        return "(" + " || ".join(parts) + ")"

    @property
    def expected_sql(self) -> str:
        """SQL: the digest that should be stored: `sql`, but without the `added` groups if an older version wrote it."""
        if not self.added:
            return self.sql()
        full, older = (1 + len(self.groups)) * _BYTES, self.older_bytes
        return f"substr({self.sql()}, 1, CASE octet_length({self._stored}) WHEN {older} THEN {older} ELSE {full} END)"

    @property
    def older_bytes(self) -> int:
        """Length in bytes of digests of older versions, which lack the `added` groups."""
        return (1 + len(self.groups) - self.added) * _BYTES

    @property
    def own_columns(self) -> tuple[str, ...]:
        """The columns that are set only together with the digest: they are NULL in a row without a digest."""
        return tuple(name for group in self.groups for name in group if name not in {*self.shared, *self.as_written})

    @property
    def _stored(self) -> str:
        return f"{self.row}.{self.column}"

    def content_parts(self, stored: bytes) -> bytes:
        """Those parts of a stored digest that are equal in equal runs, also in runs of older versions.

        Left out are the part of the row's identity, and the parts of `sources` (keys of other rows), of groups that end
        with a column `*_seconds`, and of the `added` groups.
        """
        return b"".join(
            stored[place * _BYTES : (place + 1) * _BYTES]
            for place, group in enumerate(self.groups[: len(self.groups) - self.added], start=1)
            if group != ("sources",) and not group[-1].endswith("_seconds")
        )

    def changed_sql(self, other: str) -> str:
        """SQL: the finding about a row whose stored digest differs from `other` (SQL), the digest of its stored values.

        A group of columns whose part differs is named as a whole. If the part of the row's identity differs, either the
        identity was changed, or digest and contents came from another row: the finding names both possibilities.
        """
        names = [", ".join(group) for group in self.groups]
        moved = [
            f"CASE WHEN num_nonnulls({', '.join(f'{self.row}.{name}' for name in group)}) > 0 "
            f"AND octet_length({self._stored}) > {place * _BYTES} "
            f"AND NOT {self._differs(place, other)} THEN '{name}' END"
            for place, (group, name) in enumerate(zip(self.groups, names, strict=True), start=1)
        ]
        cases = [
            f"CASE WHEN {self._differs(0, other)} THEN '{self.owner_column}' || coalesce(' (or ' || "
            f"nullif(concat_ws(', ', {', '.join(moved)}), '') || ' came from another row)', '') END",
            *(
                f"CASE WHEN {self._differs(place, other)} THEN '{name}' END"
                for place, name in enumerate(names, start=1)
            ),
        ]
        columns = f"coalesce(nullif(concat_ws(', ', {', '.join(cases)}), ''), '{self.column}')"
        return f"({columns} || ': not what was written, says {self.column}')"

    @property
    def missing_finding(self) -> str:
        """The finding about a row that should have the digest and has none."""
        return f"{self.column}: missing, though its run has digests"

    @property
    def undigested_sql(self) -> str:
        """SQL: the finding about a row without the digest that has a value which is only written with it; NULL if it
        has no such value."""
        cases = ", ".join(f"CASE WHEN {self.row}.{name} IS NOT NULL THEN '{name}' END" for name in self.own_columns)
        return f"(nullif(concat_ws(', ', {cases}), '') || ': set, though {self.column} is missing')"

    def finding_sql(self, has_digests: str) -> str:
        """SQL: the finding about the row, NULL if the row matches its digest; `has_digests` (SQL) says whether its run
        has digests. For a row that does not match, the digest is computed several times."""
        stored, expected = self._stored, self.expected_sql
        return (
            f"CASE WHEN {stored} IS NULL THEN CASE WHEN {has_digests} THEN '{self.missing_finding}' END "
            f"WHEN {stored} <> {expected} THEN {self.changed_sql(expected)} END"
        )

    def _differs(self, place: int, other: str) -> str:
        """SQL: whether this part of the stored digest differs from that of `other` (SQL)."""
        part = f"{1 + place * _BYTES}, {_BYTES}"
        return f"(substr({self.row}.{self.column}, {part}) IS DISTINCT FROM substr({other}, {part}))"


def _bytes_of(names: tuple[str, ...], values: list[str]) -> str:
    """SQL: the values as bytes, which are equal only for equal values. A single NULL is the byte 0, which no text
    has."""
    if len(values) == 1:
        value = values[0]
        encoded = f"float8send({value})" if names[0] in _FLOATS else f"convert_to(CAST({value} AS text), 'UTF8')"
        return f"coalesce({encoded}, decode('00', 'hex'))"
    listed = ", ".join(
        f"encode(float8send({value}), 'hex')" if name in _FLOATS else f"CAST({value} AS text)"
        for name, value in zip(names, values, strict=True)
    )
    return f"convert_to(CAST(json_build_array({listed}) AS text), 'UTF8')"


def _candidate_owner_sql(candidate: str) -> str:
    """SQL: identity of the candidate in this row (an alias)."""
    return (
        f"(SELECT CAST(json_build_array(p.run_id, p.key, {candidate}.lineage) AS text) "
        f"FROM problems p WHERE p.id = {candidate}.problem_id)"
    )


CANDIDATE_OWNER = "CAST(json_build_array(p.run_id, p.key, c.lineage) AS text)"
"""SQL: identity of the candidate `c` of the problem `p`, for statements that have both rows."""
CONTENT_CHANGED = """
    CASE WHEN p.content_hash <> left(encode(sha256(convert_to(
        CAST(json_build_array(p.question, p.answer, p.passage) AS text), 'UTF8')), 'hex'), 32)
    THEN 'question, answer or passage: not what was enqueued, says content_hash' END
"""
"""SQL: the finding about the problem `p` if it does not match its content hash (`enqueue.content_hash`), else NULL."""

RUN = Digest(
    "runs",
    "digest",
    "r",
    (("config_fingerprint",), ("seed",), ("prompt_date",), ("code_version",)),
    "concat_ws(' trimmed from ', CAST(r.name AS text), CAST(r.trimmed_from AS text))",
    "name or trimmed_from",
    {
        "prompt_date": "CASE WHEN r.prompt_date BETWEEN '0001-01-01' AND '9999-12-31' "
        "THEN to_char(r.prompt_date, 'YYYY-MM-DD') END"  # to_char refuses some dates that an edit by hand can store
    },
)
"""What was enqueued; if a run has this digest, all of its rows have digests."""

MODEL = Digest("models", "digest", "m", (("weights_digest",),), "CAST(m.fingerprint AS text)", "fingerprint", {})
"""The weights that the first worker loaded."""

PROBLEM = Digest(
    "problems",
    "digest",
    "p",
    (("content_hash",), ("attributes",), ("position",)),
    "CAST(json_build_array(p.run_id, p.key) AS text)",
    "key",
    {},
)
"""The values from the dataset; `content_hash` covers question, answer and passage."""

BASE_SCORE = Digest(
    "problems",
    "base_score_digest",
    "p",
    (
        ("base_score",),
        ("base_log_prob_sum",),
        ("base_answer_tokens",),
        ("base_mean_probability",),
        ("base_prompt_tokens", "base_cached_tokens", "base_score_seconds"),
    ),
    "CAST(json_build_array(p.run_id, p.key) AS text)",
    "key",
    {},
)
"""The prover's score of the known answer before any step. The digest of a whole run (`run_digest`) leaves it out,
because older versions computed no base score."""

PROPOSAL = Digest(
    "candidates",
    "proposal_digest",
    "c",
    (
        ("text",),
        ("finish_reason",),
        ("invalid_reason",),
        ("reply",),
        ("answer_part",),
        ("sources",),
        ("prompt_tokens", "completion_tokens", "cached_tokens", "propose_seconds"),
    ),
    _candidate_owner_sql("c"),
    "lineage",
    {"invalid_reason": "CASE WHEN c.invalid_reason <> 'duplicate' AND c.scored_at IS NULL THEN c.invalid_reason END"},
    shared=frozenset({"sources"}),
)
"""The text of the teacher or integrator."""

SCORE = Digest(
    "candidates",
    "score_digest",
    "c",
    (
        ("score",),
        ("log_prob_sum",),
        ("answer_tokens",),
        ("thinking_tokens",),
        ("scoring_mode",),
        ("invalid_reason",),
        ("score_prompt_tokens", "score_cached_tokens", "score_seconds"),
        ("mean_probability",),
    ),
    _candidate_owner_sql("c"),
    "lineage",
    {"invalid_reason": "CASE WHEN c.invalid_reason <> 'duplicate' AND c.judged_at IS NULL THEN c.invalid_reason END"},
    shared=frozenset({"thinking_tokens"}),
    added=1,
)
"""The result of the prover."""

JUDGMENT = Digest(
    "candidates",
    "judgment_digest",
    "c",
    (
        ("judgment",),
        ("judgment_detail",),
        ("invalid_reason",),
        ("judgment_prompt_tokens", "judgment_completion_tokens", "judgment_cached_tokens", "judgment_seconds"),
    ),
    _candidate_owner_sql("c"),
    "lineage",
    {"invalid_reason": "CASE WHEN c.invalid_reason <> 'duplicate' THEN c.invalid_reason END"},
)
"""The selection judgment of a candidate."""

_TRAJECTORY_OWNER = (
    "(SELECT CAST(json_build_array(p.run_id, p.key, last_step.lineage) AS text) "
    "FROM candidates last_step JOIN problems p ON p.id = last_step.problem_id WHERE last_step.id = j.candidate_id)"
)
"""SQL: identity of the trajectory `j`: that of its last step."""

ANSWER = Digest(
    "trajectories",
    "answer_digest",
    "j",
    (
        ("answer_text",),
        ("answer_finish_reason",),
        ("answer_prompt_tokens", "answer_completion_tokens", "answer_cached_tokens", "answer_seconds"),
        ("answer_seed",),
    ),
    _TRAJECTORY_OWNER,
    "candidate_id",
    {},
    shared=frozenset({"answer_seed"}),
    added=1,
)
"""The final answer, and its seed."""

CORRECTNESS = Digest(
    "trajectories",
    "correctness_digest",
    "j",
    (
        ("correct",),
        ("verification",),
        ("verdict_prompt_tokens", "verdict_completion_tokens", "verdict_seconds"),
    ),
    _TRAJECTORY_OWNER,
    "candidate_id",
    {},
)
"""The result of the comparison or of the LLM judge; a recheck writes it again."""

RESCORING = Digest(
    "rescorings",
    "digest",
    "q",
    (("model_id",), ("prover",), ("system_prompt",), ("code_version",)),
    "CAST(json_build_array(q.run_id, q.name) AS text)",
    "name",
    {"model_id": "(SELECT m.fingerprint FROM models m WHERE m.id = q.model_id)"},
)
"""The prover and settings of a rescoring."""

RESCORE = Digest(
    "rescores",
    "digest",
    "x",
    (
        ("score",),
        ("log_prob_sum",),
        ("mean_probability",),
        ("answer_tokens",),
        ("thinking_tokens",),
        ("scoring_mode",),
        ("invalid_reason",),
        ("prompt_tokens", "cached_tokens", "seconds"),
    ),
    "(SELECT CAST(json_build_array(p.run_id, p.key, c.lineage, q.name) AS text) FROM problems p "
    "JOIN candidates c ON c.id = x.candidate_id JOIN rescorings q ON q.id = x.rescoring_id WHERE p.id = x.problem_id)",
    "candidate_id",
    {},
)
"""The result of a rescoring's prover, or that the rescore was given up."""

DIGESTS = (RUN, MODEL, PROBLEM, BASE_SCORE, PROPOSAL, SCORE, JUDGMENT, ANSWER, CORRECTNESS, RESCORING, RESCORE)
