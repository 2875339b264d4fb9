"""The examples run, and say that all is well."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parent.parent


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_shop_takes_each_payment_once_and_its_books_are_right(empty_dsn: str) -> None:
    printed = run("shop_commands.py", empty_dsn)

    assert printed.splitlines() == [
        "5 orders are written and their payments sent, in one transaction.",
        "An operator sees NO_ACCOUNT: there is no account 'adda'.",
        "Batch 'Orders of today': COMPLETED_WITH_FAILURES.",
        "Payments: 4 completed, 1 refused.",
        "Replies: 1 FAILED, 4 SUCCESS.",
        "Money: 210 before, 120 on the accounts and 90 paid now; 4 payments, each once.",
        "fsck: clean",
    ]


def test_the_shop_can_be_opened_again_in_the_same_database(dsn: str) -> None:
    assert run("shop_commands.py", dsn) == run("shop_commands.py", dsn)


def test_a_django_view_sends_in_its_transaction(empty_dsn: str) -> None:
    printed = run("django_view.py", empty_dsn)

    assert printed.splitlines() == [
        "The requests were answered with 201 and 400.",
        "Of their orders 1 is written, and its payment SUCCESS: {'paid': 42}.",
        "The refused one was never sent.",
    ]
