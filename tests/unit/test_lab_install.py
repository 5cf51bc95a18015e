"""What a lab is installed from, and the server that installs it."""

import json
import stat
from pathlib import Path

import pytest

from config.door import run
from config.loader import load
from config.payload import IMAGE, INDEX
from images.disklayer import LOADERS, PAYLOAD
from images.imagefile import info
from images.manifest import NAME, Artifact, Manifest, measure
from images.netboot import IPXE
from lab import disks, machine, netserver, segments
from lab.errors import LabError, StartError
from lab.origin import CONFIG, SERVED, Origin
from lab.pair import Lab
from lab.process import Process

EXAMPLE = Path(__file__).parents[2] / "config" / "cluster.yaml"
SECRETS = "not: read here\n"


def build(out: Path, image: bytes = b"image", *, ipxe: bool = True) -> Path:
    """What a build leaves, as far as it is looked at."""
    names = [f"{PAYLOAD}/{IMAGE}", f"{PAYLOAD}/{INDEX}", f"{LOADERS}/hybrid", *(IPXE if ipxe else ())]
    artifacts: dict[str, Artifact] = {}
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(image)
        artifacts[name] = measure(out / name)
    made = {"suite": "trixie", "key": "k", "config_hash": "c", "root_uuid": "u", "kernel": "6.12"}
    manifest = Manifest.model_validate({**made, "warnings": (), "sources": (), "artifacts": artifacts, "packages": {}})
    (out / NAME).write_text(manifest.to_json())
    return out


@pytest.fixture
def lab(real_programs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(disks, "check_tools", lambda *_: None)
    monkeypatch.setattr("lab.origin.os.geteuid", lambda: 0)
    monkeypatch.setattr("lab.bmc.passwords", lambda *_: {})
    monkeypatch.setattr("lab.bmc.check", lambda *_: None)
    monkeypatch.setattr("lab.bmc.adopt", lambda *_: None)
    monkeypatch.setattr("lab.pair.secrets.parse", lambda *_: None)
    origin, cluster = Origin.read("pxe", build(tmp_path / "out")), load(EXAMPLE).cluster
    return Lab.create(tmp_path / "lab", cluster, origin, config_file=EXAMPLE, secrets_yaml=SECRETS)


@pytest.mark.parametrize("ipxe", [True, False])
def test_a_build_without_an_installer_is_refused_and_told_how_to_get_one(tmp_path: Path, ipxe: bool) -> None:
    with pytest.raises(LabError, match=r"holds no installer(?s:.*)--formats iso,netboot"):
        Origin.read("usb", tmp_path)
    build(tmp_path, ipxe=ipxe)
    assert Origin.read("cd", tmp_path).via == "cd"
    if not ipxe:
        with pytest.raises(LabError, match="holds no installer"):
            Origin.read("pxe", tmp_path)


def test_an_unknown_way_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"'floppy'(?s:.*)usb, cd, pxe"):
        Origin.read("floppy", build(tmp_path))


def test_another_image_is_another_origin(tmp_path: Path) -> None:
    first, second = (Origin.read("usb", build(tmp_path / name, name.encode())) for name in ("a", "b"))
    assert first.key == Origin.read("pxe", tmp_path / "a").key != second.key


def test_the_lab_keeps_what_the_server_needs_and_its_secrets_are_for_nobody_else(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "out" / PAYLOAD / IMAGE).unlink()
    assert (lab.directory / PAYLOAD / IMAGE).read_bytes() == b"image"
    served = lab.directory / SERVED
    assert (served / CONFIG).read_bytes() == EXAMPLE.read_bytes()
    (kept,) = (served / "secrets").iterdir()
    assert kept.read_text() == SECRETS
    assert [stat.S_IMODE(path.stat().st_mode) for path in (served, kept)] == [0o700, 0o600]


def test_the_lab_remembers_how_it_is_installed_and_plugs_no_seed_medium_in(lab: Lab, tmp_path: Path) -> None:
    state = Lab(lab.directory).state()
    assert (state.via, state.seeded) == ("pxe", False)
    origin = Origin.read("pxe", tmp_path / "out")
    assert Lab.prepare(lab.directory, EXAMPLE, origin).directory == lab.directory
    changed = Origin.read("pxe", build(tmp_path / "out", b"new"))
    for other in (changed, Origin("usb", origin.out, origin.made)):
        with pytest.raises(LabError, match="was made from another image"):
            Lab.prepare(lab.directory, EXAMPLE, other)


def test_empty_disks_have_nothing_below_them(lab: Lab) -> None:
    node = lab.state().cluster.nodes[0]
    disks.make(lab.directory, lab.state().cluster, node, "bios", empty=True)
    file = lab.directory / machine.disk_file(node.name, "system")
    assert info(file).virtual_size == machine.EMPTY_SYSTEM_SIZE
    assert "backing-filename" not in json.loads(run(["qemu-img", "info", "--output=json", file]).stdout)


def test_each_lab_has_a_namespace_of_its_own(tmp_path: Path) -> None:
    names = {netserver.namespace(tmp_path / name) for name in ("a", "b")}
    assert len(names) == 2
    assert all(len(name) < 20 for name in names)


def test_the_server_and_its_link_run_in_the_namespace(tmp_path: Path) -> None:
    name = netserver.namespace(tmp_path)
    uplink, server = netserver.uplink_argv(name), netserver.server_argv(name, tmp_path, load(EXAMPLE).cluster)
    assert uplink[:4] == server[:4] == ["ip", "netns", "exec", name]
    assert f"tap,id=tap,ifname={netserver.CARD},script=no,downscript=no" in uplink
    assert server[server.index("--interface") + 1] == netserver.CARD
    assert server[server.index("--page") + 1] == "192.168.132.252:8088"
    assert server[server.index("--authorized-keys") + 1] == str(tmp_path / "id_ed25519.pub")


def test_a_network_installation_takes_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.origin.os.geteuid", lambda: 1000)
    out = build(tmp_path)
    Origin.read("usb", out).check()
    with pytest.raises(LabError, match="takes root"):
        Origin.read("pxe", out).check()


def test_the_end_of_the_install_server_ends_the_wait(lab: Lab, tmp_path: Path) -> None:
    runs = Process.spawn(["sleep", "60"], cwd=tmp_path, log=tmp_path / "log")
    try:
        state = lab.state().model_copy(update=dict.fromkeys(("switch", "gateway", "uplink", "server"), runs))
        segments.guard(lab.directory, state)
        (lab.directory / "server.err").write_text("xenpair: dnsmasq has ended by itself\n")
        with pytest.raises(StartError, match=r"the lab's server ended(?s:.*)dnsmasq has ended"):
            segments.guard(lab.directory, state.model_copy(update={"server": None}))
    finally:
        runs.kill()
