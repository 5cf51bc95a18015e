"""Which file is taken for a package of xenpair's, what it still lacks, and what is kept: by dpkg's own words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from config.door import Output, run
from firstboot.errors import UpgradeError
from firstboot.places import Places
from firstboot.upgrading import package


def deb(directory: Path, name: str) -> Path:
    """A package of that name that holds one file."""
    tree = directory / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1.2+3\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n"
    )
    (tree / "file").write_text("content")
    run(["dpkg-deb", "--root-owner-group", "--build", tree, directory / f"{name}.deb"])
    return directory / f"{name}.deb"


def test_a_package_of_ours_has_a_version(real_programs: None, tmp_path: Path) -> None:
    assert package.version_of(deb(tmp_path, "xenpair-firstboot")) == "1.2+3"


def test_another_package_or_no_package_is_refused(real_programs: None, tmp_path: Path) -> None:
    with pytest.raises(UpgradeError, match="holds hello, and not xenpair-firstboot"):
        package.version_of(deb(tmp_path, "hello"))
    broken = tmp_path / "broken.deb"
    broken.write_text("no package")
    with pytest.raises(UpgradeError, match="is no Debian package"):
        package.version_of(broken)


def test_the_packages_own_code_goes_on(real_programs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[list[str], str]] = []
    monkeypatch.setattr("os.execve", lambda _, argv, env: started.append((argv, env["PYTHONPATH"])))
    places = Places(tmp_path / "root")
    package.hand_over(deb(tmp_path, "xenpair-firstboot"), places, ["--plan"])
    assert (places.unpacked / "file").read_text() == "content"
    assert started == [
        (
            ["/usr/bin/python3", "-P", "-m", "firstboot.command", "upgrade", "--plan"],
            str(places.unpacked / "usr/lib/xenpair"),
        )
    ]


SIMULATED = """\
Inst python3-new (1.0 Debian:13.2/stable [all])
Inst xenpair-firstboot [0.1.0+1] (0.1.0+2 local-deb [all])
Conf python3-new (1.0 Debian:13.2/stable [all])
Conf xenpair-firstboot (0.1.0+2 local-deb [all])
"""


@pytest.mark.parametrize(
    ("output", "missing"),
    [
        (Output(0, SIMULATED, ""), "python3-new"),
        (Output(0, SIMULATED.replace("python3-new", "xenpair-firstboot"), ""), ""),
        (Output(100, "", "E: Unmet dependencies:\n xenpair-firstboot"), "E: Unmet dependencies: xenpair-firstboot"),
    ],
)
def test_what_a_package_needs_beside_itself_is_told(
    monkeypatch: pytest.MonkeyPatch, output: Output, missing: str
) -> None:
    def run(argv: Sequence[str], **_: object) -> Output:
        assert "--simulate" in argv
        return output

    monkeypatch.setattr(package, "run", run)
    assert package.missing(Path("/x.deb")) == missing
