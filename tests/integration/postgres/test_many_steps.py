"""A process with many steps moves as one with few: what a move reads does not grow with what the process has sent."""

import json
from pathlib import Path
from uuid import uuid4

import pytest
from psycopg.rows import dict_row

from mainstay.storage.postgres import schema_files
from tests.integration.postgres.test_plans import session
from tests.integration.postgres.test_process_plans import SQL, Crowded, moved, started

STEPS = 100_000
FEW = 25
"""Rows: a page of what was done, and a handful beside it."""
FILL = (Path(__file__).parent / "many_steps.sql").read_text(encoding="utf-8")
LINKS = """
    select p.process_id, p.open_steps, p.last_done, s.step_no, s.done_after
    from commandbus.process as p
    join commandbus.process_step as s on s.process_id = p.process_id
"""


@pytest.fixture
def db(server, database):
    return Crowded(server, database)


def move(db, process_id, step_id, step_no):
    """Everything that a move asks for, and what each part of it reads; ten times, so that plans are kept."""
    read = {}
    nothing = {"process_id": process_id, "command_id": None, "step_no": None, "event_id": None}
    for _ in range(10):
        step = {"step_no": step_no + 1, "name": "Do", "domain": "orders", "command_type": "Do", "data": {}}
        fields = {
            "outcomes": [{"step_no": step_no, "status": "SUCCESS", "result": {}}],
            "sent": [step | {"command_id": str(uuid4())}],
            "event": {"event_id": str(uuid4()), "event_type": "E", "position": 1, "was_taken": True},
            "told": [{"event_type": "STEP_SUCCEEDED", "step_no": step_no}],
        }
        asked = {
            "lock by its id": {"process_id": process_id, "command_id": None},
            "lock by a step": {"process_id": None, "command_id": step_id},
            "standing by a command": nothing | {"command_id": step_id},
            "standing by a number": nothing | {"step_no": step_no},
            "standing by an event": nothing | {"event_id": uuid4()},
            "to_undo": {"process_id": process_id, "after": None, "limit": 20},
            "advance": {"change": json.dumps(moved(process_id, **fields))},
        }
        for name, parameters in asked.items():
            text = SQL[name.split()[0]]
            read[name] = db.read_by(lambda text=text, parameters=parameters: db.ask(text, **parameters))
        step_no += 1
    return read


@pytest.mark.thorough
def test_a_move_reads_a_few_rows_however_many_steps_the_process_has_sent(db) -> None:
    small, small_step, large, large_step = uuid4(), uuid4(), uuid4(), uuid4()
    with db.session:
        db.ask(SQL["start"], processes=started(small, small_step))
        db.ask(SQL["start"], processes=started(large, large_step))
        of_a_small_one = move(db, small, small_step, 1)
        db.fill(FILL, process_id=large, steps=STEPS)

        of_a_large_one = move(db, large, large_step, STEPS)
        (told,) = db.ask(SQL["standing"], process_id=large, command_id=None, step_no=None, event_id=None)
        done = db.ask(SQL["to_undo"], process_id=large, after=None, limit=3)
        naive = db.read_by(lambda: db.ask(SQL["steps"], process_id=large))

    assert {name: rows for name, rows in of_a_large_one.items() if rows > FEW} == {}
    assert set(of_a_small_one) == set(of_a_large_one)
    assert told[0] == STEPS + 10
    assert [row[1] for row in done] == [STEPS + 9, STEPS + 8, STEPS + 7]
    assert naive >= STEPS  # the control: what a move once read


def test_processes_of_before_are_told_what_their_moves_read(server, database) -> None:
    """The migration counts and links what is there as moves would have."""
    db = Crowded(server, database)
    ids = [uuid4() for _ in range(5)]
    step = {"domain": "orders", "command_type": "Do", "data": {}}

    def advance(process_id, outcomes=(), sent=(), **fields):
        fields["outcomes"] = [{"step_no": step_no, "status": status} for step_no, status in outcomes]
        fields["sent"] = [
            step | {"step_no": step_no, "name": "Do", "undoes": undoes, "command_id": str(uuid4())}
            for step_no, undoes in sent
        ]
        db.ask(SQL["advance"], change=json.dumps(moved(process_id, **fields)))

    with db.session:
        for process_id in ids:
            db.ask(SQL["start"], processes=started(process_id, uuid4()))
            advance(process_id, sent=[(2, None), (3, None), (4, None)])
        advance(ids[1], [(3, "SUCCESS")])
        advance(ids[1], [(1, "FAILED")])
        advance(ids[1], [(2, "SUCCESS")])
        advance(ids[2], [(4, "SUCCESS")])
        advance(ids[2], [(1, "SUCCESS")])
        advance(ids[2], [(3, "SUCCESS")])
        advance(ids[2], [(2, "FAILED")], [(5, 3)], status="COMPENSATING")
        for step_no in (1, 2, 3, 4):
            advance(ids[3], [(step_no, "SUCCESS")])
            advance(ids[4], [(step_no, "SUCCESS")], status="COMPLETED" if step_no == 4 else "WAITING_FOR_REPLY")
        with session(server, database) as other:
            other.row_factory = dict_row
            by_moves = {
                (row["process_id"], row["step_no"]): row
                for row in other.execute(LINKS.encode())
                if row["process_id"] != ids[4]  # it has ended: there is nothing to undo
            }
            for table, columns in (("process", "open_steps = 0, last_done = 0"), ("process_step", "done_after = null")):
                other.execute(f"update commandbus.{table} set {columns}".encode())
            migration = next(each for each in schema_files.load().migrations if each.name == "stepping").text
            other.execute(migration[migration.index("update commandbus.process as p set open_steps") :].encode())
            by_migration = {(row["process_id"], row["step_no"]): row for row in other.execute(LINKS.encode())}
        next_ones = {key: row["last_done"] for key, row in by_migration.items()}

    undone = (ids[2], 3)  # its link leads nowhere any more
    assert {key: row for key, row in by_migration.items() if key in by_moves and key != undone} == {
        key: row for key, row in by_moves.items() if key != undone
    }
    assert next_ones[ids[1], 1] == 2
    assert next_ones[ids[2], 1] == 1
    assert next_ones[ids[4], 1] == 0
