"""Images are signed with one key for each site, and no other key's signature passes: all by the real ssh-keygen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config.door import run
from config.payload import SIGNATURE_NAMESPACE, SIGNER
from images import signing
from images.errors import BuildError
from images.signing import SigningKey

TEXT = '{"format":1}\n'
Verify = Callable[..., bool]


@pytest.fixture
def key(real_programs: None, tmp_path: Path) -> SigningKey:
    return signing.ensure(tmp_path)


@pytest.fixture
def verify(tmp_path: Path, key: SigningKey) -> Verify:
    """Whether ssh-keygen, asked as the installer asks it, takes the signature of a text by the key."""

    def ask(signature: str, text: str = TEXT, namespace: str = SIGNATURE_NAMESPACE) -> bool:
        (tmp_path / "signers").write_text(key.signers)
        (tmp_path / "sig").write_text(signature)
        options: list[str | Path] = ["-f", tmp_path / "signers", "-I", SIGNER, "-n", namespace, "-s", tmp_path / "sig"]
        return run(["ssh-keygen", "-Y", "verify", *options], stdin=text, check=False).returncode == 0

    return ask


def other_key(tmp_path: Path) -> SigningKey:
    (tmp_path / "other").mkdir()
    return signing.ensure(tmp_path / "other")


def test_a_signature_is_taken_for_the_text_that_was_signed_and_no_other(key: SigningKey, verify: Verify) -> None:
    signature = key.sign(TEXT)
    assert verify(signature)
    assert not verify(signature, TEXT + " ")


def test_a_signature_by_another_key_is_refused(key: SigningKey, verify: Verify, tmp_path: Path) -> None:
    assert not verify(other_key(tmp_path).sign(TEXT))


def test_a_signature_for_another_purpose_is_refused(key: SigningKey, verify: Verify) -> None:
    options: list[str | Path] = ["-q", "-Y", "sign", "-f", key.private, "-n", "file"]
    foreign = run(["ssh-keygen", *options], stdin=TEXT).stdout
    assert not verify(foreign)
    assert not verify(foreign, namespace="file")


def test_the_same_text_has_the_same_signature_so_nothing_is_written_again(key: SigningKey) -> None:
    assert key.sign(TEXT) == key.sign(TEXT)


def test_the_key_is_made_once_for_its_owner_only_with_its_public_half_beside_it(
    key: SigningKey, tmp_path: Path
) -> None:
    private = tmp_path / signing.KEY
    before = private.read_bytes()
    assert private.stat().st_mode & 0o777 == 0o600
    assert signing.ensure(tmp_path) == key
    assert private.read_bytes() == before
    assert (tmp_path / f"{signing.KEY}.pub").read_text() == key.public + "\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [signing.KEY, f"{signing.KEY}.pub"]


def test_a_lost_public_half_is_made_again(key: SigningKey, tmp_path: Path) -> None:
    (tmp_path / f"{signing.KEY}.pub").unlink()
    assert signing.ensure(tmp_path) == key
    assert (tmp_path / f"{signing.KEY}.pub").is_file()


def test_a_key_that_others_can_read_is_refused(key: SigningKey) -> None:
    key.private.chmod(0o640)
    with pytest.raises(BuildError, match="mode 0640") as e:
        signing.ensure(key.private.parent)
    assert e.value.hint == f"chmod 600 {key.private}"


@pytest.mark.parametrize("content", ["", "no key\n"])
def test_a_file_that_is_no_key_is_refused(key: SigningKey, content: str) -> None:
    key.private.write_text(content)
    with pytest.raises(BuildError, match="is no key that can sign without a passphrase"):
        signing.ensure(key.private.parent)


def test_a_key_with_a_passphrase_is_refused(key: SigningKey) -> None:
    run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "passphrase", "-f", key.private])
    with pytest.raises(BuildError, match="without a passphrase"):
        signing.ensure(key.private.parent)
