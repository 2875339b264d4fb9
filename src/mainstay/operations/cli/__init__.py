"""The command line, ``mainstay``.

Every command calls `mainstay.operations.operator` and prints what it answers: as a table for people, or with ``--json``
as one JSON document on standard output and nothing else there. Progress and logs go to standard error. Errors are one
sentence, and the exit code says which kind (`exits`). A command imports what it needs when it is called, so that
``--help`` and shell completion are quick.
"""

from mainstay.operations.cli.program import main

__all__ = ["main"]
