"""What goes with a completion: commands to send; and what a handler tells while it runs."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule

from uuid import uuid4

import pytest

from mainstay.commands.lifecycle import AuditEventType, CommandStatus
from mainstay.commands.store import CommandStore, Lease, Verb, Verdict
from mainstay.errors import BatchNotFoundError, DuplicateCommandError, MainstayError, QueueNotFoundError
from mainstay.testing.contracts.commands.base import DOMAIN, REPLIES, CommandStoreSuite, new, rolled_back, saying

_A, _S = AuditEventType, CommandStatus
BESIDE = "invoices"


class SendsContract(CommandStoreSuite):
    """Commands that are sent by the transaction that completes another."""

    # -- sending with a completion ------------------------------------------------------------------------------------
    async def test_what_goes_with_a_completion_is_sent(self, store: CommandStore) -> None:
        await store.ensure_queue(BESIDE)
        received = await self.in_hand(store, reply_to=REPLIES)
        first, second, third = new(data={"n": 2}), new(domain=BESIDE), new(delay=600.0)

        verdict = await self.say(store, received, Verb.COMPLETE, sends=(first, second, third))

        assert verdict is Verdict.APPLIED
        assert await self.status(store, received.command.command_id) is _S.COMPLETED
        assert [each["command_id"] for each in await self.messages(store, DOMAIN)] == [str(first.command_id)]
        assert [each["command_id"] for each in await self.messages(store, BESIDE)] == [str(second.command_id)]
        assert (await self.known(store, third.command_id)).due_at is not None
        assert await self.events(store, first.command_id) == [_A.SENT]
        assert len(await self.replies(store, REPLIES)) == 1

    async def test_what_is_sent_with_completions_keeps_its_order(self, store: CommandStore) -> None:
        await self.sent(store, new(), new())
        one, other = await self.received(store)
        follow = [new(data={"n": n}) for n in range(6)]
        outcomes = [
            saying(one, Verb.COMPLETE, sends=tuple(follow[:3])),
            saying(other, Verb.COMPLETE, sends=tuple(follow[3:])),
        ]

        await store.complete(DOMAIN, outcomes)

        assert [each["data"]["n"] for each in await self.messages(store, DOMAIN)] == [0, 1, 2, 3, 4, 5]

    async def test_a_known_id_that_was_derived_is_passed_over(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        known, other = new(skip_known=True), new(skip_known=True)
        await self.sent(store, known)

        verdict = await self.say(store, received, Verb.COMPLETE, sends=(known, other))

        assert verdict is Verdict.APPLIED
        assert len(await self.messages(store, DOMAIN)) == 2  # noqa: PLR2004 - the known one and the other
        assert await self.events(store, known.command_id) == [_A.SENT]

    @pytest.mark.parametrize(
        ("wrong", "error"),
        [
            ({"domain": "nowhere"}, QueueNotFoundError),
            ({"reply_to": "nowhere"}, QueueNotFoundError),
            ({"batch_id": uuid4()}, BatchNotFoundError),
            ({}, DuplicateCommandError),
        ],
        ids=["no queue", "no reply queue", "no batch", "known"],
    )
    async def test_if_one_command_is_refused_nothing_is_written(
        self, store: CommandStore, wrong: dict[str, object], error: type[MainstayError]
    ) -> None:
        await self.sent(store, new(), new())
        one, other = await self.received(store)
        bad, good = new(**wrong), new()
        if error is DuplicateCommandError:
            await self.sent(store, bad)
        before = await self.messages(store, DOMAIN)
        outcomes = [saying(one, Verb.COMPLETE, sends=(good,)), saying(other, Verb.COMPLETE, sends=(bad,))]

        with pytest.raises(error):
            await store.complete(DOMAIN, outcomes)

        assert await self.messages(store, DOMAIN) == before
        assert await store.get(DOMAIN, good.command_id) is None
        assert await self.status(store, one.command.command_id) is _S.IN_PROGRESS
        assert await store.complete(DOMAIN, outcomes[:1]) == [Verdict.APPLIED]
        assert await store.get(DOMAIN, good.command_id) is not None
        await self.say(store, other, Verb.COMPLETE)

    async def test_an_id_twice_in_one_flush_is_refused(self, store: CommandStore) -> None:
        await self.sent(store, new(), new())
        one, other = await self.received(store)
        same = new()

        with pytest.raises(DuplicateCommandError):
            await store.complete(DOMAIN, [saying(each, Verb.COMPLETE, sends=(same,)) for each in (one, other)])

        assert await store.get(DOMAIN, same.command_id) is None
        for each in (one, other):
            await self.say(store, each, Verb.COMPLETE)

    async def test_what_goes_with_an_outcome_that_is_refused_is_not_sent(self, store: CommandStore) -> None:
        old = await self.in_hand(store)
        await self.expire_leases(store)
        (newer,) = await self.received(store)
        stale, kept = new(), new()

        outcomes = [saying(old, Verb.COMPLETE, sends=(stale,)), saying(newer, Verb.COMPLETE, sends=(kept,))]
        await store.complete(DOMAIN, outcomes)

        assert await store.get(DOMAIN, stale.command_id) is None
        assert await store.get(DOMAIN, kept.command_id) is not None

    async def test_a_completion_written_again_sends_nothing_again(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        follow = new()

        assert await self.say(store, received, Verb.COMPLETE, sends=(follow,)) is Verdict.APPLIED
        assert await self.say(store, received, Verb.COMPLETE, sends=(follow,)) is Verdict.REPEATED
        assert len(await self.messages(store, DOMAIN)) == 1

    async def test_what_goes_with_a_completion_that_rolls_back_was_never_sent(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        follow = new()

        async with rolled_back(store) as tx:
            await store.complete(DOMAIN, [saying(received, Verb.COMPLETE, sends=(follow,))], conn=tx)

        assert await store.get(DOMAIN, follow.command_id) is None
        assert await self.status(store, received.command.command_id) is _S.IN_PROGRESS

    # -- progress -----------------------------------------------------------------------------------------------------
    async def test_a_report_is_seen_and_changes_nothing_else(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        before = await self.known(store, received.command.command_id)

        await store.report(DOMAIN, [(received.lease, b'{"done":3,"total":10,"note":"rows"}')])
        known = await self.known(store, received.command.command_id)

        assert before.progress is None
        assert known.progress is not None
        assert {name: known.progress[name] for name in ("done", "total", "note")} == {
            "done": 3,
            "total": 10,
            "note": "rows",
        }
        assert "at" in known.progress
        assert (known.status, known.attempts) == (_S.IN_PROGRESS, 1)
        assert await self.events(store, received.command.command_id) == [_A.SENT, _A.RECEIVED]

    async def test_a_report_under_a_lost_lease_is_left(self, store: CommandStore) -> None:
        received = await self.in_hand(store)
        old = Lease(received.lease.command_id, received.lease.msg_id, received.lease.lease_no - 1)

        await store.report(DOMAIN, [(old, b'{"done":3}'), (Lease(uuid4(), 1, 1), b'{"done":1}')])

        assert (await self.known(store, received.command.command_id)).progress is None

    async def test_a_report_waits_for_nobody(self, store: CommandStore) -> None:
        received = await self.in_hand(store)

        async with rolled_back(store) as tx:
            await store.complete(DOMAIN, [saying(received, Verb.COMPLETE)], conn=tx)
            await store.report(DOMAIN, [(received.lease, b'{"done":3}')])

        assert (await self.known(store, received.command.command_id)).progress is None
