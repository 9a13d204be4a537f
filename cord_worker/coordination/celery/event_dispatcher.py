"""Sends Celery's task events from several threads without losing any.

Celery 5.6 publishes a list of events and then empties it; what the threads of the pool have added meanwhile is thrown
away, and Flower shows such tasks as received or started for ever. Celery 5.7 takes away only what it published, so its
own dispatcher is used there. This module goes when 5.6 is supported no more.
"""

from __future__ import annotations

from celery import VERSION, Celery
from celery.events.dispatcher import EventDispatcher


class ThreadedEventDispatcher(EventDispatcher):  # type: ignore[misc]
    """A dispatcher that removes from its lists only the events that it has published."""

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Publishes the events that are held back: those that failed to be sent, and those that wait for a batch."""
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
    """Has the workers of `app` send their events with this dispatcher where Celery's own loses some."""
    if VERSION[:2] < (5, 7):
        app.events.dispatcher_cls = ThreadedEventDispatcher
