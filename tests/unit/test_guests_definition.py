"""A guest is kept as tags of its volume, and comes back from them as it was."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstboot.errors import ProbeError
from firstboot.guests.definition import MARK, Definition, from_tags, to_tags

WEB = Definition("web01", "xen1", 256 << 20, 1, "pvh", "xenbr0", "00:16:3e:00:00:01")
TAG = re.compile(r"[A-Za-z0-9_+.\-/=!:&#]{1,1024}")
"""lvm(8), TAGS."""


def test_a_guest_comes_back_from_its_tags() -> None:
    assert from_tags("web01", to_tags(WEB)) == WEB


@given(
    arguments=st.text(max_size=40),
    options=st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), st.text(max_size=20), max_size=3),
)
def test_whatever_it_is_told_survives_as_tags_that_lvm_takes(arguments: str, options: dict[str, str]) -> None:
    guest = Definition("g", "xen2", 1, 1, "pv", "b", "m", arguments=arguments, options=tuple(sorted(options.items())))
    tags = to_tags(guest)
    assert all(TAG.fullmatch(tag) for tag in tags)
    assert from_tags("g", reversed(tags)) == guest


def test_a_volume_without_our_mark_is_no_guest() -> None:
    assert from_tags("scratch", ["backup", "xenpair.memory=1"]) is None


def test_tags_of_others_and_of_later_versions_are_passed_over() -> None:
    assert from_tags("web01", [*to_tags(WEB), "backup", "xenpair.colour=red"]) == WEB


@pytest.mark.parametrize(
    "tags",
    [
        [MARK],
        [MARK, *(tag for tag in to_tags(WEB) if "memory" not in tag)],
        [tag.replace("kind=pvh", "kind=hvm") for tag in to_tags(WEB)],
        [tag.replace("vcpus=1", "vcpus=one") for tag in to_tags(WEB)],
        [*to_tags(WEB), "xenpair.arguments=#G1"],
        [*to_tags(WEB), "xenpair.arguments=#F"],
    ],
)
def test_tags_that_make_no_guest_are_an_error_and_no_guess(tags: list[str]) -> None:
    with pytest.raises(ProbeError, match="web01"):
        from_tags("web01", tags)


def test_what_is_too_long_for_a_tag_is_refused() -> None:
    with pytest.raises(ValueError, match="arguments is too long"):
        to_tags(Definition("g", "xen1", 1, 1, "pv", "b", "m", arguments=" " * 400))
