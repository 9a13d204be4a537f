"""Sends Celery's events from several threads without losing any, and without waiting for the broker.

Celery 5.6 needs both changes, 5.7 only the second.

- Celery 5.6 publishes a list of events and then empties it. Events that pool threads have added meanwhile are lost, and
  Flower shows their tasks as received or started forever. Celery 5.7 removes only what it published. Remove `flush`
  when 5.6 is no longer supported.
- Celery repeats a worker's heartbeat event, in the consumer's thread, until the broker takes it. So a broker that ends
  at the wrong moment stops the consumer, which then neither reports what it waits for nor obeys a signal. Here an event
  is sent twice at most, without a pause, and then kept for the next connection. Needed until Celery limits the attempts
  of `Heart`.
"""

from __future__ import annotations

from typing import Any

from celery import VERSION, Celery
from celery.events.dispatcher import EventDispatcher

_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}


class PromptEventDispatcher(EventDispatcher):  # type: ignore[misc]
    """A dispatcher that never waits for the broker."""

    def _publish(self, event: Any, producer: Any, routing_key: str, *_: Any, **__: Any) -> None:
        """Publishes `event` over this connection or a new one. An event that the broker does not take is kept."""
        super()._publish(event, producer, routing_key, retry=True, retry_policy=_RETRY_POLICY)


class ThreadedEventDispatcher(PromptEventDispatcher):
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


def set_event_dispatcher(app: Celery) -> None:
    """Makes the workers of `app` send their events with these dispatchers."""
    app.events.dispatcher_cls = ThreadedEventDispatcher if VERSION[:2] < (5, 7) else PromptEventDispatcher
