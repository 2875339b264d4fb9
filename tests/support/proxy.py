"""A TCP proxy in front of PostgreSQL that breaks connections where a test wants it.

It understands just enough of the protocol to see which statements pass: simple queries (``Q``), and prepared ones from
``Parse`` to ``Bind``. Connections must not be encrypted; `Proxy.dsn` sees to that.
"""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_CHUNK = 65_536


class Cut:
    """An order to break the connection at a statement.

    Args:
        text: The statement begins with this, in any case.
        after: False: PostgreSQL never sees the statement. True: it runs it, and the client never hears of it.
        times: How often, on whatever connection comes first.
        skip: How many such statements pass before.
        then: Done right before the connection breaks.
    """

    def __init__(
        self, text: str, *, after: bool, times: int, skip: int = 0, then: Callable[[], None] = lambda: None
    ) -> None:
        self._text = text.lower()
        self._left = times
        self._skip = skip
        self.after = after
        self.then = then
        self.happened = threading.Event()
        self._guard = threading.Lock()

    def takes(self, statement: str) -> bool:
        with self._guard:
            if self._left == 0 or not statement.lstrip().lower().startswith(self._text):
                return False
            if self._skip:
                self._skip -= 1
                return False
            self._left -= 1
        return True


class Proxy:
    """Listens on a port of 127.0.0.1 and passes everything on, until told otherwise.

    Args:
        dsn: The server to stand in front of, by TCP or by Unix socket.
    """

    def __init__(self, dsn: str) -> None:
        self._target = conninfo_to_dict(dsn)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port: int = self._listener.getsockname()[1]
        self._guard = threading.Lock()
        self._lines: set[_Line] = set()
        self._cuts: list[Cut] = []
        self._refusing = False
        self._threads: list[threading.Thread] = []
        self.accepted = 0
        self.statements: list[str] = []
        self._run(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def dsn(self) -> str:
        """How to connect through the proxy, to the same database as the same user."""
        here = {"host": "127.0.0.1", "port": self._port, "sslmode": "disable", "gssencmode": "disable"}
        return make_conninfo("", **{**self._target, **here})

    def cut_before(self, text: str, *, times: int = 1) -> Cut:
        """Break the connection instead of passing the next statement that begins so; it never runs."""
        return self._order(Cut(text, after=False, times=times))

    def cut_after(self, text: str, *, times: int = 1) -> Cut:
        """Pass the next statement that begins so, and break the connection when it has run, before the answer."""
        return self._order(Cut(text, after=True, times=times))

    def cut_at(self, number: int, *, after: bool, then: Callable[[], None]) -> Cut:
        """At a statement, counted from now from 0, do something and then break the connection."""
        return self._order(Cut("", after=after, times=1, skip=number, then=then))

    def cut_all(self) -> int:
        """Break every open connection now; how many there were."""
        with self._guard:
            lines = list(self._lines)
        for line in lines:
            line.close()
        return len(lines)

    def refuse(self, *, refusing: bool = True) -> None:
        """Break new connections at once, until told otherwise."""
        self._refusing = refusing

    def close(self) -> None:
        """Stop, and break what is open. May be called twice."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        self._refusing = True
        self.cut_all()
        for thread in self._threads:
            thread.join(60)

    def _order(self, cut: Cut) -> Cut:
        with self._guard:
            self._cuts.append(cut)
        return cut

    def _cut_for(self, statement: str) -> Cut | None:
        with self._guard:
            self.statements.append(statement)
            return next((cut for cut in self._cuts if cut.takes(statement)), None)

    def _run(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type] # any callable
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                if self._refusing:
                    raise ConnectionRefusedError
                upstream = self._connect()
            except OSError:
                client.close()
                continue
            for side in (client, upstream):
                if side.family != socket.AF_UNIX:  # each message goes alone, and must not wait for the one before
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = _Line(client, upstream)
            with self._guard:
                self._lines.add(line)
            self._run(self._to_server, line)
            self._run(self._to_client, line)

    def _connect(self) -> socket.socket:
        host, port = str(self._target.get("host") or "127.0.0.1"), int(self._target.get("port") or 5432)
        if host.startswith("/"):
            upstream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                upstream.connect(f"{host}/.s.PGSQL.{port}")
            except OSError:
                upstream.close()
                raise
            return upstream
        return socket.create_connection((host, port))

    def _leave(self, line: "_Line") -> None:
        line.close()
        if line.leave():
            with self._guard:
                self._lines.discard(line)

    def _to_server(self, line: "_Line") -> None:
        statements: dict[bytes, str] = {}
        try:
            for kind, message in _messages(line.client, first_has_no_type=True):
                statement = _statement(kind, message, statements)
                cut = self._cut_for(statement) if statement is not None else None
                if cut and not cut.after:
                    cut.then()
                    cut.happened.set()
                    line.close()
                    return
                line.note(kind, cut)
                line.upstream.sendall(message)
        except OSError:
            pass
        finally:
            self._leave(line)

    def _to_client(self, line: "_Line") -> None:
        try:
            for kind, message in _messages(line.upstream, first_has_no_type=False):
                verdict = line.answered(kind)
                if isinstance(verdict, Cut):
                    verdict.then()
                    verdict.happened.set()
                    line.close()
                    return
                if verdict:
                    line.client.sendall(message)
        except OSError:
            pass
        finally:
            self._leave(line)


class _Line:
    """One client's connection: two sockets, and what is due to happen at which answer."""

    def __init__(self, client: socket.socket, upstream: socket.socket) -> None:
        self.client = client
        self.upstream = upstream
        self._guard = threading.Lock()
        self._rounds_sent = 0
        self._rounds_answered = -1  # the server says "ready" once by itself, after the login
        self._due: tuple[int, Cut] | None = None
        self._threads = 2

    def note(self, kind: bytes, cut: Cut | None) -> None:
        """A message goes to the server; a cut is due when the round that it belongs to is answered."""
        with self._guard:
            if cut:
                self._due = (self._rounds_sent + 1, cut)
            if kind in (b"Q", b"S"):
                self._rounds_sent += 1

    def answered(self, kind: bytes) -> Cut | bool:
        """A message comes from the server: the cut that is due now, or whether the client may see the message."""
        with self._guard:
            if kind == b"Z":
                self._rounds_answered += 1
            if self._due is None:
                return True
            due, cut = self._due
            return cut if self._rounds_answered >= due else self._rounds_answered < due - 1

    def close(self) -> None:
        """Break both sides, which wakes the threads that read from them."""
        for side in (self.client, self.upstream):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def leave(self) -> bool:
        """One thread is done with the line; the last one closes it, and is told so."""
        with self._guard:
            self._threads -= 1
            if self._threads:
                return False
        self.client.close()
        self.upstream.close()
        return True


def _messages(source: socket.socket, *, first_has_no_type: bool) -> Iterator[tuple[bytes, bytes]]:
    """The messages of one direction as (type, whole message); the client's first one has no type."""
    buffer = b""
    offset = 0 if first_has_no_type else 1
    while chunk := source.recv(_CHUNK):
        buffer += chunk
        while len(buffer) >= offset + 4:
            length = offset + struct.unpack_from("!I", buffer, offset)[0]
            if len(buffer) < length:
                break
            yield buffer[:offset], buffer[:length]
            buffer, offset = buffer[length:], 1


def _statement(kind: bytes, message: bytes, prepared: dict[bytes, str]) -> str | None:
    """The statement that a message makes the server run, if it is such a message."""
    body = message[5:]
    if kind == b"Q":
        return body.partition(b"\0")[0].decode("utf-8", "replace")
    if kind == b"P":
        name, text, *_ = body.split(b"\0")
        prepared[name] = text.decode("utf-8", "replace")
    if kind == b"B":
        _, name, *_ = body.split(b"\0", 2)
        return prepared.get(name)
    return None
