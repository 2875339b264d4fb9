"""One more worker for the application: ``cd tests/e2e && python -m app.worker``.

It works on DATABASE_URL or, without that, on the database of a ``mainstay demo`` that is running. Options are those of
``mainstay worker``; start as many as you like, and stop them with Ctrl-C.
"""

import os
import sys

from mainstay.operations.cli import main

if __name__ == "__main__":
    os.environ.setdefault("DATABASE_URL", "embedded:mainstay_demo")
    main(["worker", "app.handlers:registry", *sys.argv[1:]])
