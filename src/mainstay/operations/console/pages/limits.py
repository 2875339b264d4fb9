"""Limits, pauses, breakers and keys: what is held up, and a form for each thing that can be done about it."""

from dataclasses import dataclass
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mainstay.errors import InvalidInputError, InvalidOperationError
from mainstay.operations.console.access import CSRF_FIELD, form_of
from mainstay.operations.console.asking import Operation, status_of
from mainstay.operations.console.pages.frame import ask, go_to, page, render
from mainstay.operations.console.pages.streaming import Part
from mainstay.operations.console.questions import limits as questions
from mainstay.operations.wording import limit_in_words, rule_in_words

_MOST_KEYS: Final = 50
_HISTORY: Final = 10


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a form; a number has the least it may be, and by how much it grows."""

    name: str
    label: str
    is_required: bool = True
    hint: str = ""
    least: str | None = None
    step: str = "1"


@dataclass(frozen=True, slots=True)
class _Form:
    """What can be done, in words, and with which fields."""

    operation: Operation
    title: str
    button: str
    means: str
    said: str
    fields: tuple[_Field, ...]
    is_danger: bool = False


_DOMAIN: Final = _Field("domain", "Domain")
_TYPE: Final = _Field("command_type", "Type")
_ANY_TYPE: Final = _Field("command_type", "Type", is_required=False, hint="All types of the domain")
_REASON: Final = _Field("reason", "Why", hint="Is kept, with your name")
_ANY_REASON: Final = _Field("reason", "Why", is_required=False, hint="If you like; is kept, with your name")
_FINGERPRINT: Final = _Field("fingerprint", "Fingerprint", hint="12 hexadecimal digits, as troubleshooting shows them")

_FORMS: Final[dict[str, _Form]] = {
    "pause": _Form(
        questions.pause, "Pause", "Pause", "Nothing of it starts any more, on any worker. What runs goes on.",
        "Paused. What runs goes on.", (_DOMAIN, _ANY_TYPE, _REASON), is_danger=True,
    ),
    "resume": _Form(
        questions.resume, "Resume", "Resume", "Commands start again, in the order in which they stood in the queue.",
        "Resumed.", (_DOMAIN, _ANY_TYPE, _REASON),
    ),
    "limit": _Form(
        questions.set_limit, "Limit a type", "Limit",
        "In place of the limits that the type has. Holds for what is queued already; what may not start waits, and "
        "spends no attempt.",
        "Limited.",
        (
            _DOMAIN, _TYPE,
            _Field("max_running", "At once", is_required=False, hint="Any number", least="1"),
            _Field("per", "Or per field", is_required=False, hint="customer_id, or header:NAME"),
            _Field("max_running_per", "At once per value", is_required=False, least="1"),
            _Field("rate", "Starts", is_required=False, hint="Any number", least="1"),
            _Field("per_seconds", "In seconds", is_required=False, hint="1", least="1", step="any"),
            _Field("burst", "Of these together", is_required=False, hint="All", least="1"),
            _REASON,
        ),
    ),
    "unlimit": _Form(
        questions.remove_limit, "Remove the limits", "Remove", "What waited for them goes on.", "Removed.",
        (_DOMAIN, _TYPE, _REASON), is_danger=True,
    ),
    "rule": _Form(
        questions.set_breaker, "Give a type breakers", "Set",
        "When so many commands fail alike, what would fail like them is held, until one that is let go as a probe gets "
        "through.",
        "Set.",
        (
            _DOMAIN, _TYPE,
            _Field("failures", "Failures alike", is_required=False, hint="5", least="1"),
            _Field("within", "Within seconds", is_required=False, hint="60", least="0.01", step="any"),
            _Field("probe_after", "Seconds to the probe", is_required=False, hint="30", least="0.01", step="any"),
            _Field("drip", "Then per second", is_required=False, hint="10", least="0.001", step="any"),
            _ANY_REASON,
        ),
    ),
    "unrule": _Form(
        questions.remove_breaker, "Remove the breakers", "Remove",
        "What they hold goes on, as fast as their rule says.", "Removed.",
        (_DOMAIN, _TYPE, _ANY_REASON), is_danger=True,
    ),
    "open": _Form(
        questions.open_breaker, "Open a breaker", "Open", "What fails like this is held, until a probe gets through.",
        "Opened.", (_DOMAIN, _TYPE, _FINGERPRINT, _REASON), is_danger=True,
    ),
    "close": _Form(
        questions.close_breaker, "Close a breaker", "Close",
        "What it holds is let go, as fast as its rule says. From then on failures count as attempts again.",
        "Closed.", (_DOMAIN, _TYPE, _FINGERPRINT, _REASON),
    ),
    "release": _Form(
        questions.release_key, "Let a key go on", "Let it go on",
        "The command that blocks the key stays where it is, and the next of the key runs before it. If it comes back, "
        "it is next.",
        "The key goes on.", (_DOMAIN, _Field("key", "Key"), _REASON), is_danger=True,
    ),
}  # fmt: skip


async def _limits(request: Request) -> Response:
    """What is held up."""
    done = _FORMS.get(request.query_params.get("said", ""))
    return page(request, "limits.html", said=done.said if done else None, **await _held(request))


async def _held(request: Request) -> dict[str, Any]:
    domain = request.query_params.get("domain", "")
    which = {"domain": domain}
    keys = await ask(request, questions.list_keys, which | {"limit": _MOST_KEYS + 1})
    return {
        "domain": domain,
        "pauses": await ask(request, questions.list_pauses, which),
        "limits": await ask(request, questions.list_limits, which),
        "breakers": await ask(request, questions.list_breakers, which),
        "rules": await ask(request, questions.list_breaker_rules, which),
        "history": await ask(request, questions.list_breaker_history, which | {"limit": _HISTORY}),
        "keys": keys[:_MOST_KEYS],
        "more_keys": len(keys) > _MOST_KEYS,
        "limit_in_words": limit_in_words,
        "rule_in_words": rule_in_words,
    }


async def _list(request: Request) -> str:
    return render(request, "_limits.html", **await _held(request))


async def _act(request: Request) -> Response:
    """The form for something that can be done, with what is known of it filled in; and doing it."""
    what = request.path_params["what"]
    form = _FORMS.get(what)
    if form is None:
        raise HTTPException(404, "there is no such thing to do")
    if request.method != "POST":
        return page(request, "limits_form.html", what=what, form=form, fields=request.query_params, problem=None)
    fields = {name: value for name, value in (await form_of(request)).items() if name != CSRF_FIELD}
    try:
        await ask(request, form.operation, fields)
    except (InvalidInputError, InvalidOperationError) as error:
        given = {"what": what, "form": form, "fields": fields, "problem": str(error)}
        return page(request, "limits_form.html", status_of(error), **given)
    return go_to(request, "/limits", said=what)


ROUTES: Final = (
    Route("/limits", _limits),
    Route("/limits/{what}", _act, methods=["GET", "POST"]),
)
LIVE: Final[dict[str, Part]] = {"limits": _list}
