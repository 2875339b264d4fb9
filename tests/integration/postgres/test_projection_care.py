"""What the doctor and fsck say of projections."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from mainstay.events.log import NewEvent, StreamAppend
from mainstay.events.stream import StreamId
from mainstay.projections.store import Checkpoint, DeadLetter
from mainstay.storage.postgres.commands import PostgresCommandStore
from mainstay.storage.postgres.doctor import CHECKS, Level, Limits, Patient
from mainstay.storage.postgres.events import PostgresEventLog
from mainstay.storage.postgres.feed_questions import FeedQuestions
from mainstay.storage.postgres.projections import PostgresProjectionStore
from mainstay.storage.postgres.repair import BY_HAND
from tests.scenarios.postgres import run

EVENTS = 3


@pytest.fixture
async def log(pool):
    """With three events, at the positions 1 to 3."""
    made = PostgresEventLog(pool)
    events = tuple(NewEvent(uuid4(), "Placed", b"{}", datetime.now(UTC)) for _ in range(EVENTS))
    await made.append([StreamAppend(StreamId("Order", "1"), events)])
    return made


@pytest.fixture
async def store(pool, log):
    """With a subscription of two shards that nobody holds, behind the second event, and the first one laid apart."""
    made = PostgresProjectionStore(pool)
    await made.register("revenue", shards=2)
    first, second = await log.event_at(1), await log.event_at(2)
    for claim in await made.claim("revenue", owner="me", seconds=60, most=2):
        async with made.batch(claim) as batch:
            if claim.shard == 0:
                letter = DeadLetter(
                    "revenue", 0, 1, first.event.event_id, "Placed", "Order/1", "it's broken", "ValueError", 1
                )
                await batch.lay_down([letter])
            epoch = (await log.horizon()).epoch
            await batch.advance(Checkpoint(2, epoch, second.event.event_id, 2))
        await made.release([claim])
    return made


async def look(pool, **limits):
    return await CHECKS["projections"](Patient(pool, Limits(**limits)))


# --- the doctor -------------------------------------------------------------------------------------------------------


async def test_without_projections_all_is_well(pool):
    (found,) = await look(pool)

    assert (found.level, found.seen) == (Level.OK, "There are no projections yet.")


async def test_a_projection_that_is_nobodys_and_has_dead_letters_is_told_of(pool, store):
    unowned, apart = await look(pool)
    (much_later, _) = await look(pool, projection_lag=0.0)

    assert (unowned.level, apart.level, much_later.level) == (Level.WARNING, Level.WARNING, Level.FAULT)
    assert "revenue is nobody's (2 of 2 shards)" in unowned.seen
    assert "mainstay projections forget revenue" in unowned.advice
    assert "could not handle 1 event," in apart.seen
    assert "mainstay projections dead-letters groups revenue" in apart.advice


async def test_one_that_runs_is_told_of_only_when_it_lags(pool, store):
    await run(pool, "update eventsource.dead_letter set status = 'DISCARDED'")
    await store.claim("revenue", owner="me", seconds=60, most=2)
    (well,) = await look(pool)
    (late,) = await look(pool, projection_lag=0.0)

    assert (well.level, late.level) == (Level.OK, Level.FAULT)
    assert "mainstay projections lag --watch" in late.advice


async def test_one_that_is_paused_or_stopped_is_told_of_with_the_reason(pool, store):
    (claim, _) = await store.claim("revenue", owner="me", seconds=60, most=2)
    await store.stop(claim, reason="no such table: revenue")
    await store.pause("revenue", actor="ada", reason="stocktaking")
    stopped, paused, _ = await look(pool)

    assert (stopped.level, paused.level) == (Level.FAULT, Level.WARNING)
    assert "1 of 2 shards): no such table: revenue" in stopped.seen
    assert "paused by ada (1 of 2 shards): stocktaking" in paused.seen
    assert stopped.subject == paused.subject == "revenue"
    assert "mainstay projections resume revenue" in stopped.advice


# --- fsck -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "invariant"),
    [
        ("delete from eventsource.shard where shard = 1", "a subscription has the shards"),
        ("update eventsource.shard set shard = 7 where shard = 1", "a subscription has the shards"),
        ("update eventsource.shard set event_id = gen_random_uuid()", "a checkpoint stands on its event"),
        ("update eventsource.shard set event_position = 1", "a checkpoint stands on its event"),
        ("update eventsource.shard set position = 1", "a checkpoint stands on its event"),
        ("update eventsource.shard set position = 4", "a checkpoint stands on its event"),
        ("update eventsource.shard set status = 'PAUSED', owner = 'me', leased_until = now()", "a shard that rests"),
        ("update eventsource.shard set owner = 'me'", "a shard that rests"),
        ("update eventsource.dead_letter set position = 3", "a dead letter that waits lies behind"),
        ("update eventsource.dead_letter set shard = 5", "a dead letter that waits lies behind"),
        ("update eventsource.dead_letter set event_id = gen_random_uuid()", "a dead letter that waits has its event"),
    ],
)
async def test_fsck_finds_what_must_never_be(pool, store, statement, invariant):
    commands = PostgresCommandStore(pool)
    clean = await commands.fsck()
    await run(pool, statement)
    report = await commands.fsck()
    found = {finding.invariant for finding in report.findings}

    assert (clean.findings, clean.events) == ((), EVENTS)
    assert found <= set(report.checked)
    assert found <= set(BY_HAND)
    assert any(each.startswith(invariant) for each in found)


async def test_a_checkpoint_on_events_of_another_database_or_epoch_is_left_to_who_reads_them(pool, store):
    await run(pool, "update eventsource.shard set event_id = gen_random_uuid(), position = 1000, event_position = 1000")
    await run(pool, "update eventsource.shard set epoch = gen_random_uuid()")

    assert (await PostgresCommandStore(pool).fsck()).findings == ()


# --- numbers ----------------------------------------------------------------------------------------------------------


async def test_what_is_behind_is_counted_up_to_a_number(pool, store, monkeypatch):
    questions = FeedQuestions(pool)
    counted = await questions.lags("revenue")
    monkeypatch.setattr("mainstay.storage.postgres.feed_questions.MOST_COUNTED", 0)
    not_counted = await questions.lags()

    assert [(each.events, each.exact) for each in counted] == [(1, True), (1, True)]
    assert [(each.events, each.exact) for each in not_counted] == [(1, False), (1, False)]
    assert all(each.seconds > 0 for each in counted)
    assert await questions.lags("other") == []


async def test_large_tables_are_not_counted(pool, log, monkeypatch):
    questions = FeedQuestions(pool)
    counted = await questions.numbers()
    await run(pool, "analyze eventsource.event")
    await run(pool, "analyze eventsource.stream")
    monkeypatch.setattr("mainstay.storage.postgres.feed_questions._SMALL", 0)
    known = await questions.numbers()

    assert (counted.events, counted.streams, counted.exact, counted.horizon) == (3, 1, True, 3)
    assert (known.events, known.streams, known.exact) == (3, 1, False)
