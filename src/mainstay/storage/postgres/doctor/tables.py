"""The tables: autovacuum, bloat, indexes, rights, and what stands in the queues."""

from collections.abc import Iterator

from psycopg.rows import DictRow

from mainstay.storage.postgres.doctor.check import Check, Limits, fault, ok, size, some, span, unless, warning

SAMPLE = 10_000
"""Messages of each queue that are looked at for strays, the oldest."""
_SAID = 200
"""Characters of an error message that are shown."""
_GRANTS = {
    "schema": "`grant {privileges} on schema {schema} to {role};`",
    "table": "`grant {privileges} on all tables in schema {schema} to {role};`",
    "sequence": "`grant {privileges} on all sequences in schema {schema} to {role};`",
    "function": "`grant {privileges} on all routines in schema {schema} to {role};`",
}


def rights(rows: list[DictRow], role: str) -> Iterator[Check]:
    """This role may do what commands, events and projections need."""
    name = "rights"
    lacks: dict[tuple[str, str, bool], tuple[dict[str, None], dict[str, None]]] = {}
    for row in rows:
        names, privileges = lacks.setdefault((row["schema"], row["kind"], row["privilege"] == "create"), ({}, {}))
        names[row["name"]] = None
        privileges[row["privilege"]] = None
    for (schema, kind, may_do_without), (names, privileges) in lacks.items():
        asked = ", ".join(privileges)
        advice = "Run " + _GRANTS[kind].format(privileges=asked, schema=schema, role=f'"{role}"')
        if may_do_without:
            yield warning(
                name,
                f"Role {role} may not create queues: the first command of a new domain fails.",
                f"{advice}, or create queues beforehand: `select commandbus.create_queue('DOMAIN');`",
                "create on schema pgmq",
            )
            continue
        yield fault(
            name,
            f"Role {role} lacks {asked} on {len(names)} {kind}{'s' if len(names) > 1 else ''} of {schema} "
            f"({some(list(names))}).",
            advice,
            f"{kind}s of {schema}",
        )
    if not lacks:
        yield ok(name, f"Role {role} may do all that commands, events and projections need.")


def autovacuum(server: DictRow, rows: list[DictRow], limits: Limits) -> Iterator[Check]:
    """Dead rows are removed soon: receiving walks over those at the queue's head."""
    name = "autovacuum"
    yield from unless(
        _vacuum(server, rows, limits, name), name, f"Autovacuum is on and keeps up on {len(rows)} tables."
    )


def _vacuum(server: DictRow, rows: list[DictRow], limits: Limits, name: str) -> Iterator[Check]:
    for setting in ("autovacuum", "track_counts"):
        if server[setting] != "on":
            yield fault(
                name,
                f"{setting} is off: tables grow, and receiving gets slower and slower.",
                f"Run `alter system set {setting} = on;` and `select pg_reload_conf();`.",
                setting,
            )
    for row in rows:
        if not row["is_vacuumed"]:
            yield fault(
                name,
                f"Autovacuum is switched off for {row['name']}.",
                f"Run `alter table {row['quoted']} reset (autovacuum_enabled);`.",
                row["name"],
            )
        elif row["dead_rows"] > max(limits.dead_rows, 5 * row["vacuum_at"]) and (
            row["since_vacuum"] is None or row["since_vacuum"] > limits.since_vacuum
        ):
            last = "never" if row["since_vacuum"] is None else f"{span(row['since_vacuum'])} ago"
            yield warning(
                name,
                f"{row['name']} has {row['dead_rows']:,} dead rows beside {row['live_rows']:,} live ones and was last "
                f"vacuumed {last}; its settings ask for it at {row['vacuum_at']:,.0f}.",
                f"See whether a transaction, slot or lock holds vacuum back, then run `vacuum {row['quoted']};`; if it "
                "comes back, raise autovacuum_max_workers or autovacuum_vacuum_cost_limit.",
                row["name"],
            )


def sizes(rows: list[DictRow], limits: Limits) -> Iterator[Check]:
    """The queues' tables are small, as what they hold is."""
    name = "sizes"
    for row in rows:
        if row["is_queue"] and row["table_bytes"] > max(limits.bloat_bytes, 10 * row["needed_bytes"]):
            yield warning(
                name,
                f"{row['name']} is {size(row['table_bytes'])} large for {row['live_rows']:,} rows.",
                "Find what held vacuum back (the checks on transactions and slots). To shrink it, at a quiet time: "
                f"`vacuum (full) {row['quoted']};`, which locks it meanwhile.",
                row["name"],
            )
    total = sum(row["table_bytes"] + row["index_bytes"] for row in rows)
    largest = [f"{row['name']} {size(row['table_bytes'])} + {size(row['index_bytes'])} of indexes" for row in rows]
    if largest:
        yield ok(name, f"All tables and indexes take {size(total)}; the largest: {some(largest)}.")
    else:
        yield ok(name, "There are no tables yet.")


def invalid_indexes(rows: list[DictRow]) -> Iterator[Check]:
    """Every index works."""
    for row in rows:
        yield fault(
            "indexes",
            f"Index {row['name']} on {row['on_table']} is invalid: a concurrent build of it failed.",
            f"Run `reindex index concurrently {row['name']};`, or drop it if it is not mainstay's.",
            row["name"],
        )


def queues(rows: list[DictRow], limits: Limits) -> Iterator[Check]:
    """What is ready is received."""
    for row in rows:
        domain, unread = row["domain"], row["longest_unread_seconds"] or 0.0
        deep = f"{row['ready']:,} ready, {row['leased']:,} leased"
        if row["ready"] and unread > limits.unread:
            idle = not row["leased"]
            asleep = f"{row['sleepers']} sleep" if row["sleepers"] else "none sleeps, none holds a lease"
            yield (fault if idle else warning)(
                "queues",
                f"Domain {domain}: a message may be received for {span(unread)} and is not ({deep}, the oldest was "
                f"sent {span(row['oldest_ready_seconds'])} ago; of its workers {asleep if idle else 'some are busy'}).",
                f"Start a worker: `mainstay worker MODULE:NAME --domain {domain}`"
                + (", or raise --concurrency." if not idle else "."),
                domain,
            )
        else:
            oldest = f", the oldest for {span(row['oldest_ready_seconds'])}" if row["ready"] else ""
            yield ok("queues", f"Domain {domain}: {deep}{oldest}.")
        if (row["overdue_seconds"] or 0.0) > limits.unread:
            yield fault(
                "queues",
                f"Domain {domain}: a deferred command is overdue for {span(row['overdue_seconds'])}: nobody receives.",
                f"Start a worker: `mainstay worker MODULE:NAME --domain {domain}`.",
                domain,
            )
        if row["strays"]:
            yield warning(
                "queues",
                f"Domain {domain}: {row['strays']:,} messages stand for no waiting command.",
                "A worker archives them or puts them into troubleshooting when it receives them; "
                "`mainstay fsck` names them. Send with commandbus.send only.",
                domain,
            )


def held_processes(rows: list[DictRow]) -> Iterator[Check]:
    """No process waits for an operator."""
    for row in rows:
        domain, since = row["domain"], span(row["seconds"])
        if row["is_step"]:
            seen = (
                f"processes wait for an operator, since {row['commands']:,} of their steps do (the longest for {since})"
            )
            advice = f"Decide: `mainstay tsq list --domain {domain}`."
        else:
            seen = f"processes stand still, since their code failed on {row['commands']:,} replies, deadlines or "
            seen += f"cancellations (the longest for {since})"
            advice = f"Mend the code, then run `mainstay tsq retry --all --domain {domain}`."
        yield warning("processes", f"Domain {domain}: {seen}.", advice, domain)


def breakers(rows: list[DictRow]) -> Iterator[Check]:
    """Nothing is held because it fails."""
    for row in rows:
        which = f"{row['domain']} {row['command_type']} {row['fingerprint']}"
        held = f"{row['parked']:,} command{'' if row['parked'] == 1 else 's'}"
        if row["state"] == "OPEN":
            yield warning(
                "breakers",
                f"The breaker {which} is open for {span(row['seconds'])} and holds {held}; {row['failed_probes']:,} "
                f"probes have failed. They say: {(row['example_message'] or 'nothing')[:_SAID]!r}.",
                "Mend what they depend on; a probe finds out by itself. To let them fail instead: "
                f"`mainstay breakers close {which}`.",
                which,
            )
        else:
            yield ok("breakers", f"The breaker {which} is closing; {held} to go.")
