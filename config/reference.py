"""The reference of cluster.yaml for docs/config.md, from the model: `python -m config.reference` writes it anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from config.door import write_file
from config.schema import schema as schema_text

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "config.md"
BEGIN, END = "<!-- reference: begin -->\n", "<!-- reference: end -->\n"

Schema = dict[str, Any]


def reference() -> str:
    """One table for each section: key, default, meaning. A section that stands in several places comes once."""
    schema: Schema = json.loads(schema_text())
    places: dict[str, list[str]] = {}
    for name, place in _sections(schema, schema, ""):
        places.setdefault(name, []).append(place)
    parts = [_table("`cluster.yaml`", schema)]
    for name, where in places.items():
        parts.append(_table(", ".join(f"`{place}`" for place in where), schema["$defs"][name]))
    return "\n".join(parts)


def updated(text: str) -> str:
    """A document with the reference between its two marks brought up to date."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{reference()}\n{END}{after}"


def _sections(part: Schema, schema: Schema, place: str) -> Iterator[tuple[str, str]]:
    for key, field in part["properties"].items():
        if reference := _reference(field):
            name = reference.rpartition("/")[2]
            where = f"{place}.{key}".lstrip(".") + ("[]" if "items" in field else "")
            yield name, where
            yield from _sections(schema["$defs"][name], schema, where)


def _reference(field: Schema) -> str:
    """The `$ref` of a field that is a section, a list of sections, or an optional section."""
    branches = [field, field.get("items", {}), *field.get("anyOf", []), *field.get("allOf", [])]
    return next((str(branch["$ref"]) for branch in branches if "$ref" in branch), "")


def _table(heading: str, part: Schema) -> str:
    rows = [f"### {heading}", "", str(part["description"]), "", "| key | default | meaning |", "|---|---|---|"]
    for key, field in part["properties"].items():
        meaning = field.get("description", "").replace("\n", " ").replace("|", "\\|")
        rows.append(f"| `{key}` | {_default(key, field, part)} | {meaning} |")
    return "\n".join(rows) + "\n"


def _default(key: str, field: Schema, part: Schema) -> str:
    if key in part.get("required", ()):
        return "required"
    default = field.get("default")
    if default is None or default in ("", {}):
        return ""
    if _reference(field) and isinstance(default, dict):
        return "as below"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


if __name__ == "__main__":
    write_file(DOCUMENT, updated(DOCUMENT.read_text(encoding="utf-8")))
