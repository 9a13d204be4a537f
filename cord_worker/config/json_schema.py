"""The JSON schema of cord.toml, by which editors complete and check it."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from cord_worker.config.run import RunConfig


def cord_toml_schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) of the file that `RunConfig.load` reads, with dates as text.

    It knows keys, types and ranges, and refuses unknown keys. Conditions on several keys (a teacher's model exists) are
    checked by `RunConfig` only.
    """
    schema = RunConfig.model_json_schema(schema_generator=_TomlSchema)
    return {"$schema": GenerateJsonSchema.schema_dialect, "title": "cord.toml", **schema}


class _TomlSchema(GenerateJsonSchema):
    """Makes a schema without null, which TOML lacks, and without titles, which Pydantic makes of the names."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        generated = super().default_schema(schema)
        # Editors insert the default. That of a whole table would be one line with all its keys, so it is left out.
        if generated.get("default") is None or isinstance(generated["default"], dict):
            generated.pop("default", None)
        return generated

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        generated = super().model_schema(schema)
        generated.pop("title", None)
        return generated
