"""Sends Celery's task events from several threads without losing any.

Celery 5.6 publishes a list of events and then empties it. Events that pool threads have added meanwhile are lost, and
Flower shows their tasks as received or started for ever. Celery 5.7 removes only what it published, so its own
dispatcher is used there. Remove this module when 5.6 is no longer supported.
"""

from __future__ import annotations

from celery import VERSION, Celery
from celery.events.dispatcher import EventDispatcher


class ThreadedEventDispatcher(EventDispatcher):  # type: ignore[misc]
    """A dispatcher that removes from its lists only the events that it has published."""

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Publishes the events that are not published yet: those that failed to be sent or wait for a batch."""
        super().flush(errors=errors, groups=False)
        if not groups:
            return
        with self.mutex:
            for group in list(self._group_buffer):
                waiting = self._group_buffer[group]
                published = waiting[:]
                if published:
                    self._publish(published, self.producer, f"{group}.multi")
                    del waiting[: len(published)]


def send_events_from_threads(app: Celery) -> None:
    """Makes the workers of `app` send their events with this dispatcher if Celery's own loses some."""
    if VERSION[:2] < (5, 7):
        app.events.dispatcher_cls = ThreadedEventDispatcher
