"""Redis with Sentinel as the broker: the same results, although the primary dies in the middle of a run."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import redis

from cord_worker.coordination.broker.broker_check import check_broker
from cord_worker.coordination.broker.sentinel_transport import find_primary
from cord_worker.errors import BrokerError
from cord_worker.local.binaries import find_redis
from cord_worker.service_url_checks import checked_broker_url
from cord_worker.store.database import Database
from tests.support.cluster import Cluster
from tests.support.tables import content, count, differences
from tests.support.waiting import wait_until

PROBLEMS = 12
PASSWORD = "s3cret"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Watched:
    """A primary called `cord`, a replica, and three sentinels that promote it after a second's silence."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.primary, self.replica = free_port(), free_port()
        common = f'bind 127.0.0.1\nsave ""\nappendonly no\nrequirepass {PASSWORD}\nmasterauth {PASSWORD}\n'
        self._start(self.primary, common)
        assert wait_until(lambda: self._role(self.primary) == "master")
        self._start(self.replica, f"{common}replicaof 127.0.0.1 {self.primary}\n")
        assert wait_until(lambda: self._link(self.replica) == "up")
        self.sentinels = [free_port() for _ in range(3)]
        watch = (
            f"sentinel monitor cord 127.0.0.1 {self.primary} 2\nsentinel auth-pass cord {PASSWORD}\n"
            "sentinel down-after-milliseconds cord 1000\nsentinel failover-timeout cord 10000\n"
        )
        for port in self.sentinels:
            self._start(port, f"bind 127.0.0.1\n{watch}", "--sentinel")
        # Three that know each other and the replica can agree on another primary.
        assert wait_until(lambda: all(self._knows_all(port) for port in self.sentinels))

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"sentinel://:{PASSWORD}@{hosts}/cord/0"

    def kill(self, port: int) -> None:
        self.processes[port].kill()
        self.processes[port].wait()

    def client(self, port: int) -> redis.Redis:
        return redis.Redis(port=port, password=PASSWORD, socket_timeout=5)

    def _start(self, port: int, settings: str, *options: str) -> None:
        file = self._folder / f"{port}.conf"
        file.write_text(f"port {port}\ndir {self._folder}\n{settings}", encoding="utf-8")
        with (self._folder / f"{port}.log").open("wb") as log:
            process = subprocess.Popen([find_redis().path, file, *options], stdout=log, stderr=log)
        self.processes[port] = process
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)

    def _role(self, port: int) -> str:
        with suppress(redis.ConnectionError), self.client(port) as client:
            return str(client.info("replication")["role"])
        return "away"

    def _link(self, port: int) -> str:
        with suppress(redis.ConnectionError), self.client(port) as client:
            return str(client.info("replication").get("master_link_status"))
        return "away"

    def _knows_all(self, port: int) -> bool:
        with suppress(redis.ConnectionError), redis.Redis(port=port, socket_timeout=5) as client:
            (watched,) = client.sentinel_masters().values()
            return bool(watched["num-slaves"] == 1 and watched["num-other-sentinels"] == 2)
        return False


@contextmanager
def watched_redis(folder: Path) -> Iterator[Watched]:
    folder.mkdir()
    with ExitStack() as stack:
        yield Watched(folder, stack)


@pytest.mark.long
def test_a_primary_that_dies_in_the_middle_of_a_run_changes_no_result(
    tmp_path: Path, database: Database, database_url: str, broker_url: str
) -> None:
    (tmp_path / "plain").mkdir()
    with Cluster(tmp_path / "plain", database_url, broker_url) as plain:
        plain.start()
        plain.enqueue(database, PROBLEMS)
        undisturbed = plain.undisturbed(database, PROBLEMS)

    with watched_redis(tmp_path / "redis") as servers, Cluster(tmp_path, database_url, servers.url) as cluster:
        cluster.start()
        cluster.wait_until(lambda: count(database, "ready_at IS NOT NULL AND stopped_at IS NULL", "workers") == 4, 120)
        with cluster.no_result_of("beta", database):
            cluster.enqueue(database, PROBLEMS)
            cluster.wait_until(lambda: cluster.holds_a_lease("beta", database), 120)
            servers.kill(servers.primary)
            servers.kill(servers.sentinels[0])  # the first one of the URL; the others are asked
            others = [("127.0.0.1", port) for port in servers.sentinels]
            cluster.wait_until(lambda: find_primary(others, "cord")[1] == servers.replica, 120)
        cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 180)
        assert differences(undisturbed, content(database)) == []
        with servers.client(servers.replica) as client:
            assert client.keys(f"{cluster.environment['CORD_KEY_PREFIX']}*"), "the new primary is the broker"
        for name in cluster.names:
            assert cluster.stop(name) == 0, name
            assert "Traceback" not in cluster.log_of(name).read_text(errors="replace")


def test_the_check_names_the_sentinels_and_what_they_lack(tmp_path: Path) -> None:
    with watched_redis(tmp_path / "redis") as servers:
        url = checked_broker_url(servers.url)
        assert check_broker(url)
        with pytest.raises(BrokerError, match="knows no primary called 'other'") as caught:
            check_broker(url.replace("/cord/", "/other/"))
        assert PASSWORD not in str(caught.value)
        for port in servers.sentinels:
            servers.kill(port)
        with pytest.raises(BrokerError, match="no sentinel names the primary 'cord'"):
            check_broker(url)
