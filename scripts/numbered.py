"""Start the next numbered file: a migration, or a decision page.

Usage: numbered.py migration add_priority | numbered.py adr 'Leases renew themselves'
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MIGRATION = """\
-- {title}.
-- Holds data only: what decides lies in schema/functions. Never changed once it is released.
"""

DECISION = """\
# {number}. {title}

Status: proposed

## Question

## Decision

## Rejected

## Consequences
"""

KINDS = {
    "migration": (ROOT / "src/mainstay/storage/postgres/schema/migrations", "sql", "_", MIGRATION),
    "adr": (ROOT / "docs/decisions", "md", "-", DECISION),
}


def start(kind: str, title: str) -> Path:
    """Write the next file of a kind from its template.

    Args:
        kind: `migration` or `adr`.
        title: What it is about; its letters and digits become the file's name.

    Returns:
        The new file's path.

    Raises:
        KeyError: There is no such kind.
        ValueError: The title has no letter and no digit.
    """
    folder, suffix, joint, template = KINDS[kind]
    words = re.findall(r"[a-z0-9]+", title.lower())
    if not words:
        raise ValueError("give it a name: make migration NAME=add_priority, make adr TITLE='Leases renew themselves'")
    folder.mkdir(parents=True, exist_ok=True)
    taken = [int(path.name[:4]) for path in folder.glob(f"[0-9][0-9][0-9][0-9]{joint}*.{suffix}")]
    number = max(taken, default=0) + 1
    path = folder / f"{number:04}{joint}{joint.join(words)}.{suffix}"
    path.write_text(template.format(number=number, title=title.strip().replace("_", " ")), encoding="utf-8")
    return path


if __name__ == "__main__":
    try:
        print(start(sys.argv[1], sys.argv[2]).relative_to(ROOT))
    except (IndexError, KeyError):
        sys.exit(__doc__)
    except ValueError as error:
        sys.exit(str(error))
