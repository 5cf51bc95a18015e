"""Walking the model: which part a location belongs to, and as much of a broken config as can be understood."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from config.findings import Location

M = TypeVar("M", bound=BaseModel)


def part_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field's type is made of: Bmc for `Bmc | None`, Node for `tuple[Node, ...]`, None for a str."""
    if get_origin(annotation) is None:
        return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    return next((part for arg in get_args(annotation) if (part := part_in(arg))), None)


def is_list(annotation: Any) -> bool:
    """Whether a field's type is a list of things."""
    return get_origin(annotation) is tuple


def owner(root: type[BaseModel], where: Location) -> type[BaseModel] | None:
    """The model whose field the last key of a location is; None where no model has such a place."""
    model: type[BaseModel] | None = root
    for key in [step for step in where if isinstance(step, str)][:-1]:
        field = model.model_fields.get(key) if model else None
        model = part_in(field.annotation) if field else None
    return model


def salvage(model: type[M], raw: object) -> M:
    """As much of a part as validates: every other field is left unset, and reading it raises AttributeError."""
    known = raw if isinstance(raw, dict) else {}
    part = model.model_construct()
    vars(part).clear()
    for name, field in model.model_fields.items():
        if name in known:
            vars(part).update((name, value) for value in _salvage_field(field, known[name]))
        elif isinstance(raw, dict) and not field.is_required():
            vars(part)[name] = field.get_default()
    return part


def _salvage_field(field: FieldInfo, raw: object) -> Iterator[object]:
    inner = part_in(field.annotation)
    if inner is not None and is_list(field.annotation):
        if isinstance(raw, list):
            yield tuple(salvage(inner, item) for item in raw)
    elif inner is not None and raw is not None:
        yield salvage(inner, raw)
    else:
        with suppress(ValidationError):
            yield TypeAdapter(field.rebuild_annotation()).validate_python(raw)
