"""A Django view that sends a command in its transaction, and a worker that handles it.

    python examples/django_view.py                     on an embedded PostgreSQL of its own
    python examples/django_view.py postgresql://...    on a database of yours, where it makes a table `django_order`

It shows, in this order: a request that writes an order and sends its payment in one transaction; one that fails and so
neither writes nor sends anything; and a worker in a thread that handles what was sent. Everything is blocking code, as
it is in most Django projects. To keep it in one file there is no project: settings are given below.
"""

import asyncio
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import django
from django.conf import settings
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client
from django.urls import path
from psycopg.conninfo import conninfo_to_dict

from mainstay import Command, CommandStatus, HandlerContext, HandlerRegistry, SyncMainstay, setup_database
from mainstay.storage.postgres.database import open_pool

TABLE = "create table if not exists django_order (order_id uuid primary key, amount integer not null)"
registry = HandlerRegistry()
app: SyncMainstay  # made in `main`, and connected when it is first needed, in each process of its own


def order(request: HttpRequest) -> HttpResponse:
    """Write an order and send its payment: both, or, if anything fails, neither."""
    order_id, amount = UUID(request.POST["order_id"]), int(request.POST["amount"])
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("insert into django_order values (%s, %s)", (order_id, amount))
        app.bus.send("payments", "Pay", order_id, {"amount": amount}, conn=connection)
        transaction.on_commit(lambda: app.bus.wake("payments"))
        if amount <= 0:
            return _refused()
    return JsonResponse({"order_id": order_id}, status=201)


def _refused() -> HttpResponse:
    """Roll back what the view did so far, and say why."""
    transaction.set_rollback(True)
    return JsonResponse({"error": "the amount must be positive"}, status=400)


@registry.handler("payments", "Pay")
def pay(command: Command, _ctx: HandlerContext) -> dict[str, Any]:
    """Plain handlers run in threads."""
    return {"paid": command.data["amount"]}


urlpatterns = [path("orders/", order)]


def configure(dsn: str) -> None:
    """What a project has in its settings."""
    told = conninfo_to_dict(dsn)
    settings.configure(
        ALLOWED_HOSTS=["testserver"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": told["dbname"],
                "USER": told.get("user", ""),
                "PASSWORD": told.get("password", ""),
                "HOST": told.get("host", ""),
                "PORT": str(told.get("port", "")),
            }
        },
        ROOT_URLCONF=__name__,
        USE_TZ=True,
    )
    django.setup()


async def prepare(dsn: str) -> None:
    """Install mainstay's schema; in a project, `mainstay schema upgrade` does it when it is deployed."""
    async with open_pool(dsn) as pool:
        await setup_database(pool)


@contextmanager
def working() -> Iterator[None]:
    """A worker in a thread; in a project it is a process of its own: `mainstay worker app:registry`."""
    worker = app.worker("payments", registry)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()


def run() -> None:
    """Send two requests, and look at what became of them.

    Raises:
        SystemExit: Something is not as it must be.
    """
    with connection.cursor() as cursor:
        cursor.execute(TABLE)
    good, bad = uuid4(), uuid4()
    client = Client()
    with working():
        answers = [
            client.post("/orders/", {"order_id": key, "amount": n}).status_code for key, n in ((good, 42), (bad, 0))
        ]
        reply = app.bus.wait_for("payments", good, timeout=30)
    with connection.cursor() as cursor:
        cursor.execute("select order_id from django_order where order_id in (%s, %s)", (good, bad))
        orders = [row[0] for row in cursor.fetchall()]
    found = app.bus.get_command("payments", good)

    print(f"The requests were answered with {answers[0]} and {answers[1]}.")
    print(f"Of their orders {len(orders)} is written, and its payment {reply.outcome}: {reply.data}.")
    print(f"The refused one {'was' if app.bus.command_exists('payments', bad) else 'was never'} sent.")
    if answers != [201, 400] or orders != [good] or found is None or found.status is not CommandStatus.COMPLETED:
        sys.exit("Something is wrong.")


def main() -> None:
    """Run on the database that the command line names, or on an embedded one."""
    global app  # noqa: PLW0603 - a project makes it at import, from its settings
    with ExitStack() as stack:
        if len(sys.argv) > 1:
            dsn = sys.argv[1]
        else:
            from mainstay.storage.postgres.embedded import EmbeddedServer  # noqa: PLC0415  # an extra

            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mainstay-example-")))
            folder.chmod(0o755)  # if root runs this, the server runs as another account
            dsn = stack.enter_context(EmbeddedServer(folder / "data")).dsn("django")
        asyncio.run(prepare(dsn))
        configure(dsn)
        app = stack.enter_context(SyncMainstay(dsn))
        run()
        connection.close()


if __name__ == "__main__":
    main()
