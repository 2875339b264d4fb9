"""Commands out of JSON Lines."""

import io
import json
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from mainstay.errors import DuplicateCommandError, MainstayError, QueueNotFoundError
from mainstay.operations.intake import LONGEST_LINE, InvalidLineError, blame, read_chunks, read_lines

MINIMAL = {"domain": "shop", "command_type": "Order", "data": {"n": 1}}


def lines_of(*texts, source="orders.jsonl"):
    raw = b"\n".join(text if isinstance(text, bytes) else json.dumps(text).encode() for text in texts)
    return list(read_lines(io.BytesIO(raw), source))


def test_a_line_becomes_a_command():
    key, correlation, batch = uuid4(), uuid4(), uuid4()
    (line,) = lines_of(
        MINIMAL
        | {
            "command_id": str(key),
            "correlation_id": str(correlation),
            "batch_id": str(batch),
            "reply_to": "answers",
            "max_attempts": 5,
            "not_before": "2030-01-31T12:00:00+00:00",
            "headers": {"trace": 1},
            "unique_key": "daily",
            "unique_for": 60,
            "on_conflict": "skip",
        }
    )

    request = line.request

    assert (request.domain, request.command_type, request.data) == ("shop", "Order", {"n": 1})
    assert (request.command_id, request.correlation_id, request.batch_id) == (key, correlation, batch)
    assert (request.reply_to, request.max_attempts, request.headers) == ("answers", 5, {"trace": 1})
    assert request.not_before == datetime(2030, 1, 31, 12, tzinfo=UTC)
    assert (request.unique_key, request.unique_for, request.on_conflict) == ("daily", 60, "skip")


def test_empty_lines_are_passed_over_and_counted():
    found = lines_of(MINIMAL, b"", b"   ", MINIMAL)

    assert [line.number for line in found] == [1, 4]


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm():
    (line,) = lines_of(b"\xef\xbb\xbf" + json.dumps(MINIMAL).encode() + b"\r")

    assert line.request.data == {"n": 1}


def test_the_same_file_gives_the_same_ids():
    assert lines_of(MINIMAL, MINIMAL) == lines_of(MINIMAL, MINIMAL)


def test_ids_depend_on_file_line_and_content():
    ids = {
        lines_of(MINIMAL)[0].request.command_id,
        lines_of(MINIMAL, source="other.jsonl")[0].request.command_id,
        lines_of(b"", MINIMAL)[0].request.command_id,
        lines_of(MINIMAL | {"data": {"n": 2}})[0].request.command_id,
    }

    assert len(ids) == 4
    assert all(isinstance(each, UUID) for each in ids)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[]", "a JSON object, not an array"),
        (b'"x"', "not a string"),
        (b"7", "not a number"),
        (b"null", "not null"),
        ({"command_type": "x", "data": {}}, "'domain' is missing"),
        ({"domain": "shop", "data": {}}, "'command_type' is missing"),
        ({"domain": "shop", "command_type": "x"}, "'data' is missing"),
        (MINIMAL | {"dely": 1}, "unknown field 'dely'"),
        (MINIMAL | {"domain": "Shop"}, "invalid domain 'Shop'"),
        (MINIMAL | {"domain": 7}, "invalid domain 7"),
        (MINIMAL | {"command_type": ""}, "command_type"),
        (MINIMAL | {"data": None}, "data must be a JSON object"),
        (MINIMAL | {"data": [1]}, "data must be a JSON object"),
        (MINIMAL | {"data": {"x": "\0"}}, "data.x holds a NUL"),
        (MINIMAL | {"command_id": "7"}, "command_id must be a UUID"),
        (MINIMAL | {"correlation_id": 7}, "correlation_id must be a UUID"),
        (MINIMAL | {"max_attempts": 0}, "max_attempts"),
        (
            MINIMAL | {"data": {"a": 123456789012345678901234567890}},
            "123456789012345678901234567890 does not fit in 64",
        ),
        (MINIMAL | {"data": {"a": 2**64}}, "does not fit in 64 bits"),
        (MINIMAL | {"data": {"a": [-(2**63) - 1]}}, "does not fit in 64 bits"),
        (MINIMAL | {"max_attempts": 10**300}, "does not fit in 64 bits"),
        (MINIMAL | {"delay": -1}, "delay"),
        (MINIMAL | {"delay": 1e12}, "delay"),
        (MINIMAL | {"delay": 1e300}, "delay"),
        (MINIMAL | {"delay": "soon"}, "delay"),
        (MINIMAL | {"not_before": "9999-12-31T23:59:59-12:00"}, "not_before"),
        (MINIMAL | {"not_before": "0001-01-01T00:00:00+12:00"}, "not_before"),
        (MINIMAL | {"delay": 1, "not_before": "2030-01-31T12:00:00Z"}, "not both"),
        (MINIMAL | {"not_before": "tomorrow"}, "not_before must be a time"),
        (MINIMAL | {"not_before": 7}, "not_before must be a time"),
        (MINIMAL | {"not_before": "2030-01-31T12:00:00"}, "time zone"),
        (MINIMAL | {"reply_to": "No Queue"}, "invalid queue name"),
        (MINIMAL | {"headers": []}, "headers must be a JSON object"),
        (b"x" * (LONGEST_LINE + 1), "longer than"),
    ],
)
def test_a_line_that_is_wrong_is_named_with_its_number_and_reason(line, problem):
    with pytest.raises(InvalidLineError) as caught:
        lines_of(MINIMAL, line)

    assert str(caught.value).startswith("orders.jsonl, line 2: ")
    assert problem in str(caught.value)
    assert caught.value.number == 2


def test_integers_of_64_bits_and_digits_in_texts_arrive_as_they_are():
    data = {"largest": 2**64 - 1, "smallest": -(2**63), "text": "123456789012345678901234567890", "float": 1.5e300}

    (line,) = lines_of(MINIMAL | {"data": data})

    assert line.request.data == data
    assert isinstance(line.request.data["largest"], int)


def test_json_errors_tell_the_column_only():
    with pytest.raises(InvalidLineError, match=r"line 1: not valid JSON: .* at column \d+$"):
        lines_of(b'{"a" 1}')


def test_lines_come_in_chunks():
    raw = io.BytesIO("\n".join(json.dumps(MINIMAL | {"data": {"n": n}}) for n in range(7)).encode())

    chunks = list(read_chunks(raw, "orders.jsonl", 3))

    assert [[line.number for line in chunk] for chunk in chunks] == [[1, 2, 3], [4, 5, 6], [7]]


def test_lines_before_a_wrong_one_are_not_held_back():
    raw = io.BytesIO(f"{json.dumps(MINIMAL)}\noops".encode())
    chunks = read_chunks(raw, "orders.jsonl", 1)

    first = next(chunks)

    assert first[0].number == 1
    with pytest.raises(InvalidLineError):
        next(chunks)


def test_of_two_lines_with_one_id_the_second_is_blamed():
    key = str(uuid4())
    chunk = lines_of(MINIMAL | {"command_id": key}, MINIMAL, MINIMAL | {"command_id": key})

    blamed = blame(DuplicateCommandError("shop", UUID(key)), chunk, "orders.jsonl")

    assert blamed is not None
    assert blamed.number == 3


def test_a_missing_reply_queue_is_blamed_on_its_line():
    chunk = lines_of(MINIMAL, MINIMAL | {"reply_to": "answers"})

    blamed = blame(QueueNotFoundError("answers"), chunk, "orders.jsonl")

    assert blamed is not None
    assert blamed.number == 2


def test_an_error_about_no_line_blames_none():
    assert blame(MainstayError("no connection"), lines_of(MINIMAL), "orders.jsonl") is None
