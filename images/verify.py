"""`invoke verify-artifacts`: whether the files of a build are those that were signed, and who signed them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from config.signature import claimed_signer
from images import gpg, manifest, signing
from images.errors import ArtifactError
from images.iso import ISO
from images.manifest import NAME, SUMS, SUMS_GPG, SUMS_SIGNATURE
from images.seed import SEED

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_BESIDE = (SUMS, SUMS_SIGNATURE, SUMS_GPG, signing.SIGNERS)
_OF_THE_OWNER = (SEED, ISO)
"""They hold the cluster's secrets, and are put together anew when these change: no sum of them is published."""


@dataclass(frozen=True)
class Verdict:
    """What was found of one file, and whether that is wrong."""

    name: str
    text: str
    off: bool = False


def verify_artifacts(out: Path, secrets: Path) -> int:
    """Print a line for each file, and the names of those that are off. Returns the exit code: 0, or 1 where any is.

    secrets: the directory of the config's, whose key is trusted; without one there, that in out is. Raises
    ArtifactError where there is nothing to verify.
    """
    off = []
    for verdict in verdicts(out, secrets):
        sys.stdout.write(f"{verdict.name}: {verdict.text}\n")
        off += [verdict.name] if verdict.off else []
    if off:
        sys.stderr.write(f"not as they were signed: {', '.join(dict.fromkeys(off))}\n")
    return 1 if off else 0


def verdicts(out: Path, secrets: Path) -> Iterator[Verdict]:
    """The same, one after the other: the signature, every file that it vouches for, and what it does not."""
    try:
        text = (out / SUMS).read_bytes().decode(errors="replace")
    except OSError as e:
        hint = "`invoke build-image` writes it; --out names the directory"
        raise ArtifactError(f"{out / SUMS} cannot be read: {e.strerror}", hint=hint) from e
    yield _signature(text, out, secrets)
    yield from _gpg_signature(out)
    sums = parse_sums(text)
    for name, sha256 in sums.items():
        yield _check(out, name, sha256)
    yield from _disagreements(out, sums)
    yield from _uncovered(out, sums)


def parse_sums(text: str) -> dict[str, str]:
    """Name -> sha256 of what sha256sum(1) wrote. Raises ArtifactError for a line that it did not write."""
    matches = [(line, _LINE.fullmatch(line)) for line in text.splitlines()]
    if wrong := [line for line, match in matches if match is None]:
        raise ArtifactError(f"{SUMS} has a line that is none of sha256sum's: {wrong[0]!r}", hint="fetch it again")
    return {match[2]: match[1] for _, match in matches if match}


def _signature(text: str, out: Path, secrets: Path) -> Verdict:
    signature, own = out / SUMS_SIGNATURE, signing.known(secrets)
    if not signature.is_file():
        return Verdict(SUMS, f"is not signed: there is no {SUMS_SIGNATURE}", off=True)
    try:
        signers = (out / signing.SIGNERS).read_text() if own is None else own
    except OSError:
        fault = f"no signer is known: there is neither {secrets / signing.KEY}.pub nor {out / signing.SIGNERS}"
        return Verdict(SUMS, fault, off=True)
    if (key := signing.verified(text, signature, signers)) is None:
        other = claimed_signer(text, signature)
        whose = f"the key in {signing.SIGNERS}" if own is None else f"the key of {secrets}"
        fault = f"is signed by {other}, which is not {whose}" if other else f"{SUMS_SIGNATURE} is no signature of it"
        return Verdict(SUMS, fault, off=True)
    if own is None:
        return Verdict(
            SUMS, f"ok, signed by {key}, which {signing.SIGNERS} beside it says: compare it with your site's"
        )
    return Verdict(SUMS, f"ok, signed by {key}, the key of {secrets}")


def _gpg_signature(out: Path) -> Iterator[Verdict]:
    if (out / SUMS_GPG).is_file():
        signer = gpg.verified(out / SUMS, out / SUMS_GPG)
        yield Verdict(SUMS_GPG, signer.text, off=not signer.good)


def _check(out: Path, name: str, sha256: str) -> Verdict:
    try:
        found = manifest.measure(out / name).sha256
    except OSError as e:
        return Verdict(name, f"cannot be read: {e.strerror}", off=True)
    if found != sha256:
        return Verdict(name, f"its sha256 is {found}, and should be {sha256}", off=True)
    return Verdict(name, "ok")


def _disagreements(out: Path, sums: Mapping[str, str]) -> Iterator[Verdict]:
    """Where manifest.json, which has a sum of its own, tells of other files than the sums do."""
    found = manifest.read(out)
    if found is None:
        yield Verdict(NAME, "is no manifest that this version understands", off=True)
        return
    told = {name: artifact.sha256 for name, artifact in found.artifacts.items()}
    for name in sorted(told.keys() | sums.keys() - {NAME}):
        if told.get(name) != sums.get(name):
            yield Verdict(NAME, f"does not agree with {SUMS} about {name}", off=True)


def _uncovered(out: Path, sums: Mapping[str, str]) -> Iterator[Verdict]:
    paths = (str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    for name in sorted(name for name in paths if name not in sums and name not in _BESIDE and not name.startswith(".")):
        why = "it holds the cluster's secrets" if name in _OF_THE_OWNER else "it is none of the build's"
        yield Verdict(name, f"not checked, for it has no sum: {why}")
