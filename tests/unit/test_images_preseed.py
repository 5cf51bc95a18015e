"""The answers for Debian's installer: known questions, no secret, and scripts that do what they say."""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from config import secrets
from config.door import run, sha256_of
from config.loader import Loaded, load
from config.model import Cluster, Debian
from images import packages, sources
from images.cache import Cache
from images.preseed import Served as Pinned
from images.preseed import disk_script, late_script, pack, preseed, write_preseed
from images.progress import Progress
from images.sources import Mirror, Offer, Source
from tests.unit.conftest import CAPTURED, EXAMPLE
from tests.unit.preseed_rig import Installer, texts

MIRROR = Mirror("http://mirror.example/debian", "http://mirror.example/debian-security")
OFFER = Offer((Source(MIRROR.main, ("trixie", "trixie-updates"), ("main",)),), ("firmware-bnx2",), (), 0)
XEN1 = "52:54:00:10:32:01"
Changed = Callable[..., Cluster]


@pytest.fixture
def cluster(cluster: Cluster) -> Cluster:
    """The example pair, without packages from elsewhere."""
    return cluster.model_copy(update={"debian": Debian()})


@pytest.fixture
def changed(cluster: Cluster) -> Changed:
    """The example pair with another system rule, or other matches."""

    def change(system: dict[str, Any] | None = None, matches: list[dict[str, str]] | None = None) -> Cluster:
        raw = cluster.model_dump(mode="json")
        raw["storage"]["system"] = system or raw["storage"]["system"]
        for node, match in zip(raw["nodes"], matches or [], strict=False):
            node["match"] = match
        return Cluster.model_validate(texts(raw))

    return change


@pytest.fixture
def written(real_programs: None, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """out/preseed, as for a mirror that has some of the firmware."""
    monkeypatch.setattr(sources, "resolve", lambda *_: MIRROR)
    monkeypatch.setattr(sources, "survey", lambda *_: OFFER)
    deb = tmp_path / "xenpair-firstboot_1_all.deb"
    deb.write_bytes(b"package")
    progress = Progress(Console(file=io.StringIO()))
    files = write_preseed(
        Loaded(cluster, (), EXAMPLE),
        deb,
        tmp_path / "out",
        cache=Cache(tmp_path / "cache"),
        progress=progress,
        authorized_keys="ssh-ed25519 AAAA me\n",
    )
    assert files[0] == tmp_path / "out/preseed/preseed.cfg"
    return files[0].parent


def answers(written: Path) -> str:
    """All that is answered, by the file and by the script that adds to it."""
    added = re.findall(r"^d-i .*$", (written / "system-disk.sh").read_text(), re.MULTILINE)
    return "\n".join([(written / "preseed.cfg").read_text(), *added, ""])


def questions(text: str) -> set[str]:
    """What the installer itself is asked."""
    return set(re.findall(r"^d-i\s+(\S+)", text.replace("\\\n", ""), re.MULTILINE))


def known_questions() -> set[str]:
    """Those that Debian's installer has."""
    lines = (CAPTURED / "d-i-templates.txt").read_text().splitlines()
    return {line for line in lines if not line.startswith("#")}


def test_no_question_is_misspelt(written: Path) -> None:
    asked = questions(answers(written))
    assert len(asked) > 40
    assert not asked - known_questions()


def test_a_misspelt_question_would_be_found() -> None:
    assert questions("d-i pkgsel/inculde string x\n") - known_questions() == {"pkgsel/inculde"}


def test_debconf_accepts_the_answers(real_programs: None, written: Path, tmp_path: Path) -> None:
    if shutil.which("debconf-set-selections") is None:
        pytest.skip("needs debconf")
    (tmp_path / "answers").write_text(answers(written))
    done = run(["debconf-set-selections", "--checkonly", tmp_path / "answers"])
    assert done.stderr == ""


def test_a_mirror_by_https_is_asked_by_https(cluster: Cluster) -> None:
    script = Pinned("x.sh", "0" * 64)
    mirror = Mirror("https://mirror.example:8443/pub/debian", "")
    text = preseed(cluster, mirror, OFFER, script, script)
    assert "d-i mirror/protocol string https\n" in text
    assert "d-i mirror/https/hostname string mirror.example:8443\n" in text
    assert "d-i mirror/https/directory string /pub/debian\n" in text


def test_the_same_packages_are_installed_as_in_the_image(written: Path) -> None:
    match = re.search(r"^d-i pkgsel/include string (.*)$", answers(written), re.MULTILINE)
    assert match is not None
    assert set(match[1].split()) == {*packages.PACKAGES, "firmware-bnx2"}


def test_only_the_script_that_finds_the_disk_allows_to_partition(written: Path) -> None:
    asked = questions((written / "preseed.cfg").read_text())
    assert not asked & {"partman/confirm", "partman/confirm_nooverwrite", "partman-auto/method", "partman-auto/disk"}


def test_no_password_opens_an_account_and_root_is_the_only_one(written: Path) -> None:
    text = answers(written)
    assert "passwd/root-password-crypted password *\n" in text
    assert "passwd/make-user boolean false\n" in text
    assert "passwd/root-password " not in text


def test_nothing_that_is_served_holds_a_secret(real_programs: None, written: Path, tmp_path: Path) -> None:
    cluster = load(EXAMPLE).cluster
    own = secrets.ensure(cluster, tmp_path / "secrets")
    hidden = [own.authkeys, own.drbd, own.join, *own.bmc.values()]
    with tarfile.open(written / "files.tar.gz") as tar:
        inside = b"".join(tar.extractfile(entry).read() for entry in tar if entry.isfile())  # type: ignore[union-attr]
    served = inside + b"".join(path.read_bytes() for path in written.rglob("*") if path.is_file())
    assert not [secret for secret in hidden if secret.encode() in served]
    assert b"secrets.yaml" not in served


def test_what_the_answers_fetch_is_pinned_by_its_sum(written: Path) -> None:
    text, late = (written / "preseed.cfg").read_text(), (written / "late.sh").read_text()
    for name in ("system-disk.sh", "late.sh"):
        assert f'preseed_fetch {name} /tmp/{name} && echo "{sha256_of(written / name)}  /tmp/{name}"' in text
    for name in ("files.tar.gz", "pool/xenpair-firstboot_1_all.deb", "pool/Packages"):
        assert f"fetch {name} {sha256_of(written / name)} " in late


def test_config_and_keys_go_to_their_place_for_root_alone(written: Path) -> None:
    with tarfile.open(written / "files.tar.gz") as tar:
        modes = {entry.name: entry.mode for entry in tar}
        config, keys = (tar.extractfile(f"etc/xenpair/{name}") for name in ("cluster.yaml", "authorized_keys"))
        assert config is not None
        assert keys is not None
        assert config.read() == EXAMPLE.read_bytes()
        assert keys.read() == b"ssh-ed25519 AAAA me\n"
    assert modes["etc/xenpair/cluster.yaml"] == modes["etc/xenpair/authorized_keys"] == 0o600
    assert modes["etc/initramfs-tools/hooks/xenpair"] == 0o755
    assert "etc/default/grub.d/00-xenpair.cfg" in modes


def test_what_tells_of_the_images_own_disk_is_left_out(written: Path) -> None:
    with tarfile.open(written / "files.tar.gz") as tar:
        assert not {"etc/fstab", "boot/grub/grub.cfg"} & {entry.name for entry in tar}


def test_the_same_files_make_the_same_bits() -> None:
    assert pack({}, {"a": b"1", "b": b"2"}) == pack({}, {"b": b"2", "a": b"1"})


def test_a_second_run_replaces_the_whole_directory(written: Path, cluster: Cluster, tmp_path: Path) -> None:
    (written / "stale").write_text("x")
    deb = tmp_path / "xenpair-firstboot_2_all.deb"
    deb.write_bytes(b"newer")
    progress = Progress(Console(file=io.StringIO()))
    cache = Cache(tmp_path / "cache")
    write_preseed(Loaded(cluster, (), EXAMPLE), deb, written.parent, cache=cache, progress=progress)
    assert not (written / "stale").exists()
    assert [path.name for path in (written / "pool").glob("*.deb")] == [deb.name]
    assert [path.name for path in written.parent.iterdir()] == ["preseed"]


@pytest.fixture
def installer(real_programs: None, tmp_path: Path) -> Installer:
    """On the machine of the example's first node."""
    made = Installer.at(tmp_path / "installer")
    made.card(XEN1)
    return made


def search(installer: Installer, cluster: Cluster) -> int:
    return installer.run(disk_script(cluster, f"{installer.root}/"), "system-disk.sh")


def answered(installer: Installer) -> str:
    """The disk that was answered."""
    match = re.search(r"^d-i partman-auto/disk string (\S+)$", installer.read("answers"), re.MULTILINE)
    return match[1].rpartition("/")[2] if match else ""


def refusal(installer: Installer, cluster: Cluster) -> str:
    assert search(installer, cluster) == 7
    assert not installer.read("answers")
    return installer.read("shown")


class TestTheSystemDisk:
    """Which disk Debian's installer may take."""

    def test_the_one_that_the_rule_means_is_taken_and_the_backing_disk_is_not(
        self, installer: Installer, cluster: Cluster
    ) -> None:
        installer.disk("vda", udev={"ID_SERIAL": "data-xen1"})
        installer.disk("vdb", udev={"ID_SERIAL": "system-xen1"})
        assert search(installer, cluster) == 0
        assert answered(installer) == "vdb"
        assert installer.read("answers").count("/vdb") == 2
        assert "vda" not in installer.read("answers")

    @pytest.mark.parametrize(
        ("rule", "udev"),
        [
            ({"serial": "S3?-[0-9]*"}, {"SCSI_IDENT_SERIAL": "S3X-12", "ID_SERIAL": "else"}),
            ({"serial": "A 'B' $C"}, {"ID_SERIAL_SHORT": "A 'B' $C", "ID_SERIAL": "else"}),
            ({"model": "INTEL SSD*"}, {"ID_MODEL_ENC": "INTEL\\x20SSDSC2KB48\\x20\\x20", "ID_MODEL": "INTEL_SSD"}),
            ({"wwn": "0x5000c500a1b2c3d4"}, {"ID_WWN_WITH_EXTENSION": "0x5000c500a1b2c3d4", "ID_WWN": "0x1"}),
            ({"serial": "a\\b"}, {"ID_SERIAL": "a\\b"}),
        ],
    )
    def test_its_criteria_are_read_as_lsblk_shows_them(
        self, installer: Installer, changed: Changed, rule: dict[str, Any], udev: dict[str, str]
    ) -> None:
        installer.disk("sda", udev={"ID_SERIAL": "other", "ID_MODEL": "other", "ID_WWN": "0x2"})
        installer.disk("sdb", udev=udev)
        assert search(installer, changed(rule)) == 0
        assert answered(installer) == "sdb"

    def test_sizes_decide_too(self, installer: Installer, changed: Changed) -> None:
        installer.disk("sda", size=6 << 30)
        installer.disk("sdb", size=5 << 30)
        assert search(installer, changed({"min_size": "4G", "max_size": "5G"})) == 0
        assert answered(installer) == "sdb"

    def test_two_that_fit_are_refused_and_shown(self, installer: Installer, cluster: Cluster) -> None:
        for name in ("vda", "vdb"):
            installer.disk(name, udev={"ID_SERIAL": f"system-{name}"})
        text = refusal(installer, cluster)
        assert "the system rule of xen1 fits 2 disks" in text
        assert "vda (4096 MiB, serial system-vda" in text
        assert "vdb (4096 MiB, serial system-vdb" in text

    def test_none_that_fits_is_refused(self, installer: Installer, cluster: Cluster) -> None:
        installer.disk("vda", udev={"ID_SERIAL": "data-xen1"})
        assert "fits 0 disks" in refusal(installer, cluster)

    def test_no_disk_at_all_is_said_to_be_so(self, installer: Installer, cluster: Cluster) -> None:
        assert "none at all" in refusal(installer, cluster)

    @pytest.mark.parametrize("at", [0, 510, (8 << 20) - 1, (4096 << 20) - 1])
    def test_one_with_data_at_either_end_is_refused(self, installer: Installer, cluster: Cluster, at: int) -> None:
        with installer.disk("vda", udev={"ID_SERIAL": "system-xen1"}).open("r+b") as f:
            f.seek(at)
            f.write(b"\x55")
        text = refusal(installer, cluster)
        assert "is not blank" in text
        assert "blkdiscard --zeroout" in text

    def test_one_that_is_too_small_is_refused(self, installer: Installer, cluster: Cluster) -> None:
        installer.disk("vda", size=2 << 30, udev={"ID_SERIAL": "system-xen1"})
        assert "too small: it needs 4096 MiB" in refusal(installer, cluster)

    def test_a_removable_one_is_refused(self, installer: Installer, cluster: Cluster) -> None:
        installer.disk("sda", removable=True, udev={"ID_SERIAL": "system-xen1"})
        assert "removable or read-only" in refusal(installer, cluster)

    @pytest.mark.usefixtures("real_programs")
    def test_a_machine_that_the_config_does_not_know_is_told_what_was_seen(
        self, tmp_path: Path, cluster: Cluster
    ) -> None:
        stranger = Installer.at(tmp_path / "stranger")
        stranger.card("aa:bb:cc:dd:ee:ff")
        (stranger.root / "sys/class/dmi/id/product_serial").write_text("XYZ 1\n")
        stranger.disk("vda", udev={"ID_SERIAL": "system-xen1"})
        text = refusal(stranger, cluster)
        assert "no node of the config" in text
        assert "aa:bb:cc:dd:ee:ff" in text
        assert "DMI serial: XYZ 1" in text

    def test_a_machine_that_matches_both_nodes_is_refused(self, installer: Installer, cluster: Cluster) -> None:
        installer.card("52:54:00:10:32:02")
        installer.disk("vda", udev={"ID_SERIAL": "system-xen1"})
        assert "this machine matches xen1 xen2" in refusal(installer, cluster)

    def test_a_machine_is_known_by_serial_and_uuid_whatever_their_case(
        self, installer: Installer, changed: Changed
    ) -> None:
        uuid = "4c4c4544-0042-3510-8052-b4c04f564831"
        known = changed(matches=[{"serial": "S1", "uuid": uuid.upper()}, {"serial": "S2"}])
        (installer.root / "sys/class/dmi/id/product_serial").write_text("S1\n")
        (installer.root / "sys/class/dmi/id/product_uuid").write_text(f"{uuid}\n")
        installer.disk("vda", udev={"ID_SERIAL": "system-xen1"})
        assert search(installer, known) == 0
        assert answered(installer) == "vda"

    def test_enter_looks_again(self, installer: Installer, cluster: Cluster) -> None:
        disk = installer.disk("vda", udev={"ID_SERIAL": "system-xen1"})
        disk.write_bytes(b"old data")
        mended = f"rm {disk}; truncate -s {4096 << 20} {disk}"
        (installer.root / "on-enter").write_text(f"{mended}\n")
        assert search(installer, cluster) == 0
        assert "is not blank" in installer.read("shown")
        assert answered(installer) == "vda"

    def test_the_message_is_one_that_the_installer_can_show(self, installer: Installer, cluster: Cluster) -> None:
        refusal(installer, cluster)
        template = installer.read("template")
        assert template.startswith("Template: xenpair/stop\nType: error\nDescription: ")
        assert "${TEXT}" in template


class TestTheInstalledSystem:
    """What is done when Debian's installer is through."""

    @pytest.fixture
    def target(self, installer: Installer) -> Path:
        """What it has installed."""
        target = installer.root / "target"
        units = target / "usr/lib/systemd/system"
        for directory in (units, target / "etc/ssh", target / "etc/apt/sources.list.d", target / "boot/grub"):
            directory.mkdir(parents=True)
        (target / "etc/ssh/ssh_host_rsa_key").write_text("key")
        (target / "etc/apt/sources.list").write_text("deb ...")
        for unit in ("apt-daily.timer", "ssh.service"):
            (units / unit).write_text("")
        return target

    def complete(self, installer: Installer, written: Path, cluster: Cluster) -> int:
        shutil.copytree(written, installer.root / "served", dirs_exist_ok=True)
        pool = [Pinned(path.name, sha256_of(path)) for path in sorted((written / "pool").iterdir())]
        files = Pinned("files.tar.gz", sha256_of(written / "files.tar.gz"))
        script = late_script(cluster, "xenpair-firstboot_1_all.deb", files, pool, f"{installer.root}/")
        return installer.run(script, "late.sh")

    @pytest.fixture
    def xen_is_default(self, installer: Installer) -> None:
        grub = installer.root / "target/boot/grub/grub.cfg"
        line = 'set default="Debian GNU/Linux, with Xen hypervisor"'
        (installer.root / "on-in-target").write_text(f"[ \"$1\" != update-grub ] || echo '{line}' >{grub}\n")

    @pytest.mark.usefixtures("xen_is_default")
    def test_it_gets_our_package_our_files_and_our_units(
        self, installer: Installer, target: Path, written: Path, cluster: Cluster
    ) -> None:
        assert self.complete(installer, written, cluster) == 0
        done = installer.read("in-target").splitlines()
        assert any(line.endswith("install /var/tmp/xenpair/xenpair-firstboot_1_all.deb") for line in done)
        assert "systemctl mask xendomains.service" in done
        assert "systemctl disable apt-daily.timer" in done
        assert "systemctl disable dm-event.socket" not in done
        assert "systemctl enable ssh.service" in done
        assert done[-2:] == ["update-initramfs -u -k all", "update-grub"]
        assert (target / "etc/default/grub.d/00-xenpair.cfg").is_file()
        assert (target / "etc/xenpair/cluster.yaml").read_bytes() == EXAMPLE.read_bytes()
        assert (target / "etc/hostname").read_text() == "localhost\n"

    @pytest.mark.usefixtures("xen_is_default")
    def test_it_keeps_nothing_that_first_boot_makes_and_nothing_of_the_installation(
        self, installer: Installer, target: Path, written: Path, cluster: Cluster
    ) -> None:
        assert self.complete(installer, written, cluster) == 0
        assert not [*target.glob("etc/ssh/ssh_host_*"), *target.glob("var/tmp/*")]
        assert not (target / "etc/apt/sources.list").exists()
        assert [path.name for path in (target / "etc/apt/sources.list.d").iterdir()] == ["debian.sources"]

    @pytest.mark.usefixtures("target", "xen_is_default")
    def test_a_package_that_was_exchanged_on_the_server_is_not_installed(
        self, installer: Installer, written: Path, cluster: Cluster
    ) -> None:
        (installer.root / "bin/preseed_fetch").write_text('#!/bin/sh\necho forged >"$2"\n')
        assert self.complete(installer, written, cluster) == 7
        assert "could not be completed" in installer.read("shown")
        assert not installer.read("in-target")

    def test_one_that_would_not_boot_xen_is_not_called_complete(
        self, installer: Installer, target: Path, written: Path, cluster: Cluster
    ) -> None:
        (target / "boot/grub/grub.cfg").write_text('set default="0"\n')
        assert self.complete(installer, written, cluster) == 7
