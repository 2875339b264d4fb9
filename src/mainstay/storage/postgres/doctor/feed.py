"""The feed of events: who holds it back, and whether its positions are what they were."""

from collections.abc import Iterator

from psycopg.rows import DictRow

from mainstay.storage.postgres.doctor.check import Check, Limits, fault, span, warning

_NAME = "feed"
_MUCH_WORSE = 10


def holders(rows: list[DictRow], limits: Limits) -> Iterator[Check]:
    """No transaction that has appended events stays open: nobody can read what others append after it."""
    for row in rows:
        if row["age"] is None or row["age"] < limits.held_feed:
            continue
        make = fault if row["age"] >= _MUCH_WORSE * limits.held_feed else warning
        held = f"so nobody reads an event after position {row['floor']:,}, of {row['drawn']:,}."
        if row["gid"] is not None:
            yield make(
                _NAME,
                f"Transaction {row['gid']}, prepared {span(row['age'])} ago, has appended events, {held}",
                f"Run `commit prepared {row['quoted']};` or `rollback prepared {row['quoted']};`",
                row["gid"],
            )
        else:
            yield make(
                _NAME,
                f"Session {row['pid']} ({row['application_name'] or 'no application_name'}, role {row['role']}, "
                f"{row['state']}) has appended events in a transaction that is open for {span(row['age'])}, {held}",
                "Mend the program to append last and commit, or end the session: "
                f"`select pg_terminate_backend({row['pid']});`",
                f"pid {row['pid']}",
            )


def positions(row: DictRow) -> Iterator[Check]:
    """No position is given out twice."""
    if row["last"] > row["drawn"]:
        yield fault(
            _NAME,
            f"The last event has position {row['last']:,}, but the sequence stands at {row['drawn']:,}: it was "
            "restored without its value, and the next appends will fail.",
            "Stop all writers and run `select eventsource.renew_epoch();`",
            "eventsource.event_position",
        )
    if row["cache"] != 1:
        yield fault(
            _NAME,
            f"The sequence of positions has a cache of {row['cache']}: sessions give out numbers of old, and readers "
            "skip those events.",
            "Run `alter sequence eventsource.event_position cache 1;`",
            "eventsource.event_position",
        )
