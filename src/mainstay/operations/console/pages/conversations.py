"""Conversations, each as a tree."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.operations.console.pages.frame import ask, page
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import conversations as questions


async def _conversation(request: Request) -> Response:
    """What led to something, and what followed."""
    return page(request, "conversation.html", tree=await ask(request, questions.show_conversation, request.path_params))


ROUTES: Final = (Route("/conversations/{asked:uuid}", _conversation),)
LIVE: Final[dict[str, Part]] = {}
