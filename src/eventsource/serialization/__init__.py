"""Values as JSON."""

from mainstay.serialization import JSONEncoder as EventSourceJSONEncoder
from mainstay.serialization import json_dumps, json_loads

__all__ = [
    "EventSourceJSONEncoder",
    "json_dumps",
    "json_loads",
]
