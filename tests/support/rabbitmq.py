"""RabbitMQ for tests: the server at its standard port, and nodes of a test's own."""

import os
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import pytest

from mainstay.delivery.rabbitmq import RabbitMQBus
from tests.support.waiting import eventually_sync

AMQP_URL = os.environ.get("MAINSTAY_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
_SCRIPTS = "/usr/lib/rabbitmq/bin"
"""Where Debian has the scripts themselves; those in the path change the user."""
_PATIENCE = 120.0


def amqp_url() -> str:
    """Where RabbitMQ answers; skips the test on a laptop without one, and fails it in CI."""
    parts = urlsplit(AMQP_URL)
    place = (parts.hostname or "127.0.0.1", parts.port or 5672)
    try:
        socket.create_connection(place, timeout=5).close()
    except OSError as error:
        reason = f"no RabbitMQ at {place[0]}:{place[1]} (MAINSTAY_TEST_AMQP_URL): {error}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return AMQP_URL


async def forget(url: str, topic: str, groups: tuple[str, ...], partitions: int) -> None:
    """Delete what a topic has at the broker."""
    named = RabbitMQBus(url, topic).named
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        parts = ["dead", "members", *map(str, range(partitions))]
        for queue in [named("partitions"), *(named(group, part) for group in groups for part in parts)]:
            await channel.queue_delete(queue)
        await channel.exchange_delete(named())


class RabbitMQBroker:
    """A node of a test's own, with a port mapper of its own; both listen on 127.0.0.1 only.

    Args:
        directory: For its data and its log.
    """

    def __init__(self, directory: Path) -> None:
        path = os.pathsep.join([_SCRIPTS, os.environ["PATH"]])
        self._server = shutil.which("rabbitmq-server", path=path)
        self._mapper = shutil.which("epmd")
        if self._server is None or self._mapper is None:
            reason = "rabbitmq-server and epmd are not installed (Debian: apt-get install rabbitmq-server)"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        self._home = directory
        self._ports = {name: _free_port() for name in ("node", "dist", "mapper")}
        self._node: subprocess.Popen[bytes] | None = None
        self._mapping: subprocess.Popen[bytes] | None = None

    @property
    def place(self) -> dict[str, Any]:
        return {"kind": "rabbitmq", "url": f"amqp://guest:guest@127.0.0.1:{self._ports['node']}/"}

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert self._server is not None
        assert self._mapper is not None
        environ = self._environ()
        mapping = [self._mapper, "-address", "127.0.0.1", "-port", str(self._ports["mapper"])]
        with (self._home / "out").open("ab") as out:
            said: dict[str, Any] = {"env": environ, "stdout": out, "stderr": out}
            self._mapping = subprocess.Popen(mapping, **said)
            self._node = subprocess.Popen([self._server], **said, start_new_session=True)
        eventually_sync(self._answers, timeout=_PATIENCE, what="RabbitMQ answers")

    def stop(self, *, hard: bool = False) -> None:
        """Stop it, if it runs; hard is a crash."""
        node, mapping = self._node, self._mapping
        self._node = self._mapping = None
        if node is not None:
            if not hard:
                node.terminate()  # the script passes it on
                node.wait(_PATIENCE)
            _end_group(node)
        if mapping is not None:
            mapping.kill()
            mapping.wait()

    def stored(self) -> int | None:
        """What was acknowledged is gone."""
        return None

    def _environ(self) -> dict[str, str]:
        home = str(self._home)
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": home,
            "RABBITMQ_NODENAME": f"mainstay{self._ports['node']}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._ports["node"]),
            "RABBITMQ_DIST_PORT": str(self._ports["dist"]),
            "RABBITMQ_MNESIA_BASE": f"{home}/data",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": f"{home}/environment",
            "ERL_EPMD_PORT": str(self._ports["mapper"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": loopback,
        }

    def _answers(self) -> bool:
        """The port is opened last of all."""
        try:
            with socket.create_connection(("127.0.0.1", self._ports["node"]), timeout=1) as way:
                way.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(way.recv(1))
        except OSError:
            return False


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
