"""The small program that is the embedded PostgreSQL's parent, and that outlives whoever started it.

`mainstay.storage.postgres.embedded` runs this file as a script, in isolated mode and without site-packages, so that it
starts in milliseconds and needs nothing but the standard library. Its whole life:

1. It detaches itself: the starter's terminal, and the end of the starter, do not reach it.
2. It starts PostgreSQL as its own child, so that somebody always reaps it.
3. It waits until the server ends, or until it gets the users' lock exclusively, which the kernel grants when the last
   process that uses the server has gone, however it went. In the second case it stops the server.

It holds the supervisor's lock (inherited, already taken) from before the server starts until after the server ended.
That lock therefore says, without any race, whether a server may be there.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

#: What to send, and how many seconds to wait before sending the next: fast, then immediate, then the hard way.
ESCALATION = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))


def stop_when_unused(users: int, server: "subprocess.Popen[bytes]") -> None:
    """Wait until nobody uses the server, then stop it.

    Args:
        users: Descriptor of the users' lock, not locked yet.
        server: The postmaster.
    """
    fcntl.flock(users, fcntl.LOCK_EX)
    for number, grace in ESCALATION:
        server.send_signal(number)
        threading.Event().wait(grace)


def main(arguments: list[str]) -> None:
    """Supervise one run of the server.

    Args:
        arguments: Descriptor of the users' lock; socket directory; user id and group id to run the server as, or ``-``
            and ``-``; the server's command line.
    """
    users, sockets, uid, gid, *command = arguments
    if os.fork():
        os._exit(0)
    os.setsid()
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGQUIT):
        # The background of a shell ignores the last two, and so would the server until it has handlers of its own.
        signal.signal(number, signal.SIG_DFL)
    if uid == "-":
        server = subprocess.Popen(command)  # noqa: S603 - the command line of our own starter
    else:
        server = subprocess.Popen(  # noqa: S603 - as above
            command, user=int(uid), group=int(gid), extra_groups=[]
        )
    signal.signal(signal.SIGTERM, lambda *_: server.send_signal(signal.SIGINT))
    threading.Thread(target=stop_when_unused, args=(int(users), server), daemon=True).start()
    server.wait()
    with contextlib.suppress(OSError):
        for leftover in Path(sockets).glob(".s.PGSQL.*"):  # of a server that was killed
            leftover.unlink()
        Path(sockets).rmdir()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
