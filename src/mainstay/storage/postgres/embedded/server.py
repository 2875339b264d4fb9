"""The embedded server as its users see it."""

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from mainstay.errors import ConfigurationError, EmbeddedServerError
from mainstay.storage.postgres import queries
from mainstay.storage.postgres.embedded import launch
from mainstay.storage.postgres.embedded.place import Place, find_binaries, settle
from mainstay.storage.postgres.embedded.process import Deadline, FileLock, Postmaster, exclusively

StopMode = Literal["fast", "immediate", "kill"]

_LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer ones silently


class EmbeddedServer:
    """An embedded PostgreSQL 18, shared by all processes that use its data directory.

    Its methods block; call them from a thread if an event loop runs. An instance may be used by several threads.

    Args:
        data_dir: Where everything is kept. Default: ``$MAINSTAY_DATA_DIR``, else ``mainstay/postgres18`` in the user's
            data home, as root in ``/var/lib``.
        settings: More PostgreSQL settings, by name, for the case that this process is the one that starts the server.
        durable: False trades the safety of the data for speed, for tests.
        port: Also listen on this TCP port of 127.0.0.1; 0 chooses a free one. See `tcp_dsn`.
        timeout: Seconds that starting may take.
    """

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        durable: bool = True,
        port: int | None = None,
        timeout: float = 60.0,
    ) -> None:
        self._wish = Path(data_dir) if data_dir is not None else None
        self._settings = dict(settings or {})
        self._durable = durable
        self._port = port
        self._timeout = timeout
        self._guard = threading.RLock()
        self._place: Place | None = None
        self._users: FileLock | None = None
        self._process = 0
        self._joined: Postmaster | None = None
        self._databases: set[str] = set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def data_dir(self) -> Path:
        """Where everything is kept.

        Raises:
            EmbeddedServerError: It was not started yet, so that was not decided yet.
        """
        return self._settled().data_dir

    @property
    def bin_dir(self) -> Path:
        """The directory of ``pg_dump``, ``psql`` and the other programs of this version.

        Raises:
            MissingDependencyError: The wheel is not installed.
        """
        return find_binaries()

    @property
    def running(self) -> bool:
        """Whether the server accepts connections, and this instance uses it."""
        return self._uses() and Postmaster.find(self._settled().cluster) is not None

    @property
    def pid(self) -> int | None:
        """Process id of the server, None if it does not run."""
        found = Postmaster.find(self._place.cluster) if self._place else None
        return found.pid if found else None

    def start(self) -> None:
        """Start the server, or join it if it runs. Does nothing if this instance uses it already.

        Raises:
            MissingDependencyError: The ``embedded`` extra is not installed.
            EmbeddedServerError: It does not start; the message holds the end of its log.
        """
        with self._guard:
            if self.running:
                return
            try:
                self._place = self._place or settle(self._wish)
                deadline = Deadline(self._timeout)
                with exclusively(self._place.lock("start"), deadline):
                    self._start(self._place, deadline)
            except OSError as error:
                raise EmbeddedServerError(f"the embedded PostgreSQL cannot be started: {error}") from error

    def stop(self, mode: StopMode = "fast") -> None:
        """Leave the server, and if nobody else uses it, stop it and wait until it has stopped.

        Does nothing if this instance does not use it.

        Args:
            mode: How to stop it if we are the last: ``"fast"`` shuts down cleanly, ``"immediate"`` leaves the next
                start to recover, ``"kill"`` is SIGKILL.

        Raises:
            EmbeddedServerError: It does not stop.
        """
        with self._guard:
            users = self._users
            if users is None or not self._uses():
                return
            place = self._settled()
            try:
                with exclusively(place.lock("start"), Deadline(self._timeout)):
                    users.release()
                    if users.try_exclusive():
                        self._end(place, mode)
                        with exclusively(place.lock("supervisor"), Deadline(self._timeout)), suppress(OSError):
                            self._server().sockets.rmdir()  # if its supervisor was killed, nobody else does
                    else:  # others use it, which is granted at once; or the supervisor is stopping it
                        users.shared(Deadline(2 * self._timeout))
            except FileNotFoundError:
                pass  # the data directory was removed; the supervisor ends what has no users
            finally:
                users.close()
                self._users = None
                self._joined = None
                self._databases.clear()

    def interrupt(self, mode: StopMode = "immediate") -> None:
        """Take the server down no matter who uses it. `start`, by anyone, brings it back.

        Args:
            mode: As for `stop`.

        Raises:
            EmbeddedServerError: It does not stop.
        """
        with self._guard:
            place = self._settled()
            with exclusively(place.lock("start"), Deadline(self._timeout)):
                self._end(place, mode)

    def restart(self, mode: StopMode = "immediate") -> None:
        """Take the server down no matter who uses it, and bring it back at the same address.

        Args:
            mode: As for `stop`.

        Raises:
            EmbeddedServerError: It does not stop, or does not come back.
        """
        with self._guard:
            place = self._settled()
            deadline = Deadline(self._timeout)
            with exclusively(place.lock("start"), deadline):
                self._end(place, mode)
                self._start(place, deadline)

    def dsn(self, database: str = "mainstay") -> str:
        """A connection URL through the Unix socket, as superuser. Makes the database if there is none.

        Raises:
            ConfigurationError: PostgreSQL could not hold this name.
            EmbeddedServerError: The server is not started, or the database cannot be made.
        """
        if database not in self._databases:
            self.create_database(database)
        return self._url(database)

    def tcp_dsn(self, database: str = "mainstay") -> str:
        """A connection URL through the TCP port, with the password, for programs that know no Unix sockets.

        Raises:
            ConfigurationError: PostgreSQL could not hold this name.
            EmbeddedServerError: The server is not started or has no TCP port, or the database cannot be made.
        """
        self.dsn(database)
        server = self._server()
        if not server.tcp:
            raise EmbeddedServerError("the server listens on no TCP port; start it with EmbeddedServer(port=0)")
        password = self._settled().password.read_text(encoding="ascii")
        return f"postgresql://{launch.SUPERUSER}:{password}@127.0.0.1:{server.port}/{quote(database, safe='')}"

    def create_database(self, database: str, *, template: str | None = None) -> bool:
        """Make a database.

        Args:
            database: Its name; any text of 1 to 63 bytes.
            template: Database to copy, to which nobody may be connected.

        Returns:
            False if there was one of that name, which stays as it was.

        Raises:
            ConfigurationError: PostgreSQL could not hold this name.
            EmbeddedServerError: The server is not started, or refuses.
        """
        try:
            if template is None:
                self._run("create_database", name=_identifier(database))
            else:
                self._run("copy_database", name=_identifier(database), template=_identifier(template))
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            self._databases.add(database)
            return False
        except psycopg.Error as error:
            raise EmbeddedServerError(f"database {database!r} cannot be made: {error}") from error
        self._databases.add(database)
        return True

    def drop_database(self, database: str) -> None:
        """Remove a database, together with the connections to it. Does nothing if there is none.

        Raises:
            ConfigurationError: PostgreSQL could not hold this name.
            EmbeddedServerError: The server is not started, or refuses.
        """
        try:
            self._run("drop_database", name=_identifier(database))
        except psycopg.Error as error:
            raise EmbeddedServerError(f"database {database!r} cannot be removed: {error}") from error
        self._databases.discard(database)

    def log_tail(self, lines: int = 20) -> str:
        """The end of the server's log.

        Args:
            lines: How many lines at most.

        Raises:
            EmbeddedServerError: The server was not started yet.
        """
        return launch.log_tail(self._settled().log, lines=lines)

    def _uses(self) -> bool:
        """Whether this instance uses the server; a fork of the process that started it does not."""
        return self._users is not None and self._process == os.getpid()

    def _settled(self) -> Place:
        if self._place is None:
            raise EmbeddedServerError("the embedded server was not started")
        return self._place

    def _server(self) -> Postmaster:
        if self._joined is None or not self._uses():
            raise EmbeddedServerError("the embedded server is not started")
        return self._joined

    def _url(self, database: str) -> str:
        server = self._server()
        return (
            f"postgresql://{launch.SUPERUSER}@/{quote(database, safe='')}"
            f"?host={quote(str(server.sockets), safe='/')}&port={server.port}"
        )

    def _run(self, query: str, **names: sql.Identifier) -> None:
        """Run a statement that allows no transaction around it."""
        statement = sql.SQL(queries.load("embedded")[query]).format(**names)
        with psycopg.connect(self._url(launch.SUPERUSER), autocommit=True) as connection:
            connection.execute(statement)

    def _start(self, place: Place, deadline: Deadline) -> None:
        """Become a user, and see that there is a server. The caller holds ``start.lock``."""
        fresh = not self._uses()
        if fresh:
            self._users = FileLock(place.lock("users"))
            self._process = os.getpid()
        try:
            if fresh and self._users:
                self._users.shared(deadline)
            launch.make_cluster(place, durable=self._durable)
            wish = launch.Wish(
                self._settings, self._durable, self._port, self._joined.sockets if self._joined else None
            )
            self._joined = launch.run_server(place, wish, deadline)
            if self._joined.tcp:
                self._port = self._joined.port  # a restart keeps it
        except BaseException:
            if fresh and self._users:
                self._users.close()
                self._users = None
            raise

    def _end(self, place: Place, mode: StopMode) -> None:
        """End the postmaster, whatever state it is in. The caller holds ``start.lock``."""
        found = Postmaster.read(place.cluster)
        if found and found.lives():
            found.end(mode)


def _identifier(name: str) -> sql.Identifier:
    """A database name, quoted; refused if PostgreSQL would cut or reject it."""
    if not 1 <= len(name.encode("utf-8", "replace")) <= _LONGEST_NAME or "\0" in name:
        raise ConfigurationError(f"invalid database name {name!r}: use 1 to {_LONGEST_NAME} bytes")
    return sql.Identifier(name)
