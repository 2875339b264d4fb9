"""One more worker for the application: ``cd tests/e2e && python -m app.worker``.

It works on the database that `app.database` finds. Options are those of ``mainstay worker``; start as many as you like,
and stop them with Ctrl-C.
"""

import os
import sys

from app.database import database
from mainstay.operations.cli import main

if __name__ == "__main__":
    os.environ["DATABASE_URL"] = database()
    main(["worker", "app.handlers:registry", *sys.argv[1:]])
