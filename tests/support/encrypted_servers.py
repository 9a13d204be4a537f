"""A private PostgreSQL and Redis that accept only TLS and require passwords, with a CA made for them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import redis

_POSTGRES_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").is_dir() else []
_START_SECONDS = 60.0


def missing() -> str | None:
    """What this machine lacks for encrypted servers, or None."""
    for program in ("openssl", "redis-server", *(["runuser"] if os.geteuid() == 0 else [])):
        if shutil.which(program) is None:
            return f"no {program}"
    return None if _POSTGRES_FOLDERS else "no PostgreSQL with TLS in /usr/lib/postgresql"


def certificates(folder: Path) -> Path:
    """Writes ca.pem, server.pem and server.key (for 127.0.0.1) into `folder`; returns the CA's certificate."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl(
        *[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-subj",
            "/CN=test-ca",
        ]
    )
    openssl(
        *[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
            "-subj",
            "/CN=127.0.0.1",
        ]
    )
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n", encoding="ascii")
    openssl(
        *[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            "server.pem",
        ]
    )
    return folder / "ca.pem"


@contextmanager
def encrypted_redis(folder: Path, password: str) -> Iterator[int]:
    """A Redis in `folder`, which holds the certificates; yields its port."""
    port = _free_port()
    (folder / "redis.conf").write_text(
        f"port 0\nbind 127.0.0.1\ntls-port {port}\ntls-cert-file server.pem\ntls-key-file server.key\n"
        f'tls-ca-cert-file ca.pem\ntls-auth-clients no\nrequirepass {password}\nsave ""\n',
        encoding="ascii",
    )
    with (folder / "redis.log").open("wb") as log:
        server = subprocess.Popen(["redis-server", "redis.conf"], cwd=folder, stdout=log, stderr=log)
    try:
        client = redis.Redis(
            host="127.0.0.1", port=port, ssl=True, ssl_ca_certs=str(folder / "ca.pem"), password=password
        )
        _wait(lambda: client.ping())
        yield port
    finally:
        server.terminate()
        server.wait(30)


@contextmanager
def encrypted_postgres(folder: Path, password: str) -> Iterator[int]:
    """A PostgreSQL whose superuser `postgres` has this password; yields its port. `folder` holds the certificates."""
    port = _free_port()
    # PostgreSQL refuses to run as root, and another user cannot enter the tests' own folders.
    home = Path(tempfile.mkdtemp(prefix="cord-tls-"))
    (home / "password").write_text(password, encoding="ascii")
    for name in ("server.pem", "server.key"):
        shutil.copy(folder / name, home / name)
        (home / name).chmod(0o600)
    prefix: list[str] = []
    if os.geteuid() == 0:
        prefix = ["runuser", "-u", "postgres", "--"]
        for path in (home, *home.iterdir()):
            shutil.chown(path, "postgres", "postgres")
    programs = _POSTGRES_FOLDERS[-1]

    def run(*arguments: str) -> None:
        ended = subprocess.run([*prefix, *arguments], cwd="/", check=False, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr

    data = str(home / "data")
    run(
        str(programs / "initdb"), "-D", data, "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={home}/password",
        "--no-sync",
    )  # fmt: skip
    access = home / "data" / "pg_hba.conf"
    access.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n", encoding="ascii")
    options = (
        f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c ssl=on -c ssl_cert_file={home}/server.pem "
        f"-c ssl_key_file={home}/server.key -c fsync=off"
    )
    control = [str(programs / "pg_ctl"), "-D", data]
    subprocess.run([*prefix, *control, "-w", "-l", str(home / "log"), "-o", options, "start"], cwd="/", check=True)
    try:
        yield port
    finally:
        run(*control, "-m", "immediate", "stop")
        shutil.rmtree(home)


def _free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait(ready: Callable[[], object]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            ready()
        except redis.RedisError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
