"""What a build has written is proven against its signature and its sums; each thing that is off is named."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.door import run, write_file
from images import gpg, manifest, signing, verify
from images.errors import ArtifactError, BuildError
from images.gpg import Finding
from images.manifest import Manifest
from images.signing import SigningKey

DISK = "xenpair.qcow2"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir(mode=0o700)
    return tmp_path / "secrets"


@pytest.fixture
def key(real_programs: None, secrets: Path) -> SigningKey:
    return signing.ensure(secrets)


@pytest.fixture
def out(tmp_path: Path, key: SigningKey) -> Path:
    """What a build leaves, in small."""
    out = tmp_path / "out"
    (out / "netboot").mkdir(parents=True)
    for name in (DISK, "netboot/vmlinuz"):
        (out / name).write_text(f"{name}\n")
    (out / "seed.img").write_text("secrets\n")
    made = Manifest(
        suite="trixie",
        key="0" * 32,
        config_hash="",
        root_uuid="",
        kernel="6.12",
        warnings=(),
        sources=(),
        artifacts={name: manifest.measure(out / name) for name in (DISK, "netboot/vmlinuz")},
        packages={},
    )
    publish(out, made, key)
    return out


def publish(out: Path, made: Manifest, key: SigningKey) -> None:
    write_file(out / manifest.NAME, made.to_json())
    write_file(out / manifest.SUMS, manifest.sums(made))
    write_file(out / manifest.SUMS_SIGNATURE, key.sign(manifest.sums(made)))
    write_file(out / signing.SIGNERS, key.signers)


def off(out: Path, secrets: Path) -> dict[str, str]:
    return {verdict.name: verdict.text for verdict in verify.verdicts(out, secrets) if verdict.off}


def other_key(tmp_path: Path) -> SigningKey:
    (tmp_path / "other").mkdir(mode=0o700)
    return signing.ensure(tmp_path / "other")


def test_each_file_has_a_line_and_the_signer_is_named(
    out: Path, secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify.verify_artifacts(out, secrets) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith("SHA256SUMS: ok, signed by SHA256:")
    assert first.endswith(f", the key of {secrets}")
    assert others == [
        "netboot/vmlinuz: ok",
        "xenpair.qcow2: ok",
        "manifest.json: ok",
        "seed.img: not checked, for it has no sum: it holds the cluster's secrets",
    ]


def test_a_changed_file_and_a_missing_one_are_named(
    out: Path, secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / DISK).write_text("something else\n")
    (out / "netboot/vmlinuz").unlink()
    assert verify.verify_artifacts(out, secrets) == 1
    captured = capsys.readouterr()
    assert captured.err == f"not as they were signed: netboot/vmlinuz, {DISK}\n"
    assert f"{DISK}: its sha256 is " in captured.out
    assert "netboot/vmlinuz: cannot be read: No such file or directory" in captured.out


def test_sums_that_were_changed_with_the_file_do_not_pass(out: Path, secrets: Path) -> None:
    (out / DISK).write_text("something else\n")
    made = manifest.read(out)
    assert made is not None
    forged = made.model_copy(update={"artifacts": {**made.artifacts, DISK: manifest.measure(out / DISK)}})
    write_file(out / manifest.NAME, forged.to_json())
    write_file(out / manifest.SUMS, manifest.sums(forged))
    assert off(out, secrets) == {"SHA256SUMS": "SHA256SUMS.sig is no signature of it"}


def test_another_key_does_not_pass_even_where_out_says_so(
    out: Path, secrets: Path, key: SigningKey, tmp_path: Path
) -> None:
    made = manifest.read(out)
    assert made is not None
    publish(out, made, other_key(tmp_path))
    fault = off(out, secrets)["SHA256SUMS"]
    assert fault.startswith("is signed by SHA256:")
    assert fault.endswith(f"which is not the key of {secrets}")


def test_where_there_is_no_key_of_ones_own_the_one_beside_it_counts_with_a_warning(out: Path, tmp_path: Path) -> None:
    first, *_ = verify.verdicts(out, tmp_path / "nowhere")
    assert not first.off
    assert "image-signers beside it says: compare it" in first.text
    (out / signing.SIGNERS).unlink()
    first, *_ = verify.verdicts(out, tmp_path / "nowhere")
    assert first.off
    assert "no signer is known" in first.text


def test_a_missing_signature_is_a_fault(out: Path, secrets: Path) -> None:
    (out / manifest.SUMS_SIGNATURE).unlink()
    assert off(out, secrets) == {"SHA256SUMS": "is not signed: there is no SHA256SUMS.sig"}


def test_a_manifest_that_tells_of_other_files_is_named(out: Path, secrets: Path, key: SigningKey) -> None:
    made = manifest.read(out)
    assert made is not None
    fewer = made.model_copy(update={"artifacts": {DISK: made.artifacts[DISK]}})
    sums = manifest.sums(made).splitlines()[:-1] + manifest.sums(fewer).splitlines()[-1:]
    text = "\n".join(sums) + "\n"
    write_file(out / manifest.NAME, fewer.to_json())
    write_file(out / manifest.SUMS, text)
    write_file(out / manifest.SUMS_SIGNATURE, key.sign(text))
    assert off(out, secrets) == {"manifest.json": "does not agree with SHA256SUMS about netboot/vmlinuz"}


def test_a_directory_without_sums_and_sums_that_are_none_have_one_message(out: Path, secrets: Path) -> None:
    with pytest.raises(ArtifactError, match="has a line that is none of sha256sum's: 'hello'"):
        verify.parse_sums("hello\n")
    (out / manifest.SUMS).unlink()
    with pytest.raises(ArtifactError, match="SHA256SUMS cannot be read"):
        list(verify.verdicts(out, secrets))


@pytest.fixture
def gpg_key(real_programs: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A key of gpg's, in a home of its own; the path of its agent's socket must be short (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="gpg-", dir="/tmp") as home:
        monkeypatch.setenv("GNUPGHOME", home)
        argv = [
            "gpg",
            "--batch",
            "--quiet",
            "--passphrase",
            "",
            "--quick-gen-key",
            "Site <site@example.org>",
            "ed25519",
        ]
        run(argv, env={"GNUPGHOME": home})
        yield "site@example.org"
        run(["gpgconf", "--kill", "all"], env={"GNUPGHOME": home})


def test_gpg_vouches_for_the_sums_as_well(out: Path, secrets: Path, gpg_key: str) -> None:
    write_file(out / manifest.SUMS_GPG, gpg.sign((out / manifest.SUMS).read_text(), gpg_key))
    (told,) = [verdict for verdict in verify.verdicts(out, secrets) if verdict.name == manifest.SUMS_GPG]
    assert not told.off
    assert told.text.endswith(", Site <site@example.org>")
    write_file(out / manifest.SUMS_GPG, gpg.sign("other sums\n", gpg_key))
    assert list(off(out, secrets)) == [manifest.SUMS_GPG]


def test_a_key_that_gpg_does_not_have_is_named_before_anything_is_built(gpg_key: str) -> None:
    gpg.check(gpg_key)
    with pytest.raises(BuildError, match=r"gpg has no secret key 'nobody@example\.org'"):
        gpg.check("nobody@example.org")


def test_what_gpg_says_of_a_signature(captured: Path) -> None:
    """Captured from `gpg --status-fd 1 --verify`, GnuPG 2.2.40."""
    good, unknown, bad = (captured / "gpg-verify.txt").read_text().split("\n\n")
    who = "9B0E85CAE7273473073D58E00559E72825AE8510, Site <site@example.org>"
    assert gpg.parse_status(good) == Finding(good=True, text=f"ok, signed by {who}")
    assert gpg.parse_status(unknown).text == "gpg lacks the public key 0559E72825AE8510 (`gpg --import`)"
    assert not gpg.parse_status(bad).good
    assert not gpg.parse_status("").good
