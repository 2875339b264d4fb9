"""The one server of a run: the embedded PostgreSQL, freshly made and with its durable defaults, or one by its DSN."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def server(dsn: str | None) -> Iterator[str]:
    """The DSN of the server to measure on; an embedded one is stopped and its data removed afterwards.

    Args:
        dsn: The server asked for, whose user may create databases; None starts the embedded one.
    """
    if dsn is not None:
        yield dsn
        return
    from mainstay.storage.postgres.embedded import EmbeddedServer  # noqa: PLC0415  # an extra, not needed with --dsn

    with tempfile.TemporaryDirectory(prefix="mainstay-bench-") as folder:
        Path(folder).chmod(0o755)  # as root the server runs as another user, who must be able to enter
        with EmbeddedServer(Path(folder) / "server") as embedded:
            yield embedded.dsn()
