"""What the shop shows: made of events, and made again whenever somebody likes."""

from typing import Any

from domain import GoodsReceived, PiecesSold, SoldOut

from mainstay import DatabaseProjection, ReadModel, ReadModelProjection, ReadModelRepository, handles


class ShelfRow(ReadModel):
    """A line of the shelf."""

    left: int = 0
    sold: int = 0
    takings: int = 0
    sold_out: bool = False


class Shelf(ReadModelProjection[ShelfRow]):
    """A read model: its table is made by itself, and asked by its fields."""

    name = "shop-shelf"

    @handles(GoodsReceived)
    async def received(self, event: GoodsReceived, rows: ReadModelRepository[ShelfRow]) -> None:
        """More is left."""
        row = await rows.get(event.aggregate_id) or ShelfRow(id=event.aggregate_id)
        row.left += event.pieces
        row.sold_out = False
        await rows.save(row)

    @handles(PiecesSold)
    async def bought(self, event: PiecesSold, rows: ReadModelRepository[ShelfRow]) -> None:
        """Less is left, and there is money."""
        row = await rows.get(event.aggregate_id) or ShelfRow(id=event.aggregate_id)
        row.left -= event.pieces
        row.sold += event.pieces
        row.takings += event.pieces * event.price
        await rows.save(row)

    @handles(SoldOut)
    async def emptied(self, event: SoldOut, rows: ReadModelRepository[ShelfRow]) -> None:
        """Nothing is left."""
        row = await rows.get(event.aggregate_id) or ShelfRow(id=event.aggregate_id)
        row.sold_out = True
        await rows.save(row)


CUSTOMERS = "create table if not exists shop_customer (name text primary key, spent integer not null)"
ASK_CUSTOMERS = "select name, spent from shop_customer order by name"
SPEND = "insert into shop_customer values (?, ?) on conflict (name) do update set spent = shop_customer.spent + ?"


class Customers(DatabaseProjection):
    """SQL of our own, in the transaction in which the checkpoint moves: each cent is counted once.

    Args:
        mark: How the driver marks a parameter: ``?`` in SQLite, ``%s`` in psycopg.
    """

    name = "shop-customers"

    def __init__(self, mark: str) -> None:
        self._spend = SPEND.replace("?", mark)

    @handles(PiecesSold)
    async def bought(self, event: PiecesSold, conn: Any) -> None:
        """Count what somebody has spent."""
        spent = event.pieces * event.price
        await conn.execute(self._spend, (event.customer, spent, spent))
