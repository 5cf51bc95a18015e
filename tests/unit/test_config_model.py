"""The arithmetic and the generated files of the config: capacity, disk rules, schema, reference."""

import fnmatch
import json
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import capacity
from config.diskrules import globs_apart
from config.loader import load
from config.model import Cluster, Guest
from config.reference import DOCUMENT, updated
from config.schema import SCHEMA, schema, write_schema

GIB = 1 << 30
WORDS = ["".join(letters) for n in range(5) for letters in product("ab", repeat=n)]


def test_drbd_metadata_is_what_the_guide_says() -> None:
    assert capacity.drbd_metadata(GIB) == (8 * 8 + 72) * 512
    assert capacity.drbd_metadata(GIB + 1) == (9 * 8 + 72) * 512
    assert capacity.drbd_metadata(1000 * GIB) == (8000 * 8 + 72) * 512


def test_the_volume_group_is_whole_extents_and_never_negative() -> None:
    assert capacity.volume_group_size(4 * GIB) == 4092 * capacity.MIB
    assert capacity.volume_group_size(1 << 20) == 0


def test_a_guest_takes_its_memory_and_xls_paging_pool() -> None:
    guest = Guest.model_validate({"name": "a", "memory": "1G", "disk": "1G", "vcpus": "2", "home": "xen1"})
    assert capacity.guest_share(guest) == (1024 + 2 + 8) * capacity.MIB


@pytest.mark.parametrize(
    ("size", "text"), [(1, "1M"), (9 * GIB, "9216M"), (10 * GIB, "10.0G"), (10 * GIB + 1, "10.1G")]
)
def test_sizes_for_people_are_rounded_up(size: int, text: str) -> None:
    assert capacity.about(size) == text


GLOB = st.text("ab*?", max_size=5)


@given(GLOB, GLOB)
def test_patterns_are_apart_when_no_text_matches_both(one: str, other: str) -> None:
    common = [word for word in WORDS if fnmatch.fnmatchcase(word, one) and fnmatch.fnmatchcase(word, other)]
    assert globs_apart(one, other) == globs_apart(other, one)
    if common:
        assert not globs_apart(one, other)


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ("system-*", "data-*", True),
        ("*-system", "*-data", True),
        ("a*", "*b", False),
        ("A1", "a1", False),
        ("A1", "A2", True),
        ("a?", "ab?", True),
        ("*", "", False),
        ("x[ab]", "xb", False),
        ("x[ab]", "yb", True),
        ("*" * 128, "a" * 128, False),
        ("*a" * 60, "b" * 120, True),
    ],
)
def test_patterns_are_told_apart(one: str, other: str, apart: bool) -> None:
    assert globs_apart(one, other) is apart


def test_the_committed_schema_is_up_to_date() -> None:
    assert SCHEMA.read_text() == schema(), "run `python -m config.schema`"


def test_the_schema_names_its_dialect_and_every_section(tmp_path: Path) -> None:
    assert write_schema(tmp_path / "s.json") is True
    assert write_schema(tmp_path / "s.json") is False
    content = json.loads((tmp_path / "s.json").read_text())
    assert content["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(content["properties"]) == set(Cluster.model_fields)
    assert content["additionalProperties"] is False
    assert (content["properties"]["nodes"]["minItems"], content["properties"]["nodes"]["maxItems"]) == (2, 2)


def test_the_reference_in_the_documentation_is_up_to_date() -> None:
    text = DOCUMENT.read_text()
    assert text == updated(text), "run `python -m config.reference`"


def test_every_key_is_described() -> None:
    parts = [json.loads(schema()), *json.loads(schema())["$defs"].values()]
    bare = [(part["title"], key) for part in parts for key, f in part["properties"].items() if "description" not in f]
    assert bare == []


def test_the_hash_does_not_depend_on_spelling(tmp_path: Path) -> None:
    text = Path("config/cluster.yaml").read_text()
    file = tmp_path / "c.yaml"
    file.write_text("# a comment\n" + text.replace("max_rate: 300M", "max_rate: 307200K").replace("52:54", "52-54"))
    before = load(Path("config/cluster.yaml")).cluster.config_hash()
    assert load(file).cluster.config_hash() == before
    file.write_text(text.replace("300M", "301M"))
    assert load(file).cluster.config_hash() != before
