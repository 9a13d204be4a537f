"""A log that repeats nothing: an error that occurs a thousand times a minute does not fill the disk."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_AGAIN_SECONDS = 600.0
_MOST_SUBJECTS = 100


class Said:
    """Logs a sentence only when it is new for its subject, or again after ten minutes, then with the number of
    repetitions that were suppressed. Safe for use from several threads."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[str, tuple[str, float, int]] = {}

    def say(self, subject: str, sentence: str, *, level: int = logging.WARNING) -> bool:
        """Logs `sentence`, unless it was the last one logged for `subject`; returns whether it was logged."""
        now = self._clock()
        with self._lock:
            last, at, kept_back = self._said.get(subject, ("", float("-inf"), 0))
            if sentence == last and now - at < _AGAIN_SECONDS:
                self._said[subject] = (last, at, kept_back + 1)
                return False
            while len(self._said) >= _MOST_SUBJECTS:
                del self._said[next(iter(self._said))]
            self._said[subject] = (sentence, now, 0)
        more = f" (and {kept_back} more like the one before)" if kept_back else ""
        self._logger.log(level, "%s%s", sentence, more)
        return True

    def over(self, subject: str, sentence: str) -> None:
        """Logs `sentence`, which says that the trouble is over, if something was logged for `subject`."""
        with self._lock:
            was_said = self._said.pop(subject, None) is not None
        if was_said:
            self._logger.warning("%s", sentence)
