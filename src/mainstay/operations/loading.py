"""Finding what a user names as ``module:name``: a registry, or whatever a function there makes."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NamedTuple

from mainstay.commands.handler import HandlerRegistry
from mainstay.errors import ConfigurationError

_ARGUMENTS_OF_A_HANDLER = 2
_ALIKE = 0.85


class Sought(NamedTuple):
    """What somebody names by a path, to be hinted at if he mistypes it.

    Attributes:
        plural: What several are called.
        fits: Whether a value of a module is one.
    """

    plural: str
    fits: Callable[[object], bool]


REGISTRIES = Sought("registries", lambda value: isinstance(value, HandlerRegistry))
ANYTHING = Sought("", lambda _: False)


def find(path: str, sought: Sought = REGISTRIES) -> Any:
    """What stands at a path.

    Args:
        path: ``package.module:name``; the name may have dots, too.
        sought: What it is to be.

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
            hint = _names_beside(path, sought)
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


def here(path: str, sought: Sought = REGISTRIES) -> Any:
    """As `find`, with the current directory searched first.

    Raises:
        ConfigurationError: As of `find`.
    """
    _search_here()
    return find(path, sought)


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
        raise ConfigurationError(f"{path} is a handler, not a registry{_sought_beside(path, REGISTRIES)}")
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


def _sought_beside(path: str, sought: Sought) -> str:
    """A hint that names what of a path's module, which is imported, is of the kind; empty if nothing is."""
    module = sys.modules.get(path.partition(":")[0])
    known = [name for name, value in vars(module).items() if sought.fits(value)] if module else []
    return f"; the {sought.plural} of this module are: {', '.join(known)}" if known else ""


def _names_beside(path: str, sought: Sought) -> str:
    """A hint that names what of a path's module is called alike; else what is of the kind."""
    module_name, _, name = path.partition(":")
    alike = get_close_matches(name, vars(sys.modules[module_name]), cutoff=_ALIKE)
    return f"; did you mean {' or '.join(alike)}?" if alike else _sought_beside(path, sought)


def _import_failed(module_name: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(f"{module_name!r} cannot be imported: {_where(error)}")


def _where(error: Exception) -> str:
    """An error with its place: nobody sees a traceback here."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
