"""The page of the environment: every variable that the service reads."""

from __future__ import annotations

from cord_worker.config.environment import LIBRARY_VARIABLES, OTHER_VARIABLES, Settings
from docs.site.reference import markdown
from docs.site.reference.configuration_file import default_of, type_of


def page() -> str:
    """The page."""
    introduction = (
        "Every variable of the environment that the service reads. A variable that begins with `CORD_` and is similar "
        "to one of these is refused, because it is probably misspelt. Those that begin with `CORD_TEST_` are for the "
        "project's tests. [Configuration](../configuration.md#environment) groups them by purpose."
    )
    settings = [
        (
            markdown.code(f"CORD_{name.upper()}"),
            type_of(field),
            default_of(field),
            markdown.cell(field.description or ""),
        )
        for name, field in Settings.model_fields.items()
    ]
    others, libraries = (
        markdown.table(
            ("variable", "meaning"), [(markdown.code(name), markdown.cell(meaning)) for name, meaning in known.items()]
        )
        for known in (OTHER_VARIABLES, LIBRARY_VARIABLES)
    )
    return "\n".join(
        [
            markdown.head("Environment", introduction),
            "## Services and processes\n",
            markdown.table(("variable", "type", "default", "meaning"), settings),
            "## Single places\n",
            "Each of these is read in one place only. `CORD_FAULT` and those of the engine `instant` are for tests.\n",
            others,
            "## Of libraries\n",
            "These belong to libraries, and the service reads or passes them on.\n",
            libraries,
        ]
    )
