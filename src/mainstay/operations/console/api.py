"""The JSON API: the operations as they are declared, and the OpenAPI document that is made of them."""

import re
from collections.abc import Iterator
from typing import Any, Final

import orjson
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.errors import InvalidInputError
from mainstay.operations.console.access import body_of
from mainstay.operations.console.asking import OPERATIONS, Operation
from mainstay.operations.console.rendering import to_json

_PROBLEM: Final = {
    "description": "Refused; says why.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_IN_PATH = re.compile(r"{(\w+)}")


def answer(value: Any, status: int = 200, *, kind: str = "application/json") -> Response:
    """A value as JSON."""
    return Response(to_json(value), status, media_type=kind)


def problem(status: int, title: str, detail: str) -> Response:
    """A refusal (RFC 9457)."""
    return answer({"status": status, "title": title, "detail": detail}, status, kind="application/problem+json")


def routes() -> Iterator[Route]:
    """All operations, and the document that describes them."""
    for each in OPERATIONS.values():
        yield Route(f"/api{each.path}", _endpoint(each), methods=[each.method])
    yield Route("/api/openapi.json", _described, methods=["GET"])


def _endpoint(operation: Operation) -> Any:
    async def endpoint(request: Request) -> Response:
        fields = _query(request)
        if operation.method == "POST":
            fields = await _body(request)
        desk, user = request.state.console_desk, request.state.console_user
        return answer(await operation.answer(desk, fields | request.path_params, user))

    return endpoint


def _query(request: Request) -> dict[str, Any]:
    """The parameters of an address, each once; the values of a list have commas between."""
    given = request.query_params.multi_items()
    fields: dict[str, Any] = dict(given)
    if len(fields) < len(given):
        raise InvalidInputError("a parameter is given twice; put commas between the values of a list")
    return fields


async def _body(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise InvalidInputError("send a JSON object, with Content-Type: application/json")
    try:
        fields = orjson.loads(await body_of(request))
    except ValueError as error:
        raise InvalidInputError(f"not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidInputError("send a JSON object")
    return fields


async def _described(request: Request) -> Response:
    return answer(document(str(request.scope.get("root_path", ""))))


def document(root: str = "") -> dict[str, Any]:
    """The API in OpenAPI 3.1.

    Args:
        root: The path that the console is mounted at.
    """
    schemas: dict[str, Any] = {
        "Problem": {
            "type": "object",
            "properties": {
                "status": {"type": "integer"},
                "title": {"type": "string"},
                "detail": {"type": "string"},
            },
            "required": ["status", "title", "detail"],
        }
    }
    paths: dict[str, Any] = {}
    for each in OPERATIONS.values():
        paths.setdefault(f"/api{each.path}", {})[each.method.lower()] = _operation(each, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "mainstay console", "version": "1", "description": "What operators ask and do."},
        "servers": [{"url": root or "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(each: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    fields = each.asks.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(fields.pop("$defs", {}))
    in_path = _IN_PATH.findall(each.path)
    required = set(fields.get("required", ()))
    described: dict[str, Any] = {
        "operationId": each.name,
        "summary": (each.run.__doc__ or "").strip().partition("\n")[0],
        "parameters": [
            {
                "name": name,
                "in": "path" if name in in_path else "query",
                "required": name in required,
                "schema": schema,
                **({"style": "form", "explode": False} if '"array"' in str(schema).replace("'", '"') else {}),
            }
            for name, schema in fields.get("properties", {}).items()
            if name in in_path or each.method == "GET"
        ],
        "responses": {
            "200": {
                "description": "Done.",
                "content": {"application/json": {"schema": _schema(each.answers, schemas)}},
            },
            "default": _PROBLEM,
        },
    }
    if each.method == "POST":
        body = {name: schema for name, schema in fields["properties"].items() if name not in in_path}
        needed = sorted(required.difference(in_path))
        described["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": body,
                        "required": needed,
                        "additionalProperties": False,
                    }
                }
            },
        }
    return described


def _schema(answers: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    schema = TypeAdapter(answers).json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    schemas.update(schema.pop("$defs", {}))
    return schema
