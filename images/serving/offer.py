"""What the server has for each cluster: config, secrets and files, read and checked once, at its start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from config import secrets
from config.carried import beside, require_files
from config.door import sha256_of
from config.guest import files
from config.loader import Loaded, load
from config.machine import Machine, expected, matching
from config.model import Cluster, Node
from images.serving.errors import RefusalError, ServeError


@dataclass(frozen=True)
class Offer:
    """One cluster. repr shows no secret."""

    cluster: Cluster
    source: Path
    config: str
    """The text of its config."""
    secrets: str = field(repr=False)
    """The text of its secrets."""
    sums: Mapping[str, str]
    """sha256 (hex) of each file that its config names by plain name."""

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.cluster.cluster.name

    def file(self, name: str) -> Path:
        """Where such a file lies. Raises RefusalError for any other name."""
        if name not in self.sums:
            raise RefusalError(404, f"the config of {self.name} names no file {name!r}")
        return beside(self.source, name)


def read_offers(configs: Sequence[Path]) -> tuple[Offer, ...]:
    """One for each config, in their order. Raises ConfigError or ServeError where they cannot be served together."""
    offers = tuple(_read(load(path)) for path in configs)
    seen: dict[str, Offer] = {}
    for offer in offers:
        if (other := seen.setdefault(offer.name, offer)) is not offer:
            raise ServeError(
                f"{other.source} and {offer.source} both call their cluster {offer.name}",
                hint="give each cluster.name of its own, or name one of the two files",
            )
    _check_machines(offers)
    return offers


def _read(loaded: Loaded) -> Offer:
    cluster, source = loaded.cluster, loaded.source.resolve()
    require_files(loaded)
    file = secrets.secrets_file(cluster, source.parent / "secrets")
    made_by = f"`invoke build-image --config {loaded.source} --formats netboot` makes what is missing"
    if not file.exists():
        raise ServeError(f"the secrets of {cluster.cluster.name} are not there: {file}", hint=made_by)
    found = secrets.load(file)
    if missing := secrets.missing_passwords(cluster, found):
        raise ServeError(f"{file} lacks the BMC passwords {', '.join(sorted(missing))}", hint=made_by)
    sums = {name: sha256_of(beside(source, name)) for name in files(cluster)}
    return Offer(cluster, source, source.read_text("utf-8-sig"), found.to_yaml(), sums)


def _check_machines(offers: Sequence[Offer]) -> None:
    """A machine that two configs name is seen now where one of them tells enough of it, else when it says hello."""
    for offer in offers:
        for node in offer.cluster.nodes:
            rivals = [(other, rival) for other, rival in claims(offers, expected(node)) if other is not offer]
            for other, rival in rivals:
                raise ServeError(
                    f"{offer.source} and {other.source} name the same machine: it would be "
                    f"{offer.name}/{node.name} and {other.name}/{rival.name}",
                    hint="correct nodes[].match or nodes[].nics in one of them, so that each machine is in one cluster",
                )


def claims(offers: Sequence[Offer], machine: Machine) -> list[tuple[Offer, Node]]:
    """Each node of each cluster that this machine may be."""
    return [(offer, node) for offer in offers for node in matching(offer.cluster, machine)]


def recognised(offers: Sequence[Offer], machine: Machine) -> tuple[Offer, Node]:
    """The one node that this machine is. Raises RefusalError, with what was seen, unless exactly one fits."""
    found = claims(offers, machine)
    if len(found) == 1:
        return found[0]
    names = " and ".join(f"{offer.name}/{node.name}" for offer, node in found)
    what = f"is {names} at once" if found else "matches no node of " + " or ".join(offer.name for offer in offers)
    raise RefusalError(
        404,
        f"this machine {what}; seen: {machine}",
        hint="put what was seen under nodes[].match of the right node, so that exactly one fits, and start "
        "`invoke serve` again",
    )
