"""How pages are filled in: one environment for all of them, which escapes whatever it shows."""

from __future__ import annotations

import jinja2


def page_environment() -> jinja2.Environment:
    """The templates of `pipeline/templates`, escaping on, a name that nothing fills in an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
