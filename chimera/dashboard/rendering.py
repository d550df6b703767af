"""Templates, and what they may use. What is not markup is escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from chimera.dashboard import words
from chimera.dashboard.assets import assets
from chimera.dashboard.drawing.bars import limit_bar, share_bar
from chimera.dashboard.drawing.marks import WORDS, picture
from chimera.dashboard.payload import seen
from chimera.dashboard.spend import soonest, used


def render(template: str, **context: Any) -> Markup:
    """A template of `chimera/dashboard/templates`, filled in."""
    return Markup(environment().get_template(template).render(**context))  # nosec B704  # (it escapes)


@cache
def environment() -> Environment:
    """The templates. What they name and do not get is an error."""
    found = Environment(
        loader=PackageLoader("chimera.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.globals.update(asset=assets().address, mark_picture=picture, status_words=WORDS)
    found.filters.update({one.__name__: one for one in words.FILTERS})
    found.globals.update(limit_bar=limit_bar, share_bar=share_bar, used=used, soonest=soonest)
    found.filters["seen"] = seen
    return found
