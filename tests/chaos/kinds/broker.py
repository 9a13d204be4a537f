"""Faults of Redis and of what lies in it."""

from __future__ import annotations

import signal
import time

from tests.chaos.fleet import COORDINATOR
from tests.chaos.kinds.storm import TEACHERS, Storm, everything, kind
from tests.chaos.recovery import Watch
from tests.chaos.servers import stop_and_continue


@kind("Redis emptied")
def flush(storm: Storm) -> Watch:
    def strike() -> None:
        with storm.servers.client() as client:
            client.flushall()

    return everything(storm, "Redis emptied", strike)


@kind("Redis killed")
def kill_redis(storm: Storm) -> Watch:
    def strike() -> None:
        storm.servers.signal_redis(signal.SIGKILL)
        storm.servers.await_redis_end()
        time.sleep(storm.chance.random())
        storm.servers.start_redis()

    return everything(storm, "Redis killed", strike)


@kind("Redis restarted")
def restart_redis(storm: Storm) -> Watch:
    def strike() -> None:
        storm.servers.signal_redis(signal.SIGTERM)
        storm.servers.await_redis_end()
        storm.servers.start_redis()

    return everything(storm, "Redis restarted", strike)


@kind("Redis lost while processes start")
def lose_redis_at_start(storm: Storm) -> Watch:
    """Processes are killed and started again, and Redis ends before they are ready."""

    def strike() -> None:
        for name in (storm.one_of(COORDINATOR), storm.one_of(*TEACHERS, "prover")):
            storm.fleet.kill(name)
            storm.fleet.start(name)
        time.sleep(storm.chance.uniform(0, 2))
        storm.servers.signal_redis(signal.SIGTERM)
        storm.servers.await_redis_end()
        time.sleep(storm.chance.uniform(0.5, 3))
        storm.servers.start_redis()

    return everything(storm, "Redis lost while processes start", strike)


@kind("Redis paused")
def pause_redis(storm: Storm) -> Watch:
    return everything(
        storm,
        "Redis paused",
        lambda: stop_and_continue(storm.servers.redis.processes(), storm.chance.uniform(1, 4)),
    )


@kind("Redis connections dropped")
def drop_redis(storm: Storm) -> Watch:
    return everything(storm, "Redis connections dropped", storm.servers.drop_connections)


@kind("Redis connections dropped, but those that wait for messages")
def drop_idle_connections(storm: Storm) -> Watch:
    return everything(
        storm,
        "Redis connections dropped, but those that wait for messages",
        lambda: storm.servers.drop_connections(waiting=False),
    )


@kind("messages doubled")
def double(storm: Storm) -> Watch:
    return everything(storm, "messages doubled", storm.servers.double)


@kind("messages reordered")
def reorder(storm: Storm) -> Watch:
    return everything(storm, "messages reordered", lambda: storm.servers.shuffle(storm.chance))


@kind("messages delayed")
def delay(storm: Storm) -> Watch:
    return everything(storm, "messages delayed", lambda: storm.servers.delay(storm.chance.uniform(1, 4)))


@kind("messages lost")
def lose(storm: Storm) -> Watch:
    return everything(storm, "messages lost", lambda: storm.servers.lose(storm.chance))
