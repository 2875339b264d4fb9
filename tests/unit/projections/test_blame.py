"""What a failure is put down to."""

import asyncio
import time

from mainstay.errors import StorageError
from mainstay.projections.shard import ShardRunner
from tests.support.counting import NAME, QUICK, Seen, count, is_stopped, state_of
from tests.support.waiting import eventually


async def test_a_key_that_cannot_be_had_blames_its_own_event(store, manager, checkpoints) -> None:
    class Keyed(Seen):
        def key(self, envelope):
            if envelope.event.number == 3:
                raise KeyError("no key")
            return str(envelope.event.number)

    seen = Keyed("dead_letter")
    seen.name = NAME
    seen.refused = {1}
    await manager.subscribe(seen, QUICK)
    await manager.start()
    await manager.wait_until(await count(store, 1))
    last = await count(store, 2, 3, 4)
    await eventually(lambda: is_stopped(checkpoints))

    state = await state_of(checkpoints)
    assert f"at position {last - 1} " in state.reason
    assert "has no key to lay it apart with: KeyError: 'no key'" in state.reason
    assert state.checkpoint.position == last - 2
    assert seen.numbers[-1:] == [2]


async def test_a_handler_that_is_canceled_from_within_has_failed(store, manager, checkpoints) -> None:
    class Giving(Seen):
        async def handle(self, envelope, conn):
            raise asyncio.CancelledError

    giving = Giving()
    giving.name = NAME
    await count(store, 1)
    await manager.subscribe(giving, QUICK)
    await manager.start()
    await eventually(lambda: is_stopped(checkpoints))

    assert "failed 3 times: RuntimeError: the handler was canceled from within" in (await state_of(checkpoints)).reason


async def test_a_shard_that_ended_by_an_error_of_ours_is_taken_up_again(store, manager, monkeypatch) -> None:
    verify, failures = ShardRunner._verify, iter([ZeroDivisionError("a mistake")])

    async def mistaken(self):
        for failure in failures:
            raise failure
        await verify(self)

    monkeypatch.setattr(ShardRunner, "_verify", mistaken)
    seen = Seen()
    await manager.subscribe(seen, QUICK)
    await manager.start()

    await manager.wait_until(await count(store, 1), timeout=20)  # the lease is 30 s

    assert seen.numbers == [1]


async def test_a_shard_that_fails_for_ever_is_taken_up_seldom(store, manager, monkeypatch) -> None:
    began = []

    async def mistaken(self):
        began.append(time.monotonic())
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(ShardRunner, "_verify", mistaken)
    await manager.subscribe(Seen(), QUICK)
    await manager.start()
    await eventually(lambda: len(began) >= 3)

    assert began[1] - began[0] >= 0.9
    assert began[2] - began[1] >= 1.9


async def test_a_storage_that_refuses_claims_is_asked_again(store, manager, checkpoints, monkeypatch, caplog) -> None:
    claim, refusals = checkpoints.claim, iter([StorageError("permission denied")])

    async def refused(*args, **options):
        for refusal in refusals:
            raise refusal
        return await claim(*args, **options)

    monkeypatch.setattr(checkpoints, "claim", refused)
    await manager.subscribe(Seen(), QUICK)
    await manager.start()
    await manager.wait_until(await count(store, 1))

    assert "its storage refused" in caplog.text
    assert "permission denied" in caplog.text
