"""Invoke tasks: wiring only. `invoke --list` names them, `invoke --help TASK` explains one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from images.invoked import CACHE, CONFIG, OUT, PROJECT, speaks
from lab import tasks as lab


@task(help={"config": "the cluster's config; config/cluster.yaml if not given"})
@speaks
def check_config(context: Context, config: str = str(CONFIG)) -> int:  # noqa: ARG001
    """Check a config: every error at once, exit code 2; warnings alone exit 0."""
    from config.command import check_config as check

    return check(Path(config), templates=PROJECT / "templates", secrets_directory=Path(config).parent / "secrets")


@task(help={"config": "the cluster's config; config/cluster.yaml if not given", "json": "for scripts"})
@speaks
def plan_capacity(context: Context, config: str = str(CONFIG), json: bool = False) -> int:  # noqa: ARG001
    """Show which guest runs where, now and after the loss of either node: exit 2 where one would be held."""
    from config import capacity_plan

    return capacity_plan.plan_capacity(Path(config), json=json)


@task(
    help={
        "config": "the cluster's config; config/cluster.yaml if not given",
        "out": "directory of the artifacts; out if not given",
        "formats": "comma-separated: qcow2, raw, iso, netboot, preseed (for Debian's own installer)",
        "builder": "local, docker (docker:bookworm, docker:trixie), or auto: local if it can be done here, else docker",
        "gpg_key": "sign the sums with this key of gpg's, too: SHA256SUMS.asc",
        "release": "compress hard, for what is published: takes longer than all the rest",
        "check_reproducible": "build once more with nothing from the cache, and fail where a file differs",
    }
)
@speaks
def build_image(
    context: Context,  # noqa: ARG001
    config: str = str(CONFIG),
    out: str = str(OUT),
    formats: str = "qcow2",
    *,
    builder: str = "auto",
    gpg_key: str = "",
    release: bool = False,
    check_reproducible: bool = False,
) -> int:
    """Build the dom0 image, its package and manifest, and what installs it; what is there is not built again."""
    from config.loader import load
    from images import answers, build, reproduction
    from images.builders import choice
    from images.disklayer import parse_formats
    from images.progress import Progress

    wish = choice.parse(builder)
    loaded, (wanted, preseed), progress = load(Path(config)), parse_formats(formats), Progress()
    if (engine := choice.engine_for(wish, wanted)) is not None:
        from images.builders import container

        words = [
            "build-image",
            "--formats",
            formats,
            *(["--release"] if release else []),
            *(["--check-reproducible"] if check_reproducible else []),
        ]
        site = container.Site.of(loaded, Path(out), CACHE)
        return container.build_in_container(
            engine, loaded, words, site, suite=wish.suite, gpg_key=gpg_key, progress=progress
        )
    if wanted:
        build.build_image(loaded, Path(out), wanted, cache=CACHE, progress=progress, gpg_key=gpg_key, release=release)
    if preseed:
        answers.build_answers(loaded, Path(out), cache=CACHE, progress=progress)
    if wanted and check_reproducible:
        reproduction.check_reproducible(loaded, Path(out), wanted, cache=CACHE, progress=progress, release=release)
    return 0


@task(help={"config": "the cluster's config; config/cluster.yaml if not given", "update": "choose all packages anew"})
@speaks
def lock(context: Context, config: str = str(CONFIG), update: bool = False) -> None:  # noqa: ARG001
    """Write down the exact packages of the image, beside the config: builds take these, until `--update`."""
    from config.loader import load
    from images.cache import Cache
    from images.locking import write_lock
    from images.progress import Progress

    write_lock(load(Path(config)), cache=Cache(CACHE), update=update, progress=Progress())


@task(positional=["image"], help={"image": "qcow2, raw or iso", "json": "for scripts"})
@speaks
def inspect(context: Context, image: str, json: bool = False) -> None:  # noqa: ARG001
    """Tell what is in an image: partitions, boot entries, packages, what xenpair put there; nothing is mounted."""
    from images.inspection import command

    command.inspect(Path(image), cache=CACHE, json=json)


@task(positional=["old", "new"], help={"old": "an image", "new": "another one", "json": "for scripts"})
@speaks
def diff(context: Context, old: str, new: str, json: bool = False) -> int:  # noqa: ARG001
    """Tell which packages and files differ between two images: exit 0 where none does, 1 where any does, else 2."""
    from images.inspection import command

    return command.diff(Path(old), Path(new), cache=CACHE, json=json)


@task(
    help={
        "out": "directory of the artifacts; out if not given",
        "config": "the cluster's config, beside which the key lies that signs",
    }
)
@speaks
def verify_artifacts(context: Context, out: str = str(OUT), config: str = str(CONFIG)) -> int:  # noqa: ARG001
    """Check the signature, the sums and the manifest of what a build has written: exit 1 where something is off."""
    from images import verify

    return verify.verify_artifacts(Path(out), Path(config).parent / "secrets")


@task(
    help={
        "show": "what is in it, and nothing more",
        "prune": "remove what no image that stands needs, if it was not used for so long",
        "older_than": "so long: 12h, 30d",
    }
)
@speaks
def cache(context: Context, show: bool = False, prune: bool = False, older_than: str = "30d") -> None:  # noqa: ARG001
    """Tell what the build cache holds: sizes and last use by kind of layer; with --prune, remove what is not needed."""
    from images import pruning
    from images.progress import Progress

    if prune:
        pruning.prune(CACHE, pruning.parse_age(older_than), Progress())
    if show or not prune:
        pruning.show(CACHE)


@task(
    help={
        "only": "comma-separated: build, media, serve, write-usb, lab; all if not given",
        "config": "the cluster's config; config/cluster.yaml if not given",
        "out": "directory of the artifacts; out if not given",
    }
)
@speaks
def doctor(context: Context, only: str = "", config: str = str(CONFIG), out: str = str(OUT)) -> int:  # noqa: ARG001
    """Tell what this host lacks, and the command that mends it: exit 1 where something needed is missing."""
    from lab import doctor as looks

    return looks.run(Path(config), Path(out), CACHE, only)


@task(
    help={
        "config": "the cluster's config; several, comma-separated, for several clusters",
        "out": "the netboot tree; out/netboot if not given",
        "interface": "the network card towards the machines",
        "address": "ours on that interface; its first one if not given",
        "dhcp": "proxy: beside a DHCP server that is there; full: on a network without one; none: yours names ours",
        "http_port": "installer and image",
        "tls_port": "secrets and reports",
        "page": "ADDRESS:PORT of the web page",
        "window": "how long secrets are handed out: 90s, 60m, 2h",
        "authorized_keys": "file of public keys that may log in as root beside those of the configs",
    }
)
@speaks
def serve(
    context: Context,  # noqa: ARG001
    interface: str,
    config: str = str(CONFIG),
    out: str = str(OUT / "netboot"),
    *,
    address: str = "",
    dhcp: str = "proxy",
    http_port: str = "8080",
    tls_port: str = "8443",
    page: str = "127.0.0.1:8088",
    window: str = "60m",
    authorized_keys: str = "",
) -> None:
    """Install machines over the network: DHCP, TFTP, iPXE, image and secrets, and a page that shows every node live."""
    from images.progress import Progress
    from images.serving import command, options

    wanted = options.Options(
        configs=tuple(Path(name) for name in config.split(",")),
        tree=Path(out),
        interface=interface,
        page=options.parse_endpoint(page, "--page"),
        window=options.parse_span(window),
        address=options.parse_address(address, "--address") if address else None,
        dhcp=options.parse_dhcp(dhcp),
        http_port=options.parse_port(http_port, "--http-port"),
        tls_port=options.parse_port(tls_port, "--tls-port"),
        authorized_keys=options.read_keys(authorized_keys),
    )
    command.serve(wanted, Progress())


@task(
    help={
        "device": "the stick: /dev/sdX, or a name below /dev/disk/by-id",
        "iso": "the install medium; out/xenpair.iso if not given",
        "force_fixed": "take a disk that is neither removable nor on USB",
        "yes": "do not ask for the device's name to be typed",
    }
)
@speaks
def write_usb(
    context: Context,  # noqa: ARG001
    device: str,
    *,
    iso: str = str(OUT / "xenpair.iso"),
    force_fixed: bool = False,
    yes: bool = False,
) -> None:
    """Overwrite a stick with the install medium, and prove it by reading it back."""
    from images import usb
    from images.progress import Progress

    ask = None if yes else usb.ask_on_terminal
    usb.write_usb(Path(iso), Path(device), force_fixed=force_fixed, ask=ask, progress=Progress())


@task(
    help={
        "hosts": "both booted nodes in the config's order: root@ADDRESS,root@ADDRESS; the lab's if not given",
        "config": "the config that they run",
        "ssh_config": "ssh_config through which they are reached",
        "lab": "which lab, where no hosts are given",
    }
)
@speaks
def verify(
    context: Context,  # noqa: ARG001
    hosts: str = "",
    config: str = str(CONFIG),
    ssh_config: str = "",
    lab: str = "default",
) -> int:
    """Ask two booted nodes, the lab's or real ones, for all that a formed pair has to be."""
    from config.loader import load
    from lab.pair import Lab, directory

    if not hosts:
        hosts = ",".join(node.name for node in load(Path(config)).cluster.nodes)
        ssh_config = str(Lab(directory(lab)).ssh_config)
    argv = [sys.executable, "-m", "pytest", "-q", "tests/lab/test_formed_pair.py"]
    argv += [f"--cluster-hosts={hosts}", f"--cluster-config={Path(config).resolve()}"]
    argv += [f"--cluster-ssh-config={Path(ssh_config).resolve()}"] if ssh_config else []
    return subprocess.run(argv, cwd=PROJECT, check=False).returncode


@task(
    help={
        "config": "the config that both nodes are to have",
        "out": "what `invoke build-image` has made: the package is taken from there",
        "lab": "the nodes of that lab; those at the config's guest addresses if not given",
        "yes": "do not ask for a yes to be typed",
    }
)
@speaks
def upgrade(
    context: Context,  # noqa: ARG001
    config: str = str(CONFIG),
    out: str = str(OUT),
    lab: str = "",
    yes: bool = False,
) -> None:
    """Bring another package and another config to a running pair, one node after the other, guests in service."""
    from config.loader import load
    from images import usb
    from images.progress import Progress
    from images.upgrading import remote, rollout
    from images.upgrading.offer import offer
    from lab.pair import Lab, directory

    loaded = load(Path(config))
    ssh_config = Lab(directory(lab)).ssh_config if lab else None
    nodes = remote.nodes(loaded.cluster, ssh_config)
    rollout.upgrade(offer(loaded, Path(out)), nodes, None if yes else usb.ask_on_terminal, Progress())


@task(
    help={
        "only": "comma-separated: build, lab, install, guests, volumes, serve",
        "peers": "instead: the same image by us and by other builders, into docs/benchmark.md",
        "names": "comma-separated: these of the peers; all that are installed if not given",
        "runs": "rounds of a comparison with peers",
        "install_peers": "get those that are not installed, as root",
    }
)
@speaks
def bench(
    context: Context,  # noqa: ARG001
    only: str = "build,lab,install,guests,volumes,serve",
    *,
    peers: bool = False,
    names: str = "",
    runs: int = 5,
    install_peers: bool = False,
) -> None:
    """Measure against the physical floor, or against other builders, as ratios in one run."""
    from bench.peers import install
    from bench.report import compare, measure

    if install_peers:
        install()
    if peers:
        compare(CONFIG, CACHE, PROJECT / "docs", runs, names)
    elif not install_peers:
        measure(CONFIG, CACHE, OUT, only.split(","))


@task(
    help={
        "seed": "the same seed gives the same rounds; a new one if not given",
        "rounds": "how many",
        "first": "begin with that round of the same sequence",
        "faults": "comma-separated: these only; `--faults list` names them all",
        "lab": "name of the lab; two halves of a campaign may run side by side, each in its own",
        "config": "the cluster's config; its backing disks are made small for this",
        "out": "where the built image is",
    }
)
@speaks
def campaign(
    context: Context,  # noqa: ARG001
    *,
    seed: str = "",
    rounds: int = 20,
    first: int = 1,
    faults: str = "",
    lab: str = "campaign",
    config: str = str(CONFIG),
    out: str = str(OUT),
) -> int:
    """Random faults against a formed pair in a lab of its own, and after each one the same audits."""
    from lab.campaign import command

    return command.run_campaign(Path(config), Path(out), lab, seed=seed, rounds=rounds, first=first, names=faults)


namespace = Collection(
    check_config,
    plan_capacity,
    build_image,
    lock,
    inspect,
    diff,
    verify_artifacts,
    cache,
    doctor,
    write_usb,
    serve,
    verify,
    upgrade,
    bench,
    campaign,
    lab.namespace,
)
