"""Finding what a user names as ``module:name``: a registry, or whatever a function there makes."""

import importlib
import inspect
import sys
import traceback
from difflib import get_close_matches
from typing import Any

from mainstay.commands.handler import HandlerRegistry
from mainstay.errors import ConfigurationError

_ARGUMENTS_OF_A_HANDLER = 2
_ALIKE = 0.85


def find(path: str) -> Any:
    """What stands at a path.

    Args:
        path: ``package.module:name``; the name may have dots, too.

    Raises:
        ConfigurationError: It is no path, or nothing is there, or the module cannot be imported; says which.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise ConfigurationError(f"{path!r} names nothing: write it as module:name, such as shop.handlers:registry")
    found = imported(module_name)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            hint = _names_beside(path)
            raise ConfigurationError(f"{module_name!r} has no {name!r}{hint}") from None
    return found


def imported(module_name: str) -> Any:
    """A module.

    Raises:
        ConfigurationError: There is none, or it cannot be imported; says which.
    """
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ConfigurationError(
                f"there is no module {error.name!r}: run this where `python -c 'import {module_name}'` works"
            ) from error
        raise _import_failed(module_name, error) from error
    except Exception as error:
        raise _import_failed(module_name, error) from error


def imported_here(module_name: str) -> Any:
    """As `imported`, with the current directory searched first.

    Raises:
        ConfigurationError: As of `imported`.
    """
    _search_here()
    return imported(module_name)


def here(path: str) -> Any:
    """As `find`, with the current directory searched first.

    Raises:
        ConfigurationError: As of `find`.
    """
    _search_here()
    return find(path)


def _search_here() -> None:
    if "" not in sys.path and "." not in sys.path:
        sys.path.insert(0, "")


async def registry_of(found: Any, path: str, pool: Any) -> HandlerRegistry:
    """The registry that was found, or that the function which was found makes.

    Args:
        found: A registry, or a function of nothing or of the pool, async or not, that returns one.
        path: How the user calls it.
        pool: Given to a function that wants it.

    Raises:
        ConfigurationError: It is neither, or the function fails, or the registry is empty.
    """
    if not isinstance(found, HandlerRegistry) and _is_handler(found):
        raise ConfigurationError(f"{path} is a handler, not a registry{_registries_beside(path)}")
    if not isinstance(found, HandlerRegistry) and callable(found):
        found = await called(found, path, pool)
    if not isinstance(found, HandlerRegistry):
        raise ConfigurationError(
            f"{path} is a {type(found).__name__}: it must be a HandlerRegistry, or a function that returns one"
        )
    if not found.registered_handlers():
        raise ConfigurationError(f"{path} has no handlers: there is nothing to work on")
    return found


async def called(function: Any, path: str, pool: Any) -> Any:
    """What a function returns.

    Args:
        function: Of nothing or of the pool, async or not.
        path: How the user calls it.
        pool: Given to a function that wants it.

    Raises:
        ConfigurationError: It fails; says where.
    """
    arguments = (pool,) if _wants_argument(function) else ()
    try:
        found = function(*arguments)
        return await found if inspect.isawaitable(found) else found
    except Exception as error:
        raise ConfigurationError(f"{path} cannot be called: {_where(error)}") from error


def _wants_argument(function: Any) -> bool:
    return _arguments_wanted(function) > 0


def _is_handler(found: Any) -> bool:
    """Whether it is called with a command and a context."""
    return callable(found) and _arguments_wanted(found) == _ARGUMENTS_OF_A_HANDLER


def _arguments_wanted(function: Any) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    return sum(
        each.default is each.empty and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        for each in parameters
    )


def _registries_beside(path: str) -> str:
    """A hint that names the registries of a path's module, which is imported; empty if it has none."""
    module = sys.modules.get(path.partition(":")[0])
    known = [name for name, value in vars(module).items() if isinstance(value, HandlerRegistry)] if module else []
    return f"; the registries of this module are: {', '.join(known)}" if known else ""


def _names_beside(path: str) -> str:
    """A hint that names what of a path's module is called alike; else its registries."""
    module_name, _, name = path.partition(":")
    alike = get_close_matches(name, vars(sys.modules[module_name]), cutoff=_ALIKE)
    return f"; did you mean {' or '.join(alike)}?" if alike else _registries_beside(path)


def _import_failed(module_name: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(f"{module_name!r} cannot be imported: {_where(error)}")


def _where(error: Exception) -> str:
    """An error with its place: nobody sees a traceback here."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
