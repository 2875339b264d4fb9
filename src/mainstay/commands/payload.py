"""Reading a payload for a typed handler: lift it to the newest version, then validate it.

What can be wrong, and what becomes of the command:

- the payload does not fit the model: `INVALID_PAYLOAD`, permanent. Trying again cannot help; an operator can edit it.
- an upcaster is missing or fails: `NO_UPCASTER`, `UPCAST_FAILED`, permanent. Mend the code, then retry the command.
- the payload is newer than this code: `NEWER_VERSION`, transient. A deployment is under way and this worker is an old
  one; a new one can handle the command. If none comes within ``max_attempts``, it waits in troubleshooting, untouched.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from mainstay.commands.command import Command
from mainstay.commands.model import CommandName, version_of
from mainstay.commands.upcasting import Upcasters
from mainstay.errors import InvalidInputError, PermanentCommandError, TransientCommandError

INVALID_PAYLOAD = "INVALID_PAYLOAD"
NEWER_VERSION = "NEWER_VERSION"

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class PayloadProblem:
    """One thing that is wrong with a payload.

    Args:
        path: Where, such as ``items.0.price``; empty: the payload as a whole.
        message: What, for people.
        kind: What, for programs: pydantic's error type, or one of our codes.
    """

    path: str
    message: str
    kind: str


@dataclass(frozen=True, slots=True)
class PayloadReader:
    """Reads the payloads of one command type.

    Args:
        model: What they must fit.
        name: What they belong to, with the newest version.
        upcasters: How old ones become new.
        gives_model: Whether the handler wants the model; else it gets the dict, lifted and found to fit.
    """

    model: type[BaseModel]
    name: CommandName
    upcasters: Upcasters
    gives_model: bool = True

    def opened(self, command: Command[Any]) -> Command[Any]:
        """A command with its payload read; one that holds its model already is left as it is.

        Raises:
            PermanentCommandError: The payload does not fit, or cannot be lifted.
            TransientCommandError: It is newer than this code.
        """
        if isinstance(command.data, BaseModel):
            return command
        try:
            version = version_of(command.headers)
        except InvalidInputError as error:
            raise PermanentCommandError(INVALID_PAYLOAD, str(error)) from error
        data, model = self._read(command.data, version)
        return replace(command, data=model if self.gives_model else data)

    def problems(self, data: Any, headers: Mapping[str, Any] | None) -> list[PayloadProblem]:
        """What is wrong with a payload; nothing, if a handler would get it."""
        try:
            version = self.name.version if headers is None else version_of(headers)
            self._read(orjson.loads(orjson.dumps(data)), version)
        except (InvalidInputError, TypeError) as error:
            return [PayloadProblem("", str(error), INVALID_PAYLOAD)]
        except (PermanentCommandError, TransientCommandError) as error:
            if isinstance(error.__cause__, ValidationError):
                return [
                    PayloadProblem(".".join(map(str, each["loc"])), each["msg"], each["type"])
                    for each in _errors(error.__cause__)
                ]
            return [PayloadProblem("", error.error_message, error.code)]
        return []

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the newest version, by itself; ``x-command`` says what it belongs to."""
        return {"$schema": _DIALECT, **self.model.model_json_schema(), "x-command": self.name._asdict()}

    def _read(self, data: Any, version: int) -> tuple[dict[str, Any], BaseModel]:
        if not isinstance(data, dict):
            raise PermanentCommandError(INVALID_PAYLOAD, not_an_object(data).message)
        if version > self.name.version:
            message = (
                f"the payload has version {version}; this worker knows {self.name.command_type} up to version "
                f"{self.name.version}: a newer one must handle it"
            )
            raise TransientCommandError(NEWER_VERSION, message)
        lifted = self.upcasters.lift(data, version, self.name)
        try:
            return lifted, self.model.model_validate_json(orjson.dumps(lifted))
        except ValidationError as error:
            found = _errors(error)
            told = "; ".join(
                f"{'.'.join(map(str, each['loc'])) or 'payload'}: {each['msg']}" for each in found[:_MOST_TOLD]
            )
            more = f"; and {len(found) - _MOST_TOLD} more" if len(found) > _MOST_TOLD else ""
            details = {"errors": found, "version": version}
            raise PermanentCommandError(INVALID_PAYLOAD, told + more, details) from error
        except TypeError as error:
            message = f"the lifted payload cannot be written as JSON: {error}"
            raise PermanentCommandError("UPCAST_FAILED", message) from error


def untyped_schema(domain: str, command_type: str) -> dict[str, Any]:
    """The JSON Schema of a command without a model: any object."""
    name = CommandName(domain, command_type)._asdict()
    return {"$schema": _DIALECT, "title": command_type, "type": "object", "x-command": name}


def not_an_object(data: Any) -> PayloadProblem:
    """The problem of a payload that is no JSON object."""
    return PayloadProblem("", f"the payload must be a JSON object, not {type(data).__name__}", INVALID_PAYLOAD)


def _errors(error: ValidationError) -> list[dict[str, Any]]:
    """What pydantic found, without the input, which stands beside it anyway."""
    return [dict(each) for each in error.errors(include_url=False, include_context=False, include_input=False)]
