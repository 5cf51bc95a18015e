"""The JSON Schema of cluster.yaml, for editors: `python -m config.schema` writes it anew."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from config.door import write_file
from config.model import Cluster
from config.sizes import format_size

SCHEMA = Path(__file__).with_name("cluster.schema.json")
"""The committed copy, which config/cluster.yaml names in its first line."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _SizesAsText(GenerateJsonSchema):
    """Sizes are numbers in the model and texts in the file, and a default is shown as the file would have it."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        described = super().default_schema(schema)
        default = described.get("default")
        if described.get("type") == "string" and isinstance(default, int):
            return {**described, "default": format_size(default)}
        return described


def schema() -> str:
    """The schema as JSON text, generated from the model."""
    content = {"$schema": DIALECT, **Cluster.model_json_schema(schema_generator=_SizesAsText)}
    return json.dumps(content, indent=2) + "\n"


def write_schema(path: Path = SCHEMA) -> bool:
    """Write the schema; False where the file is up to date already."""
    return write_file(path, schema())


if __name__ == "__main__":
    write_schema()
