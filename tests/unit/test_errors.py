"""The error tree."""

import inspect
import pickle
import re
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from mainstay import errors
from mainstay.errors import (
    ActionNotFoundError,
    AggregateNotFoundError,
    AppendConditionError,
    ApprovalRequiredError,
    BatchNotFoundError,
    BusinessRuleException,
    CheckpointMismatchError,
    CommandNotFoundError,
    CorruptEventError,
    DuplicateBatchError,
    DuplicateCommandError,
    DuplicateEventError,
    DuplicateEventTypeError,
    HandlerAlreadyRegisteredError,
    HandlerNotFoundError,
    InvalidDomainError,
    InvalidInputError,
    InvalidOperationError,
    InvalidQueueError,
    KeyConflict,
    MainstayError,
    NotUniqueError,
    OptimisticLockError,
    PermanentCommandError,
    ProjectionError,
    QueueNotFoundError,
    ReasonRequiredError,
    SelectionChangedError,
    StaleLeaseError,
    StorageUnavailableError,
    StreamArchivedError,
    StreamNotFoundError,
    StreamTombstonedError,
    TransientCommandError,
    UnhandledEventError,
    UnknownEventTypeError,
    error_for_sqlstate,
)
from mainstay.errors.sqlstates import SQLSTATES

ID = UUID("00000000-0000-4000-8000-000000000001")
FUNCTIONS = Path(errors.__file__).parents[1] / "storage/postgres/schema/functions"

ONE_OF_EACH = [
    InvalidDomainError("Bad Name"),
    InvalidQueueError(17),
    DuplicateBatchError("orders", ID),
    DuplicateCommandError("orders", ID),
    NotUniqueError("orders", KeyConflict(ID, "report", ID), KeyConflict(ID, "a/b", ID)),
    CommandNotFoundError("orders", ID),
    BatchNotFoundError("orders", ID),
    HandlerNotFoundError("orders", "Ship"),
    HandlerAlreadyRegisteredError("orders", "Ship"),
    TransientCommandError("TIMEOUT", "no answer", {"seconds": 3}),
    PermanentCommandError("BAD", "no such order"),
    BusinessRuleException("LIMIT", "too much", {"limit": 5}),
    QueueNotFoundError("orders__commands"),
    StorageUnavailableError("gone"),
    OptimisticLockError("Order/1", 3, 4),
    DuplicateEventError("Order/1", [ID, ID]),
    AppendConditionError(17),
    StreamNotFoundError("Order/1"),
    StreamArchivedError("Order/1"),
    StreamTombstonedError("Order/1"),
    UnknownEventTypeError("OrderPlaced", 17),
    UnknownEventTypeError("OrderPlaced"),
    DuplicateEventTypeError("OrderPlaced", "shop.OrderPlaced", "depot.OrderPlaced"),
    CorruptEventError(17, "Order/1", 3, "OrderPlaced", "total: not a number"),
    AggregateNotFoundError("Order", ID),
    UnhandledEventError("OrderPlaced", "Order"),
    ProjectionError("totals", 17, "ValueError: no"),
    CheckpointMismatchError("totals", 17, "another event is there"),
]


def drawn_tree() -> dict[str, str]:
    """Every class that the module's docstring draws, with the one it hangs from."""
    drawn: dict[str, str] = {}
    path = ["MainstayError"]
    for branch, name in re.findall(r"^    ((?:[│ ]   )*)[├└]── (\w+)", inspect.getdoc(errors) or "", re.MULTILINE):
        path[len(branch) // 4 + 1 :] = [name]
        drawn[name] = path[-2]
    return drawn


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    classes = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, MainstayError) and not name.startswith("_")
    }
    parents = {
        name: next(base.__name__ for base in kind.__mro__[1:] if base.__name__ in classes)
        for name, kind in classes.items()
        if kind is not MainstayError
    }

    assert drawn_tree() == parents


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_with_its_data(error: MainstayError) -> None:
    again = pickle.loads(pickle.dumps(error))

    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_an_error_of_a_user_survives_pickling() -> None:
    again = pickle.loads(pickle.dumps(OutOfStockError("sku-1", 3)))

    assert isinstance(again, TransientCommandError)
    assert (again.code, again.sku, again.left) == ("OUT_OF_STOCK", "sku-1", 3)


class OutOfStockError(TransientCommandError):
    def __init__(self, sku: str, left: int) -> None:
        super().__init__("OUT_OF_STOCK", f"{sku} is out of stock")
        self.sku = sku
        self.left = left


@pytest.mark.parametrize("kind", [TransientCommandError, PermanentCommandError, BusinessRuleException])
def test_a_handlers_error_carries_code_message_and_details(kind: type[TransientCommandError]) -> None:
    error = kind("LIMIT", "too much", {"limit": 5})

    assert (error.code, error.error_message, error.details) == ("LIMIT", "too much", {"limit": 5})
    assert str(error) == "[LIMIT] too much"
    assert kind("LIMIT", "too much").details is None


@pytest.mark.parametrize("name", ["ConfigurationError", "InvalidInputError", "HandlerAlreadyRegisteredError"])
def test_errors_about_values_are_value_errors_too(name: str) -> None:
    assert issubclass(getattr(errors, name), ValueError)


@pytest.mark.parametrize(
    ("sqlstate", "detail", "expected"),
    [
        ("MS001", "a__commands", QueueNotFoundError("a__commands")),
        ("MS002", f"orders/{ID}", BatchNotFoundError("orders", ID)),
        ("MS003", f"orders/{ID}", DuplicateCommandError("orders", ID)),
        ("MS005", f"orders/{ID}", DuplicateBatchError("orders", ID)),
        ("MS006", f"orders/{ID}/{ID}/a/b", NotUniqueError("orders", KeyConflict(ID, "a/b", ID))),
        ("MS004", "Bad Name", InvalidDomainError("Bad Name")),
        ("MS030", "", StaleLeaseError("any text")),
        ("MS020", "", InvalidOperationError("any text")),
        ("MS021", "", ReasonRequiredError("any text")),
        ("MS022", "7", ApprovalRequiredError(7)),
        ("MS023", "4/6", SelectionChangedError(4, 6)),
        ("MS024", str(ID), ActionNotFoundError(ID)),
        ("MS101", '{"stream": "a/b", "expected": 3, "actual": 4}', OptimisticLockError("a/b", 3, 4)),
        ("MS102", f'{{"stream": "a/b", "event_ids": ["{ID}"]}}', DuplicateEventError("a/b", [ID])),
        ("MS103", '{"stream": "a/b"}', StreamTombstonedError("a/b")),
        ("MS104", '{"stream": "a/b"}', StreamArchivedError("a/b")),
        ("MS105", '{"position": 17}', AppendConditionError(17)),
        ("MS106", '{"stream": "a/b"}', StreamNotFoundError("a/b")),
        ("MS107", "", InvalidInputError("any text")),
    ],
)
def test_a_sqlstate_of_ours_becomes_the_error_it_means(sqlstate: str, detail: str, expected: MainstayError) -> None:
    error = error_for_sqlstate(sqlstate, "any text", detail)

    assert type(error) is type(expected)
    assert vars(error) == vars(expected)


@pytest.mark.parametrize("sqlstate", ["23505", "MS999", "", "40001"])
def test_a_sqlstate_of_others_is_none_of_ours(sqlstate: str) -> None:
    assert error_for_sqlstate(sqlstate, "any text", f"orders/{uuid4()}") is None


def test_every_sqlstate_that_leaves_our_sql_has_its_error() -> None:
    files = [path.read_text(encoding="utf-8") for path in sorted(FUNCTIONS.rglob("*.sql"))]
    raised = {code for text in files for code in re.findall(r"errcode = '(MS\d{3})'", text)}
    caught = {code for text in files for code in re.findall(r"exception when sqlstate '(MS\d{3})'", text)}

    assert raised
    assert raised - caught <= set(SQLSTATES)
