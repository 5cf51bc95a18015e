"""The loader: what YAML can do wrong, how types are read, how errors are worded."""

import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from config.document import MAX_BYTES
from config.findings import ConfigError, Finding, yaml_path
from config.loader import load
from config.model import Cluster
from config.phrases import EXAMPLES
from config.secrets import Secrets
from config.shape import part_in

EXAMPLE_FILE = Path("config/cluster.yaml")
EXAMPLE = EXAMPLE_FILE.read_text(encoding="utf-8")


def write(path: Path, content: str | bytes) -> Path:
    file = path / "cluster.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def refusal(file: Path) -> list[Finding]:
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.exit_code == 2
    return [f for f in caught.value.findings if f.severity == "error"]


def changed(old: str, new: str) -> str:
    assert old in EXAMPLE
    return EXAMPLE.replace(old, new, 1)


def test_the_example_is_valid() -> None:
    loaded = load(EXAMPLE_FILE)
    assert [node.name for node in loaded.cluster.nodes] == ["xen1", "xen2"]
    assert loaded.source == EXAMPLE_FILE
    assert all(f.severity == "warning" for f in loaded.warnings)


DISASTERS: list[tuple[str, str | bytes, int | None, str]] = [
    ("empty", "", 1, "is empty"),
    ("only comments", "# nothing\n", 1, "is empty"),
    ("an empty document", "---\n...\n", 1, "is empty"),
    ("null", "null\n", 1, "is empty"),
    ("a list", "# x\n- a\n", 2, "holds a list"),
    ("a text", "hello\n", 1, "holds a text"),
    ("Latin-1", "cluster:\n  name: caf\xe9\n".encode("latin-1"), 2, "is not UTF-8"),
    ("UTF-16", EXAMPLE.encode("utf-16"), 1, "is not UTF-8"),
    ("a NUL byte", b"cluster:\n  name: a\x00b\n", 2, "U+0000"),
    ("an ESC byte", b"a: 1\nb: \x1b[31m\n", 2, "U+001B"),
    ("a tab", "cluster:\n\tname: xenpair\n", 2, "indent with spaces"),
    ("an open bracket", "nodes: [\n", 2, "is not valid YAML"),
    ("an open quote", 'cluster: "\n\n', 3, "is not valid YAML"),
    ("bad indentation", "cluster:\n  name: a\n domain: b\n", 3, "is not valid YAML"),
    ("a missing colon", "cluster:\n  name: a\n  domain\n", 4, "is not valid YAML"),
    ("an escape beyond Unicode", 'a: "\\UFFFFFFFF"\n', 1, "is not valid YAML"),
    ("a surrogate", 'a:\n  b: "\\uD800"\n', 2, "surrogate"),
    ("a second document", "a: b\n---\nc: d\n", 2, "second document"),
    ("an unknown directive", "%YAML 9.9\n---\na: b\n", 1, "is not valid YAML"),
    ("an alias", "a: &x b\n", 1, "&x is an anchor"),
    ("an undefined alias", "a: *x\n", 1, "*x is an alias"),
    ("an unquoted pattern", "a:\n  serial: *-data\n", 2, "or quote it"),
    ("a merge key", "a: {b: c}\nd:\n  <<: *a\n", 3, "*a is an alias"),
    ("a recursive anchor", "&a [*a]\n", 1, "&a is an anchor"),
    ("a Python object", "a: !!python/object/apply:os.system ['true']\n", 1, "is a tag"),
    ("a local tag", "a: !secret x\n", 1, "is a tag"),
    ("a list as key", "? [a, b]\n: c\n", 1, "no plain word"),
    ("a section as key", "{a: b}: c\n", 1, "no plain word"),
    ("an empty key", "?\n: c\n", 1, "key here is empty"),
    ("null as key", "a: b\n~: c\n", 2, "key here is empty"),
    ("deep nesting", "[" * 10_000, 1, "nested deeper"),
    ("deep sections", "\n".join(f"{' ' * i}a:" for i in range(100)), 18, "nested deeper"),
    ("too large", "a: " + "x" * MAX_BYTES, None, "is larger than 256 KiB"),
]


@pytest.mark.parametrize(("content", "line", "words"), [d[1:] for d in DISASTERS], ids=[d[0] for d in DISASTERS])
def test_yaml_that_cannot_be_read_is_one_clear_line(
    content: str | bytes, line: int | None, words: str, tmp_path: Path
) -> None:
    found = refusal(write(tmp_path, content))
    assert len(found) == 1
    assert found[0].line == line
    assert words in str(found[0])
    assert "\n" not in str(found[0])


def test_an_alias_bomb_does_not_explode(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40))
    assert "is an anchor" in str(refusal(write(tmp_path, bomb))[0])


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert str(refusal(tmp_path / "none.yaml")[0]).startswith(f"{tmp_path}/none.yaml: does not exist; ")


def test_a_directory_is_not_a_config(tmp_path: Path) -> None:
    assert "is a directory" in str(refusal(tmp_path)[0])


def test_a_file_that_this_user_cannot_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    file = write(tmp_path, EXAMPLE)
    monkeypatch.setattr(Path, "open", denied)
    assert "cannot be read: Permission denied" in str(refusal(file)[0])


def test_an_endless_file_is_refused() -> None:
    assert "is larger" in str(refusal(Path("/dev/zero"))[0])


def test_a_name_with_a_nul_is_refused() -> None:
    assert "cannot be read" in str(refusal(Path("a\0b"))[0])


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    assert load(write(tmp_path, b"\xef\xbb\xbf" + EXAMPLE.encode())).cluster == load(EXAMPLE_FILE).cluster


def test_duplicate_keys_are_all_reported_with_both_lines(tmp_path: Path) -> None:
    text = EXAMPLE + "admin: {}\nheartbeat: {port: 1, port: 2}\n"
    found = [(f.line, f.path, f.problem) for f in refusal(write(tmp_path, text))]
    first, last = EXAMPLE.splitlines().index("admin:") + 1, len(EXAMPLE.splitlines())
    assert (last + 1, "admin", f"is given twice, in lines {first} and {last + 1}") in found
    assert (last + 2, "heartbeat.port", f"is given twice, in lines {last + 2} and {last + 2}") in found
    assert "heartbeat" in [path for _, path, _ in found]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("0123", "0123"),
        ("1e3", "1e3"),
        ("0x1F", "0x1F"),
        ("190:20:30", "190:20:30"),
        ("2009-12-01", "2009-12-01"),
        ("yes", "yes"),
        ("no", "no"),
        ("1_000", "1_000"),
        ("00012345678901234567890", "00012345678901234567890"),
        ("=", "="),
        ("'null'", "null"),
    ],
)
def test_a_serial_is_the_text_that_was_written(written: str, read: str, tmp_path: Path) -> None:
    text = changed('match: {mac: "52:54:00:10:32:01"}', f"match:\n      serial: {written}")
    assert load(write(tmp_path, text)).cluster.nodes[0].match.serial == read


def test_a_mac_address_needs_no_quotes(tmp_path: Path) -> None:
    assert load(write(tmp_path, re.sub(r'"(52:[0-9:]+)"', r"\1", EXAMPLE))).cluster == load(EXAMPLE_FILE).cluster


@pytest.mark.parametrize("null", ["null", "~", ""])
def test_a_null_is_a_value_not_given(null: str, tmp_path: Path) -> None:
    text = changed('match: {mac: "52:54:00:10:32:01"}', f"match:\n      mac: 52:54:00:10:32:01\n      serial: {null}")
    assert load(write(tmp_path, text)).cluster.nodes[0].match.serial is None


PHRASES: list[tuple[str, str, str, str]] = [
    ("keepalive: 2", "kepalive: 2", "heartbeat.kepalive", "unknown key; did you mean keepalive?"),
    ("keepalive: 2", "zzz: 2", "heartbeat.zzz", "known here: keepalive, warntime, deadtime, initdead, port"),
    ("keepalive: 2", "3: 2", "heartbeat.3", "unknown key"),
    ("keepalive: 2", '"a b.c": 2', "heartbeat.'a b.c'", "unknown key"),
    ("    memory: 3G\n", "", "nodes[0].memory", "is missing; add it, like `memory: 64G`"),
    ("memory: 3G", "memory: 3", "nodes[0].memory", "'3' is not a size; write a whole number and a unit"),
    ("memory: 3G", "memory: [3G]", "nodes[0].memory", "must be one value, and is a list; write it like `memory: 64G`"),
    ("memory: 3G", "memory:", "nodes[0].memory", "must be one value, and is empty"),
    ("keepalive: 2", "keepalive: 2.0", "heartbeat.keepalive", "'2.0' is not a whole number"),
    ("keepalive: 2", "keepalive: 02", "heartbeat.keepalive", "'02' is not a whole number"),
    ("keepalive: 2", "keepalive: 1:30", "heartbeat.keepalive", "'1:30' is not a whole number"),
    ("keepalive: 2", "keepalive: 0", "heartbeat.keepalive", "'0' is too small: at least 1"),
    ("keepalive: 2", "port: 65536", "heartbeat.port", "'65536' is too large: at most 65535"),
    ("keepalive: 2", "keepalive: {a: b}", "heartbeat.keepalive", "must be one value, and is a section"),
    ("ssh_keys: []", "ssh_keys: ssh-ed25519 AAAA", "admin.ssh_keys", "must be a list, and is a text"),
    ("ssh_keys: []", "ssh_keys:", "admin.ssh_keys", "must be a list, and is empty; write [] for none"),
    ("ssh_keys: []", "ssh_keys: [abc]", "admin.ssh_keys[0]", "not an SSH public key; paste"),
    ("guests: []", "guests: {}", "guests", "must be a list, and is a section"),
    ("bridge: xenbr0", "bridge: Xen!", "network.bridge", "'Xen!' does not have the right form; write it like"),
    ("bridge: xenbr0", "gateway: 1.2.3", "network.gateway", "'1.2.3' is not an IPv4 address; write it like"),
    ("bridge: xenbr0", "gateway: 5", "network.gateway", "'5' is not an IPv4 address"),
    ("10.10.32.1/24", "10.10.32.1/33", "nodes[0].addresses.cluster", "is not an IPv4 address with prefix length"),
    ("suite: trixie", "suite: sid", "debian.suite", "'sid' is not possible; write 'trixie'"),
    ("mirror: auto", "mirror: ftp://x", "debian.mirror", "'ftp://x' is not possible; write it like `mirror: auto`"),
    ("name: xen1", "name: Xen1", "nodes[0].name", "'Xen1' is not a host name that heartbeat can compare"),
    ("name: xen1", "name: 'a; b'", "nodes[0].name", "'a; b' is not a host name"),
    ("52:54:00:10:32:01", "53:54:00:10:32:01", "nodes[0].match.mac", "multicast"),
    ("guests: []", "guests: [{name: -a, memory: 1G, disk: 1G, home: xen1}]", "guests[0].name", "not a guest name"),
    *(
        (
            "guests: []",
            f"guests: [{{name: a, memory: 1G, disk: 1G, home: xen1, {key}: {value}}}]",
            f"guests[0].{path}",
            say,
        )
        for key, value, path, say in (
            (
                "network",
                "{address: dhpc}",
                "network.address",
                "neither dhcp nor an IPv4 address with prefix length; write",
            ),
            ("network", "{address: 192.168.132.500/24}", "network.address", "neither dhcp nor an IPv4 address"),
            (
                "network",
                "{gateway: router}",
                "network.gateway",
                "is not an IPv4 address; write it like `gateway: 192.168",
            ),
            ("network", "{gate: 1}", "network.gate", "unknown key; did you mean gateway?"),
            ("boot", "{by: grub}", "boot.by", "'grub' is not possible; write 'host' or 'guest'"),
            ("boot", "{kernel: ../k}", "boot.kernel", "neither the plain name of a file beside the config nor"),
            ("boot", "{kernel: /a/../k}", "boot.kernel", "not a plain absolute path"),
            ("boot", "{kernel: NUL}", "boot.kernel", "neither the plain name"),
            ("boot", "{kernel: k.}", "boot.kernel", "no dot first or last"),
            ("boot", f"{{arguments: {'x' * 301}}}", "boot.arguments", "longer than 300 characters"),
            ("boot", '{arguments: "a\\tb"}', "boot.arguments", "not printable ASCII"),
            ("install", "a.tar", "install", "must be a section, and is a text; write keys under it of tarball, image"),
            ("priority", "100", "priority", "too large: at most 99"),
            ("restart", "sometimes", "restart", "write 'always', 'on-crash' or 'never'"),
            ("type", "hvm", "type", "write 'auto', 'pvh' or 'pv'"),
            ("options", "[a]", "options", "must be a section, and is a list"),
            ("options", "{a: [b]}", "options.a", "must be one value, and is a list"),
            ("options", '{a: "\\a"}', "options.a", "not printable ASCII"),
        )
    ),
    ("guests: []", "guests: [7]", "guests[0]", "must be a section, and is a text; write keys under it of name, memory"),
    ("volume_group: data", "volume_group: a b", "storage.volume_group", "does not have the right form"),
    ('serial: "system-*"', "serial: ''", "storage.system.serial", "is too short"),
]


@pytest.mark.parametrize(("old", "new", "path", "words"), PHRASES, ids=[f"{p[2]}-{p[1].strip()}" for p in PHRASES])
def test_a_wrong_value_is_explained_at_its_line(old: str, new: str, path: str, words: str, tmp_path: Path) -> None:
    text = changed(old, new)
    found = [f for f in refusal(write(tmp_path, text)) if f.path == path]
    assert len(found) == 1
    assert words in f"{found[0].problem}; {found[0].remedy}"
    line = text.splitlines()[(found[0].line or 0) - 1]
    assert new.strip() in line if new else "name: xen1" in line


def test_a_password_in_the_config_is_refused_and_not_repeated(tmp_path: Path) -> None:
    text = changed("    memory: 3G", "    memory: 3G\n    bmc: {address: 10.0.0.1, user: a, password: hunter2}")
    found = refusal(write(tmp_path, text))
    assert "nodes[0].bmc.password" in [f.path for f in found]
    assert all("hunter2" not in str(f) for f in found)


def test_a_message_stays_on_one_line_whatever_the_value(tmp_path: Path) -> None:
    found = refusal(write(tmp_path, changed("name: xen1", 'name: "a\\nb\\e[31m' + "x" * 500 + '"')))
    assert all(c in string.printable and c not in "\n\r\x1b" for f in found for c in str(f))
    assert all(len(str(f)) < 400 for f in found)


def test_all_errors_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = changed("suite: trixie", "suite: lenny").replace("memory: 1536M", "memory: lots")
    text = text.replace("guests: []", "guests: 7").replace("max_rate", "rate")
    found = refusal(write(tmp_path, text))
    assert [f.path for f in found] == ["debian.suite", "dom0.memory", "storage.drbd.rate", "guests"]
    assert [f.line for f in found] == sorted(f.line or 0 for f in found)


def test_a_config_that_is_not_usable_prints_one_line_for_each_fault(tmp_path: Path) -> None:
    file = write(tmp_path, changed("keepalive: 2", "kepalive: 2"))
    with pytest.raises(ConfigError) as caught:
        load(file)
    line = text_line(file, "kepalive")
    expected = f"{file}:{line}: heartbeat.kepalive: unknown key; did you mean keepalive?"
    assert expected in str(caught.value).splitlines()


def text_line(file: Path, piece: str) -> int:
    return next(i for i, line in enumerate(file.read_text().splitlines(), 1) if piece in line)


def test_a_path_quotes_what_is_no_plain_word() -> None:
    assert yaml_path(("nodes", 1, "addresses", "cluster")) == "nodes[1].addresses.cluster"
    assert yaml_path(("a b", "c\n")) == "'a b'.'c\\n'"


def models(root: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield root
    for field in root.model_fields.values():
        if part := part_in(field.annotation):
            yield from models(part)


def test_every_required_key_has_an_example_and_every_example_a_key() -> None:
    parts = {model.__name__: model for root in (Cluster, Secrets) for model in models(root)}
    required = {f"{n}.{k}" for n, m in parts.items() for k, field in m.model_fields.items() if field.is_required()}
    assert required <= set(EXAMPLES)
    assert {key for key in EXAMPLES if key.split(".")[1] not in parts[key.split(".")[0]].model_fields} == set()


def verdict(file: Path) -> list[Finding]:
    try:
        return list(load(file).warnings)
    except ConfigError as e:
        return list(e.findings)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
@example(data=b"\xef\xbb\xbf")
@example(data=b"%YAML 1." + b"9" * 5000)
def test_bytes_never_raise_anything_but_a_config_error(data: bytes, tmp_path: Path) -> None:
    found = verdict(write(tmp_path, data))
    assert any(f.severity == "error" for f in found)


SNIPPETS = st.sampled_from(
    [
        "",
        "[",
        "]",
        "{",
        "}",
        ": ",
        "- ",
        "\n",
        "\t",
        "&a ",
        "*a",
        "!!int ",
        "null",
        '"',
        "'",
        "|",
        "?",
        "#",
        "%",
        "0x",
        "-1",
    ]
)


@pytest.mark.exhaustive
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(EXAMPLE)), st.integers(0, 12), SNIPPETS | st.text(max_size=5)),
        min_size=1,
        max_size=4,
    )
)
def test_a_damaged_config_never_raises_anything_but_a_config_error(
    edits: list[tuple[int, int, str]], tmp_path: Path
) -> None:
    text = EXAMPLE
    for start, length, new in edits:
        text = text[:start] + new + text[start + length :]
    found = verdict(write(tmp_path, text.encode("utf-8", "surrogatepass")))
    assert all(len(str(f).splitlines()) == 1 for f in found)
