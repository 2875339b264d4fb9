"""Finding the registry that a user names."""

import sys

import pytest

from mainstay.commands.handler import HandlerRegistry
from mainstay.errors import ConfigurationError
from mainstay.operations.loading import ANYTHING, find, registry_of
from mainstay.operations.subscribing import PROJECTIONS, RELAYS

MODULE = """
from types import SimpleNamespace
from mainstay import DatabaseProjection, HandlerRegistry

registry = HandlerRegistry()
registry.register("shop", "Order", lambda command, context: None)
empty = HandlerRegistry()
inside = SimpleNamespace(registry=registry)
number = 7

def of_nothing():
    return registry

def of_pool(pool):
    assert pool == "the pool"
    return registry

def of_nothing_needed(pool=None):
    assert pool is None
    return registry

async def awaited(pool):
    return registry

async def handle(command, context):
    return None

class Sales(DatabaseProjection):
    pass

sales = Sales()

def broken():
    raise RuntimeError("no settings")
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    name = f"shop_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / f"{name}_syntax.py").write_text("def (")
    (tmp_path / f"{name}_import.py").write_text("import a_module_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for each in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[each]


@pytest.mark.parametrize(
    "name", ["registry", "inside.registry", "of_nothing", "of_pool", "of_nothing_needed", "awaited"]
)
async def test_a_registry_or_what_makes_one_is_found(shop, name):
    path = f"{shop}:{name}"

    found = await registry_of(find(path), path, "the pool")

    assert isinstance(found, HandlerRegistry)
    assert found.has_handler("shop", "Order")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("nocolon", "module:name"),
        (":registry", "module:name"),
        ("{shop}:", "module:name"),
        ("a_module_that_is_not_there:registry", "there is no module 'a_module_that_is_not_there'"),
        ("{shop}:nothing", "the registries of this module are: registry, empty"),
        ("{shop}:inside.nothing", "has no 'inside.nothing'"),
        ("{shop}:of_nothin", "did you mean of_nothing"),
        ("{shop}_syntax:registry", "cannot be imported: SyntaxError"),
        ("{shop}_import:registry", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_what_is_not_there_is_said(shop, path, problem):
    with pytest.raises(ConfigurationError) as caught:
        find(path.format(shop=shop))

    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("sought", "hint"),
    [
        (PROJECTIONS, "; the projections of this module are: Sales, sales"),
        (RELAYS, ""),
        (ANYTHING, ""),
    ],
)
def test_a_hint_names_what_was_sought(shop, sought, hint):
    with pytest.raises(ConfigurationError) as caught:
        find(f"{shop}:Nope", sought)

    assert str(caught.value) == f"{shop!r} has no 'Nope'{hint}"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("number", "is a int"),
        ("handle", "is a handler, not a registry; the registries of this module are: registry"),
        ("empty", "has no handlers"),
        ("broken", "RuntimeError: no settings"),
    ],
)
async def test_what_is_no_registry_is_said(shop, name, problem):
    path = f"{shop}:{name}"

    with pytest.raises(ConfigurationError) as caught:
        await registry_of(find(path), path, "the pool")

    assert problem in str(caught.value)
