"""A Chromium for the tests in tests/browser: where it is, and, run as a program, getting one.

It is the one that MAINSTAY_TEST_CHROMIUM names, the system's, or playwright's own, whichever is found first.
``python -m tests.support.chromium`` prints its path. Where there is none it installs one: the system's package where
that can be done (Debian, as root), else what playwright downloads.
"""

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from playwright.sync_api import sync_playwright

MISSING = "no Chromium was found, so the tests in a browser are skipped: `make browser` installs one"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_PATIENCE = 150.0
"""Seconds that getting one may take: without a network some ways wait for ever."""


def chromium(of_playwright: str) -> str | None:
    """Its path; None if there is none.

    Args:
        of_playwright: Where playwright would have put one.
    """
    if named := os.environ.get("MAINSTAY_TEST_CHROMIUM"):
        return named
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    return found or (of_playwright if Path(of_playwright).exists() else None)


def _of_playwright() -> str:
    with sync_playwright() as playwright:
        return playwright.chromium.executable_path


def _install() -> str | None:
    """Get one, and say where it is."""
    ways = [[[sys.executable, "-m", "playwright", "install", "chromium"]]]
    if shutil.which("apt-get") and os.geteuid() == 0:
        ways.insert(0, [["apt-get", "update", "--quiet"], ["apt-get", "install", "--yes", "--quiet", "chromium"]])
    until = time.monotonic() + _PATIENCE
    for way in ways:
        for step in way:
            with suppress(subprocess.TimeoutExpired):
                subprocess.run(step, stdout=sys.stderr, check=False, timeout=max(1.0, until - time.monotonic()))
        if found := chromium(_of_playwright()):
            return found
    return None


if __name__ == "__main__":
    path = chromium(_of_playwright()) or _install()
    print(path or MISSING)
    sys.exit(path is None)
