"""States of Redis, and values in its keys, that the service does not expect. No process is killed, so none may end."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
import sqlalchemy as sa

from cord_worker.config import Settings
from cord_worker.store.schema.kinds import served_by_models
from tests.chaos.kinds.storm import Storm, everything, kind
from tests.chaos.recovery import Watch

_PREFIX = Settings().key_prefix
_QUEUES = """
    SELECT DISTINCT 'model.' || m.fingerprint || '.' || w.shard
    FROM workers w JOIN models m ON m.id = w.model_id WHERE w.stopped_at IS NULL AND w.shard IS NOT NULL
"""
_BODY: tuple[Any, ...] = ([], {"problem_id": 1, "step": 1}, {"callbacks": None})
_NO_JSON = (b"no json", b"", b"{", b"\xff\xfe\x00", b"null", b"[]", b'"x"', b"[" * 60_000, b"9" * 5_000, b"x" * 200_000)


def _queues(storm: Storm) -> list[str]:
    """Keys of all queues that a process listens to."""
    found = storm.database.run(lambda connection: connection.execute(sa.text(_QUEUES)).scalars().all())
    return [f"{_PREFIX}{queue}" for queue in ("coordinator", *found)]


def message(body: object = _BODY, headers: Any = (), properties: Any = (), **others: Any) -> bytes:
    """A message as Redis holds it."""
    whole = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "cord.advance", "id": "b", **dict(headers)},
        "properties": {
            "delivery_tag": "a",
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "x"},
            "priority": 0,
            **dict(properties),
        },
        **others,
    }
    return json.dumps(whole).encode()


def garbled() -> list[bytes]:
    """Messages that begin like ours and are wrong somewhere."""
    odd: tuple[Any, ...] = (None, 1, [], {}, "\ud800", {"__type__": "datetime", "__value__": "no"})
    whole = json.loads(message())
    found = [json.dumps({**whole, part: value}).encode() for part in whole for value in odd]
    found += [json.dumps({part: whole[part] for part in whole if part != missing}).encode() for missing in whole]
    for name in ("delivery_tag", "body_encoding", "delivery_info"):
        found += [message(properties={name: value}) for value in odd]
    found += [message(headers={name: value}) for name in ("task", "id") for value in odd]
    found += [message(headers={"compression": "application/x-gzip"}), message(headers={"eta": "never", "id": 7})]
    found += [message(headers={"task": "celery.backend_cleanup"}), message(**{"content-type": "application/x-python"})]
    bodies: tuple[Any, ...] = (
        [],
        {},
        "x",
        [[1], {}, {}],
        [[], {}, {}],
        [[], {"problem_id": "1", "step": 1}, {}],
        [[], {"x": 1}, None],
    )
    found += [message(body=body) for body in bodies]
    return [*found, json.dumps({**whole, "body": "not base64!"}).encode()]


@kind("no JSON in a queue")
def no_json(storm: Storm) -> Watch:
    return everything(storm, "no JSON in a queue", lambda: _put(storm, _NO_JSON))


@kind("a message of wrong fields")
def wrong_fields(storm: Storm) -> Watch:
    return everything(storm, "a message of wrong fields", lambda: _put(storm, garbled()))


def _put(storm: Storm, messages: tuple[bytes, ...] | list[bytes]) -> None:
    with storm.servers.client() as client:
        for queue in _queues(storm):
            client.rpush(queue, *messages)  # the end of the queue that is read first


def _spoil(client: redis.Redis, key: str, chance: int) -> None:
    with client.pipeline(transaction=True) as together:
        together.delete(key)
        if chance % 3 == 0:
            together.set(key, "x")
        elif chance % 3 == 1:
            together.hset(key, "x", "y")
        else:
            together.sadd(key, "x")
        together.execute()


@kind("queue key of a wrong type")
def wrong_queue(storm: Storm) -> Watch:
    def strike() -> None:
        with storm.servers.client() as client:
            for number, queue in enumerate(_queues(storm)):
                for urgency in ("", "\x06\x163", "\x06\x166"):
                    _spoil(client, f"{queue}{urgency}", number + storm.chance.randrange(3))
            client.set(f"{_PREFIX}_kombu.binding.celery.pidbox", "x")
            client.set(f"{_PREFIX}_kombu.binding.reply.celery.pidbox", "x")

    return everything(storm, "queue key of a wrong type", strike)


@kind("unacked of a wrong type")
def wrong_unacked(storm: Storm) -> Watch:
    """Wrong unacknowledged messages and a wrong owner; every connection is lost, so that all of it is read."""

    def strike() -> None:
        with storm.servers.client() as client:
            for key in ("unacked", "unacked_index", "unacked_mutex", "cord.owner"):
                client.delete(f"{_PREFIX}{key}")
                client.rpush(f"{_PREFIX}{key}", "x")
            _drop(client)
            time.sleep(1.0)

    return everything(storm, "unacked of a wrong type", strike)


@kind("messages in queues of other models")
def astray(storm: Storm) -> Watch:
    """Whole messages about unfinished problems, each kind in each model's queue, as another service would send them."""

    def strike() -> None:
        unfinished = "SELECT id FROM problems WHERE state IN ('searching', 'answering', 'verifying') LIMIT 20"
        ids = storm.database.run(lambda connection: connection.execute(sa.text(unfinished)).scalars().all())
        with storm.servers.client() as client, client.pipeline() as together:
            for queue in _queues(storm)[1:]:
                for kind_ in served_by_models():
                    for number, problem_id in enumerate(ids):
                        arguments = (*_BODY[:1], {"problem_id": problem_id, "step": 0}, *_BODY[2:])
                        headers = {"task": f"cord.{kind_.name}", "id": f"{kind_.name}{number}"}
                        together.lpush(queue, message(arguments, headers))
            together.execute()

    return everything(storm, "messages in queues of other models", strike)


@kind("another service on the broker")
def another_service(storm: Storm) -> Watch:
    """It has taken the broker for its own database, and half of the messages."""

    def strike() -> None:
        with storm.servers.client() as client:
            client.set(f"{_PREFIX}cord.owner", "another/1")
        storm.servers.lose(storm.chance)

    return everything(storm, "another service on the broker", strike)


@kind("Redis is a replica")
def replica(storm: Storm) -> Watch:
    return _during(
        storm,
        "Redis is a replica",
        lambda client: client.replicaof("127.0.0.1", "1"),
        lambda client: client.replicaof("NO", "ONE"),
    )


@kind("Redis is read-only")
def read_only(storm: Storm) -> Watch:
    return _configured(storm, "Redis is read-only", "min-replicas-to-write", 1, drop=False)


@kind("Redis out of memory")
def out_of_memory(storm: Storm) -> Watch:
    return _configured(storm, "Redis out of memory", "maxmemory", 1, drop=storm.chance.random() < 0.5)


@kind("Redis out of clients")
def out_of_clients(storm: Storm) -> Watch:
    return _configured(storm, "Redis out of clients", "maxclients", 1, drop=True)


@kind("Redis password changed")
def password_changed(storm: Storm) -> Watch:
    return _configured(storm, "Redis password changed", "requirepass", "another", drop=True)


@kind("Redis commands forbidden")
def forbidden(storm: Storm) -> Watch:
    command = storm.chance.choice(("brpop", "lpush", "llen", "exists", "ping", "psubscribe"))
    return _during(
        storm,
        "Redis commands forbidden",
        lambda client: client.execute_command("ACL", "SETUSER", "default", f"-{command}"),
        lambda client: client.execute_command("ACL", "SETUSER", "default", "+@all"),
        drop=storm.chance.random() < 0.5,
    )


def _configured(storm: Storm, name: str, setting: str, value: int | str, *, drop: bool) -> Watch:
    with storm.servers.client() as client:
        before = client.config_get(setting)[setting]
    return _during(
        storm,
        name,
        lambda client: client.config_set(setting, value),
        lambda client: client.config_set(setting, before),
        drop=drop,
    )


def _during(
    storm: Storm,
    name: str,
    begin: Callable[[Any], object],
    end: Callable[[Any], object],
    *,
    drop: bool = False,
) -> Watch:
    """Watches what was due before a state of Redis that lasts a while; with `drop` connections are lost meanwhile."""

    def strike() -> None:
        with _held(storm, begin, end) as client:
            if drop:
                _drop(client)
            time.sleep(storm.chance.uniform(0.5, 2.0))

    return everything(storm, name, strike)


@contextmanager
def _held(storm: Storm, begin: Callable[[Any], object], end: Callable[[Any], object]) -> Iterator[redis.Redis]:
    """One connection that begins the state and, as it stays, can end it."""
    path = str(storm.servers.redis.socket_path)
    with redis.Redis(unix_socket_path=path, single_connection_client=True) as client:
        begin(client)
        try:
            yield client
        finally:
            end(client)


def _drop(client: redis.Redis) -> None:
    for kind_ in ("normal", "pubsub"):
        client.client_kill_filter(_type=kind_, skipme=True)
