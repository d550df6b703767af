"""Elements of SVG as text. Whatever stands in them is escaped; nothing bears a style or a script."""

from __future__ import annotations

from markupsafe import Markup, escape

EMPTY = Markup("")


def element(name: str, *inside: str, **attributes: str | float | None) -> Markup:
    """An element. What stands inside is escaped, unless it is an element itself.

    Args:
        attributes: ``stroke_width=2`` is ``stroke-width="2"``, ``class_`` is ``class``; those that are
            None are left out.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    content = "".join(map(escape, inside))
    # Every part was escaped right here: names are ours, values and content went through `escape`.
    return Markup(f"<{name}{told}>{content}</{name}>" if content else f"<{name}{told}/>")  # nosec B704 : every part was escaped above


def together(parts: list[Markup]) -> Markup:
    """Elements one after another."""
    return EMPTY.join(parts)


def percent(part: float) -> str:
    """A part of the whole, 0 to 1, as a length that follows the width of the picture."""
    return f"{100 * part:.2f}".rstrip("0").rstrip(".") + "%"


def cut(text: str, most: int) -> str:
    """A text that takes no more than so many characters of a line."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _value(value: str | float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(escape(str(value)))
