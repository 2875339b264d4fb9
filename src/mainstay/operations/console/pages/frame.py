"""What every page is made with: it asks operations, and fills a template with what they answer."""

from typing import Any, Final
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response

from mainstay.operations.console.access import Access
from mainstay.operations.console.asking import Operation
from mainstay.operations.console.rendering import asset_version, environment

NAVIGATION: Final = (
    ("/", "Dashboard"),
    ("/commands", "Commands"),
    ("/troubleshooting", "Troubleshooting"),
    ("/actions", "Actions"),
    ("/batches", "Batches"),
    ("/processes", "Processes"),
    ("/schedules", "Schedules"),
    ("/limits", "Limits"),
    ("/events", "Events"),
    ("/streams", "Streams"),
    ("/projections", "Projections"),
)
_LOAD: Final = ("/load", "Load")
"""In a demo."""


def render(request: Request, template: str, **values: Any) -> str:
    """A filled template."""
    access: Access = request.state.console_access
    user = getattr(request.state, "console_user", None)
    root = str(request.scope.get("root_path", ""))
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
            command_url=lambda domain, command_id: f"{root}/commands/{quote(domain, safe='')}/{command_id}",
            query=lambda **fields: urlencode({name: each for name, each in fields.items() if each is not None}),
            **values,
        )
    )


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A whole page."""
    return Response(render(request, template, **values), status, media_type="text/html")


async def ask(request: Request, operation: Operation, fields: dict[str, Any] | None = None) -> Any:
    """What an operation answers to whoever made this request; streams share what they ask."""
    desk, user = request.state.console_desk, request.state.console_user
    return await operation.answer(desk, fields or {}, user, shared=getattr(request.state, "console_stream", False))
