"""Who asks, what they may, and that it was they who asked.

Promises. No route but the form to log in and the static files answers a request that nobody is known to have made. What
changes something answers operators only, and only a request that a page of this console, or a program with a token in
its header, has made. All of that is decided here, before a route's own code runs.

A user is known by one of three ways, chosen when the console is made: tokens (`TokenAccess`), which programs send as
``Authorization: Bearer``, and people once, for a cookie that is signed and ends after some hours; a function of the
request, which gives the user of the application that the console is mounted in; or nobody is asked (`Anybody`), for
demonstrations on loopback.

Against requests that another site makes a browser send: cookies are ``SameSite=Strict``; browsers say where a request
comes from (``Sec-Fetch-Site``), and what is not from here is refused; and a form carries a token that is derived from a
cookie, the user and a key, which no other site can know. Each alone would do where it works.
"""

import hashlib
import hmac
import inspect
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from mainstay.errors import ConfigurationError, shown

SESSION_COOKIE: Final = "mainstay_console"
CSRF_COOKIE: Final = "mainstay_console_form"
CSRF_FIELD: Final = "csrf"
CSRF_HEADER: Final = "x-csrf-token"
SESSION_SECONDS: Final = 12 * 3600
SHORTEST_TOKEN: Final = 16
LARGEST_BODY: Final = 1_000_000
"""Bytes."""
_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)
_FROM_HERE = {"same-origin", "none"}
_LONGEST_NAME = 200


class Role(StrEnum):
    """What a user may."""

    VIEWER = "viewer"
    """See everything, change nothing."""
    OPERATOR = "operator"
    """Decide on commands, too."""


@dataclass(frozen=True, slots=True)
class User:
    """Who asks.

    Args:
        name: As it stands in the audit trail; 1 to 200 characters.
        role: What they may.

    Raises:
        ConfigurationError: Neither is such.
    """

    name: str
    role: Role = Role.VIEWER

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 0 < len(self.name) <= _LONGEST_NAME or not self.name.isprintable():
            raise ConfigurationError(
                f"a user's name is a printable text of 1 to 200 characters, not {shown(self.name)}"
            )
        if self.role not in list(Role):
            raise ConfigurationError(f"a role is 'viewer' or 'operator', not {shown(self.role)}")
        object.__setattr__(self, "role", Role(self.role))

    @property
    def is_operator(self) -> bool:
        """Whether they may decide on commands."""
        return self.role is Role.OPERATOR


Hook: TypeAlias = Callable[[Request], User | Awaitable[User | None] | None]
"""Gives the user of the host application; None if nobody is logged in there."""


class TokenAccess:
    """Users by tokens.

    Args:
        users: The user of each token; tokens have 16 characters at least.

    Raises:
        ConfigurationError: There is none, or one is too short.
    """

    def __init__(self, users: Mapping[str, User]) -> None:
        if not users:
            raise ConfigurationError("nobody could log in: give at least one token")
        for token, user in users.items():
            if not isinstance(token, str) or len(token) < SHORTEST_TOKEN or not token.isascii():
                raise ConfigurationError(
                    f"the token of {user.name} must have {SHORTEST_TOKEN} ASCII characters at least; "
                    "python -c 'import secrets; print(secrets.token_urlsafe())' makes one"
                )
        self.users: Final = {_digest(token): user for token, user in users.items()}
        self._key = hashlib.sha256(b"".join(sorted(self.users))).digest()

    @classmethod
    def read(cls, text: str) -> "TokenAccess":
        """Users as an environment variable lists them: ``NAME:ROLE:TOKEN``, separated by white space.

        Raises:
            ConfigurationError: It is not such a list; the message does not repeat it.
        """
        users: dict[str, User] = {}
        for number, entry in enumerate(text.split(), 1):
            name, _, rest = entry.partition(":")
            role, _, token = rest.partition(":")
            if not token or role not in list(Role):
                raise ConfigurationError(
                    f"entry {number} of the tokens is not NAME:ROLE:TOKEN, with viewer or operator as the role"
                )
            users[token] = User(name, Role(role))
        return cls(users)

    def user_of(self, token: str) -> User | None:
        """Whose token this is. The time it takes does not depend on how much of it is right."""
        return self.users.get(_digest(token))

    @property
    def key(self) -> bytes:
        """Derived from the tokens: several processes agree on it, and other tokens end all sessions."""
        return self._key


class Anybody:
    """Whoever reaches the console is one user; for demonstrations, and only under names of loopback.

    The name in the request is looked at because a site can point its own name at 127.0.0.1 and have a visitor's browser
    ask there.

    Args:
        user: Who everybody is.
    """

    def __init__(self, user: User | None = None) -> None:
        self.user = user or User("demo", Role.OPERATOR)

    def __call__(self, request: HTTPConnection) -> User:
        """The user.

        Raises:
            HTTPException: 421: asked under another name.
        """
        if not _LOOPBACK.fullmatch(request.headers.get("host", "")):
            raise HTTPException(421, "without authentication the console answers under names of loopback only")
        return self.user


class Access:
    """Knows the user of a request; signs sessions and forms.

    Args:
        auth: `TokenAccess`, a `Hook`, or `Anybody`.
        key: Signs; if None that of the tokens, or one for this process.

    Raises:
        ConfigurationError: ``auth`` is none of these.
    """

    def __init__(self, auth: TokenAccess | Hook | Anybody | None, key: bytes | None = None) -> None:
        if auth is None or not (isinstance(auth, TokenAccess) or callable(auth)):
            raise ConfigurationError(
                "the console needs to know who may use it: auth=TokenAccess({...}) for tokens of its own, or a "
                "function of the request that gives the User of your application, or None; auth=Anybody() lets "
                "everybody in, on loopback"
            )
        self.tokens = auth if isinstance(auth, TokenAccess) else None
        self._hook = None if isinstance(auth, TokenAccess) else auth
        self._key = key or (self.tokens.key if self.tokens else secrets.token_bytes(32))

    @property
    def has_sessions(self) -> bool:
        """Whether people log in here, and can log out."""
        return self.tokens is not None

    async def user(self, request: Request) -> User | None:
        """Who asks; None if nobody is known."""
        if self.tokens is not None:
            bearer = _bearer(request)
            return self._of_session(request) if bearer is None else self.tokens.user_of(bearer)
        assert self._hook is not None  # noqa: S101 - one of the two is there
        found: Any = self._hook(request)
        if inspect.isawaitable(found):
            found = await found
        if found is not None and not isinstance(found, User):
            raise ConfigurationError(f"the console's auth must give a User or None, not {shown(found)}")
        return found

    # -- sessions -----------------------------------------------------------------------------------------------------
    def log_in(self, response: Response, request: Request, token: str) -> None:
        """Begin a session, which is a signed cookie: nothing is kept here."""
        said = f"{int(time.time()) + SESSION_SECONDS}.{self._holder(_digest(token))}"
        _set_cookie(response, request, SESSION_COOKIE, f"{said}.{self._signed('session', said)}", SESSION_SECONDS)

    def log_out(self, response: Response, request: Request) -> None:
        """Take the cookie back."""
        response.delete_cookie(SESSION_COOKIE, path=_path(request))

    def _holder(self, digest: bytes) -> str:
        """Whose session it is, in words that say nothing of the token."""
        return self._signed("holder", digest.hex())[:32]

    def _of_session(self, request: Request) -> User | None:
        assert self.tokens is not None  # noqa: S101 - whoever calls has looked
        said, _, signature = request.cookies.get(SESSION_COOKIE, "").rpartition(".")
        until, _, holder = said.partition(".")
        if not _same(signature, self._signed("session", said)) or int(until) < time.time():
            return None
        return next((user for digest, user in self.tokens.users.items() if self._holder(digest) == holder), None)

    # -- forms --------------------------------------------------------------------------------------------------------
    def form_token(self, request: Request, user: User | None) -> str:
        """What a form of this page must carry."""
        return self._signed("form", f"{request.state.form_id}\x1f{user.name if user else ''}")

    def note_form(self, request: Request) -> str | None:
        """Find the browser's id for forms, or draw one, which is returned: it is to become a cookie."""
        found = request.cookies.get(CSRF_COOKIE, "")
        is_known = bool(re.fullmatch(r"[0-9a-f]{32}", found))
        request.state.form_id = found if is_known else secrets.token_hex(16)
        return None if is_known else request.state.form_id

    def keep_form(self, response: Response, request: Request, form_id: str) -> None:
        """Make the browser keep its id."""
        _set_cookie(response, request, CSRF_COOKIE, form_id, None)

    async def check_origin(self, request: Request, user: User | None) -> None:
        """Refuse a request that would change something and was not made by a page of ours, or by a program.

        Raises:
            HTTPException: 403.
        """
        if self.tokens is not None and _bearer(request) is not None:
            return  # a browser sends no such header by itself
        if request.headers.get("sec-fetch-site", "none") not in _FROM_HERE:
            raise HTTPException(403, "this request was made by another site")
        sent = request.headers.get(CSRF_HEADER) or (await form_of(request)).get(CSRF_FIELD, "")
        if not _same(sent, self.form_token(request, user)):
            raise HTTPException(
                403, "the form was not made for this session; load the page again, and repeat what you did"
            )

    def _signed(self, what: str, said: str) -> str:
        return hmac.new(self._key, f"{what}\x1f{said}".encode(), hashlib.sha256).hexdigest()


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form, the last of each name; empty if the request has none.

    Raises:
        HTTPException: 413: larger than a megabyte. 400: no text.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        return {}
    try:
        fields = parse_qs((await body_of(request)).decode(), keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise HTTPException(400, "the form cannot be read") from error
    return {name: values[-1] for name, values in fields.items()}


async def body_of(request: Request) -> bytes:
    """The body of a request.

    Raises:
        HTTPException: 413: larger than a megabyte.
    """
    if not hasattr(request.state, "console_body"):
        read = bytearray()
        async for part in request.stream():
            read += part
            if len(read) > LARGEST_BODY:
                raise HTTPException(413, "a request may have a megabyte at most")
        request.state.console_body = bytes(read)
    body: bytes = request.state.console_body
    return body


def _bearer(request: Request) -> str | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _path(request: Request) -> str:
    return str(request.scope.get("root_path") or "/")


def _set_cookie(response: Response, request: Request, name: str, value: str, seconds: int | None) -> None:
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path=_path(request),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
