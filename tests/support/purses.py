"""A decider on purses, and what watches its groups: for tests of group commit."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from mainstay import BusinessRuleException, CommandModel, DeciderAggregate, DomainEvent, TransientCommandError
from mainstay.commands.deciders import Fate
from mainstay.deciding.store import GroupStore, ToCommit
from tests.scenarios.world import DOMAIN


class Pay(CommandModel, domain=DOMAIN):
    purse_id: UUID
    amount: int
    to: UUID | None = None


class Take(CommandModel, domain=DOMAIN):
    purse_id: UUID
    amount: int


class Paid(DomainEvent, event_type="GroupedPaid"):
    amount: int


class Alien(DomainEvent, event_type="GroupedAlien"):
    pass


@dataclass(frozen=True)
class Sum:
    amount: int = 0


class Purse(DeciderAggregate[Sum, Pay | Take]):
    aggregate_type = "GroupedPurse"

    @staticmethod
    def initial_state() -> Sum:
        return Sum()

    @staticmethod
    def decide(state: Sum, command: Pay | Take) -> Iterable[DomainEvent | CommandModel]:
        if command.amount == 13:
            raise ZeroDivisionError("an unlucky number")
        if command.amount == 17:
            raise TransientCommandError("LATER", "not now")
        if isinstance(command, Take):
            return [Paid(amount=command.amount)]
        if command.amount > state.amount + 100:
            raise BusinessRuleException("NOT_ENOUGH", f"there are {state.amount} only")
        following = [Take(purse_id=command.to, amount=command.amount)] if command.to else []
        return [Paid(amount=-command.amount), *following]

    @staticmethod
    def evolve(state: Sum, event: DomainEvent) -> Sum:
        assert isinstance(event, Paid)
        return replace(state, amount=state.amount + event.amount)


class Watched:
    """A group store that tells of the groups that it commits, and lets something happen before and after."""

    def __init__(self, groups: GroupStore) -> None:
        self._groups = groups
        self.committed: list[Sequence[ToCommit]] = []
        self.fates: list[Fate] = []
        self.held: list[Any] = []
        self.before: Callable[[Sequence[ToCommit]], Awaitable[None]] | None = None
        self.after: Callable[[Sequence[ToCommit]], Awaitable[None]] | None = None

    def holding(self, streams: Any, after: Any = None) -> Any:
        self.held.append(streams)
        return self._groups.holding(streams, after)

    async def commit(self, domain: str, group: Sequence[ToCommit], *, held: Any = None) -> list[Fate]:
        self.committed.append(group)
        if self.before is not None and held is None:  # nobody can be quicker on a stream that is held
            await self.before(group)
        fates = await self._groups.commit(domain, group, held=held)
        self.fates += fates
        if self.after is not None:
            await self.after(group)
        return fates

    async def close(self) -> None:
        await self._groups.close()
