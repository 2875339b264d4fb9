"""Processes: started once, moved by one at a time, and written wholly or not at all.

How a process decides is not asked here; moves are written down as `Flow` would write them, their commands sent with
them, so that `fsck` finds nothing.
"""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from mainstay.commands.process import (
    ProcessEventType,
    ProcessMetadata,
    ProcessStatus,
    StepMetadata,
    StepStatus,
    TakenEvent,
)
from mainstay.commands.process_store import (
    HeldProcess,
    NewProcess,
    NewStep,
    ProcessChange,
    ProcessFilter,
    StepOutcome,
    Told,
)
from mainstay.commands.store import CommandStore
from mainstay.message import command_queue
from mainstay.testing.contracts.commands.base import DOMAIN, CommandStoreSuite, new, rolled_back

P, S, E = ProcessStatus, StepStatus, ProcessEventType


def a_step(step_no: int = 1, name: str = "Reserve", *, undoes: int | None = None) -> NewStep:
    """A step on its way out."""
    return NewStep(step_no, name, new(command_type=name, reply_to=command_queue(DOMAIN)), undoes)


def begun(process_id: UUID | None = None, *steps: NewStep, **changes: Any) -> NewProcess:
    """A process on its way in, with one step unless others are given."""
    sent = steps or (a_step(),)
    change = ProcessChange(
        process_id=process_id or uuid4(),
        status=P.WAITING_FOR_REPLY,
        state=b'{"article":"lamp"}',
        sent=sent,
        told=(Told(E.STARTED), *(Told(E.STEP_SENT, step.step_no) for step in sent)),
    )
    fields: dict[str, Any] = {
        "domain": DOMAIN,
        "reply_domain": DOMAIN,
        "process_type": "Buy",
        "correlation_id": uuid4(),
        "batch_id": None,
    }
    return NewProcess(**fields | changes, change=change)


def moved(known: ProcessMetadata, **changes: Any) -> ProcessChange:
    """The next move of a process; what is not told stays."""
    fields: dict[str, Any] = {"process_id": known.process_id, "status": known.status, "state": b'{"article":"lamp"}'}
    return ProcessChange(**fields | changes)


def answered(step_no: int = 1, status: StepStatus = S.SUCCESS, event: ProcessEventType = E.STEP_SUCCEEDED) -> Any:
    """A step was answered: as fields of a move."""
    return {"outcomes": (StepOutcome(step_no, status, b'{"number":7}'),), "told": (Told(event, step_no),)}


class ProcessContract(CommandStoreSuite):
    """Processes: started once, moved by one at a time, and written wholly or not at all."""

    async def start(self, store: CommandStore, news: Sequence[NewProcess], conn: Any) -> list[UUID]:
        """Put processes in, with their commands; the ids that were known."""
        known = await store.processes.start(news, conn=conn)
        await store.send(
            [step.command for one in news if one.change.process_id not in known for step in one.change.sent], conn=conn
        )
        return known

    async def started(self, store: CommandStore, *news: NewProcess) -> ProcessMetadata:
        """Put processes in that must be taken; the first of them."""
        given = news or (begun(),)
        async with store.transaction() as tx:
            assert await self.start(store, given, tx) == []
        return await self.process(store, given[0].change.process_id)

    async def advance(self, store: CommandStore, change: ProcessChange, conn: Any) -> None:
        """Write a move, with its commands."""
        await store.processes.advance(change, conn=conn)
        if change.commands:
            await store.send(change.commands, conn=conn)

    async def move(self, store: CommandStore, change: ProcessChange) -> ProcessMetadata:
        """Lock a process and write a move of it; the process afterwards."""
        async with store.transaction() as tx:
            assert await store.processes.lock(process_id=change.process_id, conn=tx) is not None
            await self.advance(store, change, tx)
        return await self.process(store, change.process_id)

    async def held(self, store: CommandStore, conn: Any, **which: Any) -> HeldProcess:
        """A process that must exist, held."""
        found = await store.processes.lock(**which, conn=conn)

        assert found is not None
        return found

    async def next(self, store: CommandStore, change: ProcessChange) -> HeldProcess:
        """Write a move; the process as the next one finds it."""
        await self.move(store, change)
        async with store.transaction() as tx:
            return await self.held(store, tx, process_id=change.process_id)

    def as_held(self, known: ProcessMetadata) -> HeldProcess:
        """What a move finds of a process, whose steps are under way, if it asks for nothing."""
        return HeldProcess(
            replace(known, steps=(), events=()), None, len(known.steps), known.steps[-1].name, len(known.steps)
        )

    async def process(self, store: CommandStore, process_id: UUID) -> ProcessMetadata:
        """A process that must exist."""
        found = await store.processes.get(process_id)

        assert found is not None
        return found

    # -- starting -----------------------------------------------------------------------------------------------------
    async def test_a_process_is_kept_as_it_was_started(self, store: CommandStore) -> None:
        one = begun(None, a_step(), a_step(2, "Pay"), batch_id=uuid4(), reply_domain="replies")
        known = await self.started(store, one)

        assert (known.domain, known.reply_domain, known.process_type) == (DOMAIN, "replies", "Buy")
        assert (known.correlation_id, known.batch_id) == (one.correlation_id, one.batch_id)
        assert (known.status, known.state) == (P.WAITING_FOR_REPLY, {"article": "lamp"})
        assert (known.ends_as, known.error_code, known.error_message, known.completed_at) == (None, None, None, None)
        assert known.created_at.tzinfo is not None
        assert [
            (step.step_no, step.name, step.domain, step.command_type, step.command_id, step.data, step.status)
            for step in known.steps
        ] == [
            (step.step_no, step.name, DOMAIN, step.name, step.command.command_id, {"n": 1}, S.SENT)
            for step in one.change.sent
        ]
        assert all((step.result, step.replied_at, step.undoes) == (None, None, None) for step in known.steps)

    async def test_a_process_knows_in_whose_name_it_was_started_what_it_heard_and_when_it_is_told(
        self, store: CommandStore
    ) -> None:
        begun_by, later, ignored = (TakenEvent(uuid4(), kind, place) for place, kind in enumerate("ABC", 1))
        one = begun(None, tenant_id="acme", actor_id="ann")
        heard = (*one.change.told, Told(E.EVENT_TAKEN))
        deadlines = {"paid": uuid4()}
        known = await self.started(
            store, replace(one, change=replace(one.change, event=begun_by, armed=deadlines, told=heard))
        )
        waits = moved(known, status=P.WAITING_FOR_EVENT, event=later, **answered())
        between = await self.move(store, replace(waits, told=(*waits.told, Told(E.EVENT_TAKEN))))
        done = await self.move(store, moved(between, status=P.COMPLETED, told=(Told(E.COMPLETED),)))
        late = moved(done, event=replace(ignored, was_taken=False), told=(Told(E.EVENT_IGNORED),))
        ended = await self.move(store, late)
        async with store.transaction() as tx:
            told = [
                (await self.held(store, tx, process_id=known.process_id, event_id=event_id)).was_told
                for event_id in (begun_by.event_id, ignored.event_id, uuid4())
            ]
            held = await self.held(store, tx, process_id=known.process_id)
        (listed,) = await store.processes.query(ProcessFilter(), limit=10, offset=0)

        assert (known.tenant_id, known.actor_id, known.deadlines) == ("acme", "ann", deadlines)
        assert (between.status, between.completed_at, between.deadlines) == (P.WAITING_FOR_EVENT, None, {})
        assert done.completed_at is not None
        assert [(each.event_id, each.event_type, each.position, each.was_taken) for each in ended.events] == [
            (begun_by.event_id, "A", 1, True),
            (later.event_id, "B", 2, True),
            (ignored.event_id, "C", 3, False),
        ]
        assert all(each.taken_at is not None for each in ended.events)
        assert told == [True, True, False]
        assert not held.was_told
        assert held.known.events == listed.events == ()

    async def test_an_id_that_is_known_is_told_and_nothing_of_it_is_stored(self, store: CommandStore) -> None:
        known = await self.started(store)
        again, other = begun(known.process_id, process_type="Sell"), begun()
        async with store.transaction() as tx:
            assert await self.start(store, [again, other], tx) == [known.process_id]

        assert await self.process(store, known.process_id) == known
        assert len(await store.processes.audit_trail(known.process_id)) == 2
        assert (await self.process(store, other.change.process_id)).process_type == "Buy"

    async def test_a_process_whose_transaction_rolls_back_never_was(self, store: CommandStore) -> None:
        one = begun()
        async with rolled_back(store) as tx:
            await self.start(store, [one], tx)

            assert await store.processes.get(one.change.process_id) is None

        assert await store.processes.get(one.change.process_id) is None
        assert await store.processes.audit_trail(one.change.process_id) == []
        await self.started(store, one)

    async def test_of_two_that_start_one_id_at_once_one_starts_it(self, store: CommandStore) -> None:
        process_id = uuid4()

        async def start() -> list[UUID]:
            async with store.transaction() as tx:
                return await self.start(store, [begun(process_id)], tx)

        refused = await asyncio.gather(start(), start())

        assert sorted(refused, key=len) == [[], [process_id]]
        assert len((await self.process(store, process_id)).steps) == 1

    # -- moving -------------------------------------------------------------------------------------------------------
    async def test_a_move_is_written_wholly(self, store: CommandStore) -> None:
        known = await self.started(store)
        sent = a_step(2, "Pay")
        told = (Told(E.STEP_SUCCEEDED, 1), Told(E.STEP_SENT, 2, {"command_id": str(sent.command.command_id)}))
        change = moved(known, state=b'{"article":"lamp","number":7}', **answered() | {"sent": (sent,), "told": told})
        after = await self.move(store, change)
        trail = await store.processes.audit_trail(known.process_id)

        assert after.state == {"article": "lamp", "number": 7}
        assert after.updated_at >= known.updated_at
        assert (after.created_at, after.completed_at) == (known.created_at, None)
        first, second = after.steps
        assert (first.status, first.result, first.replied_at is None) == (S.SUCCESS, {"number": 7}, False)
        assert (second.step_no, second.name, second.status, second.replied_at) == (2, "Pay", S.SENT, None)
        assert [(event.event_type, event.step_no, event.details) for event in trail] == [
            (E.STARTED, None, None),
            (E.STEP_SENT, 1, None),
            (E.STEP_SUCCEEDED, 1, None),
            (E.STEP_SENT, 2, {"command_id": str(sent.command.command_id)}),
        ]
        assert [event.audit_id for event in trail] == sorted({event.audit_id for event in trail})

    async def test_a_move_that_rolls_back_changes_nothing(self, store: CommandStore) -> None:
        known = await self.started(store)
        async with rolled_back(store) as tx:
            await store.processes.lock(process_id=known.process_id, conn=tx)
            change = moved(known, state=b"{}", **answered() | {"sent": (a_step(2, "Pay"),)})
            await self.advance(store, change, tx)

        assert await self.process(store, known.process_id) == known
        assert len(await store.processes.audit_trail(known.process_id)) == 2

    async def test_a_process_that_ends_says_when_and_why(self, store: CommandStore) -> None:
        for status, event in ((P.COMPLETED, E.COMPLETED), (P.FAILED, E.FAILED)):
            known = await self.started(store)
            fields = answered()
            fields["told"] += (Told(event),)
            why = None if status is P.COMPLETED else "WHY"
            after = await self.move(store, moved(known, status=status, error_code=why, error_message=why, **fields))

            assert (after.status, after.error_code, after.error_message) == (status, why, why)
            assert after.completed_at is not None
            assert after.completed_at >= after.created_at

    async def test_a_process_that_is_undone_knows_how_it_ends(self, store: CommandStore) -> None:
        known = await self.started(store)
        undoing = a_step(2, "Release", undoes=1)
        fields = answered() | {"sent": (undoing,)}
        fields["told"] += (Told(E.COMPENSATING), Told(E.STEP_SENT, 2))
        known = await self.move(store, moved(known, status=P.COMPENSATING, ends_as=P.CANCELED, **fields))

        assert (known.status, known.ends_as, known.completed_at) == (P.COMPENSATING, P.CANCELED, None)
        assert [step.undoes for step in known.steps] == [None, 1]

        fields = answered(2)
        fields["told"] += (Told(E.CANCELED),)
        known = await self.move(store, moved(known, status=P.CANCELED, ends_as=P.CANCELED, **fields))

        assert (known.status, [step.status for step in known.steps]) == (P.CANCELED, [S.SUCCESS, S.SUCCESS])

    async def test_a_transaction_sees_what_it_has_written(self, store: CommandStore) -> None:
        one = begun()
        async with store.transaction() as tx:
            await self.start(store, [one], tx)
            first = await self.held(store, tx, command_id=one.change.sent[0].command.command_id)
            await self.advance(store, moved(first.known, state=b'{"n":1}'), tx)
            second = await self.held(store, tx, process_id=first.known.process_id)
            assert await self.start(store, [one], tx) == [first.known.process_id]

        assert second.known.state == (await self.process(store, first.known.process_id)).state == {"n": 1}

    # -- holding ------------------------------------------------------------------------------------------------------
    async def test_a_process_is_found_by_its_id_or_a_steps_command(self, store: CommandStore) -> None:
        known, other = await self.started(store), await self.started(store)
        async with store.transaction() as tx:
            assert await self.held(store, tx, process_id=known.process_id) == self.as_held(known)
            by_step = await self.held(store, tx, command_id=other.steps[0].command_id)
            assert by_step == replace(self.as_held(other), step=other.steps[0])
            assert await store.processes.lock(process_id=uuid4(), conn=tx) is None
            assert await store.processes.lock(command_id=uuid4(), conn=tx) is None

    async def test_who_comes_second_waits_and_sees_what_the_first_has_written(self, store: CommandStore) -> None:
        known = await self.started(store)

        async def second() -> tuple[HeldProcess, list[StepMetadata]]:
            async with store.transaction() as tx:
                held = await self.held(store, tx, command_id=known.steps[0].command_id)
                return held, await store.processes.steps(known.process_id, conn=tx)

        async with store.transaction() as tx:
            await store.processes.lock(process_id=known.process_id, conn=tx)
            waiting = asyncio.create_task(second())
            await store.processes.get(known.process_id)  # readers do not wait
            await self.advance(store, moved(known, state=b'{"n":2}', sent=(a_step(2, "Pay"),)), tx)
            await self.advance(store, moved(known, state=b'{"n":2}', told=(Told(E.STEP_SENT, 2),)), tx)

            assert not waiting.done()
        seen, steps = await waiting

        assert (seen.known.state, seen.last_no, seen.last_name, seen.open_steps, len(steps)) == (
            {"n": 2},
            2,
            "Pay",
            2,
            2,
        )

    async def test_two_processes_are_held_at_once(self, store: CommandStore) -> None:
        known, other = await self.started(store), await self.started(store)
        async with store.transaction() as first, store.transaction() as second:
            assert await self.held(store, first, process_id=known.process_id) == self.as_held(known)
            assert await self.held(store, second, process_id=other.process_id) == self.as_held(other)

    async def test_the_step_that_a_move_is_about_is_found_by_its_command_or_its_number(
        self, store: CommandStore
    ) -> None:
        known = await self.started(store, begun(None, a_step(), a_step(2, "Pay")))
        other = await self.started(store)
        async with store.transaction() as tx:
            by_number = await self.held(store, tx, process_id=known.process_id, step_no=2)
            by_command = await self.held(store, tx, process_id=known.process_id, command_id=known.steps[1].command_id)
            none = await self.held(store, tx, process_id=known.process_id, step_no=3)
            foreign = await self.held(store, tx, process_id=known.process_id, command_id=other.steps[0].command_id)

        assert by_number == by_command == replace(self.as_held(known), step=known.steps[1])
        assert none == foreign == self.as_held(known)

    async def test_steps_under_way_are_counted(self, store: CommandStore) -> None:
        known = await self.started(store, begun(None, a_step(), a_step(2, "Pay"), a_step(3, "Ship")))
        counts = []
        for fields in (
            answered(1) | {"sent": (a_step(4, "Thank"),)},
            answered(2, S.TIMED_OUT, E.STEP_TIMED_OUT),
            answered(2),  # late
            answered(3, S.FAILED, E.STEP_FAILED),
            answered(4, S.CANCELED, E.STEP_CANCELED),
        ):
            told = (*fields["told"], *(Told(E.STEP_SENT, step.step_no) for step in fields.get("sent", ())))
            counts.append((await self.next(store, moved(known, **fields | {"told": told}))).open_steps)
        ended = moved(known, status=P.COMPLETED, told=(Told(E.COMPLETED),))
        await self.move(store, ended)

        assert counts == [3, 2, 2, 1, 0]

    # -- undoing ------------------------------------------------------------------------------------------------------
    async def undone_next(self, store: CommandStore, process_id: UUID, **page: Any) -> list[int]:
        """The numbers of the steps that were done, the last first."""
        async with store.transaction() as tx:
            held = await self.held(store, tx, process_id=process_id)
            assert held.has_done is bool(await store.processes.to_undo(process_id, conn=tx))
            return [step.step_no for step in await store.processes.to_undo(process_id, conn=tx, **page)]

    async def test_what_was_done_is_undone_the_last_first_each_step_once(self, store: CommandStore) -> None:
        known = await self.started(store, begun(None, *(a_step(number) for number in range(1, 6))))
        assert await self.undone_next(store, known.process_id) == []
        for number in (2, 5, 1):
            await self.move(store, moved(known, **answered(number)))
        await self.move(store, moved(known, **answered(4, S.FAILED, E.STEP_FAILED)))
        begins = moved(known, status=P.COMPENSATING, ends_as=P.COMPENSATED, **answered(3))
        begins = replace(
            begins, sent=(a_step(6, "Undo", undoes=3),), told=(*begins.told, Told(E.COMPENSATING), Told(E.STEP_SENT, 6))
        )
        done = await self.undone_next(store, known.process_id)
        await self.move(store, begins)
        after_one = await self.undone_next(store, known.process_id)
        goes_on = moved(known, status=P.COMPENSATING, **answered(6))
        goes_on = replace(goes_on, sent=(a_step(7, "Undo", undoes=5),), told=(*goes_on.told, Told(E.STEP_SENT, 7)))
        await self.move(store, goes_on)  # there was nothing to undo of 1
        after_two = await self.undone_next(store, known.process_id)

        assert done == [1, 5, 2]
        assert after_one == [1, 5, 2]
        assert after_two == [2]

    async def test_what_is_done_late_is_undone_next(self, store: CommandStore) -> None:
        known = await self.started(store, begun(None, a_step(), a_step(2)))
        await self.move(store, moved(known, **answered(1)))
        late = moved(known, status=P.COMPENSATING, **answered(2, S.TIMED_OUT, E.STEP_TIMED_OUT))
        late = replace(
            late, sent=(a_step(3, "Undo", undoes=1),), told=(*late.told, Told(E.COMPENSATING), Told(E.STEP_SENT, 3))
        )
        await self.move(store, late)
        before = await self.undone_next(store, known.process_id)
        await self.move(store, moved(known, status=P.COMPENSATING, **answered(2)))

        assert before == []
        assert await self.undone_next(store, known.process_id) == [2]

    async def test_what_was_done_is_read_in_pages(self, store: CommandStore) -> None:
        known = await self.started(store, begun(None, *(a_step(number) for number in range(1, 7))))
        for number in range(1, 6):
            await self.move(store, moved(known, **answered(number)))

        assert await self.undone_next(store, known.process_id, limit=2) == [5, 4]
        assert await self.undone_next(store, known.process_id, after=4, limit=2) == [3, 2]
        assert await self.undone_next(store, known.process_id, after=2, limit=2) == [1]
        assert await self.undone_next(store, known.process_id, after=1, limit=2) == []

    async def test_what_is_rolled_back_was_not_done(self, store: CommandStore) -> None:
        known = await self.started(store)
        async with rolled_back(store) as tx:
            await self.held(store, tx, process_id=known.process_id)
            await self.advance(store, moved(known, **answered(1)), tx)

            assert [step.step_no for step in await store.processes.to_undo(known.process_id, conn=tx)] == [1]

        assert await self.undone_next(store, known.process_id) == []

    # -- asking -------------------------------------------------------------------------------------------------------
    async def test_processes_are_listed_newest_first_by_any_mix_of_conditions(self, store: CommandStore) -> None:
        batch_id = uuid4()
        first = await self.started(store)
        second = await self.started(store, begun(process_type="Sell", batch_id=batch_id))
        third = await self.started(store, begun(domain="buying", batch_id=batch_id))
        fields = answered()
        fields["told"] += (Told(E.COMPLETED),)
        await self.move(store, moved(third, status=P.COMPLETED, **fields))

        async def ids(limit: int = 10, offset: int = 0, **which: Any) -> list[UUID]:
            found = await store.processes.query(ProcessFilter(**which), limit=limit, offset=offset)
            assert all(each.steps == () for each in found)
            return [each.process_id for each in found]

        assert await ids() == [third.process_id, second.process_id, first.process_id]
        assert await ids(limit=1, offset=1) == [second.process_id]
        assert await ids(domain=DOMAIN, process_type="Buy") == [first.process_id]
        assert await ids(batch_id=batch_id, status=P.WAITING_FOR_REPLY) == [second.process_id]
        assert await ids(status=P.COMPLETED) == [third.process_id]
        assert await ids(status=P.FAILED) == []

    async def test_the_processes_of_a_batch_are_counted(self, store: CommandStore) -> None:
        batch_id = uuid4()
        known = await self.started(store, *(begun(batch_id=batch_id) for _ in range(3)), begun())
        fields = answered()
        fields["told"] += (Told(E.COMPLETED),)
        await self.move(store, moved(known, status=P.COMPLETED, **fields))

        assert await store.processes.count(batch_id) == {P.COMPLETED: 1, P.WAITING_FOR_REPLY: 2}
        assert await store.processes.count(uuid4()) == {}

    async def test_what_is_not_there_is_not_found(self, store: CommandStore) -> None:
        assert await store.processes.get(uuid4()) is None
        assert await store.processes.get(uuid4(), with_steps=False) is None
        assert await store.processes.audit_trail(uuid4()) == []
        assert await store.processes.query(ProcessFilter(), limit=10, offset=0) == []

    async def test_what_is_given_away_cannot_change_what_is_held(self, store: CommandStore) -> None:
        one = begun()
        details = {"command_id": "x"}
        told = (*one.change.told[:1], Told(E.STEP_SENT, 1, details))
        known = await self.started(store, replace(one, change=replace(one.change, told=told)))
        details["command_id"] = "y"
        known.state["article"] = "table"
        known.steps[0].data["n"] = 2
        trail = await store.processes.audit_trail(known.process_id)
        (trail[1].details or {})["command_id"] = "z"
        after = await self.process(store, known.process_id)

        assert (after.state, after.steps[0].data) == ({"article": "lamp"}, {"n": 1})
        assert (await store.processes.audit_trail(known.process_id))[1].details == {"command_id": "x"}
