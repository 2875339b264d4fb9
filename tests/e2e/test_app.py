"""The end-to-end application as people start it: its pages by ``python -m app``."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent


def test_the_application_prepares_its_database_and_serves_the_load_generator(dsn):
    command = [sys.executable, "-m", "app", "--port", "0"]
    environ = os.environ | {"DATABASE_URL": dsn}
    with subprocess.Popen(command, cwd=HERE, env=environ, stdout=subprocess.PIPE, text=True) as served:
        try:
            lines = iter(served.stdout.readline, "")
            url = next(found[0] for line in lines if (found := re.search(r"http://\S+", line)))
            with urllib.request.urlopen(f"{url}load", timeout=30) as page:
                assert "What must come of it" in page.read().decode()
            with urllib.request.urlopen(
                f"{url}api/load/expected?count=200&fail_permanent_pct=50", timeout=30
            ) as answer:
                assert json.load(answer)["permanent"]["mean"] > 90
        finally:
            served.send_signal(signal.SIGTERM)
    assert served.returncode == 0
