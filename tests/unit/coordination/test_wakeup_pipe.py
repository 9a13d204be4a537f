"""Every process, also a forked one, has its own pipe to wake its event loop."""

from __future__ import annotations

import os

from cord_worker.coordination.celery.wakeup import _PIPE, call_in_consumer_loop


def test_a_forked_process_does_not_share_the_pipe_of_its_parent() -> None:
    mine = os.fstat(_PIPE.reading).st_ino
    pid = os.fork()
    if pid == 0:
        os._exit(int(os.fstat(_PIPE.reading).st_ino == mine))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert os.fstat(_PIPE.reading).st_ino == mine


def test_without_a_running_loop_a_call_is_made_at_once() -> None:
    answered = []
    call_in_consumer_loop(lambda: answered.append(1))
    assert answered == [1]
