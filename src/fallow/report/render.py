"""Pages from templates: one HTML file that needs nothing else; every text is escaped unless it is a drawn chart."""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from fallow.report.axes import COLOURS, styles

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **context: Any) -> str:
    """A whole page: no script, no font, no image, no network; light and dark.

    Args:
        template: a file of `fallow/report/templates`.
        context: plain data; texts of others stay texts, since the templates escape what is not `Markup`.
    """
    return _environment().get_template(template).render(**context) + "\n"


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fallow.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["css"] = Markup(f"{styles()}\n{files('fallow.report').joinpath('page.css').read_text('utf-8')}")
    environment.filters["series"] = lambda number: f"series-{number % len(COLOURS)}"
    return environment
