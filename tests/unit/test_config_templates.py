"""Templates against the names and the model that they are rendered with."""

from pathlib import Path
from typing import Any

import pytest

from config.command import check_config
from config.loader import load
from config.model import Cluster, Node
from config.secrets import ensure
from config.template_check import check_templates

NAMES: dict[str, dict[str, Any]] = {"node": {"cluster": Cluster, "node": Node, "managed": str, "parts": Any}}


def found(path: Path, text: str) -> list[tuple[int | None, str, str]]:
    file = path / "node" / "etc" / "file.j2"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    findings = check_templates(path, NAMES)
    assert all(f.file == str(file) and f.severity == "error" for f in findings)
    return [(f.line, f.path, f"{f.problem}; {f.remedy}") for f in findings]


def test_a_missing_or_empty_directory_has_no_faults(tmp_path: Path) -> None:
    assert check_templates(tmp_path / "none") == []
    assert check_templates(tmp_path) == []


def test_the_projects_own_templates_are_sound() -> None:
    assert check_templates(Path("templates")) == []


def test_what_a_node_says_of_a_unit_counts_more_than_what_the_image_says() -> None:
    # systemd reads drop-ins in the order of their names, wherever they are: systemd.unit(5). The last one wins.
    own = {path.parent.name: path.stem for path in Path("templates/node/etc/systemd/system").glob("*.d/*.conf.j2")}
    images = {path.parent.name: path.name for path in Path("templates/dropins").glob("*.d/*.conf")}
    assert own.keys() & images.keys()
    for unit in own.keys() & images.keys():
        assert own[unit] >= images[unit]


@pytest.mark.parametrize(
    ("text", "line", "path", "words"),
    [
        ("a\n{{ nod.name }}", 2, "nod", "nothing defines this name; did you mean node?"),
        ("{% if x is defined %}{% endif %}", 1, "x", "nothing defines this name"),
        ("a\nb\n{{ cluster.storag.drbd }}", 3, "cluster.storag", "Cluster has no storag; did you mean storage?"),
        ("{{ cluster.storage.drbd.prot }}", 1, "cluster.storage.drbd.prot", "did you mean port?"),
        ("{% for n in cluster.nodes %}\n{{ n.nam }}{% endfor %}", 2, "n.nam", "Node has no nam; did you mean name?"),
        ("{% for n in cluster.nodes %}{{ n.nics.gest }}{% endfor %}", 1, "n.nics.gest", "did you mean guest?"),
        ("{{ cluster.nodes[0].nam }}", 1, "cluster.nodes[...].nam", "did you mean name?"),
        ("{% set n = cluster.nodes[1] %}{{ n.nam }}", 1, "n.nam", "did you mean name?"),
        ("{% if node.bmc %}{{ node.bmc.pasword }}{% endif %}", 1, "node.bmc.pasword", "did you mean password?"),
        ("{{ cluster.heartbeat.port.x }}", 1, "cluster.heartbeat.port.x", "int has no x"),
        ("{% macro m(a) %}{{ node.nam }}{% endmacro %}", 1, "node.nam", "did you mean name?"),
        ("\n{% if %}", 2, "", "is not a template"),
        ("{{ node.name | nosuchfilter }}", 1, "", "No filter named"),
    ],
)
def test_what_a_template_cannot_have_is_found(text: str, line: int, path: str, words: str, tmp_path: Path) -> None:
    findings = found(tmp_path, text)
    assert [(f[0], f[1]) for f in findings] == [(line, path)]
    assert words in findings[0][2]


@pytest.mark.parametrize(
    "text",
    [
        "{{ cluster.cluster.name }} {{ node.addresses.cluster.ip }} {{ managed.upper() }} {{ parts.x['y'].z }}",
        "{% for g in cluster.guests if g.home == node.name %}{{ loop.index }} {{ g.name }}{% endfor %}",
        "{% for s in cluster.network.dns %}{{ s }}{% else %}{{ cluster.config_hash() }}{% endfor %}",
        "{% set ns = namespace(x=1) %}{{ ns.x }}{% for i in range(3) %}{{ i }}{% endfor %}",
        "{% for a, b in parts.items() %}{{ a.x }}{{ b }}{% endfor %}",
        "{{ cluster.disk_rule(node, 'system').serial }}",
        "{% macro m(a) %}{{ a.anything }}{% endmacro %}{{ m(node) }}",
    ],
)
def test_what_a_template_can_have_is_left_alone(text: str, tmp_path: Path) -> None:
    assert found(tmp_path, text) == []


def test_a_name_that_a_loop_defines_ends_with_the_loop(tmp_path: Path) -> None:
    assert [f[1] for f in found(tmp_path, "{% for n in cluster.nodes %}{% endfor %}{{ n.name }}")] == ["n"]


def test_a_template_that_is_not_utf8_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "x.j2").write_bytes(b"\xff")
    assert "cannot be read" in str(check_templates(tmp_path, NAMES)[0])


def test_a_template_that_no_renderer_claims_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "attic").mkdir()
    (tmp_path / "attic" / "x.j2").write_text("")
    assert "names a template below attic/ may use" in str(check_templates(tmp_path, NAMES)[0])


class TestCheckConfig:
    """The command: what it prints, where, and its exit code."""

    def run(self, config: Path, tmp_path: Path) -> int:
        return check_config(config, templates=tmp_path / "templates", secrets_directory=tmp_path / "secrets")

    def config(self, path: Path, old: str = "", new: str = "") -> Path:
        file = path / "cluster.yaml"
        file.write_text(Path("config/cluster.yaml").read_text().replace(old, new, 1))
        return file

    def test_a_good_config_gets_one_line_and_no_secrets(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(self.config(tmp_path), tmp_path) == 0
        out, err = capsys.readouterr()
        assert out == "xenpair: 0 guests; to hold them all, xen1 needs 1712M of its 3G, xen2 needs 1712M of its 3G\n"
        assert [": warning: " in line for line in err.splitlines()] == [True, True, False]
        assert err.endswith("2 warnings\n")
        assert not (tmp_path / "secrets").exists()

    def test_every_fault_has_its_line_and_they_are_counted(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "templates" / "node").mkdir(parents=True)
        (tmp_path / "templates" / "node" / "x.j2").write_text("{{ nobody }}")
        file = self.config(tmp_path, "keepalive", "kepalive")
        assert self.run(file, tmp_path) == 2
        out, err = capsys.readouterr()
        assert out == ""
        line = next(i for i, text in enumerate(file.read_text().splitlines(), 1) if "kepalive" in text)
        assert f"{file}:{line}: heartbeat.kepalive: unknown key; did you mean keepalive?" in err
        assert "x.j2:1: nobody: nothing defines this name" in err
        assert err.endswith("2 errors, 1 warning\n")

    def test_a_secrets_file_is_checked_if_there_is_one(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets" / "xenpair.yaml").write_text("")
        (tmp_path / "secrets" / "xenpair.yaml").chmod(0o644)
        assert self.run(self.config(tmp_path), tmp_path) == 2
        assert "chmod 600" in capsys.readouterr().err

    def test_bmc_passwords_without_a_secrets_file_are_a_warning(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(self.config(tmp_path), tmp_path) == 0
        assert "does not exist yet, and the passwords" in capsys.readouterr().err

    def test_a_bmc_password_that_the_next_build_will_make_is_a_warning(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = self.config(tmp_path)
        ensure(load(file).cluster, tmp_path / "secrets")
        assert self.run(file, tmp_path) == 0
        assert "bmc." not in capsys.readouterr().err
        file = self.config(tmp_path, "secret:bmc-xen2", "secret:new")
        assert self.run(file, tmp_path) == 0
        assert "warning: bmc.new: does not exist yet, and xen2 refers to it" in capsys.readouterr().err

    def test_a_pair_without_bmcs_is_a_warning_that_says_what_it_means(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = self.config(tmp_path)
        file.write_text("\n".join(line for line in file.read_text().splitlines() if " bmc: " not in line))
        assert self.run(file, tmp_path) == 0
        err = capsys.readouterr().err
        assert "nothing can be fenced" in err
        assert "until an administrator confirms by hand" in err
