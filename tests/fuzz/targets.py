"""The fuzzed functions and the properties that hold for any bytes. An exception is a finding, unless it is the
error that a user is meant to read.

Each target is a function of bytes; `python -m tests.fuzz` drives them by coverage, `test_targets.py` runs them over the
corpus of what was found before and over random bytes.
"""

from __future__ import annotations

import copy
import gzip
import json
import os
import random
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord, ReadOptions, RejectedRecord, read_problems
from cord_worker.dataset.invisible import stripped
from cord_worker.dataset.jsontext import exact_json
from cord_worker.dataset.roles import MAX_KEY
from cord_worker.dataset.solutions import AmbiguousAnswer, final_answer
from cord_worker.errors import ConfigError, DatasetError
from cord_worker.latex_repair import escaped_reply, lost_backslashes, with_backslashes, without_invalid_escapes
from cord_worker.prompting.segmentation import TextKind, cut, ends_of
from cord_worker.search.validity import invalid_reason, storable
from tests.fuzz.inputs import ODD, SEGMENTATIONS, tables_in, text_of
from tests.fuzz.messages import messages
from tests.fuzz.replies import replies

KINDS = (".jsonl", ".json", ".csv", ".jsonl.gz", ".parquet", ".tsv", ".jsonl.zst")
ONE_SHARD = "data/train-00000-of-00001.jsonl"
_SHARED_MEMORY = Path("/dev/shm")


def dataset(data: bytes) -> None:
    """A dataset file of any kind: problems and refusals, or one DatasetError; the same when read again, and the same
    under the hub's layout."""
    if not data:
        return
    suffix = KINDS[data[0] % len(KINDS)]
    content = gzip.compress(data[1:], 0) if suffix == ".jsonl.gz" and data[0] & 0x80 else data[1:]
    with _folder() as folder:
        path = folder / f"problems{suffix}"
        path.write_bytes(content)
        first, second = _read(path), _read(path)
        repaired = _read(path, ReadOptions(repair_latex=True, answer_as_is=bool(data[0] & 0x40)))
        if suffix == ".jsonl":
            shard = folder / "hub" / ONE_SHARD
            shard.parent.mkdir(parents=True)
            path.rename(shard)
            assert isinstance(_read(folder / "hub"), list) == isinstance(first, list)
    assert first == second
    assert isinstance(repaired, list) or isinstance(
        first, str
    )  # without repair a file with only damaged rows is not a dataset
    for record in first if isinstance(first, list) else ():
        if isinstance(record, RejectedRecord):
            assert record.reason
            continue
        exact_json(record.metadata).encode()
        for text in (record.question, record.answer, record.passage, record.key):
            if text is not None:
                assert text.strip() == text != ""
                assert "\0" not in text
                text.encode()
        assert len(record.key) <= MAX_KEY
        json.dumps(record.metadata, allow_nan=False, ensure_ascii=False).encode()


def latex(data: bytes) -> None:
    """A text that may have lost backslashes, alone and inside JSON; and as a worked solution."""
    text = text_of(data)
    for damaged in (True, False):
        (spots,) = lost_backslashes([text], damaged=damaged)
        assert all(spot.command for spot in spots)
        mended = with_backslashes(text, spots)
        assert len(mended) == len(text) + len(spots)
    valid = json.dumps({"step": text})
    assert isinstance(json.loads(escaped_reply(valid)), dict)
    without_invalid_escapes(text)
    plain = stripped(text)
    assert plain == stripped(plain) == plain.strip()
    with suppress(AmbiguousAnswer):
        found = final_answer(text)
        assert found is None or found == found.strip() != ""


def segmentation(data: bytes) -> None:
    """A model's text: cut at its end, the same end while it streams in, judged valid or not."""
    text = text_of(data)
    assert storable(text).encode().find(b"\0") < 0
    for rule in SEGMENTATIONS:
        for kind in get_args(TextKind):
            result = cut(text, kind, rule, ended="eos")
            ends = ends_of(rule, kind)
            assert ends.find(result.text) is None, (rule, kind)
            if kind == "reply":
                continue
            assert result.text in text
            whole = ends.find(text)
            at = len(text) if whole is None else whole.position
            # Before the end, just past it, and every place between.
            for length in range(max(0, at - 3), min(len(text), at + ends.longest) + 1):
                seen = ends.find(text[:length])
                if seen is not None:
                    assert seen == whole, (rule, kind, length)
                    window = text[:length].encode("utf-8", "replace")[-ends.longest :].decode("utf-8", "ignore")
                    assert ends.may_be_in(window), (rule, kind, length)
                    break
            if kind == "step":
                invalid_reason(result.text, loop_ngram=4, loop_repeats=3, has_markers=rule.has_markers)


def config(data: bytes) -> None:
    """cord.toml, as raw text or as a preset with changes: a configuration that can be stored, or one ConfigError."""
    if data[:1] and data[0] < 0x40:
        with suppress(ConfigError):
            RunConfig.parse(text_of(data[1:]), source="cord.toml", folder=Path("/nowhere"))
        return
    try:
        parsed = RunConfig.from_stored(_changed_preset(data))
    except ConfigError:
        return
    stored = json.loads(json.dumps(parsed.model_dump(mode="json"), allow_nan=False))
    assert RunConfig.from_stored(stored).fingerprint() == parsed.fingerprint()


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    function.__name__: function for function in (dataset, latex, segmentation, replies, config, messages)
}


def _read(path: Path, options: ReadOptions = ReadOptions()) -> list[ProblemRecord | RejectedRecord] | str:  # noqa: B008
    try:
        return list(read_problems(path, options=options))
    except DatasetError as error:
        return str(error)


@contextmanager
def _folder() -> Iterator[Path]:
    in_memory = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="cord-fuzz-", dir=in_memory))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_PRESETS = tuple(
    tomllib.loads((files("cord_worker") / "presets" / f"{name}.toml").read_text(encoding="utf-8"))
    for name in ("tiny", "smollm2", "paper-hetero")
)
_KEYS = (
    "pipeline", "segmentation", "selection", "beam_width", "trajectories", "phrases", "finished", "method", "judge",
    "tolerance", "engine", "head", "openai", "vllm", "workers", "seed", "max_attempts", "dtype", "temperature", "x",
)  # fmt: skip
_TABLES = ("verify", "reward", "integration", "binary", "search", "run", "prover", "x")


def _changed_preset(data: bytes) -> dict[str, Any]:
    """A preset with one change for every three bytes after the first."""
    document: dict[str, Any] = json.loads(json.dumps(_PRESETS[data[0] % len(_PRESETS)] if data else {}))
    for place in range(1, min(len(data), 60) - 2, 3):
        where, what, value = data[place : place + 3]
        rng = random.Random(where)
        tables = [document, *(table for table in tables_in(document))]
        table = rng.choice(tables)
        names = (*table, *_KEYS, *_TABLES) if table is document else (*table, *_KEYS)
        name = names[what % len(names)]
        odd = copy.deepcopy(ODD[value % len(ODD)])
        if odd is None and value & 1:
            table.pop(name, None)
        else:
            table[name] = odd
    return document
