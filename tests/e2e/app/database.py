"""Where the application keeps its commands."""

import os
from typing import Final

import psycopg

EMBEDDED: Final = "embedded:mainstay_e2e"


def database() -> str:
    """DATABASE_URL; without that the server of `make docker-up`, if it answers; else one of the application's own."""
    named = os.environ.get("DATABASE_URL")
    if named:
        return named
    port = os.environ.get("MAINSTAY_PORT", "5432")
    docker = f"postgresql://postgres:postgres@127.0.0.1:{port}/mainstay"
    try:
        psycopg.connect(docker, connect_timeout=2).close()
    except psycopg.OperationalError:
        return EMBEDDED
    return docker
