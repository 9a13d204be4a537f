"""One embedded PostgreSQL server: makes, starts, adopts and stops it, and cleans up after it.

It listens only on a unix socket in a private folder. Its access rule `trust` therefore admits only processes that can
enter the folder. Data, log and sockets are in `<state>/postgres`. For root without namespaces they are in a folder that
belongs to the unprivileged user; `<state>/postgres/external` holds its path.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import stat
import time
from pathlib import Path
from urllib.parse import quote

from cord_worker.errors import LocalServiceError
from cord_worker.local import limits, privilege, processes
from cord_worker.local.binaries import PostgresBinaries, find_postgres
from cord_worker.local.processes import ProcessId
from cord_worker.local.sockets import private_dir, socket_dir
from cord_worker.local.state import write_atomically

ROLE = DATABASE = "cord"
_PROGRAMS = ("postgres", "postmaster")
_START_SECONDS = 120.0
_INITDB_SECONDS = 300.0
# Fast shutdown, then immediate (recovery at the next start), then a kill.
_STOP_STEPS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
_MIN_SHARED_MEMORY = 256 * limits.MIB
"""Parallel queries and the server's statistics use at most this much shared memory."""
_SETS_AT_INITDB = (16,)
"""First version whose initdb accepts settings."""
_EXTERNAL_ROOTS = (Path("/var/lib/cord-worker"), Path("/var/tmp/cord-worker"))
_SETTINGS = """\
# Written by cord_worker at every start; put your own settings into postgresql.conf, after the include.
listen_addresses = ''
port = 5432
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = 128MB
jit = off
fsync = on
synchronous_commit = on
logging_collector = off
"""


class EmbeddedPostgres:
    """The PostgreSQL server of one state folder. Start and stop under the state folder's lock."""

    def __init__(self, state_dir: Path) -> None:
        self._base = Path(state_dir).resolve() / "postgres"

    @property
    def home(self) -> Path:
        """The folder that holds the data, the log and, where its path is short enough, the sockets."""
        try:
            return Path((self._base / "external").read_text(encoding="utf-8").strip())
        except FileNotFoundError:
            return self._base

    @property
    def data_dir(self) -> Path:
        """PostgreSQL's data folder."""
        return self.home / "data"

    @property
    def log_path(self) -> Path:
        """The server's log."""
        return self.home / "postgres.log"

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the running server's database.

        Raises:
            LocalServiceError: the server does not run.
        """
        folder = self._running_socket_dir()
        if folder is None:
            raise LocalServiceError(f"The embedded PostgreSQL of {self._base.parent} does not run; start it first.")
        return f"postgresql+psycopg://{ROLE}@/{DATABASE}?host={quote(str(folder), safe='/')}"

    def process(self) -> ProcessId | None:
        """The postmaster of exactly this data folder, or None; a reused pid is not mistaken for it."""
        lines = self._pid_lines()
        if not lines or not lines[0].isdigit() or not processes.works_in(int(lines[0]), self.data_dir, _PROGRAMS):
            return None
        return processes.identify(int(lines[0]))

    def processes(self) -> list[int]:
        """Pids of every process that works in this data folder, even if the folder was deleted."""
        return processes.all_in(self.data_dir, _PROGRAMS)

    def is_running(self) -> bool:
        """True when this folder's postmaster lives."""
        return self.process() is not None

    def has_data(self) -> bool:
        """True when a database was made here."""
        return self.data_dir.exists()

    def start(self) -> None:
        """Starts the server, or adopts the running one; returns once the database answers.

        Raises:
            LocalServiceError: no fitting binaries, or the server did not come up; the message holds the end of its log.
        """
        if not self.is_running():
            run_as = self._prepare_home()
            self._clean_up()
            binaries = self._reachable(find_postgres(self._data_major()), run_as)
            if self._data_major() is None:
                self._initdb(binaries, run_as)
            self._launch(binaries, run_as)
        self._wait_until_ready()

    def stop(self) -> None:
        """Stops the server and what is left of a dead one; does nothing if there is none.

        Raises:
            LocalServiceError: a process of it cannot be ended.
        """
        process = self.process()
        if process is not None:
            # Only the postmaster: it ends its backends in order.
            processes.terminate([process.pid], _STOP_STEPS)
        self._clean_up()

    def _prepare_home(self) -> privilege.RunAs:
        self._base.mkdir(mode=0o700, exist_ok=True)
        external = (self._base / "external").exists()
        inside = (self._base / "data").exists()
        known: privilege.Strategy | None = "user" if external else "namespace" if inside else None
        run_as = privilege.choose(known)
        if run_as.strategy == "user" and not external:
            home = _external_home(run_as.uid)
            write_atomically(self._base / "external", f"{home}\n")
        if run_as.strategy == "user":
            # The user that made the data keeps it, even if another one would be chosen today.
            facts = self.home.stat()
            run_as = privilege.RunAs("user", facts.st_uid, run_as.gid)
        return run_as

    def _data_major(self) -> int | None:
        try:
            return int((self.data_dir / "PG_VERSION").read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise LocalServiceError(
                f"{self.data_dir / 'PG_VERSION'} does not hold a version number; the data folder is damaged. Restore "
                "it, or use a new state folder (CORD_STATE_DIR)."
            ) from error

    def _reachable(self, binaries: PostgresBinaries, run_as: privilege.RunAs) -> PostgresBinaries:
        """The binaries, or a private copy of them if the server's user cannot reach them."""
        if run_as.strategy != "user" or _can_run(binaries.bin_dir, run_as, self.home):
            return binaries
        return PostgresBinaries(_copy_installation(binaries, self.home), binaries.version, binaries.source)

    def _initdb(self, binaries: PostgresBinaries, run_as: privilege.RunAs) -> None:
        """Makes the data folder under another name and renames it, so that an incomplete one is never opened."""
        unfinished = self.home / "data.new"
        self._end_initdb(unfinished)
        if unfinished.exists():
            shutil.rmtree(unfinished)
        options = ["-U", ROLE, "-E", "UTF8", "--locale=C", "--auth=trust"]
        if binaries.version >= _SETS_AT_INITDB:
            options += [f"--set={setting}" for setting in _shared_memory().splitlines()]
        result = run_as.run(
            [str(binaries.bin_dir / "initdb"), "-D", unfinished.name, *options], self.home, _INITDB_SECONDS
        )
        if result.returncode != 0:
            self._check_limits(result.stdout)
            raise LocalServiceError(
                f"initdb could not make the database folder {unfinished} (exit {result.returncode}). The end "
                f"of its output:\n{result.stdout.strip()[-2000:]}"
            )
        configuration = unfinished / "postgresql.conf"
        text = configuration.read_text(encoding="utf-8")
        write_atomically(configuration, f"{text}\ninclude_if_exists = 'cord.conf'\n", run_as.uid)
        write_atomically(unfinished / "pg_hba.conf", "local all all trust\n", run_as.uid)
        unfinished.rename(self.data_dir)

    def _end_initdb(self, unfinished: Path) -> None:
        """Ends an initdb whose caller was killed: it would write into, or remove, the folder that is made now."""
        for folder, names in ((self.home, ("initdb",)), (unfinished, _PROGRAMS)):
            left = processes.terminate(processes.all_in(folder, names), ((signal.SIGKILL, 5.0),))
            if left:
                raise LocalServiceError(
                    f"Processes {left} of an interrupted initdb still use {folder} and cannot be ended. End them "
                    "(kill -9), then try again."
                )

    def _launch(self, binaries: PostgresBinaries, run_as: privilege.RunAs) -> None:
        folder = socket_dir(self.home, run_as.uid)
        for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            (folder / name).unlink(missing_ok=True)
        # A list of quoted names, within a quoted string with escapes.
        quoted = str(folder).replace('"', '""').replace("\\", "\\\\").replace("'", "''")
        settings = f"{_SETTINGS}{_shared_memory()}unix_socket_directories = '\"{quoted}\"'\n"
        write_atomically(self.data_dir / "cord.conf", settings, run_as.uid)
        # Relative paths: pg_ctl passes its arguments to a shell without quoting special characters.
        argv = [str(binaries.bin_dir / "pg_ctl"), "-D", "data", "-l", "postgres.log", "-w", "-t", "60", "start"]
        result = run_as.run(argv, self.home, _START_SECONDS)
        if result.returncode != 0 and not self.is_running():
            self._check_limits(f"{result.stdout}\n{processes.tail(self.log_path)}")
            raise LocalServiceError(
                f"The embedded PostgreSQL of {self._base.parent} did not start: {result.stdout.strip()[-400:]}\n"
                f"The end of {self.log_path}:\n{processes.tail(self.log_path)}"
            )

    def _check_limits(self, words: str) -> None:
        """Raises LocalServiceError if the server's last output names a limit of the machine."""
        limit = limits.limit_named_in(words)
        if limit is not None:
            raise LocalServiceError(
                f"The embedded PostgreSQL of {self._base.parent} did not start: {limit}. Its log is {self.log_path}."
            )

    def _wait_until_ready(self) -> None:
        """Connects until the server answers; makes the database at the first start.

        Raises:
            LocalServiceError: the server died, or did not answer in time (crash recovery included).
        """
        import psycopg  # here, so that a test whether a server runs does not load it

        deadline = time.monotonic() + _START_SECONDS
        problem = "no socket"
        while time.monotonic() < deadline:
            folder = self._running_socket_dir()
            if folder is None:
                if not self.is_running():
                    break
                time.sleep(0.05)
                continue
            try:
                with psycopg.connect(
                    host=str(folder), user=ROLE, dbname="postgres", autocommit=True, connect_timeout=5
                ) as connection:
                    known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                    if known is None:
                        connection.execute(f"CREATE DATABASE {DATABASE}")
                return
            except psycopg.OperationalError as error:
                problem = str(error).strip()
                time.sleep(0.05)
        self._check_limits(processes.tail(self.log_path))
        raise LocalServiceError(
            f"The embedded PostgreSQL of {self._base.parent} does not answer ({problem}). The end of "
            f"{self.log_path}:\n{processes.tail(self.log_path)}"
        )

    def _clean_up(self) -> None:
        """Ends backends that outlived their postmaster and removes its pid file; never touches a living server."""
        if self.is_running():
            raise LocalServiceError(
                f"The embedded PostgreSQL of {self._base.parent} could not be stopped; its pid is in "
                f"{self.data_dir / 'postmaster.pid'}."
            )
        if not self.data_dir.exists():
            return
        left = processes.terminate(self.processes(), ((signal.SIGQUIT, 2.0), (signal.SIGKILL, 5.0)))
        if left:
            raise LocalServiceError(
                f"Processes {left} of a dead PostgreSQL server still use {self.data_dir} and cannot be ended. End them "
                "(kill -9), then try again."
            )
        (self.data_dir / "postmaster.pid").unlink(missing_ok=True)

    def _pid_lines(self) -> list[str]:
        try:
            return (self.data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return []

    def _running_socket_dir(self) -> Path | None:
        # Line 5 is the socket folder that this server really uses, whatever the environment says now.
        lines = self._pid_lines()
        if len(lines) < 5 or not lines[4] or not self.is_running():
            return None
        return Path(lines[4])


def _shared_memory() -> str:
    """The setting that makes the server use its own files if /dev/shm is too small for it, as in containers."""
    free = limits.free_shared_memory()
    return "dynamic_shared_memory_type = mmap\n" if free is None or free < _MIN_SHARED_MEMORY else ""


def _can_run(bin_dir: Path, run_as: privilege.RunAs, cwd: Path) -> bool:
    try:
        return run_as.run([str(bin_dir / "initdb"), "--version"], cwd, 20).returncode == 0
    except LocalServiceError:
        return False


def _copy_installation(binaries: PostgresBinaries, home: Path) -> Path:
    """Copies the installation of `bin_dir` into `home`, with the layout that its libraries' relative paths need."""
    prefix = binaries.bin_dir.parent
    target = home / "programs" / ".".join(map(str, binaries.version)) / prefix.parent.name / prefix.name
    if (target / "complete").exists():
        return target / "bin"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(prefix, target, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    libraries = prefix.parent.with_name(f"{prefix.parent.name}.libs")
    if libraries.is_dir():
        copied = target.parent.with_name(libraries.name)
        shutil.copytree(libraries, copied, symlinks=True, dirs_exist_ok=True)
    for folder in (home / "programs", *(path for path in (home / "programs").rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    (target / "complete").touch()
    return target / "bin"


def _external_home(uid: int) -> Path:
    """A new folder that belongs to user `uid`, for one state folder's database, below a folder that belongs to root."""
    problems = []
    for root in _EXTERNAL_ROOTS:
        try:
            root.mkdir(mode=0o755, exist_ok=True)
            facts = root.lstat()
        except OSError as error:
            problems.append(f"{root}: {error.strerror}")
            continue
        if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & 0o022:
            return private_dir(root / secrets.token_hex(8), uid)
        problems.append(f"{root}: does not belong to root alone")
    raise LocalServiceError(
        f"No place for the database of an unprivileged user ({'; '.join(problems)}). Run as an ordinary user, or set "
        "CORD_DATABASE_URL to your own server."
    )
