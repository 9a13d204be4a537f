"""The page of the Python client: every name of `cord_worker.__all__`, with signatures and docstrings."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

import cord_worker
from docs.site.reference import markdown


def page() -> str:
    """The page."""
    introduction = (
        "Every name that `cord_worker` offers to programs, with its methods. [Python client](../python-client.md) "
        "shows how to use them."
    )
    names = [name for name in cord_worker.__all__ if not name.startswith("__")]
    values = {name: getattr(cord_worker, name) for name in names}
    errors = [name for name, value in values.items() if isinstance(value, type) and issubclass(value, Exception)]
    functions = [name for name, value in values.items() if inspect.isfunction(value)]
    classes = [name for name in names if name not in errors and name not in functions]
    classes.sort(key=lambda name: (name not in ("Client", "Run", "EnqueuedRun"), name))
    parts = [markdown.head("Python API", introduction)]
    parts += [_class(name, values[name]) for name in classes]
    parts += [f"## {markdown.code(name)}\n\n{_function(name, values[name])}" for name in functions]
    parts.append("## Errors\n")
    parts.append(markdown.table(("error", "is a", "when"), [_error(name, values[name]) for name in errors]))
    return "\n".join(parts)


def _class(name: str, kind: type) -> str:
    bases = [base for base in kind.__bases__ if base is not object]
    of = f" ({', '.join(base.__name__ for base in bases)})" if bases else ""
    parts = [f"## {markdown.code(name)}{of}\n"]
    if not dataclasses.is_dataclass(kind):
        parts.append(f"```python\n{name}{_signature(kind)}\n```\n")
    if "__doc__" in vars(kind) and kind.__doc__ and not kind.__doc__.startswith(f"{name}("):
        parts.append(markdown.docstring(kind.__doc__) + "\n")
    if dataclasses.is_dataclass(kind):
        own = vars(kind).get("__annotations__", {})
        rows = [
            (markdown.code(field), markdown.code(str(type_).replace(" | ", " or "))) for field, type_ in own.items()
        ]
        if rows:
            parts.append(markdown.table(("attribute", "type"), rows))
    for member, value in _members(kind):
        parts.append(f"### {markdown.code(f'{name}.{member}')}\n\n{_function(member, value)}")
    return "\n".join(parts)


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that the class itself defines."""
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property | classmethod | staticmethod) or inspect.isfunction(value):
            yield name, value


def _function(name: str, value: Any) -> str:
    if isinstance(value, property):
        function = value.fget
        assert function is not None
        shown = f"{name}: {inspect.signature(function).return_annotation}"
    else:
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        shown = f"{name}{_signature(function)}"
    return f"```python\n{shown}\n```\n\n{markdown.docstring(function.__doc__)}\n"


def _signature(value: Any) -> str:
    """The signature without `self`; a long one has one parameter on each line."""
    signature = inspect.signature(value)
    returned = signature.return_annotation
    shown = "" if returned is inspect.Signature.empty or inspect.isclass(value) else f" -> {_annotation(returned)}"
    parameters = [one for name, one in signature.parameters.items() if name not in ("self", "cls")]
    words: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words and not any(w.startswith("*") for w in words):
            words.append("*")
        words.append(_parameter(parameter))
    line = f"({', '.join(words)}){shown}"
    if len(line) <= 90:
        return line
    return "(\n" + "".join(f"    {word},\n" for word in words) + f"){shown}"


def _parameter(parameter: inspect.Parameter) -> str:
    variadic: dict[Any, str] = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
    stars = variadic.get(parameter.kind, "")
    shown = f"{stars}{parameter.name}"
    if parameter.annotation is not parameter.empty:
        shown += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        shown += f" = {parameter.default!r}"
    return shown


def _annotation(annotation: Any) -> str:
    """An annotation as it is written in the source."""
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _error(name: str, kind: type) -> tuple[str, str, str]:
    said = " ".join(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].split())
    return markdown.code(name), ", ".join(markdown.code(base.__name__) for base in kind.__bases__), markdown.cell(said)
