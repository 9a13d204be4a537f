from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

READ = r"""
import pathlib, re, sys
from cord_worker.dataset import ProblemRecord, read_problems
assert sum(isinstance(record, ProblemRecord) for record in read_problems(sys.argv[1])) == int(sys.argv[2])
# not ru_maxrss, in which the peak of the parent is counted
print(int(re.search(r"VmHWM:\s*(\d+)", pathlib.Path("/proc/self/status").read_text())[1]) // 1024)
"""


def peak_mib(path: Path, rows: int) -> int:
    command = [sys.executable, "-c", READ, str(path), str(rows)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.long
def test_memory_does_not_grow_with_the_file(tmp_path: Path, kind: str) -> None:
    peaks = []
    for rows in (5_000, 100_000):
        path = tmp_path / f"{rows}.{kind}"
        write(path, kind, rows)
        peaks.append(peak_mib(path, rows))

    assert peaks[1] - peaks[0] < 20


def write(path: Path, kind: str, rows: int) -> None:
    words = "word " * 50
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        numbers = list(range(rows))
        table = pa.table({"question": [f"{n} {words}" for n in numbers], "answer": [str(n) for n in numbers]})
        pq.write_table(table, path, row_group_size=5_000)
        return
    with path.open("w", encoding="utf-8") as out:
        if kind == "csv":
            out.write("question,answer\n")
            out.writelines(f"{n} {words},{n}\n" for n in range(rows))
            return
        texts = (json.dumps({"question": f"{n} {words}", "answer": str(n)}) for n in range(rows))
        if kind == "jsonl":
            out.writelines(text + "\n" for text in texts)
        else:
            out.write("[" + next(texts))
            out.writelines(",\n" + text for text in texts)
            out.write("]")
