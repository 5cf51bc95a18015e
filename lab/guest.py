"""The lab's guest: a ramdisk of busybox and two drivers, which boots in seconds under emulation and keeps a diary.

It answers over HTTP who it is, and shuts down, reboots or crashes when it is told to, there or on its console. Each
second it writes one sector to its disk: a guest that ran twice at once has left its traces there (`ran_twice` in
lab.campaign.audits), and one that was started from an older disk lacks what it had answered for (`forgotten`).
"""

from __future__ import annotations

import gzip
import lzma
import re
import stat
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from config.debian_files import located
from config.door import write_file
from config.model import Debian
from images import preflight
from images.cache import Cache
from images.progress import Progress
from images.rootfs import Request, rootfs_layer
from lab.errors import LabError
from lab.process import SOURCES
from lab.small import write_small_config

RAMDISK = "lab-guest.img"
BUSYBOX = Path("/bin/busybox")
NEEDS = {str(BUSYBOX): "busybox-static"}
"""What the guest takes of this host (see images.preflight)."""
"""Debian's busybox-static; packages.apt names it."""
MODULES = ("xen-netfront", "xen-blkfront")
"""Neither depends on another module in Debian's kernel (modules.dep)."""
MEMORY, DISK = "96M", "8M"
"""8 MiB of diary are four and a half hours."""
GUESTS = {"web01": ("xen1", "192.168.132.51/24"), "db01": ("xen2", "192.168.132.52/24")}
"""Name: home and address, on the guest network of the example config."""

INIT = r"""#!/bin/busybox sh
# The first program of the lab's guest.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do insmod "$module"; done

boot=$(cut -c1-8 /proc/sys/kernel/random/boot_id)
for word in $(cat /proc/cmdline); do case $word in ip=*) address=${word#ip=} ;; esac; done
IFS=: read -r ip server gateway mask name device auto <<END
$address
END
for i in $(seq 100); do [ -e /sys/class/net/eth0 ] && [ -b /dev/xvda ] && break; usleep 100000; done
ifconfig lo 127.0.0.1 up
ifconfig eth0 "$ip" netmask "$mask" up

echo "$name $boot" >/www/who
httpd -p 80 -h /www
echo "lab guest $name $boot answers at $ip"
while read -r word; do act "$word"; done </dev/console &
# It never ends: a first program that did would panic the kernel.
while :; do
	diary /dev/xvda "$name" "$boot" /www/now
	sleep 1
done
"""

DIARY = r"""#!/bin/busybox sh
# diary DISK NAME BOOT ANSWER: one sector a second, each after the last one, where nobody else may have written.
# Not by O_DIRECT: xen-blkfront wants buffers on sector boundaries, and those of busybox are not. What the kernel has
# cached of a disk it drops when the last user closes it: so each dd reads anew, and fsync waits for the disk itself.
disk=$1 name=$2 boot=$3 answer=$4 refused=
at=$(dd if="$disk" bs=64k 2>/dev/null | grep -a -c '^xenpair-diary ')
while :; do
	word=alone
	case $(dd if="$disk" bs=512 skip="$at" count=1 2>/dev/null) in
	# What was refused may be there all the same.
	"xenpair-diary "*) [ "$refused" = "$at" ] || word=collision ;;
	esac
	read -r uptime idle </proc/uptime
	if printf '%-511s\n' "xenpair-diary $boot $at $uptime $word" |
		dd of="$disk" bs=512 seek="$at" count=1 conv=notrunc,fsync 2>/dev/null; then
		# Only what is on the disk is answered for.
		echo "$name $boot $at" >"$answer.new" && mv "$answer.new" "$answer"
		at=$((at + 1))
	else
		[ "$refused" = "$at" ] || echo "lab guest $name $boot: its disk refuses entry $at"
		refused=$at
	fi
	sleep 1
done
"""

ACT = r"""#!/bin/busybox sh
# act WORD: what a guest does to itself, asked over HTTP or on its console.
case $1 in
poweroff | reboot) /bin/busybox "$1" -f ;;
crash)
	echo 1 >/proc/sys/kernel/sysrq
	echo c >/proc/sysrq-trigger
	;;
esac
"""

DO = r"""#!/bin/busybox sh
printf 'Content-Type: text/plain\r\n\r\n%s\n' "$QUERY_STRING"
(/bin/busybox sleep 1; /bin/act "$QUERY_STRING") >/dev/null 2>&1 &
"""

POWER = "#!/bin/busybox sh\nexec /bin/busybox {verb} -f\n"
"""Xen's requests reach the kernel, which calls these by name (drivers/xen/manage.c, kernel/reboot.c)."""

SCRIPTS = {
    "init": INIT,
    "bin/diary": DIARY,
    "bin/act": ACT,
    "www/cgi-bin/do": DO,
    "sbin/poweroff": POWER.format(verb="poweroff"),
    "sbin/reboot": POWER.format(verb="reboot"),
}

_ANSWER = re.compile(r"([a-z0-9-]+) ([0-9a-f]{8}) (\d+)\s*")
_RECORD = re.compile(r"^xenpair-diary ([0-9a-f]{8}) (\d+) ([0-9.]+) (alone|collision)\b", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """One sector of a diary. boot: which boot wrote it; at: its place; uptime: seconds since that boot."""

    boot: str
    at: int
    uptime: float
    collision: bool


@dataclass(frozen=True)
class Answer:
    """What a guest says of itself: which boot it is, and which entry of its diary is on its disk."""

    name: str
    boot: str
    at: int


def heard(text: str) -> Answer | None:
    """What the command of ask() has printed; None where the guest did not answer, or has no entry on its disk yet."""
    match = _ANSWER.fullmatch(text)
    return Answer(match[1], match[2], int(match[3])) if match else None


def read_diary(volume_group: str, name: str) -> str:
    """A shell command for a dom0 that prints the diary on a guest's disk."""
    return f"dd if=/dev/{volume_group}/{name} iflag=direct bs=1M status=none | grep -a '^xenpair-diary ' | tr -s ' '"


def diary(text: str) -> tuple[Entry, ...]:
    """All entries that read_diary() has printed, in the order of their places on the disk."""
    return tuple(Entry(boot, int(at), float(up), word == "collision") for boot, at, up, word in _RECORD.findall(text))


def cpio(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """An archive that the kernel unpacks as its first root file system: path -> mode with file type, and content.

    The "newc" format of Documentation/driver-api/early-userspace/buffer-format.rst. Device nodes are /dev/console only.
    """
    out = bytearray()
    for number, (path, (mode, content)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], 1):
        major, minor = (5, 1) if stat.S_ISCHR(mode) else (0, 0)
        name = path.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += b"\0" * (-len(out) % 4) + content
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def drivers(tar: Path) -> dict[str, bytes]:
    """The guest's modules from the dom0's root file system, by name. Raises LabError where one is not there."""
    wanted = re.compile(rf".*/({'|'.join(MODULES)})\.ko(\.xz)?")
    found = {}
    with tarfile.open(tar) as archive:
        for member in archive:
            match = wanted.fullmatch(member.name)
            if match and (file := archive.extractfile(member)) is not None:
                data = file.read()
                found[match[1]] = lzma.decompress(data) if match[2] else data
    if missing := set(MODULES) - set(found):
        raise LabError(f"the dom0's kernel has no {' and no '.join(sorted(missing))}")
    return found


def ramdisk(modules: Mapping[str, bytes], busybox: bytes) -> bytes:
    """The guest, as a ramdisk for the dom0's kernel."""
    directories = ("bin", "sbin", "proc", "sys", "dev", "modules", "www", "www/cgi-bin")
    files: dict[str, tuple[int, bytes]] = dict.fromkeys(directories, (stat.S_IFDIR | 493, b""))
    files["dev/console"] = (stat.S_IFCHR | 0o600, b"")
    files["bin/busybox"] = (stat.S_IFREG | 0o755, busybox)
    for path, text in SCRIPTS.items():
        files[path] = (stat.S_IFREG | 0o755, text.encode())
    for name, data in modules.items():
        files[f"modules/{name}.ko"] = (stat.S_IFREG | 0o644, data)
    return gzip.compress(cpio(files), compresslevel=6, mtime=0)


def write_guest_config(config_file: Path, where: Path, *, cache: Path = SOURCES / ".cache") -> Path:
    """Write a copy of a config with small disks and two guests, and the ramdisk beside it; returns the config's path.

    Raises LabError without busybox-static, BuildError where the root file system of the dom0 cannot be had.
    """
    if lacking := preflight.missing(NEEDS):
        raise LabError(f"{BUSYBOX} is not there", hint=preflight.install_command(lacking.values()))
    target = write_small_config(config_file, where / "cluster.yaml")
    document: dict[str, Any] = yaml.safe_load(target.read_text())
    debian, store, progress = (
        located(Debian(**document.get("debian", {})), config_file.parent),
        Cache(cache),
        Progress(),
    )
    with store.in_use(progress.note):
        layer = rootfs_layer(Request.of(debian), store, progress)
        write_file(where / RAMDISK, ramdisk(drivers(layer.tar), BUSYBOX.read_bytes()))
    document["guests"] = [described(name, home, address) for name, (home, address) in GUESTS.items()]
    write_file(target, yaml.safe_dump(document, sort_keys=False))
    return target


def described(name: str, home: str, address: str) -> dict[str, Any]:
    """A lab guest, as the config says it."""
    return {
        "name": name,
        "home": home,
        "memory": MEMORY,
        "disk": DISK,
        "network": {"address": address},
        "boot": {"ramdisk": RAMDISK},
        # Under emulation Xen dies of a guest's RDTSCP where it emulates the time stamp counter.
        "options": {"tsc_mode": "native"},
    }


def ask(address: str, path: str = "now") -> str:
    """A shell command for a dom0 that prints what a lab guest answers: who it is, which boot, which second."""
    ip = address.partition("/")[0]
    request = f"GET /{path} HTTP/1.0\\r\\n\\r\\n"
    return f"timeout 5 bash -c 'exec 3<>/dev/tcp/{ip}/80 && printf \"{request}\" >&3 && tail -n 1 <&3'"
