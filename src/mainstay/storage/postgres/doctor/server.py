"""The server: its version, the settings on which promises rest, connections, clock, wraparound."""

from collections.abc import Iterator
from datetime import datetime

from psycopg.rows import DictRow

from mainstay.storage.postgres.doctor.check import Check, Limits, fault, ok, span, unless, warning
from mainstay.storage.postgres.migrate import SchemaStatus

OLDEST = 15
NEWEST_TESTED = 18
_SAME_COMMIT = ("on", "local", "remote_write", "remote_apply")
_ALMOST_ALL = 0.95
_MUCH_WORSE = 5.0


def versions(row: DictRow) -> Iterator[Check]:
    """PostgreSQL is one that this release was tested on."""
    name, major = "PostgreSQL version", row["version_number"] // 10_000
    if major < OLDEST:
        yield fault(
            name, f"PostgreSQL {row['version']} is older than {OLDEST}.", f"Upgrade the server to {OLDEST} or newer."
        )
    elif major > NEWEST_TESTED:
        yield warning(
            name,
            f"PostgreSQL {row['version']} is newer than this release was tested on ({NEWEST_TESTED}).",
            "Look for a newer release of mainstay: pip install --upgrade mainstay",
        )
    else:
        yield ok(name, f"PostgreSQL {row['version']}.")


def settings(row: DictRow) -> Iterator[Check]:
    """A commit survives a crash, and transactions are what the functions take them for."""
    yield from unless(_durability(row), "durability", "fsync, full_page_writes and synchronous_commit are on.")
    yield from unless(_transactions(row), "transactions", "Transactions are READ COMMITTED, and may write.")
    if row["server_encoding"] == "UTF8":
        yield ok("encoding", "The database holds any text: UTF8.")
    else:
        yield fault(
            "encoding",
            f"The database's encoding is {row['server_encoding']}: text with other characters is refused.",
            "Make one by `create database NAME encoding 'UTF8' template template0;` and move into it with pg_dump.",
        )


def _durability(row: DictRow) -> Iterator[Check]:
    name = "durability"
    for setting, danger in (
        ("fsync", "a crash of the machine can destroy the whole database"),
        ("full_page_writes", "a crash of the machine can leave torn pages"),
    ):
        if row[setting] != "on":
            yield fault(
                name,
                f"{setting} is {row[setting]}: {danger}.",
                f"Run `alter system set {setting} = on;` and `select pg_reload_conf();`.",
                setting,
            )
    if row["synchronous_commit"] not in _SAME_COMMIT:
        yield fault(
            name,
            "synchronous_commit is off: what was committed in the last moments before a crash is lost.",
            f'Run `alter database "{row["database"]}" set synchronous_commit = on;` and reconnect.',
            "synchronous_commit",
        )


def _transactions(row: DictRow) -> Iterator[Check]:
    name = "transactions"
    if row["is_standby"]:
        yield fault(name, "This server is a standby: nothing can be written.", "Connect to the primary.")
    elif row["default_transaction_read_only"] == "on":
        yield fault(
            name,
            "default_transaction_read_only is on: nothing can be written.",
            f'Run `alter role "{row["role"]}" set default_transaction_read_only = off;` and reconnect.',
        )
    if row["default_transaction_isolation"] != "read committed":
        yield fault(
            name,
            f"Transactions are {row['default_transaction_isolation'].upper()}: workers fail on each other's rows.",
            f"Run `alter role \"{row['role']}\" set default_transaction_isolation = 'read committed';` and reconnect.",
        )


def schema(status: SchemaStatus) -> Iterator[Check]:
    """Mainstay's tables and functions are those of this release, and PGMQ is there."""
    name, upgrade = "schema", "Run `mainstay schema upgrade`."
    if status.database_version is None:
        yield fault(name, "mainstay is not installed in this database.", upgrade)
    elif status.breaking:
        yield fault(
            name,
            f"The schema is at version {status.database_version} and excludes this release, which knows "
            f"{status.code_version}.",
            "Run `pip install --upgrade mainstay`.",
        )
    elif status.drift:
        yield from _altered(status, name, upgrade)
    elif status.pending or status.changed_functions:
        missing = len(status.pending) + len(status.changed_functions)
        yield fault(name, f"The database lacks {missing} migrations or functions of this release.", upgrade)
    elif status.newer:
        yield ok(name, f"The schema is newer than this release (version {status.database_version}), and works with it.")
    else:
        yield ok(name, f"The schema is that of this release (version {status.database_version}).")
    if status.pgmq_method is None:
        yield fault("PGMQ version", "PGMQ is not installed.", upgrade)
    else:
        how = "as an extension" if status.pgmq_method == "extension" else "as plain SQL"
        yield ok("PGMQ version", f"PGMQ {status.pgmq_version or 'of unknown version'} is installed {how}.")


def _altered(status: SchemaStatus, name: str, upgrade: str) -> Iterator[Check]:
    altered = {str(each) for each in status.altered}
    for said in [each for each in status.drift if each not in altered][:1]:
        yield fault(name, f"The database is not what its ledger says: {said}.", upgrade)
    for each in status.altered:
        yield fault(name, f"The database is not what its ledger says: {each}.", each.advice, each.subject)


def clock(before: datetime, database: datetime, after: datetime, limits: Limits) -> Iterator[Check]:
    """The database and this host agree what time it is, apart from how long the question took."""
    name = "clock"
    ahead = max((before - database).total_seconds(), (database - after).total_seconds())
    if ahead > limits.clock:
        which = "behind" if database < before else "ahead of"
        yield warning(
            name,
            f"The database's clock is {ahead:.1f} s {which} this host's.",
            "Let both follow a time server (`timedatectl` shows whether they do): not_before and expires_at are "
            "computed on hosts and judged by the database.",
        )
    else:
        yield ok(name, f"The database's clock and this host's agree within {max(ahead, 0.0) + limits.clock:.0f} s.")


def connections(rows: list[DictRow], limits: Limits) -> Iterator[Check]:
    """Connections are left for those who need one more."""
    for row in rows:
        used, allowed = row["used"], row["allowed"]
        whose = row["whose"] if row["name"] is None else f"{row['whose']} {row['name']}"
        seen = f"{used} of {allowed} connections of the {whose} are in use."
        if used < allowed * limits.connections:
            yield ok("connections", seen)
            continue
        make = fault if used >= allowed * _ALMOST_ALL else warning
        yield make(
            "connections",
            seen,
            "Give pools a smaller max_size, put PgBouncer between, or raise the limit "
            + {
                "server": "(`alter system set max_connections = ...;` and restart).",
                "database": f'(`alter database "{row["name"]}" connection limit -1;`).',
                "role": f'(`alter role "{row["name"]}" connection limit -1;`).',
            }[row["whose"]],
            whose,
        )


def wraparound(row: DictRow, limits: Limits) -> Iterator[Check]:
    """Vacuum keeps up with the transaction ids that are used."""
    name = "wraparound"
    behind = max(row["age"] / row["freeze_at"], row["multixact_age"] / row["multixact_freeze_at"])
    seen = (
        f"Database {row['name']} has transaction ids {row['age']:,} old (autovacuum hurries at {row['freeze_at']:,})."
    )
    if behind < limits.wraparound:
        yield ok(name, seen)
    else:
        make = fault if behind >= limits.wraparound * _MUCH_WORSE else warning
        yield make(
            name,
            seen,
            "Find what holds vacuum back (the checks on transactions and slots), then run `vacuum freeze;` in that "
            "database.",
            row["name"],
        )


def sessions(rows: list[DictRow], limits: Limits) -> Iterator[Check]:
    """No transaction stays open for so long that vacuum cannot clean up behind the queue."""
    name = "long transactions"
    yield from unless(_long(rows, name, limits), name, f"No transaction is older than {span(limits.long_transaction)}.")
    if any(row["is_hidden"] for row in rows):
        yield warning(
            name,
            "Sessions of other roles cannot be looked into.",
            "Run `grant pg_read_all_stats to` the role that the doctor connects as.",
            "hidden sessions",
        )


def _long(rows: list[DictRow], name: str, limits: Limits) -> Iterator[Check]:
    for row in rows:
        if row["is_hidden"] or row["age"] < limits.long_transaction:
            continue
        make = fault if row["age"] >= 10 * limits.long_transaction else warning
        pins = (
            "vacuum cannot remove what died since, so tables grow"
            if row["pins"]
            else "its locks and its connection are held"
        )
        yield make(
            name,
            f"Session {row['pid']} ({row['application_name'] or 'no application_name'}, role {row['role']}, "
            f"{row['state']}) is in a transaction for {span(row['age'])}, its last statement began "
            f"{row['query_start']:%Y-%m-%d %H:%M:%S %Z}: {row['query']!r}; {pins}.",
            f"Mend the program, or end the session: `select pg_terminate_backend({row['pid']});`",
            f"pid {row['pid']}",
        )


def prepared_transactions(rows: list[DictRow], limits: Limits) -> Iterator[Check]:
    """No prepared transaction was forgotten."""
    for row in rows:
        if row["age"] >= limits.long_transaction:
            yield fault(
                "prepared transactions",
                f"Transaction {row['gid']} of {row['owner']} was prepared {span(row['age'])} ago: it holds back vacuum "
                "and keeps its locks over restarts.",
                f"Ask whoever made it, then run `rollback prepared {row['quoted']};` or commit it.",
                row["gid"],
            )


def replication_slots(rows: list[DictRow], limits: Limits) -> Iterator[Check]:
    """No replication slot was forgotten."""
    for row in rows:
        kept, pins = row["kept_bytes"] or 0, row["xmin_age"] is not None or row["catalog_xmin_age"] is not None
        if row["is_active"] or not (pins or kept > limits.kept_wal_bytes or row["kept_bytes"] is not None):
            continue
        make = fault if kept > limits.kept_wal_bytes else warning
        yield make(
            "replication slots",
            f"Nobody reads replication slot {row['name']}; it {'holds back vacuum and ' if pins else ''}keeps "
            f"{kept / 1024 / 1024:,.0f} MB of write-ahead log.",
            f"Start its reader, or run `select pg_drop_replication_slot({row['quoted']});`.",
            row["name"],
        )
