"""pydantic's errors in the words of the administrator: what is wrong, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from config.document import Document
from config.findings import Finding, Location, shown
from config.shape import owner, part_in

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

EXAMPLES = {
    "Cluster.cluster": "{name: xenpair, domain: example.org}",
    "Cluster.nodes": "[{name: xen1, ...}, {name: xen2, ...}]",
    "Cluster.storage": "{system: {serial: ABC123}, backing: {serial: XYZ789}}",
    "ClusterSection.name": "xenpair",
    "ClusterSection.domain": "example.org",
    "Backport.package": "xen-tools",
    "DebFile.path": "drbd-utils_9.31.0-1_amd64.deb",
    "DebFile.sha256": "<64 hexadecimal digits, from sha256sum>",
    "Repository.uri": "https://packages.example.org/debian",
    "Repository.suite": "trixie",
    "Repository.components": "[main]",
    "Repository.key": "example-archive-keyring.asc",
    "Repository.fingerprint": "<40 hexadecimal digits, from gpg --show-keys>",
    "Debian.mirror": "auto",
    "Debian.packages": "[tcpdump, mtr-tiny]",
    "Match.uuid": "4c4c4544-0042-3510-8052-b4c04f564831",
    "Nics.guest": "52:54:00:13:20:01",
    "Nics.cluster": "52:54:00:10:32:01",
    "Addresses.cluster": "10.10.32.1/24",
    "Addresses.guest": "192.168.132.1/24",
    "Bmc.address": "192.168.132.201",
    "Bmc.user": "xenpair",
    "Bmc.password": "secret:bmc-xen1",
    "Node.name": "xen1",
    "Node.match": '{mac: "52:54:00:10:32:01"}',
    "Node.nics": '{guest: "52:54:00:13:20:01", cluster: "52:54:00:10:32:01"}',
    "Node.addresses": "{guest: 192.168.132.1/24, cluster: 10.10.32.1/24}",
    "Node.memory": "64G",
    "Network.bridge": "xenbr0",
    "Network.gateway": "192.168.132.254",
    "Network.dns": "[192.168.132.53]",
    "Drbd.resource": "r0",
    "Storage.system": "{serial: ABC123}",
    "Storage.backing": "{serial: XYZ789, min_size: 900G}",
    "Storage.volume_group": "data",
    "Guest.name": "web01",
    "Guest.memory": "2G",
    "Guest.disk": "20G",
    "Guest.home": "xen1",
    "Guest.priority": "50",
    "GuestNetwork.bridge": "xenbr0",
    "GuestNetwork.gateway": "192.168.132.254",
    "Secrets.authkeys": "<64 hexadecimal digits, from openssl rand -hex 32>",
    "Secrets.drbd": "<48 hexadecimal digits, from openssl rand -hex 24>",
    "Secrets.join": "<64 hexadecimal digits, from openssl rand -hex 32>",
    "Secrets.bmc": "{bmc-xen1: PASSWORD}",
}
"""What a right value looks like, by Class.field; a test sees to it that no required field is without one."""


def explain(
    error: ValidationError, document: Document, root: type[BaseModel], *, secret: bool = False
) -> list[Finding]:
    """One finding for each faulty value, in the order of the model. secret: never repeat what the file says."""
    findings: dict[Location, Finding] = {}
    for details in error.errors(include_url=False):
        where = _place(details, document)
        if where not in findings:
            problem, remedy = _phrase(details, where, root, secret=secret)
            findings[where] = document.finding(where, problem, remedy)
    return list(findings.values())


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What was probably meant, else all that is known."""
    known = list(known)
    close = get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"


def _place(details: ErrorDetails, document: Document) -> Location:
    """pydantic appends the branch of a union to a location; the file has no such key."""
    where = details["loc"]
    missing = where[-1:] if details["type"] == "missing" else ()
    return (*document.deepest(where[: len(where) - len(missing)]), *missing)


def _phrase(details: ErrorDetails, where: Location, root: type[BaseModel], *, secret: bool) -> tuple[str, str]:
    model, name = owner(root, where), next((step for step in reversed(where) if isinstance(step, str)), "")
    field = model.model_fields.get(name) if model else None
    example = EXAMPLES.get(f"{model.__name__}.{name}", "") if model else ""
    if details["type"] == "extra_forbidden":
        return "unknown key", did_you_mean(name, model.model_fields if model else ())
    if details["type"] == "missing":
        return "is missing", f"add it, like `{name}: {example}`" if example else "add it"
    remedy = f"write it like `{name}: {example}`" if example else ""
    if isinstance(details["input"], str) and details["type"] not in _SHAPES:
        return _wrong_text(details, "the value" if secret or name == "password" else shown(details["input"]), remedy)
    return _wrong_shape(details, field, remedy)


def _wrong_text(details: ErrorDetails, text: str, remedy: str) -> tuple[str, str]:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "value_error":
        # The model's validators write `problem; remedy`; the value that the problem quotes may hold a semicolon too.
        problem, _, advice = str(context["error"]).rpartition("; ")
        return problem, advice
    if kind == "literal_error":
        return f"{text} is not possible", remedy or f"write {context['expected']}"
    rule = _RULES.get(kind, "does not have the right form").format_map(context)
    return f"{text} {rule}", remedy or "look it up in docs/config.md"


def _wrong_shape(details: ErrorDetails, field: FieldInfo | None, remedy: str) -> tuple[str, str]:
    found = next((word for kind, word in _KINDS if isinstance(details["input"], kind)), "empty")
    part = part_in(field.annotation) if field else None
    if details["type"] in {"tuple_type", "list_type"}:
        none = "write [] for none, or leave the key out" if found == "empty" else "begin each item with `- `"
        return f"must be a list, and is {found}", remedy or none
    if details["type"] in {"model_type", "dict_type"}:
        keys = f" of {', '.join(part.model_fields)}" if part else ""
        return f"must be a section, and is {found}", f"write keys under it{keys}"
    return f"must be one value, and is {found}", remedy or "give it a value, or leave the key out"


_KINDS = ((dict, "a section"), (list, "a list"), (str, "a text"))
_SHAPES = {"tuple_type", "list_type", "model_type", "dict_type"}
_RULES = {
    "ip_v4_address": "is not an IPv4 address",
    "ip_v4_interface": "is not an IPv4 address with prefix length",
    "greater_than_equal": "is too small: at least {ge}",
    "less_than_equal": "is too large: at most {le}",
    "string_too_short": "is too short: at least {min_length}",
    "string_too_long": "is too long: at most {max_length}",
}
