"""How the build behaves: nothing twice, as anybody, cut off anywhere."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from config.door import run
from config.errors import CommandError
from config.loader import Loaded
from images import manifest
from images.build import Artifacts, build_image
from images.cache import Cache
from images.errors import MirrorError
from images.namespace import isolated, remove_tree
from images.rootfs import Request
from tests.image.conftest import CACHE, OUT, PROJECT, Said

CHILD = Path(__file__).with_name("build_child.py")
FINAL = {"xenpair.qcow2", "xenpair.raw", manifest.NAME, manifest.SUMS}
NOBODY = 65534
T = TypeVar("T")


@pytest.fixture
def own(loaded: Loaded, artifacts: Artifacts) -> Iterator[Path]:
    """A directory that anybody can reach, with a config, its secrets, and a cache that has the first layer already."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="xenpair-test-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        shutil.copy(loaded.source, directory / "cluster.yaml")
        key = Request.of(loaded.cluster.debian).key
        layer, copy = Cache(CACHE).layer("rootfs", key), Cache(directory / "cache").layer("rootfs", key)
        copy.mkdir(parents=True)
        for file in layer.iterdir():
            (copy / file.name).symlink_to(file)
        yield directory
        remove_tree(directory / "cache" / "scratch")


def child(own: Path) -> list[str]:
    """argv of a build in a process of its own."""
    return [sys.executable, str(CHILD), *(str(own / name) for name in ("cluster.yaml", "out", "cache")), "qcow2"]


def environment() -> dict[str, str]:
    """Of such a process."""
    return {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}


def state(out: Path) -> dict[str, tuple[int, int, int]]:
    """What would change if a file was touched."""
    status = {path.name: path.stat() for path in out.iterdir() if path.name != ".lock"}
    return {name: (found.st_ino, found.st_mtime_ns, found.st_size) for name, found in status.items()}


def finished(out: Path) -> set[str]:
    """What stands under a final name."""
    return {path.name for path in out.iterdir() if path.name in FINAL} if out.is_dir() else set()


def test_an_unchanged_build_says_so_and_touches_nothing(loaded: Loaded, artifacts: Artifacts) -> None:
    before, said = state(OUT), Said()
    begun = time.monotonic()
    again = build_image(loaded, OUT, ["qcow2"], cache=CACHE, progress=said.progress)
    assert time.monotonic() - begun < 2
    assert not again.built
    assert "nothing to do" in said
    assert state(OUT) == before
    assert again == replace(artifacts, built=False)


def test_both_formats_and_then_a_change_that_only_the_seed_medium_carries(loaded: Loaded, own: Path) -> None:
    config = own / "cluster.yaml"
    loaded = replace(loaded, source=config)
    made = build_image(loaded, own / "out", ["qcow2", "raw"], cache=own / "cache", progress=Said().progress)
    assert made.built
    assert made.raw is not None
    assert made.raw.stat().st_blocks * 512 < made.raw.stat().st_size // 2
    assert finished(own / "out") == FINAL
    before = state(own / "out")

    heartbeat = loaded.cluster.heartbeat.model_copy(update={"deadtime": 30})
    changed = replace(loaded, cluster=loaded.cluster.model_copy(update={"heartbeat": heartbeat}))
    config.write_text(config.read_text() + "# changed\n")
    again = build_image(changed, own / "out", ["qcow2", "raw"], cache=own / "cache", progress=Said().progress)
    assert not again.built
    after = state(own / "out")
    assert {name for name in after if after[name] != before[name]} == {
        *(manifest.NAME, manifest.SUMS, manifest.SUMS_SIGNATURE),
        "seed.img",
    }
    described = manifest.read(own / "out")
    assert described is not None
    assert described.config_hash == changed.cluster.config_hash()


def test_dom0s_memory_makes_the_disk_anew_of_the_same_root_file_system(loaded: Loaded, own: Path) -> None:
    dom0 = loaded.cluster.dom0.model_copy(update={"memory": loaded.cluster.dom0.memory * 2})
    more = replace(loaded, cluster=loaded.cluster.model_copy(update={"dom0": dom0}), source=own / "cluster.yaml")
    said, layers = Said(), own / "cache" / "rootfs"
    before = state(layers)
    assert build_image(more, own / "out", ["qcow2"], cache=own / "cache", progress=said.progress).built
    assert "writing the disk" in said
    assert "installing Debian" not in said
    assert state(layers) == before


def test_a_killed_build_leaves_no_half_image_no_process_no_mount_and_the_next_one_works(own: Path) -> None:
    victim = subprocess.Popen(child(own), env=environment(), stderr=subprocess.PIPE, text=True)
    partial, scratch = own / "out" / ".partial" / "xenpair.raw", own / "cache" / "scratch"
    wait_for(partial.exists, victim)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    wait_for(lambda: not processes_that_name(str(own)))
    assert finished(own / "out") == set()
    assert str(own) not in Path("/proc/self/mounts").read_text()
    assert partial.exists()
    assert list(scratch.iterdir())

    done = run(child(own), env=environment(), timeout=300)
    assert "cleared away what an interrupted build had left" in done.stderr
    assert {"xenpair.qcow2", manifest.NAME, manifest.SUMS} == finished(own / "out")
    assert not partial.parent.exists()
    assert not list(scratch.iterdir())


def test_an_interrupted_build_clears_up_after_itself(own: Path) -> None:
    # What a shell starts in the background ignores this signal, and so would the child of tests that run there.
    argv = ["env", "--default-signal=INT", *child(own)]
    victim = subprocess.Popen(argv, env=environment(), stderr=subprocess.PIPE, text=True)
    scratch = own / "cache" / "scratch"
    wait_for(lambda: list(scratch.glob("*/tree")), victim)
    victim.send_signal(signal.SIGINT)
    victim.wait(timeout=60)
    assert not list(scratch.iterdir())
    assert finished(own / "out") == set()
    assert not processes_that_name(str(own))


def test_anybody_can_build(own: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("this whole tier runs without root already")
    prefix, interpreter = as_nobody(own)
    argv = [*prefix, interpreter, *child(own)[1:]]
    modules = os.pathsep.join([str(PROJECT), *filter(None, sys.path)])
    run(argv, env={**environment(), "PYTHONPATH": modules}, timeout=300)
    owners = {path.stat().st_uid for path in (own / "out").iterdir()}
    assert owners == {NOBODY}
    described = manifest.read(own / "out")
    assert described is not None
    assert manifest.stands(described, own / "out")


def test_no_network_is_one_clear_error_and_leaves_nothing(loaded: Loaded, own: Path) -> None:
    debian = loaded.cluster.debian.model_copy(update={"mirror": "http://127.0.0.1:9/debian"})
    offline = replace(loaded, cluster=loaded.cluster.model_copy(update={"debian": debian}))
    with pytest.raises(MirrorError, match=r"cannot fetch http://127\.0\.0\.1:9/debian/dists/trixie/InRelease") as e:
        build_image(offline, own / "out", ["qcow2"], cache=own / "cache", progress=Said().progress)
    assert "debian.mirror" in e.value.hint
    assert finished(own / "out") == set()
    assert list((own / "cache" / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("size", "checked", "message"),
    [("64m", True, "of free space at"), ("400m", False, "no space left while building the image")],
    ids=["seen-before", "run-into"],
)
def test_no_space_is_one_clear_error_and_leaves_nothing(own: Path, size: str, checked: bool, message: str) -> None:
    (own / "out").mkdir()
    mount = f'mount -t tmpfs -o size={size} small "{own}/out" && "$@"; code=$?; ls -A "{own}/out"; exit $code'
    build = child(own)
    if not checked:
        blind = "import sys; from images import preflight; preflight.check_space = lambda _: None; "
        build = [build[0], "-c", blind + "import build_child; sys.exit(build_child.main(*sys.argv[1:]))", *build[2:]]
    paths = {"PYTHONPATH": f"{PROJECT}:{CHILD.parent}"}
    done = run(isolated(["sh", "-c", mount, "sh", *build]), check=False, env={**environment(), **paths}, timeout=300)
    assert done.returncode == 1
    assert message in done.stderr
    assert "SpaceError" in done.stderr
    assert "Traceback" not in done.stderr
    assert not FINAL & set(done.stdout.split())


def as_nobody(own: Path) -> tuple[list[str], str]:
    """argv prefix that runs as nobody, who gets subordinate ids in a mount namespace and nowhere else; and a Python
    that nobody may run: ours, or the system's if it is of the same version.
    """
    ranges = own / "subid"
    ranges.write_text("nobody:1000000:65536\n")
    for path in (own, *own.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    binds = 'mount --bind "$0" /etc/subuid && mount --bind "$0" /etc/subgid && exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", binds, str(ranges), "runuser", "-u", "nobody", "--"]
    version = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    try:
        run([*prefix, *isolated(["true"], root=False)])
        run([*prefix, "ls", PROJECT / "images" / "build.py"])
    except CommandError as e:
        pytest.skip(f"an unprivileged user cannot build here: {e.stderr.strip() or e.message}")
    for interpreter in (sys.executable, "/usr/bin/python3"):
        if run([*prefix, interpreter, "-c", version], check=False).returncode == 0:
            return prefix, interpreter
    pytest.skip("an unprivileged user may not run this Python")


def processes_that_name(text: str) -> list[str]:
    """Command lines of running processes that mention it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def wait_for(condition: Callable[[], T | None], process: subprocess.Popen[str] | None = None) -> T:
    """What the condition gives once it gives something; process must not end before that."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := condition():
            return found
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the build ended early: {process.communicate()[1]}")
        time.sleep(0.05)
    raise AssertionError("waited in vain")
