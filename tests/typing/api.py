"""Read by mypy, never run: what users' code may rely on the types of."""

from typing import assert_type
from uuid import UUID

import mainstay

assert_type(mainstay.__version__, str)

_bus = mainstay.SyncCommandBus("postgresql://localhost/shop")
assert_type(_bus.send("orders", "Do", UUID(int=0), {}), mainstay.SendResult)
assert_type(_bus.get_command("orders", UUID(int=0)), mainstay.CommandMetadata | None)
_bus.send("orders", "Do", UUID(int=0), [])  # type: ignore[call-overload]  # arguments are checked as those of the original
_bus.send("orders", "Do", UUID(int=0), {}, unique_key="a", unique_for=60, on_conflict="skip")
_bus.send("orders", "Do", UUID(int=0), {}, unique_key=1)  # type: ignore[call-overload]  # a text
_bus.send("orders", "Do", UUID(int=0), {}, late=1)  # type: ignore[call-overload]  # as above
