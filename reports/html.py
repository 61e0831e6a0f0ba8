"""A report as one HTML file that works offline and lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.compiled import compiled
from reports.images import png, triptych
from reports.numbers import interval, number, paper
from reports.texts import amount, duration, eps_label, norm_label, percent

_WIDEST = 1200  # pixels of a sheet of small pictures

# by its place, not by the name of a package, which may be somebody else's too
_FOLDER = Path(__file__).parent / "templates"
_TEMPLATES = FileSystemLoader(_FOLDER)
_ENVIRONMENT = Environment(
    loader=_TEMPLATES,
    bytecode_cache=compiled(_FOLDER, Path(__file__)),
    optimized=False,  # what a filter makes of a constant is old once the filter is another
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {
    "percent": percent,
    "amount": amount,
    "duration": duration,
    "eps": eps_label,
    "norm": norm_label,
    "svg": Markup,
    "number": number,
    "paper": paper,
    "interval": interval,
    "original": lambda toast: png(toast.x, _WIDEST),
    "adversarial": lambda toast: png(toast.x_adv, _WIDEST),
    "change": lambda toast: triptych(toast.x, toast.x_adv, (0.0, 1.0))[1],
    "factor": lambda toast: triptych(toast.x, toast.x_adv, (0.0, 1.0))[3],
    "png": lambda image: png(image, _WIDEST),
}


def _own(name: str) -> str:
    """A file of ours, as it stands."""
    source, _, _ = _TEMPLATES.get_source(_ENVIRONMENT, name)
    return source


def policy(script: str) -> str:
    """The content security policy of a page whose only script is this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def render(template: str, page: Any) -> str:
    """The page as HTML.

    Args:
        template: file in `templates`.
        page: what it calls `page`.
    """
    script = _own("page.js")
    return _ENVIRONMENT.get_template(template).render(
        page=page,
        policy=policy(script),
        script=Markup(script),
        style=Markup(_own("chart.css") + _own("page.css")),
    )
