"""What two nodes say to each other: one JSON object a line, {"ask", "args"} and {"ok"} or {"error"}."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from config.errors import XenpairError
from firstboot.errors import ElsewhereError, GuestError, HeldError, LockedError, NodeError, PeerError, StorageError

T = TypeVar("T")

LINE_LIMIT = 1 << 20
"""Characters of a line: a thousand domains are a fifth of it."""

ANSWERS = {kind.__name__: kind for kind in (LockedError, GuestError, ElsewhereError, HeldError, StorageError)}
"""Errors that are an answer: they mean the same to whoever asked. Of any other he knows only that he knows nothing."""


def request(what: str, args: dict[str, Any]) -> str:
    """A question, with the end of its line."""
    return json.dumps({"ask": what, "args": args}) + "\n"


def parse_request(line: str) -> tuple[str, dict[str, Any]]:
    """What is asked, and with what. Raises NodeError for what is no request."""
    try:
        raw = json.loads(line)
        what, args = raw["ask"], raw.get("args", {})
        if not isinstance(what, str) or not isinstance(args, dict):
            raise TypeError("ask is no text, or args are no object")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise NodeError(f"this is no request: {line[:80]!r}: {e}") from e
    return what, args


def ok(value: object) -> str:
    """The answer to a request that worked."""
    return json.dumps({"ok": value}, default=_plain) + "\n"


def error(e: XenpairError | OSError) -> str:
    """The answer to one that did not."""
    message, hint = (e.message, e.hint) if isinstance(e, XenpairError) else (str(e), "")
    return json.dumps({"error": {"kind": type(e).__name__, "message": message, "hint": hint}}) + "\n"


def parse_answer(line: str, peer: str) -> dict[str, Any]:
    """An answer as it is. Raises PeerError for what is none."""
    try:
        raw = json.loads(line)
        if "ok" in raw or all(isinstance(raw["error"][key], str) for key in ("kind", "message", "hint")):
            return dict(raw)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise PeerError(f"{peer} answered what is not understood: {line[:200]!r}")


def value(answer: dict[str, Any], peer: str) -> Any:
    """What was answered. Raises the peer's error where it is one of ANSWERS, else PeerError."""
    if "ok" in answer:
        return answer["ok"]
    said = answer["error"]
    raise ANSWERS.get(said["kind"], PeerError)(f"{peer}: {said['message']}", hint=said["hint"])


def _plain(found: object) -> object:
    if is_dataclass(found) and not isinstance(found, type):
        return asdict(found)
    if isinstance(found, frozenset):
        return sorted(found)
    raise TypeError(f"{found!r} cannot be said to the peer")


def typed(hint: Any, raw: object, peer: str) -> Any:
    """raw as that type: a plain one, None, a Literal, tuple[X, ...], frozenset[X], or a dataclass of such.

    Raises PeerError for anything else.
    """
    try:
        return _typed(hint, raw)
    except (TypeError, ValueError) as e:
        raise PeerError(
            f"{peer} answered what is not understood: {e}: {str(raw)[:200]!r}",
            hint="bring both nodes to the same version",
        ) from e


def _typed(hint: Any, raw: Any) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        if raw not in args:
            raise ValueError(f"{raw!r} is none of {', '.join(map(str, args))}")
        return raw
    if origin is UnionType:
        return None if raw is None else _typed(next(arg for arg in args if arg is not NoneType), raw)
    if origin in (tuple, frozenset):
        if not isinstance(raw, list):
            raise TypeError(f"{raw!r} is no list")
        return origin(_typed(args[0], one) for one in raw)
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        if not isinstance(raw, dict) or raw.keys() != hints.keys():
            raise TypeError(f"not {', '.join(hints)}")
        return hint(**{key: _typed(hints[key], raw[key]) for key in hints})  # type: ignore[operator]
    if type(raw) is not hint:
        raise TypeError(f"{raw!r} is no {hint.__name__}")
    return raw
