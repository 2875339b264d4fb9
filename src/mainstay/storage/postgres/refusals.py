"""Why a connection could not be had: no server there, no such database, or a server that lets the role not in.

libpq tells of a failed attempt by a text alone, without the SQLSTATE. So this is the one place where a text is read; in
another language than English, or from a pooler that words it otherwise, it is told as it is. No text of libpq's or of
the server's has a password in it.
"""

import re

import psycopg
from psycopg.conninfo import conninfo_to_dict

from mainstay.errors import ConfigurationError, DatabaseNotFoundError, LoginRefusedError, StorageUnavailableError

_LARGEST_PORT = 65_535
_SERVER = re.compile(r'server (?:at|on socket) "(?P<host>[^"]*)"(?: \([^)]*\))?(?:, port (?P<port>\d+))?')
_NO_DATABASE = re.compile(r'database "(?P<name>[^\n]*)" does not exist|no such database: (?P<pooled>\S+)')
_NO_ROLE = re.compile(r'role "(?P<name>[^\n]*)" does not exist')
_NO_PASSWORD = re.compile(r"no password supplied")
_WRONG_PASSWORD = re.compile(r'password authentication failed(?: for user "(?P<name>[^\n]*)")?')
_NOT_LET_IN = re.compile(
    r'(?:FATAL|ERROR):\s+((?:\w+ authentication failed for user|role "[^\n]*" is not permitted to log in'
    r"|no pg_hba\.conf entry for|pg_hba\.conf rejects connection for|permission denied for database)[^\n]*)"
)


def unreached(error: psycopg.Error) -> StorageUnavailableError:
    """What an attempt to connect that failed stands for.

    Args:
        error: Raised by psycopg when it connected; without a SQLSTATE.
    """
    text = str(error)
    if found := _NO_DATABASE.search(text):
        name = found["name"] or found["pooled"]
        return DatabaseNotFoundError(
            f'{_server(text, found)} has no database "{name}": create it (createdb {name}), or name another'
        )
    if found := _NO_ROLE.search(text):
        return LoginRefusedError(
            f'{_server(text, found)} has no role "{found["name"]}": name another user, or create the role'
        )
    if found := _NO_PASSWORD.search(text):
        return LoginRefusedError(
            f"{_server(text, found)} wants a password, and none was given: in the address, PGPASSWORD or ~/.pgpass"
        )
    if found := _WRONG_PASSWORD.search(text):
        whose = f' of "{found["name"]}"' if found["name"] else ""
        return LoginRefusedError(f"{_server(text, found)} refused the password{whose}, or does not know this user")
    if found := _NOT_LET_IN.search(text):
        return LoginRefusedError(f"{_server(text, found)} does not let this user in: {found[1]}")
    return StorageUnavailableError(f"the database cannot be reached: {' '.join(text.split())}")


def _server(text: str, said: re.Match[str]) -> str:
    """Which server said something, of those that were tried."""
    tried = list(_SERVER.finditer(text, 0, said.start()))
    return f"the server {_place(tried[-1]['host'], tried[-1]['port'])}" if tried else "the server"


def check_place(dsn: str) -> None:
    """Refuse a host or a port that is none, without showing it: it may be a part of a password. libpq says so later.

    Args:
        dsn: A connection string that libpq understands.

    Raises:
        ConfigurationError: A port is no number from 1 to 65535, or there is an @ in a host.
    """
    named = conninfo_to_dict(dsn)
    if "@" in str(named.get("host") or "").removeprefix("@"):  # with one it begins, where a socket has no file
        raise ConfigurationError("the connection string's host has an @ in it; in a password, @ is written %40")
    for port in str(named.get("port") or "").split(","):
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= _LARGEST_PORT):
            raise ConfigurationError(
                f"the connection string's port is no number from 1 to {_LARGEST_PORT}; in a password, / is written %2F "
                "and @ is written %40"
            )


def place_of(conn: psycopg.AsyncConnection[object]) -> str:
    """Which database a connection is to, and where, for people.

    Args:
        conn: Open.
    """
    info = conn.info
    return f'database "{info.dbname}" {_place(info.host, None if info.host.startswith("/") else str(info.port))}'


def _place(host: str, port: str | None) -> str:
    return f"at {host}:{port}" if port else f"at {host}"
