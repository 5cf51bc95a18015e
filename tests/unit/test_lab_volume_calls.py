"""The account of many calls at once, against what is there."""

from __future__ import annotations

from lab.volume_caller import LARGE, SMALL, volumes_of
from lab.volume_calls import Account, compare


def account(*lines: str) -> Account:
    told = Account()
    for line in lines:
        told.note(line)
    return told


def test_a_caller_makes_as_many_calls_as_it_is_told_and_leaves_some_volumes() -> None:
    made = [step for steps in volumes_of("a", 20) for step in steps]
    assert len(made) == 20
    assert {what for what, _, _ in made} == {"create", "resize", "delete"}
    assert made[:2] == [("create", "v-a-0", SMALL), ("resize", "v-a-0", LARGE)]


def test_what_was_acknowledged_is_there_with_its_size() -> None:
    told = account("begin v-a 4", "create v-a 4", "begin v-a 8", "resize v-a 8", "begin v-b 4", "create v-b 4")
    assert told.done == 3
    assert compare(told, {"v-a": 8, "v-b": 4, "web01": 5}) == []
    assert compare(told, {"v-a": 4}) == ["v-b is lost", "v-a has 4 bytes, and 8 were acknowledged"]


def test_what_was_deleted_is_gone() -> None:
    told = account("begin v-a 4", "create v-a 4", "begin v-a 0", "delete v-a 0")
    assert compare(told, {"v-a": 4}) == ["v-a was deleted, and is there"]
    assert compare(told, {}) == []


def test_a_call_that_nobody_answered_may_have_been_made_or_not() -> None:
    told = account("begin v-a 4", "create v-a 4", "begin v-a 8")
    assert compare(told, {"v-a": 4}) == compare(told, {"v-a": 8}) == []
