"""The faults, by name, one file a topic. Each strikes and returns what it hit, to be watched until it has recovered.

A new topic is a new file here and one line below.
"""

from tests.chaos.kinds import (
    broker,
    broker_states,
    checks,
    clocks,
    commands,
    database,
    decisions,
    machine,
    managed,
    processes,
    replies,
)
from tests.chaos.kinds.storm import KINDS, SLOW, Storm, available

__all__ = [
    "KINDS",
    "SLOW",
    "Storm",
    "available",
    "broker",
    "broker_states",
    "checks",
    "clocks",
    "commands",
    "database",
    "decisions",
    "machine",
    "managed",
    "processes",
    "replies",
]
