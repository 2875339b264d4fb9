"""The operators' console: pages and a JSON API over `mainstay.operations.operator`; needs the extra ``console``.

`console` makes an ASGI application, to be served by itself (``mainstay console``) or mounted in another one. It keeps
nothing but a key, asks the operator all that it shows, and changes nothing except through the operator's own actions.

The floor plan, for who adds a page: `questions` holds what can be asked and done, each thing declared once with its
parameters and the role it needs; the JSON API (`api`) is those declarations, and its OpenAPI document is generated from
them; a page (`pages`) calls the same declarations and fills a template. `access` says who asks and refuses who may not;
it stands before every route, so a new page is closed until it says who may see it. `rendering` makes text harmless.
"""

try:
    from mainstay.operations.console.access import Anybody, Role, TokenAccess, User
    from mainstay.operations.console.application import console
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in {"starlette", "jinja2"}:
        raise
    from mainstay.errors import MissingDependencyError

    raise MissingDependencyError('the console needs Starlette and Jinja2: pip install "mainstay[console]"') from error

__all__ = ["Anybody", "Role", "TokenAccess", "User", "console"]
