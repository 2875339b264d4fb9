"""Failure groups: what fails alike is counted as one."""

# ruff: noqa: S101 - asserts are what a contract is made of
# ruff: noqa: D102 - a test's name states its rule
# ruff: noqa: PLR2004 - expected values are literal

from uuid import uuid4

import pytest

from mainstay.commands.failures import Kind, Selection, fingerprint, group_id
from mainstay.commands.store import Action, CommandStore, Verb
from mainstay.testing.contracts.commands.base import DOMAIN, CommandStoreSuite

EVERY = Selection()
ALIKE = [
    "order 17 of 'Ada' was not found",
    "order 18 of 'Bob'  was not\nfound",
    'order A-4711/3 of "C D" was not found',
]


class FailureContract(CommandStoreSuite):
    """Failure groups: what fails alike is counted as one."""

    async def failed(self, store: CommandStore, message: str | None, **changes: str) -> None:
        """A new command that fails with this message."""
        received = await self.in_hand(store)
        await self.say(store, received, Verb.TROUBLESHOOT, **{"error_message": message} | changes)

    async def test_failures_that_differ_in_numbers_ids_and_quoted_parts_are_one_group(
        self, store: CommandStore
    ) -> None:
        for message in [*ALIKE, f"order {uuid4()} of '' was not found"]:
            await self.failed(store, message)
            self.pass_time(store)
        (group,) = await store.list_groups(EVERY)
        items = await store.list_troubleshooting(DOMAIN, None, limit=10, offset=0)

        assert (group.domain, group.command_type) == (DOMAIN, "CreateOrder")
        assert (group.error_type, group.error_code, group.commands) == ("PERMANENT", "BAD_DATA", 4)
        assert (group.first_seen, group.last_seen) == (items[0].updated_at, items[-1].updated_at)
        assert (group.example_id, group.example_message) == (items[-1].command_id, items[-1].last_error_msg)

    async def test_payloads_are_alike_in_form_by_domain_type_and_version(self, store: CommandStore) -> None:
        for headers in (None, b'{"trace":"a"}', b'{"trace":"b","command_version":2}', b'{"command_version":2}'):
            await self.troubled(store, headers=headers)
        await self.troubled(store, command_type="Ship")

        assert await store.list_kinds(EVERY) == [
            Kind(DOMAIN, "CreateOrder", {}),
            Kind(DOMAIN, "CreateOrder", {"command_version": 2}),
            Kind(DOMAIN, "Ship", {}),
        ]
        assert [kind.command_type for kind in await store.list_kinds(Selection(command_type="Ship"))] == ["Ship"]
        assert await store.list_kinds(Selection("nobody")) == []

    @pytest.mark.parametrize(
        "message",
        [
            *ALIKE,
            None,
            "",
            "it can't find the user's account",
            '"a" and \'b\nc\' and "unclosed',
            "10.0.0.1:5432 timed out after 3.5 s, 2030-01-02T03:04:05Z",
            "größe 'ß' ist 3\t mal zu groß \u2028 \U0001f600",
            "x" * 5000,
            "a1" * 999 + "'" + "b" * 50 + "'",
            "__-__ ./.: 0",
        ],
        ids=range(12),
    )
    async def test_every_store_takes_the_same_fingerprint_of_a_message(
        self, store: CommandStore, message: str | None
    ) -> None:
        await self.failed(store, message)
        (group,) = await store.list_groups(EVERY)

        assert group.fingerprint == fingerprint(message)
        assert group.group_id == group_id(DOMAIN, "CreateOrder", "PERMANENT", "BAD_DATA", group.fingerprint)

    async def test_another_message_code_or_type_is_another_group(self, store: CommandStore) -> None:
        for message, code in [
            ("no such user", "A"),
            ("no such user", "B"),
            ("no such order", "A"),
            ("no such order", "A"),
        ]:
            await self.failed(store, message, error_code=code)
        groups = await store.list_groups(EVERY)
        narrowed = await store.list_groups(Selection(error_code="B"))
        one = await store.list_groups(Selection(group_id=groups[0].group_id))

        assert [group.commands for group in groups] == [2, 1, 1]
        assert (groups[0].example_message, groups[0].error_code) == ("no such order", "A")
        assert len({group.group_id for group in groups}) == 3
        assert narrowed == [group for group in groups if group.error_code == "B"]
        assert one == groups[:1]
        assert await store.list_groups(Selection(domain="nobody")) == []
        assert await store.list_groups(Selection(command_type="Other")) == []

    async def test_what_loses_its_last_lease_is_in_a_group_too(self, store: CommandStore) -> None:
        await self.in_hand(store, max_attempts=1)
        await self.expire_leases(store)
        await self.received(store)
        (group,) = await store.list_groups(EVERY)

        assert (group.error_code, group.commands) == ("LEASE_EXPIRED", 1)

    async def test_what_was_decided_on_leaves_its_group(self, store: CommandStore) -> None:
        await self.operate(store, Action.CANCEL, await self.troubled(store))

        assert await store.list_groups(EVERY) == []
