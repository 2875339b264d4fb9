"""The application's pages: ``make e2e-app``, or ``cd tests/e2e && python -m app``; the console with its load generator.

At http://localhost:5001, on the database that `app.database` finds, which is prepared first. Options are those of
``mainstay console``.
"""

import os
import subprocess
import sys

from app.database import database
from mainstay.operations.cli import main

if __name__ == "__main__":
    os.environ["DATABASE_URL"] = where = database()
    print(f"The database is {where.rpartition('@')[2]}", flush=True)  # without its password
    subprocess.run([sys.executable, "-m", "mainstay.operations.cli", "schema", "upgrade"], check=True)
    main(["console", "--demo", "--port", "5001", *sys.argv[1:]])
