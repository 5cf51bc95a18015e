#!/bin/sh
# Install QEMU 10 from bookworm's backports, from the mirror that apt uses, and leave apt's sources as they are.
# bookworm's own 7.2 takes a fifth longer until a pair is formed, and kernels have died in it of debug exceptions (#DB)
# that nothing had asked for.
set -eu

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Codename: bookworm' | head -n 1)
[ -n "$mirror" ] || { echo "newer-qemu: apt has no source for bookworm; keeping QEMU as it is" >&2; exit 0; }

sources=$(mktemp)
trap 'rm -f "$sources"' EXIT
chmod 644 "$sources"
[ ! -e /etc/apt/sources.list ] || cat /etc/apt/sources.list > "$sources"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm-backports main" >> "$sources"

with_backports() { DEBIAN_FRONTEND=noninteractive apt-get -o Dir::Etc::SourceList="$sources" "$@"; }
with_backports update
with_backports install -y --no-install-recommends -t bookworm-backports qemu-system-x86 qemu-utils
# The lists of backports go again with the source.
apt-get update
