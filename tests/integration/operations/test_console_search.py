"""Finding anything by its id, from every page of the console."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from mainstay import BatchCommand, SendRequest
from mainstay.errors import InvalidInputError
from mainstay.events.log import NewEvent, StreamAppend
from mainstay.events.stream import StreamId
from mainstay.operations.console import console
from tests.support.console import VIEWER, browser, tokens


async def test_anything_is_found_by_its_id_and_one_hit_leads_to_its_page(operator, pool):
    command, batch, in_batch, process, event, talk = (uuid4() for _ in range(6))
    stream = StreamId("FoundThing", f"thing-{uuid4()}")
    await operator.send([SendRequest("shop", "Bill", command, {}, key="customer 7", correlation_id=talk)])
    await operator.bus.create_batch("shop", [BatchCommand("Bill", in_batch, {})], batch_id=batch, name="Bills")
    await operator.events.log.append(
        [StreamAppend(stream, (NewEvent(event, "ThingFound", b"{}", occurred_at=datetime.now(UTC)),))]
    )
    async with pool.connection() as conn:
        await conn.execute(
            "insert into commandbus.process (process_id, domain, reply_domain, process_type, status, state,"
            " correlation_id) values (%s, 'shop', 'shop', 'Ordering', 'COMPLETED', '{}', %s)",
            (process, uuid4()),
        )
    action = (await operator.cancel_batch(await operator.batch(batch), operator="ada")).action.action_id
    place = (await operator.events.by_id(event)).position

    async with browser(console(operator, auth=tokens()), VIEWER) as client:
        for wanted, kind, page in (
            (command, "COMMAND", f"/commands/shop/{command}"),
            (f" {str(command).upper()} ", "COMMAND", f"/commands/shop/{command}"),
            (str(command)[:8], "COMMAND", f"/commands/shop/{command}"),
            (batch, "BATCH", f"/batches/shop/{batch}"),
            (process, "PROCESS", f"/processes/{process}"),
            (action, "ACTION", f"/actions/{action}"),
            (event, "EVENT", f"/events/{place}"),
            (place, "EVENT", f"/events/{place}"),
            (talk, "CONVERSATION", f"/conversations/{talk}"),
            (stream.id, "STREAM", "/streams/one?"),
            (f"FoundThing/{stream.id[:10]}", "STREAM", "/streams/one?"),
            ("customer 7", "KEY", "/commands?"),
        ):
            hits = (await client.get("/api/search", params={"q": str(wanted)})).json()
            assert [each["kind"] for each in hits] == [kind], wanted
            answer = await client.get("/search", params={"q": str(wanted)})
            assert answer.status_code == 303, wanted
            assert answer.headers["location"].startswith(page), wanted
            assert (await client.get(answer.headers["location"])).status_code == 200, wanted


async def test_several_hits_are_listed_and_none_says_what_else_to_try(operator):
    twice = uuid4()
    await operator.send([SendRequest(domain, "Bill", twice, {}) for domain in ("shop", "office")])
    async with browser(console(operator, auth=tokens()), VIEWER) as client:
        both = await client.get("/search", params={"q": str(twice)})
        assert (both.status_code, both.text.count(f"/{twice}")) == (200, 2)
        for wanted in ("<b>nobody</b>", str(uuid4()), "99999999999999999999", "..", "a/b/c", "ffffff-"):
            page = await client.get("/search", params={"q": wanted})
            assert (page.status_code, "Nothing here is known as" in page.text) == (200, True), wanted
            assert "<b>" not in page.text
        assert "What are you looking for?" in (await client.get("/search")).text
        assert (await client.get("/search", params={"q": "x" * 501})).status_code == 400
    for wanted in ("", "  ", "\x00", "x" * 501):
        with pytest.raises(InvalidInputError):
            await operator.search.anything(wanted)
