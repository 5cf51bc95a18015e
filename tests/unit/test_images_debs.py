"""Packages from elsewhere: whatever is wrong with them is said before anything is built."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.debian import DebFile, Debs, Repository
from images import debs
from images.debs import Deb, inspect
from images.errors import BuildError, MirrorError
from images.openpgp import file_name, primary_keys
from images.supply import Supply
from tests.unit.deb_rig import HELLO, Signer, make_deb, make_dkms_deb, make_repository

pytestmark = pytest.mark.usefixtures("real_programs")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("debs")


@pytest.fixture(scope="module")
def signer(place: Path) -> Iterator[Signer]:
    made = Signer(place / "vendor")
    yield made
    made.close()


@pytest.fixture(scope="module")
def stranger(place: Path) -> Iterator[Signer]:
    made = Signer(place / "stranger")
    yield made
    made.close()


@pytest.fixture(scope="module")
def tool(place: Path) -> Path:
    return make_deb(place, "tool", version="1:2.0-3", architecture="amd64")


def repository(uri: str, signer: Signer, **keys: object) -> debs.Request:
    wanted = {"uri": uri, "suite": "trixie", "key": str(signer.public), "fingerprint": signer.fingerprint, **keys}
    return debs.Request.of(Debs(repositories=(Repository.model_validate(wanted),)))


def test_a_deb_says_what_it_is_and_whether_it_brings_a_kernel_module(place: Path, tool: Path) -> None:
    assert inspect(tool) == Deb("tool", "1:2.0-3", dkms=False)
    assert inspect(make_dkms_deb(place, "hello", HELLO)) == Deb("hello-dkms", "1.0-1", dkms=True)


def test_a_deb_for_other_machines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"tool_1.0-1_arm64.deb is built for arm64, and the dom0 is amd64"):
        inspect(make_deb(tmp_path, "tool", architecture="arm64"))


@pytest.mark.parametrize("left", [0, 100, -10])
def test_a_truncated_deb_is_refused(tool: Path, tmp_path: Path, left: int) -> None:
    cut = tmp_path / "cut.deb"
    cut.write_bytes(tool.read_bytes()[:left])
    with pytest.raises(BuildError, match=r"cut.deb is not a whole Debian package: .+"):
        inspect(cut)


def test_a_file_has_the_sha256_that_the_config_says(tool: Path) -> None:
    found = hashlib.sha256(tool.read_bytes()).hexdigest()
    assert debs.Request.of(Debs(files=(DebFile(path=str(tool), sha256=found),))).sums == {str(tool): found}
    with pytest.raises(BuildError, match=rf"{tool.name} has the sha256 {found}, and the config says 0000"):
        debs.Request.of(Debs(files=(DebFile(path=str(tool), sha256="0" * 64),)))


def test_the_key_of_the_layer_follows_the_content_and_not_the_place(tool: Path, tmp_path: Path) -> None:
    def key(path: Path) -> str:
        return debs.Request.of(Debs(files=(DebFile(path=str(path)),))).key

    (copy := tmp_path / tool.name).write_bytes(tool.read_bytes())
    assert key(copy) == key(tool)
    copy.write_bytes(b"other")
    assert key(copy) != key(tool)


def test_a_signed_repository_verifies(place: Path, tool: Path, signer: Signer, tmp_path: Path) -> None:
    request = repository(make_repository(place / "good", [tool], signer), signer)
    request.verify(tmp_path)
    (line,) = request.lines(tmp_path)
    assert line == f"deb [signed-by={tmp_path}/{signer.fingerprint}.asc] copy:{place}/good trixie main"


def test_an_unsigned_repository_is_refused(place: Path, tool: Path, signer: Signer, tmp_path: Path) -> None:
    request = repository(make_repository(place / "unsigned", [tool], None), signer)
    with pytest.raises(MirrorError, match=rf"file:{place}/unsigned trixie is not signed"):
        request.verify(tmp_path)


def test_a_repository_that_another_key_has_signed_is_refused(
    place: Path, tool: Path, signer: Signer, stranger: Signer, tmp_path: Path
) -> None:
    request = repository(make_repository(place / "foreign", [tool], stranger), signer)
    with pytest.raises(MirrorError, match="is signed by another key than the config's"):
        request.verify(tmp_path)


def test_a_repository_that_was_changed_on_the_way_is_refused(
    place: Path, tool: Path, signer: Signer, tmp_path: Path
) -> None:
    request = repository(make_repository(place / "changed", [tool], signer), signer)
    signed = place / "changed/dists/trixie/InRelease"
    signed.write_text(signed.read_text().replace("Vendor", "Vandal"))
    with pytest.raises(MirrorError, match="has a signature that is not of its content"):
        request.verify(tmp_path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"components": ("drbd-9",)}, "has no component drbd-9"), ({"suite": "sid"}, "does not have a Release file")],
)
def test_a_repository_without_what_is_asked_for_is_refused(
    signer: Signer, tmp_path: Path, keys: dict[str, object], message: str
) -> None:
    request = repository(make_repository(tmp_path / "good", [], signer), signer, **keys)
    with pytest.raises(MirrorError, match=message):
        request.verify(tmp_path)


def test_a_key_file_holds_the_one_key_that_the_config_names(signer: Signer, stranger: Signer, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=rf"holds the key {signer.fingerprint}, and the config says {'A' * 40}"):
        repository("https://packages.example.org/debian", signer, fingerprint="A" * 40)
    both = tmp_path / "both.asc"
    both.write_bytes(signer.public.read_bytes() + stranger.public.read_bytes())
    with pytest.raises(BuildError, match=f"{signer.fingerprint} and {stranger.fingerprint}"):
        repository("https://packages.example.org/debian", signer, key=str(both))
    both.write_text("no key at all")
    with pytest.raises(BuildError, match="holds no OpenPGP key"):
        repository("https://packages.example.org/debian", signer, key=str(both))


def test_the_nodes_know_a_repository_that_they_can_reach_by_its_key(signer: Signer) -> None:
    request = repository("https://packages.example.org/debian", signer)
    there = f"etc/apt/keyrings/{signer.fingerprint}.asc"
    assert request.key_files()[there].data == signer.public.read_bytes()
    assert [source.signed_by for source in request.kept()] == [f"/{there}"]
    assert repository("file:///srv/debian", signer).kept() == ()
    assert repository("file:///srv/debian", signer).key_files() == {}


def test_only_primary_keys_count(captured: Path) -> None:
    colons = (captured / "gpg-show-keys.txt").read_text()
    assert primary_keys(colons) == [
        "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8",
        "41587F7DB8C774BCCF131416762F67A0B2C39DE4",
    ]


def test_apt_tells_armored_keys_by_their_names() -> None:
    assert file_name("key", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n") == "key.asc"
    assert file_name("key", b"\x98\x33\x04") == "key.gpg"


def test_a_file_is_installed_in_its_very_version_and_a_kernel_module_apart() -> None:
    supply = Supply(files=(Deb("drbd-utils", "9.31.0-1", dkms=False), Deb("drbd", "9.2.14-1", dkms=True)))
    assert supply.divide(["bash", "drbd-utils", "zfs-dkms", "dkms"]) == (
        ["bash", "dkms", "drbd-utils=9.31.0-1"],
        ["drbd=9.2.14-1", "zfs-dkms"],
    )
