"""Every process has a pipe of its own to wake its event loop, also one that was forked."""

from __future__ import annotations

import os

from cord_worker.coordination.celery.wakeup import _PIPE, ask_consumer


def test_a_forked_process_does_not_share_the_pipe_of_its_parent() -> None:
    mine = os.fstat(_PIPE.reading).st_ino
    pid = os.fork()
    if pid == 0:
        os._exit(int(os.fstat(_PIPE.reading).st_ino == mine))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert os.fstat(_PIPE.reading).st_ino == mine


def test_where_no_loop_runs_nobody_waits_for_its_answer() -> None:
    answered = []
    ask_consumer(lambda: answered.append(1))
    assert answered == [1]
