"""What a handler's annotation says of the payload that it wants: ``command: Command[CreateOrder]``."""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any

from pydantic import BaseModel

from mainstay.commands.command import Command
from mainstay.commands.model import CommandModel, CommandName, name_of
from mainstay.commands.payload import PayloadReader
from mainstay.commands.upcasting import Upcasters
from mainstay.errors import ConfigurationError, shown

_WITHOUT_AGGREGATE = 2


class Said(Enum):
    """What an annotation says that names no model."""

    NOTHING = auto()
    """There is none, or none that is about commands."""
    PLAIN = auto()
    """``Command``: the payload as a dict."""
    UNREADABLE = auto()
    """It names something that cannot be found from here."""


def annotated_model(function: Callable[..., Any]) -> type[CommandModel]:
    """The typed command that a handler's annotation names.

    Raises:
        ConfigurationError: It names none.
    """
    said = payload_said(function)
    if isinstance(said, type) and issubclass(said, CommandModel):
        return said
    reason = "names something that cannot be found from here" if said is Said.UNREADABLE else "names no CommandModel"
    message = (
        f"{shown(function)} {reason}: annotate it, `command: Command[CreateOrder]`, or name the command in the "
        "decorator, by its model or by its domain and type"
    )
    raise ConfigurationError(message)


def check_arguments(function: Callable[..., Any], given: tuple[str, ...]) -> None:
    """See that a handler can be called as it will be.

    Args:
        function: The handler.
        given: What it gets, by name.

    Raises:
        ConfigurationError: It takes fewer or more.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C: nobody knows
        return
    try:
        signature.bind(*given)
    except TypeError as error:
        message = f"a handler is called with ({', '.join(given)}), and {shown(function)} cannot be: {error}"
        if len(given) == _WITHOUT_AGGREGATE:
            message += "; one that is to get an aggregate says aggregate="
        raise ConfigurationError(message) from error


def reader_for(
    function: Callable[..., Any], key: tuple[str, str], model: type[CommandModel] | None, upcasters: Upcasters
) -> PayloadReader | None:
    """What reads payloads for a handler; None for an untyped one.

    Args:
        function: The handler.
        key: Domain and type that it is registered for.
        model: What it was registered with, if that was a model.
        upcasters: Of its registry.

    Raises:
        ConfigurationError: The annotation names another payload, or cannot be read.
    """
    said = payload_said(function)
    if isinstance(said, Said):
        if model is not None:
            return PayloadReader(model, name_of(model), upcasters, gives_model=said is not Said.PLAIN)
        if said is Said.UNREADABLE:
            message = (
                f"the annotation of {shown(function)} names something that cannot be found from here: name the model "
                "in the decorator, @handler(CreateOrder), or import it where annotations are evaluated"
            )
            raise ConfigurationError(message)
        return None
    if model is not None and said is not model:
        message = f"{shown(function)} is registered for {model.__name__}, but its annotation names {said.__name__}"
        raise ConfigurationError(message)
    name = name_of(said) if issubclass(said, CommandModel) else CommandName(*key)
    if name[:2] != key:
        message = (
            f"{shown(function)} is registered for {'.'.join(key)}, but its annotation names {said.__name__}, which is "
            f"{'.'.join(name[:2])}"
        )
        raise ConfigurationError(message)
    return PayloadReader(said, name, upcasters)


def payload_said(function: Callable[..., Any]) -> type[BaseModel] | Said:
    """The model that a handler's annotation names, or what it says instead.

    Raises:
        ConfigurationError: It names a payload that is neither a model nor a dict.
    """
    plain = _plain(function)
    unreadable = False
    for name, annotation in getattr(plain, "__annotations__", {}).items():
        if name == "return":
            continue
        try:
            hint = _evaluated(annotation, plain)
        except (NameError, SyntaxError, TypeError, AttributeError):
            unreadable = unreadable or "Command[" in str(annotation)
            continue
        if (typing.get_origin(hint) or hint) is Command:
            return _payload(hint, plain)
    return Said.UNREADABLE if unreadable else Said.NOTHING


def _payload(hint: Any, function: Callable[..., Any]) -> type[BaseModel] | Said:
    """What stands between the brackets."""
    (payload,) = typing.get_args(hint) or (Any,)
    if isinstance(payload, type) and issubclass(payload, BaseModel):
        return payload
    if payload is Any or payload is Mapping or (typing.get_origin(payload) or payload) in {dict, Mapping}:
        return Said.PLAIN
    message = f"{shown(function)}: the payload of {hint} must be a pydantic model or a dict"
    raise ConfigurationError(message)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself, out of methods, partials, wrappers and callable objects."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        function = type(function).__call__
    unbound: Callable[..., Any] = getattr(function, "__func__", function)
    unwrapped: Callable[..., Any] = inspect.unwrap(unbound)
    return unwrapped


def _evaluated(annotation: Any, function: Callable[..., Any]) -> Any:
    """An annotation as what it names, also from its text, seen from the function's module and its closure."""
    code = getattr(function, "__code__", None)
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True) if code else ()
    nearby = {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    return typing.get_type_hints(holder, globalns=getattr(function, "__globals__", {}), localns=nearby)["it"]


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False
