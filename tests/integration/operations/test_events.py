"""``mainstay events``: streams and the feed as they are stored, and files of them."""

import asyncio
import json
import signal
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from mainstay.events.log import NewEvent, StreamAppend
from mainstay.events.stream import StreamId
from mainstay.operations.operator import Operator
from tests.support.cli import program, run
from tests.support.waiting import eventually_sync

TIME = datetime(2030, 1, 31, 12, tzinfo=UTC)
CAUSE = UUID("5f3f0c4e-3d9c-4a6b-9a52-6c1a3c1f7a10")
BIG = 2**70


def an_event(event_type="Placed", payload=b'{"total":"5"}', **fields):
    return NewEvent(uuid4(), event_type, payload, TIME, **fields)


def append(dsn, name, *events):
    async def appending():
        async with Operator.connect(dsn) as operator:
            await operator.events.log.append([StreamAppend(name, events)])

    asyncio.run(appending())
    return [str(event.event_id) for event in events]


@pytest.fixture
def filled(dsn):
    """Three streams, one of them a tenant's, with six events."""
    append(dsn, StreamId("Order", "1"), an_event(causation_id=CAUSE, actor_id="ada"), an_event("Shipped"))
    append(dsn, StreamId("Order", "a/b@c"), an_event(payload=f'{{"n":{BIG}}}'.encode(), metadata=b'{"ip": "::1"}'))
    append(dsn, StreamId("Cart", "1", "acme"), *(an_event("Filled", tags=("article:7",)) for _ in range(3)))
    return dsn


def execute(dsn, statement):
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(statement)


def names(result):
    return [(each["category"], each["stream_id"], each["tenant_id"]) for each in result.json]


# --- looking ----------------------------------------------------------------------------------------------------------


def test_where_nothing_was_appended_it_says_so(dsn):
    assert run("events", "streams", "--dsn", dsn).out == "No events were appended yet.\n"
    assert run("events", "streams", "none", "--dsn", dsn).out == "No streams found.\n"
    tail = run("events", "tail", "--no-follow", "--dsn", dsn)
    assert (tail.out, tail.err) == ("", "No such events. What there is: mainstay events streams\n")


def test_streams_are_listed_by_what_is_known_of_them_a_page_at_a_time(filled):
    every = [("Cart", "1", "acme"), ("Order", "1", None), ("Order", "a/b@c", None)]

    first = run("events", "streams", "-n", 2, "--dsn", filled)

    assert "Cart/1@acme" not in first.out
    assert "--after 'Order/1'" in first.err
    assert names(run("events", "streams", "--dsn", filled, "--json")) == every
    assert names(run("events", "streams", "--after", "Order/1", "--dsn", filled, "--json")) == every[2:]
    assert names(run("events", "streams", "a/", "--dsn", filled, "--json")) == every[2:]
    assert names(run("events", "streams", "-c", "Order", "--dsn", filled, "--json")) == every[1:]
    assert names(run("events", "streams", "--tenant", "acme", "--dsn", filled, "--json")) == every[:1]


def test_a_stream_is_found_by_its_name_however_that_reads(filled):
    for name in (["Order/a/b@c"], ["Cart/1@acme"], ["Cart/1", "--tenant", "acme"]):
        assert run("events", "show", *name, "--dsn", filled).code == 0
    append(filled, StreamId("Cart", "1@acme"), an_event())

    both = run("events", "show", "Cart/1@acme", "--dsn", filled)

    assert (both.code, "2 streams" in both.err) == (2, True)
    assert run("events", "show", "Cart/1", "--dsn", filled).code == 5
    assert run("events", "show", "Cart", "--dsn", filled).code == 2


def test_a_stream_shows_its_last_events_in_order(filled):
    shown = run("events", "show", "Order/1", "--dsn", filled)
    last = run("events", "show", "Cart/1@acme", "-n", 2, "--dsn", filled)

    assert "Placed" in shown.out
    assert "5f3f0c4e…" in shown.out
    assert "ada" in shown.out
    assert "total" not in shown.out
    assert "total" in run("events", "show", "Order/1", "--full", "--dsn", filled).out
    assert "--at 1" in last.err
    for options, versions in (([], [1, 2, 3]), (["--at", 2], [1, 2]), (["--after", 2], [3]), (["-n", 1], [3])):
        found = run("events", "show", "Cart/1@acme", *options, "--dsn", filled, "--json").json
        assert [each["version"] for each in found["events"]] == versions


def test_one_event_is_found_by_its_position_or_its_id(filled):
    by_position = run("events", "show", "--position", 3, "--dsn", filled, "--json").json
    by_id = run("events", "show", "--id", by_position["event_id"], "--dsn", filled, "--json").json
    in_stream = run("events", "show", "Order/1", "--id", by_position["event_id"], "--dsn", filled)

    assert by_id == by_position
    assert by_position["payload"] == {"n": BIG}
    assert by_position["metadata"] == {"ip": "::1"}
    assert in_stream.code == 5
    assert "::1" in run("events", "show", "--position", 3, "--dsn", filled).out
    assert run("events", "show", "--position", 7, "--dsn", filled).code == 5
    assert run("events", "show", "--position", 7, "Order/1", "--dsn", filled).code == 2
    assert run("events", "show", "--dsn", filled).code == 2


def test_closed_streams_and_what_nobody_can_read_are_shown_as_such(filled):
    async def close():
        async with Operator.connect(filled) as operator:
            await operator.events.log.tombstone(StreamId("Cart", "1", "acme"), reason="asked to", actor="ada")
            await operator.events.log.archive(StreamId("Order", "a/b@c"))

    asyncio.run(close())
    execute(
        filled,
        "alter table eventsource.event disable trigger user; "
        "update eventsource.event set payload = '[1]' where position = 1",
    )

    gone = run("events", "show", "Cart/1@acme", "--dsn", filled)
    emptied = run("events", "show", "--position", 4, "--dsn", filled)
    listed = run("events", "streams", "--dsn", filled)
    fed = run("events", "tail", "--no-follow", "--dsn", filled)

    assert "tombstoned by ada: asked to" in gone.out
    assert "tombstoned" in emptied.out
    assert "archived" in listed.out
    assert "corrupt: no JSON object" in run("events", "show", "Order/1", "--dsn", filled).out
    assert "corrupt: no JSON object" in run("events", "show", "--position", 1, "--dsn", filled).out
    assert fed.out.count("corrupt") == 1
    assert fed.out.count("emptied") == 3


# --- following --------------------------------------------------------------------------------------------------------


def positions(result):
    return [json.loads(line)["position"] for line in result.out.splitlines()]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [1, 2, 3, 4, 5, 6]),
        (["-n", 2], [5, 6]),
        (["-n", 0], []),
        (["--after", 4], [5, 6]),
        (["--type", "Placed"], [1, 3]),
        (["--type", "Placed", "-n", 1], [3]),
        (["--type", "Placed", "--type", "Shipped", "--category", "Order", "-n", 2], [2, 3]),
        (["--category", "Cart", "--after", 0], [4, 5, 6]),
        (["--tenant", "acme", "-n", 2], [5, 6]),
        (["--since", "1h"], [1, 2, 3, 4, 5, 6]),
        (["--since", "0s"], []),
        (["--since", "2020-01-31"], [1, 2, 3, 4, 5, 6]),
    ],
)
def test_the_feed_begins_where_it_is_told_and_gives_what_is_wanted(filled, options, expected):
    assert positions(run("events", "tail", "--no-follow", *options, "--dsn", filled, "--json")) == expected


def test_events_recorded_since_a_moment_are_found_among_many(dsn):
    execute(
        dsn,
        "insert into eventsource.stream (category, stream_id, version, created_at) values ('Order', '1', 5000, now());"
        "insert into eventsource.kind (category, event_type) values ('Order', 'Placed');"
        "insert into eventsource.event (position, stream_no, version, kind_no, event_version, event_id, recorded_at,"
        " occurred_at, payload) select nextval('eventsource.event_position'), 1, n, 1, 1, gen_random_uuid(),"
        " now() - make_interval(mins => 5000 - n + case when n % 90 = 1 then 60 else 0 end), now(), '{}'"
        " from generate_series(1, 5000) as n",
    )
    since = (datetime.now(UTC) - timedelta(minutes=120.5)).isoformat()

    found = positions(run("events", "tail", "--no-follow", "--since", since, "--dsn", dsn, "--json"))

    assert found == [n for n in range(4880, 5001) if n % 90 != 1 or 5000 - n + 60 <= 120]


@pytest.mark.parametrize(
    "options", [["--since", "yesterday"], ["--since", "2030-13-01"], ["--since", "1h", "--after", "1"]]
)
def test_a_beginning_that_is_none_is_code_2(dsn, options):
    assert run("events", "tail", *options, "--dsn", dsn).code == 2


def test_what_is_appended_is_followed_until_ctrl_c(filled):
    with program("events", "tail", "-n", 1, "--interval", "0.05", env={"DATABASE_URL": filled}) as following:
        seen = [following.stdout.readline()]
        append(filled, StreamId("Order", "new"), an_event("Arrived"))
        seen.append(following.stdout.readline())
        following.send_signal(signal.SIGINT)
        _, errors = following.communicate(timeout=30)

    assert ["Filled" in seen[0], "Arrived" in seen[1]] == [True, True]
    assert (following.returncode, errors) == (0, "")


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    return tmp_path / "events.jsonl"


@pytest.fixture
def other(server):
    """Another database with the schema."""
    with server.database() as name:
        yield server.dsn(name)


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def a_line(**fields):
    line = {"category": "Order", "stream_id": "1", "event_type": "Placed", "occurred_at": TIME.isoformat()}
    return json.dumps({name: value for name, value in (line | {"payload": {}} | fields).items() if value is not None})


def contents(dsn):
    """Everything in the feed but where and when it was recorded."""
    found = [json.loads(line) for line in run("events", "tail", "--no-follow", "--dsn", dsn, "--json").out.splitlines()]
    return [{name: each[name] for name in each if name not in {"position", "recorded_at"}} for each in found]


def test_what_was_exported_is_imported_just_as_it_was_and_again_changes_nothing(filled, other, file):
    exported = run("events", "export", file, "--dsn", filled, "--json").json
    first = run("events", "import", file, "--dsn", other, "--json").json
    again = run("events", "import", file, "--dsn", other)

    assert exported["exported"] == first["imported"] == 6
    assert "Were there already: 6." in again.out
    assert contents(other) == contents(filled)
    assert contents(other)[2]["payload"] == {"n": BIG}
    assert run("fsck", "--dsn", other).code == 0


def test_an_export_to_standard_output_is_nothing_but_events(filled):
    with program("events", "export", "-", env={"DATABASE_URL": filled}) as exporting:
        out, _ = exporting.communicate(timeout=30)

    assert [json.loads(line)["position"] for line in out.splitlines()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--category", "Cart"], [4, 5, 6]),
        (["--stream", "Order/1"], [1, 2]),
        (["--stream", "Cart/1", "--tenant", "acme", "--after", 4], [5, 6]),
        (["--tenant", "acme", "--up-to", 5], [4, 5]),
        (["--after", 2, "--up-to", 100], [3, 4, 5, 6]),
    ],
)
def test_what_is_wanted_is_exported(filled, file, options, expected):
    assert run("events", "export", file, *options, "--dsn", filled).code == 0
    assert [each["position"] for each in lines(file)] == expected


def test_an_interrupted_export_goes_on_behind_its_last_whole_line(filled, file):
    run("events", "export", file, "--dsn", filled)
    whole = file.read_bytes()
    for length in (len(whole), len(whole) - 1, len(whole) // 2, 10, 0):
        file.write_bytes(whole[:length])
        assert run("events", "export", file, "--resume", "--dsn", filled).code == 0
        assert file.read_bytes() == whole
    file.unlink()
    assert run("events", "export", file, "--resume", "--dsn", filled).code == 0
    assert file.read_bytes() == whole
    append(filled, StreamId("Order", "new"), an_event("Arrived"))
    later = run("events", "export", file, "--resume", "--dsn", filled, "--json").json

    assert (later["exported"], later["after"]) == (1, 6)


def test_a_file_is_not_replaced_unasked_and_nothing_else_is_appended_to(filled, file):
    file.write_text("my notes\n")

    refused = run("events", "export", file, "--dsn", filled)
    strange = run("events", "export", file, "--resume", "--dsn", filled)

    assert (refused.code, "--resume" in refused.err) == (2, True)
    assert (strange.code, "left alone" in strange.err) == (2, True)
    assert file.read_text() == "my notes\n"


@pytest.mark.parametrize(
    "options",
    [
        ["-", "--json"],
        ["-", "--resume"],
        ["f", "--resume", "--overwrite"],
        ["f", "--stream", "Order/1", "-c", "Order"],
        ["/no/such/folder/f"],
    ],
)
def test_an_export_that_makes_no_sense_is_code_2(filled, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("events", "export", *options, "--dsn", filled).code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_somebody_wrote_by_hand_is_imported_once(dsn, file):
    file.write_text("\n".join([a_line(n=None), "", a_line(stream_id="2", tags=["x"])]) + "\n")

    first = run("events", "import", file, "--dsn", dsn)
    again = run("events", "import", file, "--dsn", dsn, "--json")

    assert "Imported 2 events" in first.out
    assert again.json | {"seconds": 0} == {"imported": 0, "known": 2, "tombstoned": 0, "chunks": 1, "seconds": 0}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "an event is a JSON object"),
        (a_line(payload=None), "'payload' is missing"),
        (a_line(payload=[]), "must be a JSON object"),
        (a_line(colour="red"), "unknown field 'colour'"),
        (a_line(occurred_at="noon"), "occurred_at must be a time"),
        (a_line(occurred_at="2030-01-31T12:00:00"), "time zone"),
        (a_line(version=0), "version must be a whole number"),
        (a_line(event_id="7"), "event_id"),
        (a_line(tags="x"), "tags must be an array"),
        (a_line(stream_id=""), "a stream's id"),
    ],
)
def test_a_line_that_cannot_be_accepted_is_named_and_its_chunk_not_imported(dsn, line, words):
    good = [a_line(stream_id=str(n)) for n in range(3)]

    result = run("events", "import", "-", "--chunk", 2, "--dsn", dsn, stdin="\n".join([*good, line]))

    assert result.code == 2
    assert "line 4: " in result.err
    assert words in result.err
    assert "Imported before its chunk: 2 events." in result.err
    assert len(contents(dsn)) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([a_line(version=2)], "must come before"),
        ([a_line(version=1), a_line(version=1, event_id=str(CAUSE))], "another event at version 1"),
        ([a_line(version=1, event_id=str(CAUSE)), a_line(version=3)], "from version 2 to 2"),
        ([a_line(stream_id="there", version=1, event_id=str(CAUSE))], "another event at version 1"),
    ],
)
def test_an_event_that_cannot_stand_where_it_stood_is_named_and_its_chunk_not_imported(dsn, given, words):
    append(dsn, StreamId("Order", "there"), an_event())

    result = run("events", "import", "-", "--dsn", dsn, stdin="\n".join([a_line(stream_id="fine"), *given]))

    assert (result.code, f"line {len(given) + 1}: " in result.err, words in result.err) == (5, True, True)
    assert len(contents(dsn)) == 1


def test_a_closed_stream_takes_no_events_and_gives_none(filled, other, file):
    async def close(dsn, name):
        async with Operator.connect(dsn) as operator:
            await operator.events.log.tombstone(name, reason="asked to", actor="ada")

    append(other, StreamId("Order", "1"), an_event())
    asyncio.run(close(other, StreamId("Order", "1")))
    asyncio.run(close(filled, StreamId("Cart", "1", "acme")))
    run("events", "export", file, "--dsn", filled)

    refused = run("events", "import", file, "--dsn", other)
    file.write_text("".join(file.read_text().splitlines(keepends=True)[2:]))
    rest = run("events", "import", file, "--dsn", other)

    assert (refused.code, "line 1: " in refused.err) == (5, True)
    assert "Imported 1 event" in rest.out
    assert "Left out, because their streams are tombstoned: 3." in rest.out


def test_nothing_is_appended_to_a_stream_in_the_midst_of_its_import(dsn):
    """The rows of streams are locked before they are looked at, those that are missing too."""
    with psycopg.connect(dsn) as holder:
        holder.execute(
            "select * from eventsource.compare_import('{Order}', '{\"\"}', '{1}', '{1}', '{1}', %s)", [[CAUSE]]
        )
        with psycopg.connect(dsn, autocommit=True) as appender:
            appender.execute("set lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                appender.execute(
                    "insert into eventsource.stream (category, tenant_id, stream_id) values ('Order', '', '1')"
                )


# --- whether code can read it -----------------------------------------------------------------------------------------

CLASSES = "tests.support.projected_accounts"


def test_every_event_is_read_with_somebodys_classes_and_what_cannot_be_is_named(dsn):
    kind = "PaidAccountAmountPaid"
    append(dsn, StreamId("PaidAccount", "ann"), *(an_event(kind, b'{"amount": 1}') for _ in range(3)))
    well = run("events", "check", CLASSES, "--dsn", dsn)
    append(
        dsn,
        StreamId("PaidAccount", "bob"),
        an_event("NobodyKnows"),
        an_event("NobodyKnows"),
        an_event(kind, b'{"amount": "much"}'),
        an_event(kind, b'{"amount": 1}', event_version=2),
    )

    shown = run("events", "check", f"{CLASSES}:registry", "--dsn", dsn)
    found = run("events", "check", CLASSES, "--after", 4, "--dsn", dsn, "--json").json

    assert (well.code, "Every event can be read: 3" in well.out.replace("\n", "")) == (0, True)
    assert (shown.code, "4 events of 7 cannot be read" in shown.out) == (1, True)
    assert "no class is registered" in shown.out
    assert [(each["event_type"], each["events"], each["position"]) for each in found["faults"]] == [
        ("NobodyKnows", 1, 5),
        (kind, 1, 6),
        (kind, 1, 7),
    ]
    assert "valid integer" in found["faults"][1]["problem"]
    assert "newer code can read it" in found["faults"][2]["problem"]
    assert run("events", "check", CLASSES, "-c", "Other", "--dsn", dsn, "--json").json["read"] == 0


@pytest.mark.parametrize("code", ["no.such.module", f"{CLASSES}:number", f"{CLASSES}:nothing"])
def test_code_that_names_no_classes_is_code_2(dsn, code):
    assert run("events", "check", code, "--dsn", dsn).code == 2


# --- imports that meet others, or their end ---------------------------------------------------------------------------

MANY = 600


@pytest.fixture
def many(file):
    """A file of many events in a few streams."""
    written = [a_line(stream_id=str(n % 7), version=1 + n // 7, event_id=str(uuid4())) for n in range(MANY)]
    file.write_text("\n".join(written) + "\n")
    return file


def importing(dsn, file):
    return program("events", "import", file, "--chunk", 5, "--json", env={"DATABASE_URL": dsn})


def count(dsn):
    with psycopg.connect(dsn, autocommit=True) as conn:
        return conn.execute("select count(*) from eventsource.event").fetchone()[0]


@pytest.mark.thorough
def test_two_imports_of_one_file_at_the_same_time_append_each_event_once(dsn, many):
    with importing(dsn, many) as one, importing(dsn, many) as other:
        done = [json.loads(each.communicate(timeout=90)[0]) for each in (one, other)]

    assert [each["imported"] + each["known"] for each in done] == [MANY, MANY]
    assert sum(each["imported"] for each in done) == count(dsn) == MANY
    assert run("fsck", "--dsn", dsn).code == 0


@pytest.mark.thorough
def test_an_import_that_was_killed_is_completed_by_the_next(dsn, many):
    with importing(dsn, many) as killed:
        eventually_sync(lambda: count(dsn) > 0)
        killed.kill()
        killed.communicate(timeout=30)
    left = count(dsn)

    done = run("events", "import", many, "--dsn", dsn, "--json").json

    assert (done["known"], done["imported"]) == (left, MANY - left)
    assert run("fsck", "--dsn", dsn).code == 0
