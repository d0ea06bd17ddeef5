"""Pages and cards made from the files in `effft/templates`; every value is cleaned before it is put into one."""

import re
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from effft.redaction import redact

TEMPLATES = Path(__file__).parent / "templates"


def markdown_text(text: str) -> str:
    """Text from runs as Markdown that shows it: without secrets, HTML, or marks of its own."""
    text = re.sub(r"([\\|`\[\]*_])", r"\\\1", redact(text))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").translate({10: " ", 13: " "})


def render(template: str, clean: Callable[[str], str] = redact, **values: object) -> str:
    """A template filled in.

    Args:
        template: Name of the file. One that ends in `.html` shows values as text, whatever they hold.
        clean: Applied to every value that the template does not declare safe.
        values: What the template names.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(),
        finalize=lambda value: value if hasattr(value, "__html__") else clean(str(value)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    return environment.get_template(template).render(values)
