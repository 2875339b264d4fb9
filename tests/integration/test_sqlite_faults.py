"""What can be wrong with a SQLite file: a typed error that says what to do, and nothing lost."""

import sqlite3
import subprocess
import sys

import aiosqlite
import pytest

from mainstay.errors import (
    ConfigurationError,
    DatabaseCorruptError,
    DatabaseFullError,
    DatabaseLockedError,
    PermissionDeniedError,
    SchemaOutdatedError,
    SchemaTooNewError,
    StorageError,
    StorageUnavailableError,
)
from mainstay.events.log import StreamAppend
from mainstay.storage.sqlite.database import queries
from mainstay.storage.sqlite.events import SQLiteEventLog
from mainstay.testing.contracts.events.base import new, stream

FEED = {"after": 5, "horizon": 90, "archived": True, "limit": 10, "types": None, "categories": None, "tenant_id": None}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.sqlite"


@pytest.fixture
async def log(path):
    async with SQLiteEventLog(path, patience=0.2) as opened:
        yield opened


async def append(log, *events, name=None, conn=None):
    (answer,) = await log.append([StreamAppend(name or stream(), events or (new(),))], conn=conn)
    return answer


async def test_a_file_that_another_holds_for_too_long_is_locked(log, path):
    await append(log)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("begin immediate")
        with pytest.raises(DatabaseLockedError, match=r"events\.sqlite.*another process"):
            await append(log)
        assert len((await log.read_feed()).events) == 1
        other.execute("rollback")
    other.close()

    assert (await append(log)).position == 2


async def test_a_connection_that_began_too_late_is_locked(log, path):
    await append(log)
    async with aiosqlite.connect(path, isolation_level=None, timeout=0.1) as mine:
        await mine.execute("begin")
        await mine.execute_fetchall("select count(*) from mainstay_event")
        await append(log)
        with pytest.raises(DatabaseLockedError):
            await append(log, conn=mine)
        await mine.rollback()

    assert (await log.horizon()).position == 2


async def test_a_full_file_takes_nothing_and_loses_nothing(log):
    name = stream()
    await append(log, name=name)
    await log._database._writer.execute("pragma max_page_count = 1")

    async def fill():
        for _ in range(1_000):
            await append(log, new(payload={"text": "x" * 10_000}), name=name)

    with pytest.raises(DatabaseFullError, match="nothing was written"):
        await fill()
    before = len(await log.read_stream(name))
    await log._database._writer.execute("pragma max_page_count = 1000000")

    assert (await append(log, name=name)).version == before + 1


async def test_a_file_that_must_not_be_written_says_so(log):
    await append(log)
    await log._database._writer.execute("pragma query_only = on")

    with pytest.raises(PermissionDeniedError, match="let this user write"):
        await append(log)
    assert len((await log.read_feed()).events) == 1


async def test_a_file_that_is_no_database_is_left_alone(path):
    path.write_bytes(b"this is a letter, not a database " * 100)
    for _ in range(2):
        log = SQLiteEventLog(path)
        with pytest.raises(DatabaseCorruptError, match="another file"):
            await append(log)
        await log.close()

    assert path.read_bytes().startswith(b"this is a letter")


async def test_a_damaged_file_is_found_out(path):
    name = stream()
    async with SQLiteEventLog(path) as log:
        await append(log, *(new(payload={"text": "x" * 2_000}) for _ in range(200)), name=name)
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))

    log = SQLiteEventLog(path)
    with pytest.raises(DatabaseCorruptError, match="restore it from a copy"):
        await log.read_stream(name)
    await log.close()


@pytest.mark.parametrize("name", [".", "missing/events.sqlite"])
async def test_a_place_where_no_file_can_be_says_so(tmp_path, name):
    log = SQLiteEventLog(tmp_path / name)

    with pytest.raises(StorageUnavailableError, match="see that the directory exists"):
        await log.open()
    await log.close()


@pytest.mark.parametrize("name", ["", " ", "a\0b", None, 5, b"bytes"])
def test_a_path_that_is_none_is_refused(name):
    with pytest.raises(ConfigurationError):
        SQLiteEventLog(name)


@pytest.mark.parametrize("options", [{"patience": -1}, {"patience": float("nan")}, {"readers": 0}])
def test_options_out_of_range_are_refused(path, options):
    with pytest.raises(ConfigurationError):
        SQLiteEventLog(path, **options)


@pytest.mark.parametrize(("version", "error"), [(2, SchemaTooNewError), (0, SchemaOutdatedError)])
async def test_a_file_of_another_version_is_not_touched(path, version, error):
    async with SQLiteEventLog(path) as log:
        await append(log)
    with sqlite3.connect(path) as conn:
        conn.execute("update mainstay_schema set version = ?", (version,))
    conn.close()

    log = SQLiteEventLog(path)
    with pytest.raises(error, match=r"events\.sqlite"):
        await append(log)
    await log.close()


async def test_a_file_with_tables_of_the_users_own_keeps_them(path):
    with sqlite3.connect(path) as conn:
        conn.execute("create table event (n integer)")
        conn.execute("insert into event values (5)")
    async with SQLiteEventLog(path) as log:
        await append(log)
    assert conn.execute("select n from event").fetchall() == [(5,)]
    conn.close()


async def test_events_can_neither_be_changed_nor_deleted(log, path):
    await append(log, new("Placed", "a"))
    with sqlite3.connect(path) as conn:
        for statement in (
            "delete from mainstay_event",
            "update mainstay_event set payload = '{\"n\":2}'",
            "update mainstay_event set payload = '{}', metadata = null, tags = null",
            "update mainstay_event set version = 7",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="events"):
                conn.execute(statement)
    conn.close()


async def test_what_a_tombstone_took_is_not_in_the_file(path):
    name, secret = stream(), "the-name-of-a-customer"
    async with SQLiteEventLog(path) as log:
        await append(log, new("Placed", secret, payload={"name": secret}, metadata={"name": secret}), name=name)
    assert secret.encode() in path.read_bytes()
    async with SQLiteEventLog(path) as log:
        await log.tombstone(name, reason="a test", actor="ada")

    assert secret.encode() not in path.read_bytes()
    assert not path.with_name(path.name + "-wal").exists()


async def test_any_other_error_of_sqlite_is_one_of_ours(log, path):
    await append(log)
    with sqlite3.connect(path) as conn:
        conn.execute("drop table mainstay_event_tag")
    conn.close()

    with pytest.raises(StorageError, match="mainstay_event_tag"):
        await append(log, new("Placed", "a"))
    assert (await log.horizon()).position == 1


@pytest.mark.thorough
def test_without_aiosqlite_the_line_to_install_it_is_told():
    program = "import sys; sys.modules['aiosqlite'] = None; import mainstay.storage.sqlite.events"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert 'MissingDependencyError: SQLite needs the extra "sqlite": pip install "mainstay[sqlite]"' in done.stderr


# -- plans -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "steps"),
    [
        ("read_feed", {"query": None}, ["SEARCH event USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
        (
            "read_feed_by_tags",
            {"query": '[[[],["a"]]]', "led_by": '["a"]'},
            ["SEARCH event USING INTEGER PRIMARY KEY (rowid=?)", "SEARCH led USING PRIMARY KEY (tag=? AND position>?"],
        ),
        ("standings", {"names": '[["Order","","1"]]'}, ["(category=? AND tenant_id=? AND id=?)"]),
        ("events_there", {"windows": "[[1,2,3]]"}, ["(stream=? AND version>? AND version<?)"]),
        ("read_streams", {"names": '[["Order","","1",0]]'}, ["(stream=? AND version>?)"]),
        (
            "read_stream",
            dict.fromkeys(("category", "tenant_id", "id", "after_version", "up_to_version", "up_to_time", "limit"), 5),
            ["(stream=? AND version>? AND version<?)"],
        ),
    ],
)
async def test_what_is_asked_often_looks_only_where_the_answer_is(log, path, name, parameters, steps):
    await append(log, *(new("Placed", f"tag:{n}", "a") for n in range(100)))
    with sqlite3.connect(path) as conn:
        rows = conn.execute(f"explain query plan {queries('events')[name]}", FEED | parameters).fetchall()
    conn.close()
    plan = [row[3] for row in rows]

    for step in steps:
        assert any(step in each for each in plan), plan
    small = ("VIRTUAL TABLE", "sqlite_sequence")
    assert not [each for each in plan if each.startswith("SCAN") and not any(name in each for name in small)], plan
