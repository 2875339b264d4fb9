"""What every page is made with: it asks operations, and fills a template with what they answer."""

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote, urlencode
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mainstay.operations.console.access import Access
from mainstay.operations.console.asking import Operation
from mainstay.operations.console.rendering import asset_version, environment

NAVIGATION: Final = (
    (("/", "Dashboard"),),
    (("/troubleshooting", "Troubleshooting"), ("/actions", "Actions"), ("/limits", "Limits"), ("/trail", "Trail")),
    (("/commands", "Commands"), ("/batches", "Batches"), ("/processes", "Processes"), ("/schedules", "Schedules")),
    (("/events", "Events"), ("/streams", "Streams"), ("/projections", "Projections")),
)
"""In groups: how it is, what operators decide, what was sent, what happened."""
_LOAD: Final = (("/load", "Load"),)
"""In a demo."""


def render(request: Request, template: str, **values: Any) -> str:
    """A filled template."""
    access: Access = request.state.console_access
    user = getattr(request.state, "console_user", None)
    root = root_of(request)
    here = request.url.path.removeprefix(root) or "/"
    return (
        environment()
        .get_template(template)
        .render(
            root=root,
            here=here,
            user=user,
            can_log_out=access.has_sessions and user is not None,
            csrf=access.form_token(request, user),
            assets=f"{root}/static",
            asset_version=asset_version(),
            navigation=NAVIGATION if request.state.console_desk.generator is None else (*NAVIGATION, _LOAD),
            command_url=lambda domain, command_id: root + command_path(domain, command_id),
            query=lambda **fields: urlencode({name: each for name, each in fields.items() if each is not None}),
            **values,
        )
    )


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A whole page."""
    return Response(render(request, template, **values), status, media_type="text/html")


def go_to(request: Request, path: str, **query: str) -> Response:
    """Send the browser on to another page, by its path in the console."""
    return RedirectResponse(f"{root_of(request)}{path}{f'?{urlencode(query)}' if query else ''}", 303)


def root_of(request: Request) -> str:
    """Where the console is mounted; empty if it stands alone."""
    return str(request.scope.get("root_path", ""))


def said_in(request: Request, names: Iterable[str]) -> dict[str, str]:
    """What the query says of each of these names; an empty text of what it leaves out."""
    return {name: request.query_params.get(name, "") for name in names}


def command_path(domain: str, command_id: UUID | str) -> str:
    """The page of a command."""
    return f"/commands/{quote(domain, safe='')}/{command_id}"


def batch_path(domain: str, batch_id: UUID | str) -> str:
    """The page of a batch."""
    return f"/batches/{quote(domain, safe='')}/{batch_id}"


def key_path(domain: str, key: str) -> str:
    """The commands of a key."""
    return f"/commands?{urlencode({'domain': domain, 'key': key})}"


async def ask(request: Request, operation: Operation, fields: dict[str, Any] | None = None) -> Any:
    """What an operation answers to whoever made this request; streams share what they ask."""
    desk, user = request.state.console_desk, request.state.console_user
    return await operation.answer(desk, fields or {}, user, shared=getattr(request.state, "console_stream", False))
