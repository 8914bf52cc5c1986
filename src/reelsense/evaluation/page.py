"""What the pages have in common: their style, how they write numbers, pictures inside them.

A page has no script and loads nothing, and reads well in light and in dark.
"""

import base64
import math
from importlib import resources
from pathlib import Path

from jinja2 import DictLoader, Environment, Template


def template(source: str) -> Template:
    """Return a template; `{% include "page.css" %}` in it stands for the style of all pages."""
    style = resources.files("reelsense.evaluation").joinpath("page.css").read_text("utf-8")
    loader = DictLoader({"page.css": style})
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=loader)
    environment.filters |= {
        "percent": percent,
        "figure": _figure,
        "count": lambda n: "–" if n is None else f"{n:,.0f}",
        "duration": duration,
    }
    return environment.from_string(source)


def as_uri(picture: Path) -> str:
    """Return a PNG as what an `img` may have for its source."""
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as 91.2%, or a dash for one that is not known."""
    return "–" if share is None else f"{share * 100:.{digits}f}%"


def _figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def duration(seconds: float | None) -> str:
    """Return seconds as a person says them, or a dash."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
