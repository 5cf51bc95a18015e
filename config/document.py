"""A YAML file as a tree of texts that remembers the line of every key.

Every scalar stays the text that was written, and the model decides what it means. So nothing that YAML 1.1 guesses at
can happen here: a MAC address is no sexagesimal number, `no` is no boolean, 0123 is not octal. Only an unquoted null, ~
or nothing at all is None. Anchors, aliases and tags are refused, which also leaves nothing for an alias bomb to expand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from config.findings import ConfigError, Finding, Location, shown, yaml_path

MAX_BYTES = 256 << 10
"""A config is a few KiB; what is larger is some other file (a disk image, /dev/zero) and not worth parsing."""
MAX_DEPTH = 16
"""Levels of nesting; the model has six."""

_NULLS = {"", "~", "null", "Null", "NULL"}  # YAML 1.2.2, section 10.3.2, core schema


@dataclass(frozen=True)
class Document:
    """One parsed file: its value, the line of each location in it, and the keys that were given twice."""

    file: str
    value: dict[str, object]
    lines: Mapping[Location, int]
    duplicates: tuple[Finding, ...]

    def deepest(self, where: Location) -> Location:
        """The location itself, or the nearest one around it that the file has."""
        while where and where not in self.lines:
            where = where[:-1]
        return where

    def finding(self, where: Location, problem: str, remedy: str) -> Finding:
        """An error there; where the file has no such place, at the line of what surrounds it."""
        return Finding(self.file, self.lines[self.deepest(where)], yaml_path(where), problem, remedy)


def read(path: Path) -> bytes:
    """The bytes of a config file. Raises ConfigError where there is none to read, or far too much."""
    try:
        with path.open("rb") as f:
            data = f.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _refused(path, "does not exist", "name an existing file; config/cluster.yaml is an example") from None
    except IsADirectoryError:
        raise _refused(path, "is a directory", "name the YAML file in it") from None
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        raise _refused(path, f"cannot be read: {reason}", "make it readable for this user") from None
    if len(data) > MAX_BYTES:
        raise _refused(path, f"is larger than {MAX_BYTES >> 10} KiB", "name the YAML file of one cluster")
    return data


def parse(data: bytes, file: str) -> Document:
    """The tree in a file's bytes; file is its name in messages. Raises ConfigError with the first fault of the YAML."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise ConfigError([Finding(file, line, "", "is not UTF-8", "save it as UTF-8 text")]) from None
    try:
        return _Builder(text, file).document()
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        problem = f"holds the character U+{int(e.character):04X}, which YAML does not allow"
        raise ConfigError([Finding(file, line, "", problem, "take it out")]) from None
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        what = ", ".join(part for part in (e.context, e.problem) if part)
        remedy = "indent with spaces" if "'\\t'" in what else "look at the indentation and the quotes there and above"
        line = mark.line + 1 if mark else 1
        raise ConfigError([Finding(file, line, "", f"is not valid YAML: {what}", remedy)]) from None
    except (ValueError, OverflowError, yaml.YAMLError) as e:
        # PyYAML's scanner lets chr() and int() fail on escapes like "\UFFFFFFFF".
        raise ConfigError([Finding(file, 1, "", f"is not valid YAML: {e}", "look for a \\ in quotes")]) from None


def _refused(path: Path, problem: str, remedy: str) -> ConfigError:
    return ConfigError([Finding(str(path), None, "", problem, remedy)])


class _Builder:
    """Builds the tree from PyYAML's events: below its composer, which would follow aliases and recurse without end."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.lines: dict[Location, int] = {(): 1}
        self.duplicates: list[Finding] = []
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)

    def document(self) -> Document:
        next(self.events)  # the start of the stream
        if isinstance(next(self.events), yaml.StreamEndEvent):
            raise self.error(1, "is empty", "describe a cluster in it; config/cluster.yaml is an example")
        first = next(self.events)
        value = self.value(first, ())
        if value is None:
            raise self.error(1, "is empty", "describe a cluster in it; config/cluster.yaml is an example")
        if not isinstance(value, dict):
            kind = "a list" if isinstance(value, list) else "a text"
            raise self.error(_line(first), f"holds {kind}", "write sections with a key each, like `cluster:`")
        next(self.events)  # the end of the document
        further = next(self.events)
        if not isinstance(further, yaml.StreamEndEvent):
            raise self.error(_line(further), "a second document begins here", "keep one cluster in one file")
        return Document(self.file, value, self.lines, tuple(self.duplicates))

    def value(self, event: yaml.Event, where: Location) -> object:
        self.lines.setdefault(where, _line(event))
        path = yaml_path(where)
        if isinstance(event, yaml.AliasEvent):
            raise self.error(_line(event), f"*{event.anchor} is an alias", "write the value out, or quote it", path)
        if len(where) > MAX_DEPTH:
            raise self.error(_line(event), f"is nested deeper than {MAX_DEPTH} levels", "no section goes that deep")
        if isinstance(event, yaml.NodeEvent) and (anchor := event.anchor):
            raise self.error(_line(event), f"&{anchor} is an anchor", "take it out and write each value out", path)
        if tag := getattr(event, "tag", None):
            raise self.error(_line(event), f"{shown(str(tag))} is a tag", "take it out; the key decides the type", path)
        if isinstance(event, yaml.MappingStartEvent):
            return self.mapping(where)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(where)
        assert isinstance(event, yaml.ScalarEvent)  # noqa: S101 -- the grammar of events leaves nothing else
        return None if event.style is None and event.value in _NULLS else self.text(event)

    def text(self, event: yaml.ScalarEvent) -> str:
        text = str(event.value)
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise self.error(_line(event), "holds half of a surrogate pair", "write the character itself")
        return text

    def sequence(self, where: Location) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.value(event, (*where, len(items))))
        return items

    def mapping(self, where: Location) -> dict[str, object]:
        entries: dict[str, object] = {}
        here: dict[str, int] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.key(event, where)
            place = (*where, key)
            self.lines.setdefault(place, _line(event))
            value = self.value(next(self.events), place)
            if key in here:
                problem = f"is given twice, in lines {here[key]} and {_line(event)}"
                self.duplicates.append(Finding(self.file, _line(event), yaml_path(place), problem, "keep one of them"))
            else:
                here[key] = _line(event)
                entries[key] = value
        return entries

    def key(self, event: yaml.Event, where: Location) -> str:
        if not isinstance(event, yaml.ScalarEvent) or event.anchor or event.tag:
            raise self.error(_line(event), "a key here is no plain word", "write `key: value`", yaml_path(where))
        if event.style is None and event.value in _NULLS:
            raise self.error(_line(event), "a key here is empty", "write `key: value`", yaml_path(where))
        return self.text(event)

    def error(self, line: int, problem: str, remedy: str, path: str = "") -> ConfigError:
        return ConfigError([Finding(self.file, line, path, problem, remedy)])


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
