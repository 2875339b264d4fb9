"""The door `commandbus` has the modules that the guide lists and the names that its users import, and nothing else."""

import importlib
import importlib.resources
import pkgutil
import subprocess
import sys

import pytest

import commandbus
import mainstay

#: Module -> names of the guide's project structure and of the README, guide, patterns and database pages; those of
#: processes, which are on none of these pages, as the package has them.
PROMISED = {
    "commandbus": (
        "CommandBus SendRequest SendResult BatchSendResult BatchCommand BatchMetadata CreateBatchResult Command "
        "CommandMetadata CommandStatus BatchStatus ReplyOutcome AuditEvent AuditEventType HandlerContext "
        "HandlerRegistry handler Worker RetryPolicy DEFAULT_RETRY_POLICY TroubleshootingQueue TroubleshootingItem "
        "setup_database get_schema_sql check_schema_exists PgmqClient PgmqMessage PostgresCommandRepository "
        "PostgresAuditLogger "
        "CommandBusError HandlerAlreadyRegisteredError HandlerNotFoundError DuplicateCommandError "
        "TransientCommandError PermanentCommandError BusinessRuleException CommandNotFoundError InvalidOperationError "
        "BatchNotFoundError BatchCompletionCallback"
    ),
    "commandbus.api": "CommandBus",
    "commandbus.models": "Command CommandMetadata CommandStatus Reply AuditEvent BatchMetadata Success Failure",
    "commandbus.exceptions": "TransientCommandError PermanentCommandError BusinessRuleException CommandBusError",
    "commandbus.policies": "RetryPolicy",
    "commandbus.handler": "handler HandlerRegistry HandlerContext HandlerFn get_handler_meta",
    "commandbus.worker": "Worker",
    "commandbus.setup": "setup_database get_schema_sql check_schema_exists",
    "commandbus.repositories": "CommandRepository PostgresCommandRepository",
    "commandbus.repositories.base": "CommandRepository",
    "commandbus.repositories.postgres": "PostgresCommandRepository PostgresAuditLogger",
    "commandbus.pgmq": "PgmqClient PgmqMessage",
    "commandbus.pgmq.client": "PgmqClient PgmqMessage",
    "commandbus.pgmq.notify": "Listener notify",
    "commandbus.ops": "TroubleshootingQueue",
    "commandbus.ops.troubleshooting": "TroubleshootingQueue",
    "commandbus.process": (
        "BaseProcessManager PostgresProcessRepository ProcessAuditEntry ProcessCommand ProcessMetadata "
        "ProcessReplyRouter ProcessRepository ProcessResponse ProcessState ProcessStatus"
    ),
    "commandbus.process.base": "BaseProcessManager",
    "commandbus.process.models": (
        "ProcessAuditEntry ProcessCommand ProcessMetadata ProcessResponse ProcessState ProcessStatus"
    ),
    "commandbus.process.repository": "PostgresProcessRepository ProcessRepository",
    "commandbus.process.router": "ProcessReplyRouter",
    "commandbus.testing": "FakePgmqClient",
    "commandbus.testing.fakes": "FakePgmqClient",
}


@pytest.mark.parametrize("module", PROMISED)
def test_a_promised_name_is_there(module):
    opened = importlib.import_module(module)

    assert [name for name in PROMISED[module].split() if name not in opened.__all__] == []


def test_no_module_is_promised_that_is_not_there_nor_the_other_way_round():
    found = {module.name for module in pkgutil.walk_packages(commandbus.__path__, "commandbus.")}

    assert found | {"commandbus"} == set(PROMISED)


def test_every_name_is_the_same_object_as_in_mainstay():
    own = {"CommandBusError": "MainstayError"}
    shared = [name for name in commandbus.__all__ if hasattr(mainstay, own.get(name, name))]

    assert all(getattr(commandbus, name) is getattr(mainstay, own.get(name, name)) for name in shared)
    assert len(shared) > 40


@pytest.mark.parametrize("first", ["commandbus", "commandbus.handler", "mainstay"])
@pytest.mark.thorough
def test_handler_is_the_function_whatever_was_imported_before(first):
    program = f"import {first}, commandbus.handler; from commandbus import handler; assert handler('d', 'T')"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stderr == ""


def test_the_door_is_typed():
    assert importlib.resources.files("commandbus").joinpath("py.typed").is_file()
