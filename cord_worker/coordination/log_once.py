"""Logs a repeated sentence once, so that an error that occurs a thousand times a minute does not fill the disk."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_REPEAT_SECONDS = 600.0
_MAX_SUBJECTS = 100


class LogOnce:
    """Logs a sentence if it is new for its subject, and repeats it after ten minutes at the earliest. Then it adds the
    number of repetitions that were suppressed. Safe for use from several threads."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._logged: dict[str, tuple[str, float, int]] = {}

    def log(self, subject: str, sentence: str, *, level: int = logging.WARNING) -> bool:
        """Logs `sentence`, unless the last one for `subject` was the same and less than ten minutes ago.

        Returns whether it was logged.
        """
        now = self._clock()
        with self._lock:
            last, at, suppressed = self._logged.get(subject, ("", float("-inf"), 0))
            if sentence == last and now - at < _REPEAT_SECONDS:
                self._logged[subject] = (last, at, suppressed + 1)
                return False
            while len(self._logged) >= _MAX_SUBJECTS:
                del self._logged[next(iter(self._logged))]
            self._logged[subject] = (sentence, now, 0)
        more = f" (and {suppressed} more like the one before)" if suppressed else ""
        self._logger.log(level, "%s%s", sentence, more)
        return True

    def log_recovery(self, subject: str, sentence: str) -> None:
        """Logs `sentence`, which says that the trouble is over, if something was logged for `subject`."""
        with self._lock:
            was_logged = self._logged.pop(subject, None) is not None
        if was_logged:
            self._logger.warning("%s", sentence)
