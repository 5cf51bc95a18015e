"""Guests that are wanted, by the config or by the words of `xenpair guest create`. Both are read by the config's model.

Only what makes a guest reads the model: it costs an emulated node seconds.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from config import guest as config_guest
from config import guest_checks
from config.guest import Guest
from config.loader import load
from config.model import Cluster
from firstboot.errors import GuestError
from firstboot.guests.creation import Wish
from firstboot.guests.definition import Definition, to_tags
from firstboot.places import Places


def from_config(cluster: Cluster, guest: Guest) -> Wish:
    """A guest of cluster.yaml as one that is to be made. Raises GuestError where it cannot be kept as tags."""
    definition = Definition(
        name=guest.name,
        home=guest.home,
        memory=guest.memory,
        vcpus=guest.vcpus,
        kind="pv",
        bridge=config_guest.bridge(cluster, guest),
        mac=config_guest.mac(cluster, guest),
        address=str(guest.network.address),
        gateway=str(guest.network.gateway or ""),
        boot=guest.boot.by,
        kernel=guest.boot.kernel or "",
        ramdisk=guest.boot.ramdisk or "",
        arguments=guest.boot.arguments,
        priority=guest.priority,
        restart=guest.restart,
        options=tuple(sorted(guest.options.items())),
    )
    try:
        to_tags(definition)
    except ValueError as e:
        raise GuestError(f"{guest.name}: {e}") from e
    install = guest.install
    return Wish(
        definition,
        guest.disk,
        kind=guest.type,
        tarball=(install.tarball or "") if install else "",
        image=(install.image or "") if install else "",
        suite=(install.suite or "") if install else "",
        mirror=(install.mirror or "") if install else "",
    )


def from_arguments(arguments: argparse.Namespace, places: Places, here: str) -> Wish:
    """What was typed, as if it had stood in the config. Raises GuestError with all that is wrong with it."""
    cluster = load(places.config).cluster
    options = {}
    for option in arguments.option:
        key, equals, value = option.partition("=")
        if not equals:
            raise GuestError(f"--option {option} is no KEY=VALUE")
        options[key] = value
    raw: dict[str, Any] = {
        "name": arguments.name,
        "home": arguments.home or here,
        "memory": arguments.memory,
        "vcpus": arguments.vcpus,
        "disk": arguments.disk,
        "type": arguments.kind,
        "network": _given(
            bridge=arguments.bridge, mac=arguments.mac, address=arguments.address, gateway=arguments.gateway
        ),
        "boot": _given(
            by=arguments.boot, kernel=arguments.kernel, ramdisk=arguments.ramdisk, arguments=arguments.arguments
        ),
        "priority": arguments.priority,
        "restart": arguments.restart,
        "options": options,
    }
    if install := _given(
        tarball=arguments.tarball, image=arguments.image, suite=arguments.suite, mirror=arguments.mirror
    ):
        raw["install"] = install
    try:
        guest = Guest.model_validate(raw)
    except ValidationError as e:
        problems = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in e.errors()]
        raise GuestError("; ".join(problems), hint="see `xenpair guest create --help`") from None
    with_it = cluster.model_copy(update={"guests": (guest,)})
    if found := [problem for problem in guest_checks.run(with_it) if problem.severity == "error"]:
        raise GuestError("; ".join(problem.problem for problem in found), hint=found[0].remedy)
    wish = from_config(with_it, guest)
    if arguments.stopped:
        wish = replace(wish, definition=replace(wish.definition, wanted="stopped"))
    return wish


def _given(**values: str | None) -> dict[str, str]:
    return {key: value for key, value in values.items() if value}
