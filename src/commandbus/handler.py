"""Which function handles which command."""

from mainstay import HandlerContext, HandlerRegistry, handler
from mainstay.commands.handler import HandlerFn, get_handler_meta

__all__ = ["HandlerContext", "HandlerFn", "HandlerRegistry", "get_handler_meta", "handler"]
