"""What the shop knows: what happens to an article, what can be wanted of it, and what follows.

Nothing here knows a database. `Article` is three pure functions, so a test of it needs nothing else.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel

from mainstay import BusinessRuleException, DeciderAggregate, DomainEvent


class GoodsReceived(DomainEvent, event_type="shop.GoodsReceived", aggregate_type="Article"):
    """So many pieces came in."""

    pieces: int


class PiecesSold(DomainEvent, event_type="shop.PiecesSold", aggregate_type="Article"):
    """Somebody bought some, at this price in cents each."""

    customer: str
    pieces: int
    price: int


class SoldOut(DomainEvent, event_type="shop.SoldOut", aggregate_type="Article"):
    """The last piece is gone."""


@dataclass(frozen=True)
class Receive:
    """Take goods in."""

    pieces: int


@dataclass(frozen=True)
class Sell:
    """Sell some, at this price in cents each."""

    customer: str
    pieces: int
    price: int


class Stock(BaseModel):
    """What the events of an article have made of it."""

    left: int = 0


class Article(DeciderAggregate[Stock, Receive | Sell]):
    """An article of the shop; nobody can buy what is not there."""

    @staticmethod
    def initial_state() -> Stock:
        """Nothing has come in."""
        return Stock()

    @staticmethod
    def decide(stock: Stock, command: Receive | Sell) -> Iterable[DomainEvent]:
        """What follows from a command."""
        if isinstance(command, Receive):
            return [GoodsReceived(pieces=command.pieces)]
        if command.pieces > stock.left:
            raise BusinessRuleException("SOLD_OUT", f"{command.pieces} wanted, {stock.left} left")
        sold = PiecesSold(customer=command.customer, pieces=command.pieces, price=command.price)
        return [sold, SoldOut()] if command.pieces == stock.left else [sold]

    @staticmethod
    def evolve(stock: Stock, event: DomainEvent) -> Stock:
        """The stock after an event."""
        match event:
            case GoodsReceived(pieces=pieces):
                return Stock(left=stock.left + pieces)
            case PiecesSold(pieces=pieces):
                return Stock(left=stock.left - pieces)
            case _:
                return stock
