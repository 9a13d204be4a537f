"""RabbitMQ as the broker: the same results through quorum queues, whatever happens to the broker or a worker.

Needs a RabbitMQ at CORD_TEST_AMQP_URL, or at loopback with the user guest; without one these tests are skipped.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import amqp
import pytest
from kombu import Connection

from cord_worker.config import Settings
from cord_worker.coordination.broker.broker_check import check_broker
from cord_worker.coordination.celery.app import create_app
from cord_worker.coordination.messaging.messenger import COORDINATOR_QUEUE, Messenger
from cord_worker.coordination.messaging.routing import Shards, model_queue
from cord_worker.errors import BrokerError, BrokerRefused
from cord_worker.store.database import Database
from tests.support.cluster import Cluster
from tests.support.tables import Content, content, count, differences
from tests.support.wire import Wire

URL = os.environ.get("CORD_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")
_PARTS = urlsplit(URL)
ADDRESS = (_PARTS.hostname or "127.0.0.1", _PARTS.port or 5672)
USER = unquote(_PARTS.username or "guest")
PROBLEMS = 12


def url_of(*, login: str | None = None, vhost: str | None = None, port: int | None = None) -> str:
    """URL with another `user:password`, virtual host, or port of this machine."""
    address = f"{ADDRESS[0]}:{ADDRESS[1]}" if port is None else f"127.0.0.1:{port}"
    path = _PARTS.path if vhost is None else f"/{vhost}"
    return _PARTS._replace(netloc=f"{login or _PARTS.netloc.rpartition('@')[0]}@{address}", path=path).geturl()


def _answers() -> bool:
    """Whether RabbitMQ lets the user in. `check_broker` is not asked: a mistake in it must not skip its own tests."""
    if "CORD_TEST_AMQP_URL" in os.environ:
        return True
    transport = Connection(URL, connect_timeout=2, transport_options={"read_timeout": 2}).transport
    try:
        transport.close_connection(transport.establish_connection())
    except (amqp.AMQPError, OSError):
        return False
    return True


pytestmark = [pytest.mark.long, pytest.mark.skipif(not _answers(), reason="no RabbitMQ answers")]


@pytest.fixture
def prefix() -> Iterator[str]:
    """A prefix of the test's own queues, which are deleted after it."""
    name = f"cord-test-{secrets.token_hex(4)}:"
    yield name
    with Connection(URL) as connection:
        for queue in (COORDINATOR_QUEUE, *_MODEL_QUEUES):
            connection.default_channel.queue_delete(f"{name}{queue}")


_MODEL_QUEUES: set[str] = set()


def cluster_of(folder: Path, url: str, broker: str, prefix: str) -> Cluster:
    cluster = Cluster(folder, url, broker)
    cluster.environment["CORD_KEY_PREFIX"] = prefix
    _MODEL_QUEUES.update(model_queue(model.fingerprint(), 0) for model in cluster.config.models.values())
    return cluster


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Callable[[], AbstractContextManager[str]],
    broker_url: str,
) -> Content:
    """The results of the problems over Redis."""
    with migrated_database() as url, Cluster(tmp_path_factory.mktemp("redis"), url, broker_url) as cluster:
        database = Database(url)
        cluster.enqueue(database, PROBLEMS)
        cluster.start()
        cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 120)
        database.close()
        database = Database(url)
        found = content(database)
        database.close()
        return found


def test_lost_connections_deleted_queues_and_a_killed_worker_change_nothing(
    tmp_path: Path, database: Database, database_url: str, prefix: str, undisturbed: Content
) -> None:
    wire = Wire(ADDRESS)
    with cluster_of(tmp_path, database_url, url_of(port=wire.port), prefix) as cluster:
        try:
            cluster.start()
            cluster.wait_until(lambda: count(database, "ready_at IS NOT NULL", "workers") == 4, 120)
            with cluster.no_result_of("beta", database):
                cluster.enqueue(database, PROBLEMS)
                cluster.kill_holding_a_lease("beta", database)
            assert wire.cut() >= 3
            with Connection(URL) as connection:
                for queue in (COORDINATOR_QUEUE, *_MODEL_QUEUES):
                    connection.default_channel.queue_delete(f"{prefix}{queue}")
            cluster.start("beta")
            cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 180)
            assert differences(undisturbed, content(database)) == []
            for name in cluster.names:
                assert cluster.stop(name) == 0, name
        finally:
            wire.close()


def test_queues_are_quorum_queues_with_the_prefix_and_a_missing_one_is_empty(database: Database, prefix: str) -> None:
    app = create_app(URL, Settings(key_prefix=prefix))
    messenger = Messenger(app, Shards(database))
    assert messenger.lengths(["nowhere", COORDINATOR_QUEUE]) == {"nowhere": 0, COORDINATOR_QUEUE: 0}
    assert messenger.exchange_owner("this database") == "this database"
    messenger.discard("nowhere")
    with app.connection_for_write() as connection:
        queue = app.amqp.queues[f"{prefix}{COORDINATOR_QUEUE}"]
        assert queue.queue_arguments == {"x-queue-type": "quorum"}
        queue(connection.default_channel).declare()
    assert messenger.lengths([COORDINATOR_QUEUE]) == {COORDINATOR_QUEUE: 0}
    app.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (url_of(login=f"{_PARTS.username}:wr0ng"), "refuses the user or password"),
        (url_of(vhost="no-such-host"), "no virtual host 'no-such-host'"),
    ],
)
def test_a_refusal_of_rabbitmq_is_reported_with_its_reason(url: str, told: str) -> None:
    with pytest.raises(BrokerRefused, match=told) as caught:
        check_broker(url)
    assert "wr0ng" not in str(caught.value)


def _control(*arguments: str) -> None:
    subprocess.run(["rabbitmqctl", "--quiet", *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def vhost() -> Iterator[str]:
    """A virtual host of these tests, with a user of its name; every test leaves it with all permissions."""
    name = f"cord-test-{secrets.token_hex(4)}"
    try:
        _control("add_vhost", name)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("rabbitmqctl cannot be used")
    _control("add_user", name, name)
    _control("set_permissions", "-p", name, name, ".*", ".*", ".*")
    yield name
    with contextlib.suppress(subprocess.SubprocessError):
        _control("delete_vhost", name)
    _control("delete_user", name)


def test_an_alarm_of_rabbitmq_is_named_as_long_as_it_lasts(vhost: str) -> None:
    """The whole server is blocked meanwhile, for as short as possible."""
    broker = url_of(login=f"{vhost}:{vhost}", vhost=vhost)
    assert check_broker(broker).startswith("RabbitMQ")
    command = ("rabbitmqctl", "--quiet", "eval", "vm_memory_monitor:get_vm_memory_high_watermark().")
    before = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    assert 0.01 < float(before) <= 1
    try:
        _control("set_vm_memory_high_watermark", "0.0001")
        with pytest.raises(BrokerError, match="takes no messages: an alarm of its memory or disk"):
            check_broker(broker)
    finally:
        _control("set_vm_memory_high_watermark", before)
    assert check_broker(broker).startswith("RabbitMQ")


def test_the_check_succeeds_for_a_user_that_may_not_send(vhost: str) -> None:
    _control("set_permissions", "-p", vhost, vhost, ".*", "^$", ".*")
    try:
        assert check_broker(url_of(login=f"{vhost}:{vhost}", vhost=vhost)).startswith("RabbitMQ")
    finally:
        _control("set_permissions", "-p", vhost, vhost, ".*", ".*", ".*")


def test_workers_survive_malformed_messages_lost_permissions_and_a_deleted_virtual_host(
    tmp_path: Path, database: Database, database_url: str, vhost: str
) -> None:
    broker = url_of(login=f"{vhost}:{vhost}", vhost=vhost)
    with cluster_of(tmp_path, database_url, broker, "") as cluster, Connection(broker) as connection:
        queues = [
            COORDINATOR_QUEUE,
            *(model_queue(model.fingerprint(), 0) for model in cluster.config.models.values()),
        ]
        for queue in queues:  # classic queues instead of quorum queues
            connection.default_channel.queue_declare(queue, durable=True, auto_delete=False)
        cluster.start()
        cluster.wait_until(lambda: count(database, "ready_at IS NOT NULL", "workers") == 4, 120)

        producer = connection.Producer()
        task = {"task": "cord.advance", "id": "x"}
        for queue in queues:
            for body, options in (
                (b"no json", {}),
                (b"[[], {}, {}]", {"headers": task}),
                (b'[[], {"problem_id": 1, "step": 1}, {}]', {"headers": {"task": "no.such", "id": "x"}}),
                (b'[[], {"problem_id": 1, "step": 1}, {}]', {"headers": {**task, "compression": "application/x-bz2"}}),
                (b'[[], {"problem_id": 1, "step": 1}, {}]', {"headers": {**task, "id": 7}}),
            ):
                for content_type in ("application/json", "application/x-python-serialize"):
                    producer.publish(
                        body, routing_key=queue, content_type=content_type, content_encoding="utf-8", **options
                    )
        _finish(cluster, database, 4, "first")

        def waiting() -> int:
            return count(database, "condition LIKE 'waits for its broker%'", "workers")

        _control("set_permissions", "-p", vhost, vhost, "^$", "^$", "^$")
        with Connection(url_of(vhost=vhost)) as other:
            _control("set_permissions", "-p", vhost, USER, ".*", ".*", ".*")
            for queue in queues:
                other.default_channel.queue_delete(queue)
        cluster.wait_until(lambda: waiting() == 4, 60)
        _control("set_permissions", "-p", vhost, vhost, ".*", ".*", ".*")
        cluster.wait_until(lambda: waiting() == 0, 60)
        _finish(cluster, database, 8, "second")

        _control("delete_vhost", vhost)
        cluster.wait_until(lambda: waiting() == 4, 60)
        _control("add_vhost", vhost)
        _control("set_permissions", "-p", vhost, vhost, ".*", ".*", ".*")
        cluster.wait_until(lambda: waiting() == 0, 60)
        _finish(cluster, database, 12, "third")

        assert all(process.poll() is None for process in cluster.processes.values())
        for name in cluster.names:
            said = (tmp_path / f"{name}.log").read_text(errors="replace")
            assert "Traceback" not in said, said[-3000:]
            assert 2 <= said.count("waiting for the broker") <= 12, said[-3000:]
            assert cluster.stop(name) == 0, name


def _finish(cluster: Cluster, database: Database, whole: int, run: str) -> None:
    """Enqueues four more problems and waits until they are done."""
    cluster.enqueue(database, 4, run)
    cluster.wait_until(lambda: count(database, "state = 'done'") == whole, 120)
