"""What a terminal shows as a picture: SVG without fonts from elsewhere."""

import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

_FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace"


def picture(title: str, *parts: "RenderableType", width: int) -> str:
    """What a terminal shows of these, one after the other, with an empty line after each.

    Args:
        title: Stands above, as a window's title.
        parts: What rich can print.
        width: Of the terminal, in characters.
    """
    from rich.console import Console
    from rich.terminal_theme import SVG_EXPORT_THEME

    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for part in parts:
        console.print(part)
        console.print()
    svg = console.export_svg(title=title, theme=SVG_EXPORT_THEME, unique_id=re.sub(r"\W+", "-", title))
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: Fira Code[^;]*;", f"font-family: {_FONTS};", svg)
    return re.sub(r" +$", "", svg, flags=re.MULTILINE)
