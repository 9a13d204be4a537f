"""Faults of a server that hosts a model, and of its replies: all are temporary and none costs a candidate."""

from __future__ import annotations

import time
from functools import partial

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


_MISBEHAVIOURS = {
    "model server answers 500": "500",
    "model server rate-limits": "429",
    "reply is no JSON": "page",
    "reply of absurd fields": "absurd",
    "reply without end": "endless",
    "reply of a hundred megabytes": "huge",
    "reply too deep": "deep",
    "reply breaks off": "broken-off",
    "reply in pieces": "pieces",
}
"""What the model server does, by the kind of fault."""

for _what, _how in _MISBEHAVIOURS.items():
    kind(_what, needs=_is_there)(partial(_replies, what=_what, how=_how))
