"""Never an image out of a stale cache, and never a layer for nothing: one input at a time is changed, each in turn
drawn by hypothesis, and just those layers get another key which that input goes into.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.debian import DebFile, Debs
from config.door import Output
from config.guest import Guest
from config.model import Backport, Cluster, Heartbeat
from images import backport, deb, disklayer, installed, installer, packages, rootfs
from images.disklayer import Inputs
from images.files import File
from images.jobs import REPOSITORY
from images.lock import Lock, Locked

BASE, PACKAGE, DISK, INSTALLER, CODE = "root file system", "package", "disk", "installer", "code of the installer"
BELOW_THE_DISK = {BASE, DISK, INSTALLER, CODE}
SIGNERS = 'xenpair namespaces="xenpair-image" ssh-ed25519 AAAA\n'
FEW = settings(max_examples=20)
NAMES = st.from_regex(r"[a-z][a-z0-9]{3,12}", fullmatch=True)


@pytest.fixture(autouse=True, scope="module")
def _no_programs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backport, "run", lambda _: Output(0, "mmdebstrap 1.3.5\n", ""))
        patch.setattr(deb, "commit_time", lambda _: 1767323045)
        yield


@pytest.fixture(scope="module")
def pair(cluster: Cluster) -> Cluster:
    """The example pair with mirrors of its own, and a package that is rebuilt."""
    values = {"mirror": "http://mirror.example/debian", "snapshot_mirror": "http://past.example/debian"}
    return changed(cluster, "debian", **values, packages=(), backports=(Backport(package="drbd-utils"),))


@pytest.fixture(scope="module")
def before(pair: Cluster) -> dict[str, str]:
    """Its keys."""
    return keys(pair)


def changed(cluster: Cluster, section: str, **values: object) -> Cluster:
    return cluster.model_copy(update={section: getattr(cluster, section).model_copy(update=values)})


def keys(cluster: Cluster, lock: Lock | None = None, signers: str = SIGNERS) -> dict[str, str]:
    inputs = Inputs.of(cluster, lock)
    request = installer.Request.of(inputs.rootfs.key, signers)
    found = (inputs.rootfs.key, inputs.package.version, inputs.key, request.layer_key, request.key)
    return dict(zip((BASE, PACKAGE, DISK, INSTALLER, CODE), found, strict=True))


def others(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The layers whose keys are no longer the same."""
    return {layer for layer, key in before.items() if after[layer] != key}


def locked(*wanted: str, **versions: str) -> Lock:
    """A lock of all that the image asks for."""
    names = {*packages.PACKAGES, *wanted}
    rows = {name: Locked(version=versions.get(name, "1"), sha256="1" * 64) for name in names}
    return Lock(suite="trixie", date=1700000000, packages=rows)


@FEW
@given(name=NAMES)
def test_one_package_more_reaches_every_layer_above_the_packages(
    pair: Cluster, before: dict[str, str], name: str
) -> None:
    more = changed(pair, "debian", packages=(name,))
    if name not in packages.PACKAGES:
        assert others(before, keys(more)) == BELOW_THE_DISK


@pytest.mark.parametrize(
    "values",
    [
        {"mirror": "http://other.example/debian"},
        {"snapshot": "20260102T030405Z"},
        {"backports": ()},
        {"backports": (Backport(package="drbd-utils", suite="forky"),)},
        {"backports": (Backport(package="drbd-utils", tests=False),)},
        {"debs": Debs(files=(DebFile(path=str(REPOSITORY / "README.md")),))},
    ],
)
def test_another_source_of_packages_reaches_every_layer_above_them(
    pair: Cluster, before: dict[str, str], values: dict[str, object]
) -> None:
    assert others(before, keys(changed(pair, "debian", **values))) == BELOW_THE_DISK


def test_a_mirror_that_only_upgrades_come_from_reaches_the_disk_alone(pair: Cluster) -> None:
    past = changed(pair, "debian", snapshot="20260102T030405Z")
    assert others(keys(past), keys(changed(past, "debian", mirror="http://other.example/debian"))) == {DISK}


@FEW
@given(memory=st.integers(1, 1 << 20))
def test_dom0s_memory_reaches_the_disk_alone(pair: Cluster, before: dict[str, str], memory: int) -> None:
    larger = changed(pair, "dom0", memory=pair.dom0.memory + memory * (1 << 20))
    assert others(before, keys(larger)) == {DISK}


@FEW
@given(data=st.data())
def test_what_only_the_seed_medium_carries_reaches_no_layer(
    pair: Cluster, before: dict[str, str], data: st.DataObject
) -> None:
    fields = sorted(Heartbeat.model_fields)
    field, value = data.draw(st.sampled_from(fields)), data.draw(st.integers(1, 60000))
    guests = tuple(
        Guest(name=name, memory=1 << 28, vcpus=1, disk=1 << 30, home="xen1") for name in data.draw(st.lists(NAMES))
    )
    other = changed(pair, "heartbeat", **{field: value})
    other = changed(other, "network", dns=tuple(data.draw(st.lists(st.ip_addresses(v=4), max_size=3))))
    other = changed(other, "cluster", name=data.draw(NAMES)).model_copy(update={"guests": guests})
    assert others(before, keys(other)) == set()


@FEW
@given(data=st.data())
def test_a_lock_reaches_what_its_packages_do_and_each_word_of_it_counts(
    pair: Cluster, before: dict[str, str], data: st.DataObject
) -> None:
    lock = locked()
    name = data.draw(st.sampled_from(sorted(lock.packages)))
    entry = lock.packages[name]
    newer = data.draw(
        st.sampled_from(
            [
                lock.model_copy(update={"packages": {**lock.packages, name: Locked(version="2", sha256=entry.sha256)}}),
                lock.model_copy(update={"packages": {**lock.packages, name: Locked(version="1", sha256="2" * 64)}}),
                lock.model_copy(update={"date": lock.date + 1}),
            ]
        )
    )
    with_lock = keys(pair, lock)
    assert others(before, with_lock) == BELOW_THE_DISK
    assert others(with_lock, keys(pair, locked())) == set()
    assert others(with_lock, keys(pair, newer)) == BELOW_THE_DISK


def test_another_signing_key_reaches_the_installers_code_alone(pair: Cluster, before: dict[str, str]) -> None:
    assert others(before, keys(pair, signers=SIGNERS.replace("AAAA", "BBBB"))) == {CODE}


def reached(name: str) -> set[str]:
    """The layers that a file of ours goes into, by its path in the repository. What boots the medium is no layer."""
    top, _, below = name.partition("/")
    if top in ("config", "firstboot"):
        return {PACKAGE, DISK, CODE} if name.endswith(".py") else set()
    if top == "images":
        return {
            layer
            for code, layers in (
                ((*rootfs._CHOICE, *rootfs._CODE), BELOW_THE_DISK),
                ((*installed._CODE, *disklayer._CODE), {DISK}),
                (installer._CODE, {INSTALLER, CODE}),
                (("deb.py", "files.py"), {PACKAGE, DISK}),
                (("backport.py", "debs.py", "openpgp.py", "pool.py", "sources.py"), BELOW_THE_DISK),
            )
            if below in code
            for layer in layers
        }
    kind, _, path = below.partition("/")
    if kind == "image" and rootfs.is_early(path):
        return BELOW_THE_DISK
    if below == "node/etc/lvm/lvm.conf":
        return BELOW_THE_DISK | {PACKAGE}
    if kind == "installer":
        return {CODE} if "/" in path else set()
    return {"image": {DISK}, "preseed": set[str]()}.get(kind, {PACKAGE, DISK})


OURS = sorted(
    str(path.relative_to(REPOSITORY))
    for top in ("config", "firstboot", "images", "templates")
    for path in (REPOSITORY / top).rglob("*")
    if path.is_file() and not {"__pycache__", "secrets", "build"} & set(path.parts)
)


@settings(max_examples=60)
@given(name=st.sampled_from(OURS), executable=st.booleans())
def test_a_changed_file_reaches_the_layers_that_it_goes_into_and_no_other_one(
    pair: Cluster, before: dict[str, str], name: str, executable: bool
) -> None:
    read = File.read

    def edited(path: Path) -> File:
        file = read(path)
        if path != REPOSITORY / name:
            return file
        return File(file.data, not file.executable) if executable else File(file.data + b"\n", file.executable)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(File, "read", edited)
        assert others(before, keys(pair)) == reached(name)


@pytest.mark.parametrize("name", ["DEBCONF", "DPKG_OPTIONS", "FIRMWARE", "PACKAGES"])
def test_what_is_asked_of_debian_reaches_every_layer_above_the_packages(
    pair: Cluster, before: dict[str, str], name: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packages, name, getattr(packages, name)[:-1])
        assert others(before, keys(pair)) == BELOW_THE_DISK
