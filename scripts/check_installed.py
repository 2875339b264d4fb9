"""Check that the installed package holds what the source tree does, and is not the source tree.

Usage: check_installed.py SRC, from outside the checkout.
"""

import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path


def missing(src: Path) -> list[str]:
    """Compare the installed packages with their sources.

    Args:
        src: The folder that holds the packages' sources.

    Returns:
        What the installed packages lack, relative to `src`.

    Raises:
        RuntimeError: What is imported is the source tree itself, or its version is not the distribution's.
    """
    lacking = []
    for package in sorted(path.parent.name for path in src.glob("*/__init__.py")):
        installed = Path(import_module(package).__path__[0])
        if installed.is_relative_to(src):
            raise RuntimeError(f"{package} is imported from the source tree: {installed}")
        wanted = [path for path in (src / package).rglob("*") if path.suffix in {".py", ".sql", ".typed"}]
        lacking += [
            str(path.relative_to(src)) for path in wanted if not (installed.parent / path.relative_to(src)).is_file()
        ]
    if (told := import_module("mainstay").__version__) != version("mainstay"):
        raise RuntimeError(f"mainstay.__version__ is {told}, the distribution is {version('mainstay')}")
    return lacking


if __name__ == "__main__":
    if lacking := missing(Path(sys.argv[1]).resolve()):
        sys.exit("not installed:\n" + "\n".join(lacking))
    print("every module, every .sql file and py.typed is installed")
