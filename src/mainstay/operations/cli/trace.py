"""``mainstay trace``: the whole conversation that a command, an event or a reply belongs to, as a tree."""

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from mainstay.operations.cli.asking import ask
from mainstay.operations.cli.options import AsJson, Dsn

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from mainstay.commands.command import CommandMetadata
    from mainstay.conversations import Conversation, Step

_DIM = "bright_black"


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("trace")(trace)


def trace(
    *,
    asked: Annotated[
        UUID,
        typer.Argument(
            metavar="ID",
            show_default=False,
            help="Of a command, an event, a batch or a process; or a correlation id.",
        ),
    ],
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=10_000, metavar="N", help="Read so many commands, and so many events.")
    ] = 1_000,
    depth: Annotated[int, typer.Option("--depth", min=0, metavar="N", help="Show so many levels below the root.")] = 20,
    below: Annotated[
        int,
        typer.Option("--below", min=1, metavar="N", help="Show so many effects of one cause, and count the others."),
    ] = 20,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Show all that led to something, and all that followed from it: commands, events, replies, processes and batches.

    What stands below something was caused by it. Exit code 5 if nothing has this id.
    """
    found = ask(dsn, lambda person: person.conversations.find(asked, limit=limit))
    from mainstay.operations.cli.output import Output, counted

    out = Output(as_json=as_json)
    if as_json:
        out.document(_document(found))
        return
    for tree in _trees(found, depth, below):
        out.show(tree)
    out.note(_summary(found))
    if found.more:
        out.note(
            f"There is more: --limit reads further than {counted(limit, 'command')} and {counted(limit, 'event')}.",
            "yellow",
        )


# -- for programs ------------------------------------------------------------------------------------------------------


def _document(found: "Conversation") -> dict[str, Any]:
    return {
        "asked": found.asked,
        "correlation_ids": found.correlation_ids,
        "more": found.more,
        "steps": [_fields(step) for step in found.steps],
    }


def _fields(step: "Step") -> dict[str, Any]:
    fields: dict[str, Any] = {
        "kind": step.kind,
        "id": step.id,
        "type": step.name,
        "depth": step.depth,
        "cause": step.cause,
        "correlation_id": step.correlation_id,
        "at": step.at,
        "pruned": step.is_pruned,
    }
    if step.event is not None:
        stream = step.event.stream
        return fields | {
            "category": stream.category,
            "stream_id": stream.id,
            "tenant_id": stream.tenant_id,
            "version": step.event.version,
            "position": step.event.position,
            "actor_id": step.event.event.actor_id,
        }
    if step.kind != "MISSING":
        fields |= {"domain": step.place, "status": step.status, "ended_at": step.ended_at}
    if step.command is not None:
        known = step.command.command
        fields |= {
            "attempts": known.attempts,
            "max_attempts": known.max_attempts,
            "first_received_at": step.command.first_received,
            "last_received_at": step.command.last_received,
            "waited_seconds": step.waited,
            "took_seconds": step.took,
            "position": known.position,
            "error_code": known.last_error_code,
            "error_message": known.last_error_msg,
            "reply_to": known.reply_to,
            "batch_id": known.batch_id,
            "process_id": (known.headers or {}).get("process_id"),
        }
    return fields


# -- for people --------------------------------------------------------------------------------------------------------


def _trees(found: "Conversation", depth: int, below: int) -> "list[Tree]":
    """A tree for each root; what is asked for is shown, however deep it stands."""
    from rich.tree import Tree

    began = min((step.at for step in found.steps if step.at is not None), default=None)
    needed = _path_to(found)
    roots: list[Tree] = []
    above: list[tuple[Tree, Counter[str]]] = []
    endings: list[tuple[Tree, Counter[str]]] = []
    hidden_from: int | None = None
    hidden: Counter[str] = Counter()
    shown: Counter[int] = Counter()
    for place, step in enumerate(found.steps):
        if hidden_from is not None and step.depth > hidden_from and place not in needed:
            hidden[_noun(step)] += 1
            continue
        hidden_from = None
        del above[step.depth :]
        parent = id(above[-1][0]) if above else 0
        if above and place not in needed and (step.depth > depth or shown[parent] >= below):
            hidden_from, hidden = step.depth, above[-1][1]
            hidden[_noun(step)] += 1
            continue
        tree = Tree(_label(step, found, began), guide_style=_DIM)
        shown[parent] += 1
        if above:
            above[-1][0].children.append(tree)
        else:
            roots.append(tree)
        above.append((tree, Counter()))
        endings.append(above[-1])
    for tree, more in endings:
        if more:
            tree.add(_styled((f"… {_counts(more)} more", _DIM)))
    return roots


def _path_to(found: "Conversation") -> set[int]:
    """Where what was asked for stands, and all above it."""
    needed: set[int] = set()
    above: list[int] = []
    for place, step in enumerate(found.steps):
        del above[step.depth :]
        above.append(place)
        if step.id == found.asked:
            needed |= {*above}
    return needed


def _label(step: "Step", found: "Conversation", began: datetime | None) -> "Text":
    """What stands in the tree: what it is, and below that, dimmed, which and when."""
    text = _missing(step) if step.kind == "MISSING" else _event(step) if step.event is not None else _command(step)
    if step.id == found.asked:
        text.append("  <- asked for", "bold")
    if step.is_pruned:
        text.append("  pruned", f"italic {_DIM}")
    text.append(f"\n{step.id}", _DIM)
    if step.event is not None:
        text.append(f"  #{step.event.position}", _DIM)
    if step.at is not None:
        text.append(f"  {_when(step.at, began)}", _DIM)
    if step.command is not None and step.command.command.position is not None:
        text.append(f"  appended to #{step.command.command.position}", _DIM)
    if step.command is not None and (belongs := _belongs(step.command.command, found.asked)):
        text.append(f"\n{belongs}", _DIM)
    if step.correlation_id is not None and step.correlation_id not in found.correlation_ids:
        text.append(f"\nof conversation {step.correlation_id}", _DIM)
    if step.command is not None and (known := step.command.command).last_error_code and step.status != "COMPLETED":
        text.append(f"\n[{known.last_error_code}] {known.last_error_msg or ''}".rstrip(), "red")
    return text


def _belongs(command: "CommandMetadata", asked: UUID) -> str:
    """What a command belongs to besides, and where its reply goes."""
    process = (command.headers or {}).get("process_id")
    told = [
        f"of batch {command.batch_id}" if command.batch_id not in {None, asked} else "",
        f"of process {process}" if process not in {None, str(asked)} else "",
        f"replies to {command.reply_to}" if command.reply_to else "",
    ]
    return "  ".join(each for each in told if each)


def _command(step: "Step") -> "Text":
    from mainstay.operations.cli.output import status

    kind = {"BATCH": "batch ", "PROCESS": "process "}.get(step.kind, "")
    text = _styled((kind, _DIM), (step.name or str(step.id), "bold"), (f"  {step.place}  ", ""))
    text.append_text(status(step.status or ""))
    if step.command is None:
        return text
    known = step.command.command
    if known.attempts > 1:
        text.append(f"  attempt {known.attempts} of {known.max_attempts}", "yellow")
    told = [
        f"waited {_length(step.waited)}" if step.waited is not None else "",
        f"took {_length(step.took)}" if step.took is not None else "",
    ]
    text.append("".join(f"  {each}" for each in told if each), _DIM)
    return text


def _event(step: "Step") -> "Text":
    assert step.event is not None  # noqa: S101 - whoever calls has looked
    return _styled((step.name, "bold magenta"), (f"  {step.place} v{step.event.version}", ""))


def _missing(step: "Step") -> "Text":
    del step
    return _styled(("a cause that is not here", f"italic {_DIM}"), ("  forgotten, or another system's", _DIM))


def _styled(*parts: tuple[str, str]) -> "Text":
    from rich.text import Text

    return Text.assemble(*parts, overflow="fold")


def _when(at: datetime, began: datetime | None) -> str:
    """The time of the first, and how long after it all others came."""
    since = 0.0 if began is None else (at - began).total_seconds()
    return f"+{_length(since)}" if since > 0 else f"{at.astimezone():%Y-%m-%d %H:%M:%S.%f}"[:-3]


def _length(seconds: float) -> str:
    from mainstay.operations.cli.output import duration

    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)  # noqa: PLR2004 - a minute


def _noun(step: "Step") -> str:
    return step.kind.value.lower()


def _counts(counter: Counter[str]) -> str:
    from mainstay.operations.cli.output import counted

    plural = {"process": "processe", "batch": "batche", "missing": "missing cause"}
    return ", ".join(
        counted(number, noun if number == 1 else plural.get(noun, noun)) for noun, number in counter.most_common()
    )


def _summary(found: "Conversation") -> str:
    """One line about all of it: how much, how long, and what is wrong."""
    steps = found.steps
    said = [_counts(Counter(_noun(step) for step in steps if step.kind != "MISSING"))]
    times = [time for step in steps for time in (step.at, step.ended_at) if time is not None]
    if times:
        said.append(f"{_length((max(times) - min(times)).total_seconds())} from the first to the last")
    for status, words in (
        ("IN_TROUBLESHOOTING_QUEUE", "waiting for an operator"),
        ("FAILED", "failed"),
        ("PENDING", "pending"),
        ("IN_PROGRESS", "in progress"),
    ):
        number = sum(step.status == status for step in steps if step.kind == "COMMAND")
        said += [f"{number:,} {words}"] if number else []
    return "; ".join(said) + "."
