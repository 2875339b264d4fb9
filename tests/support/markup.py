"""What must not stand in a page of the console: markup that is not its own, and characters that are not seen."""

import re
from html.parser import HTMLParser

FOREIGN = {"base", "embed", "evil", "iframe", "math", "object", "style"}
"""Tags that none of our templates has."""


class Markup(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.faults += [f"<{tag} {name}>" for name in given if name.startswith("on") or name == "style"]
        self.faults += [f"{each}" for each in given.values() if re.match(r"\s*(javascript|data):", each or "")]
        if tag in FOREIGN or (tag in {"script", "img"} and "/static/" not in (given.get("src") or "")):
            self.faults.append(f"<{tag}>")


def faults(text: str) -> list[str]:
    """What is on a page that must not be."""
    parser = Markup()
    parser.feed(text)
    parser.close()
    unseen = re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", text)
    return parser.faults + [f"unseen: {each!r}" for each in unseen]
