"""What the dom0 is made of."""

from __future__ import annotations

XEN_VERSION = "4.20"
"""Xen release of Debian trixie; its package names carry it."""

BOOT = (
    "linux-image-amd64",
    f"xen-hypervisor-{XEN_VERSION}-amd64",
    "xen-hypervisor-common",
    "initramfs-tools",
    "systemd-sysv",
    "udev",
    "kmod",
    "zstd",
    "logsave",
    # Its hook puts mdadm, its rules and mdadm.conf into the initramfs: a mirrored root disk is put together there.
    "mdadm",
    "grub2-common",
    # The -bin packages only: grub-pc and grub-efi-amd64 exclude each other, and their boot code is installed by us.
    "grub-pc-bin",
    "grub-efi-amd64-bin",
)

CLUSTER = (
    f"xen-utils-{XEN_VERSION}",
    "xenstore-utils",
    "drbd-utils",
    "lvm2",
    "heartbeat",
    "cluster-glue",
    "resource-agents",
    "ipmitool",
    "nftables",
    # A guest that boots its own kernel, one that is copied from an image, and what tarballs are packed with.
    "grub-xen-host",
    "qemu-utils",
    "bzip2",
    "xz-utils",
    "python3",
    "python3-pydantic",
    "python3-jinja2",
    "python3-yaml",
)

BASE = (
    "chrony",
    "dbus",
    "dosfstools",
    "e2fsprogs",
    "ethtool",
    "fdisk",
    "gdisk",
    "iproute2",
    "iputils-arping",
    "iputils-ping",
    "less",
    "login",
    "lsof",
    "openssh-client",
    "openssh-server",
    "passwd",
    "procps",
    "psmisc",
    "vim-tiny",
)

PACKAGES = tuple(sorted(BOOT + CLUSTER + BASE))

FIRMWARE = (
    "amd64-microcode",
    "firmware-bnx2",
    "firmware-bnx2x",
    "firmware-cavium",
    "firmware-intel-misc",
    "firmware-misc-nonfree",
    "firmware-netxen",
    "firmware-qlogic",
    "firmware-realtek",
    "intel-microcode",
)
"""Wanted where the mirror has non-free-firmware: what servers' wired network cards, HBAs and processors load."""

FIRMWARE_COMPONENT = "non-free-firmware"

DEBCONF = """\
debconf debconf/frontend select Noninteractive
debconf debconf/priority select critical
iproute2 iproute2/setcaps boolean false
man-db man-db/auto-update boolean false
openssh-server openssh-server/password-authentication boolean false
openssh-server openssh-server/permit-root-login boolean false
tzdata tzdata/Areas select Etc
tzdata tzdata/Zones/Etc select UTC
"""
"""Answers for every question that one of these packages asks, in debconf-set-selections(1) format."""

DPKG_OPTIONS = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
    "force-confold",
)
"""No documentation but the licences; they stay in force on the node, so an upgrade brings nothing back."""

MASKED_UNITS = (
    # xenpair's storage unit and heartbeat do their work; a stale save file must never resurrect a guest.
    "drbd.service",
    "xendomains.service",
    # At shutdown it would take volumes away from under guests, in no order with what uses them.
    "blk-availability.service",
    # Linear volumes have nothing to monitor.
    "lvm2-monitor.service",
    # First boot makes the one host key that there is.
    "sshd-keygen.service",
    # Nothing foreign is run in a dom0.
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-binfmt.service",
)

DISABLED_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dm-event.socket",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "grub-common.service",
    "lvm2-lvmpolld.socket",
)

ENABLED_UNITS = ("heartbeat.service", "nftables.service", "ssh.service", "systemd-networkd.service")
"""Each waits, by a condition in its drop-in or by its empty config, until first boot has written what it needs."""
