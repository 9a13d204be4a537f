"""Sets the environment of vLLM's processes, reads their output, and ensures that none outlives the worker."""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cord_worker.engines.vllm import guard as vllm_guard

logger = logging.getLogger(__name__)

_KEPT_LINES = 400
"""Number of printed lines that `cause` searches."""
_CAUSE = re.compile(r"(?<![\w.])((?:\w+\.)*\w*(?:Error|Exception|Interrupt|OutOfMemory)\b:? .*)$")
_WITHOUT_CAUSE = re.compile(
    r"See (?:the )?(?:root cause|stack trace)|Engine core initialization failed|EngineDeadError"
)
"""Errors that only point at another one."""
_END_SECONDS = 15.0


class VllmProcesses:
    """Marks and guards every process that vLLM starts between `__init__` and `end`, and reads their output."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(16)
        self._folder = tempfile.mkdtemp(prefix="cord-vllm-")
        os.environ[vllm_guard.MARK_VARIABLE] = self.mark
        os.environ["SPT_NOENV"] = "1"  # otherwise setproctitle, which vLLM uses, overwrites the mark with its titles
        os.environ["VLLM_RPC_BASE_PATH"] = self._folder
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor_{getpass.getuser()}")
        environment = {name: value for name, value in os.environ.items() if name != vllm_guard.MARK_VARIABLE}
        self._guard = subprocess.Popen(
            [sys.executable, str(Path(vllm_guard.__file__)), str(os.getpid()), self.mark, self._folder],
            stdin=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self._printed: deque[str] = deque(maxlen=_KEPT_LINES)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Start the engine within this `with`: its temporary files go to the guarded folder, and its output is read."""
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = self._folder
        try:
            with self._reading_output():
                yield
        finally:
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before

    @contextmanager
    def _reading_output(self) -> Iterator[None]:
        """Processes started within this `with` write their output to a pipe, which this process reads and passes on.

        `cause` searches this output, because a child process of vLLM prints the cause of a failure and nothing raises
        it.
        """
        reader, writer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        out, err = os.dup(1), os.dup(2)
        thread = threading.Thread(target=self._read, args=(reader, os.dup(err)), name="vllm-output", daemon=True)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.close(writer)
        thread.start()
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for saved, standard in ((out, 1), (err, 2)):
                os.dup2(saved, standard)
                os.close(saved)
            self._thread = thread

    def cause(self) -> str | None:
        """The printed line that names the root cause of a failure, or None."""
        causes = [match.group(1) for line in list(self._printed) if (match := _CAUSE.search(line))]
        causes = [cause for cause in causes if not _WITHOUT_CAUSE.search(cause)]
        return causes[-1].strip() if causes else None

    def end(self) -> None:
        """Kills the remaining processes and removes their shared memory; returns when that is done."""
        assert self._guard.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._guard.stdin.close()
        try:
            self._guard.wait(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            logger.warning("processes of vLLM are still being ended by process %s", self._guard.pid)
        shutil.rmtree(self._folder, ignore_errors=True)
        if os.environ.get(vllm_guard.MARK_VARIABLE) == self.mark:
            del os.environ[vllm_guard.MARK_VARIABLE]
            os.environ.pop("VLLM_RPC_BASE_PATH", None)

    def _read(self, reader: int, output: int) -> None:
        with os.fdopen(reader, "r", encoding="utf-8", errors="replace") as lines, os.fdopen(output, "w") as passed:
            for line in lines:
                self._printed.append(line.rstrip("\n"))
                with contextlib.suppress(OSError):
                    passed.write(line)
                    passed.flush()
