"""What a process answers to a probe (of Kubernetes, for example) at its metrics port: `/alive` and `/ready`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping

from cord_worker.metrics import Probe


class Health:
    """Whether this process is ready for work, and whether one of its event loops hangs.

    A broker or a database that is away changes neither: the process waits for it, and starting it again would not help.
    """

    def __init__(self, hanging: Callable[[], Collection[str]] = list) -> None:
        self._lock = threading.Lock()
        self._hanging = hanging
        self._unready: str | None = "it starts"

    def watch(self, hanging: Callable[[], Collection[str]]) -> None:
        """`hanging` gives the event loops that hang, from now on."""
        with self._lock:
            self._hanging = hanging

    def begin(self) -> None:
        """The process takes work now."""
        with self._lock:
            self._unready = None

    def end(self) -> None:
        """The process takes no more work: it was drained, or asked to end."""
        with self._lock:
            self._unready = "it ends"

    def why_not_alive(self) -> str | None:
        """What only another start of the process repairs; None if nothing."""
        with self._lock:
            hanging = self._hanging
        names = sorted(hanging())
        return f"{', '.join(names)}: hangs" if names else None

    def why_not_ready(self) -> str | None:
        """Why it takes no work; None if it does."""
        with self._lock:
            return self._unready

    @property
    def probes(self) -> Mapping[str, Probe]:
        """By path, the function that says what is wrong (None: nothing)."""
        return {"/alive": self.why_not_alive, "/ready": self.why_not_ready}
