"""Faults of a server that hosts a model, and of its replies: all are temporary and none costs a candidate."""

from __future__ import annotations

import time

from tests.chaos.kinds.storm import Storm, kind
from tests.chaos.model_server import ModelServer
from tests.chaos.recovery import Watch, watch
from tests.chaos.servers import Servers

HOSTED = "gamma"
_SECONDS = 1.2


def _is_there(servers: Servers) -> bool:
    return servers.model_server is not None


def _server(storm: Storm) -> ModelServer:
    assert storm.servers.model_server is not None
    return storm.servers.model_server


def _replies(storm: Storm, what: str, how: str) -> Watch:
    """The server answers like that for a while, longer if it gets no request."""
    seen = watch(storm.database, what, HOSTED)
    for _ in range(10):
        if _server(storm).misbehave(how, _SECONDS):
            break
    seen.began = time.monotonic()
    return seen


@kind("model server away", needs=_is_there)
def away(storm: Storm) -> Watch:
    seen = watch(storm.database, "model server away", HOSTED)
    _server(storm).kill()
    time.sleep(storm.chance.uniform(0.5, 1.5))
    _server(storm).start()
    seen.began = time.monotonic()
    return seen


@kind("model server restarted", needs=_is_there)
def restarted(storm: Storm) -> Watch:
    seen = watch(storm.database, "model server restarted", HOSTED)
    _server(storm).kill()
    _server(storm).start()
    seen.began = time.monotonic()
    return seen


@kind("model server answers 500", needs=_is_there)
def internal(storm: Storm) -> Watch:
    return _replies(storm, "model server answers 500", "500")


@kind("model server rate-limits", needs=_is_there)
def limited(storm: Storm) -> Watch:
    return _replies(storm, "model server rate-limits", "429")


@kind("reply is no JSON", needs=_is_there)
def no_json(storm: Storm) -> Watch:
    return _replies(storm, "reply is no JSON", "page")


@kind("reply of absurd fields", needs=_is_there)
def absurd(storm: Storm) -> Watch:
    return _replies(storm, "reply of absurd fields", "absurd")


@kind("reply without end", needs=_is_there)
def endless(storm: Storm) -> Watch:
    return _replies(storm, "reply without end", "endless")


@kind("reply of a hundred megabytes", needs=_is_there)
def huge(storm: Storm) -> Watch:
    return _replies(storm, "reply of a hundred megabytes", "huge")


@kind("reply too deep", needs=_is_there)
def deep(storm: Storm) -> Watch:
    return _replies(storm, "reply too deep", "deep")


@kind("reply breaks off", needs=_is_there)
def broken_off(storm: Storm) -> Watch:
    return _replies(storm, "reply breaks off", "broken-off")


@kind("reply in pieces", needs=_is_there)
def pieces(storm: Storm) -> Watch:
    return _replies(storm, "reply in pieces", "pieces")
