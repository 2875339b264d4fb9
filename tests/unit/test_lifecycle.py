"""The lifecycle as data."""

from mainstay.commands.lifecycle import AUDIT_PATH, TERMINAL, TRANSITIONS, AuditEventType, CommandStatus


def test_every_audit_event_moves_a_command_only_as_allowed() -> None:
    moved = {(before, after) for (before, _), after in AUDIT_PATH.items() if before is not None and before is not after}

    assert {(before, after) for before, after in moved if after not in TRANSITIONS[before]} == set()


def test_every_transition_is_told_by_an_audit_event() -> None:
    told = {(before, after) for (before, _), after in AUDIT_PATH.items()}

    assert {(before, after) for before, possible in TRANSITIONS.items() for after in possible} - told == set()


def test_nothing_follows_a_terminal_status() -> None:
    assert {status for status, possible in TRANSITIONS.items() if not possible} == TERMINAL
    assert set(TRANSITIONS) == set(CommandStatus)


def test_every_status_can_be_reached_from_the_first() -> None:
    reached = {CommandStatus.PENDING}
    for _ in CommandStatus:
        reached |= {after for before in reached for after in TRANSITIONS[before]}

    assert reached == set(CommandStatus)


def test_every_audit_event_of_a_command_has_its_place_in_a_path() -> None:
    of_batches = {AuditEventType.BATCH_STARTED, AuditEventType.BATCH_COMPLETED}

    assert {event for _, event in AUDIT_PATH} == set(AuditEventType) - of_batches
