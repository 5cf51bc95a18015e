"""Guests: what follows from their names, the files that they bring, and where there is room for them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from config import capacity, carried, guest_checks, placement
from config.capacity_plan import plan_capacity
from config.carried import check_files, disk_size
from config.command import check_config
from config.findings import ConfigError
from config.guest import Guest, bridge, files, mac
from config.loader import load
from config.model import Cluster
from config.placement import Demand, admit, situations
from tests.unit.guest_faults import guest

EXAMPLE = Path("config/cluster.yaml").read_text(encoding="utf-8")
MIB = 1 << 20


def config(directory: Path, *flow: str, old: str = "", new: str = "") -> Path:
    file = directory / "cluster.yaml"
    file.write_text(EXAMPLE.replace("guests: []", f"guests: [{', '.join(flow)}]").replace(old, new, 1))
    return file


def described(**keys: object) -> Guest:
    return Guest.model_validate({"name": "web01", "memory": "1G", "disk": "1G", "home": "xen1", **keys})


def test_the_commented_guest_of_the_example_is_valid_and_complete(tmp_path: Path) -> None:
    head, _, guests = EXAMPLE.partition("guests: []")
    file = tmp_path / "cluster.yaml"
    file.write_text(f"{head}guests:\n" + guests.partition("\n")[2].replace("#  ", "  "))
    (tmp_path / "web01.tar.gz").write_bytes(b"")
    loaded = load(file)
    assert check_files(loaded) == []
    assert loaded.cluster.guests[0].priority == 60


def test_a_mac_address_follows_from_the_names_and_nothing_else(cluster: Cluster) -> None:
    # Once a pair is in service its guests keep their addresses: a change here is a change in the field.
    assert mac(cluster, described()) == "00:16:3e:60:5e:13"
    assert mac(cluster, described(memory="2G", home="xen2")) == mac(cluster, described())
    assert mac(cluster, described(name="web02")) != mac(cluster, described())
    assert mac(cluster, described(network={"mac": "52-54-00-00-00-01"})) == "52:54:00:00:00:01"


def test_a_guest_is_plugged_into_the_nodes_bridge_or_its_own(cluster: Cluster) -> None:
    assert bridge(cluster, described()) == "xenbr0"
    assert bridge(cluster, described(network={"bridge": "br7"})) == "br7"


def test_only_plain_names_are_carried_and_each_once(tmp_path: Path) -> None:
    one = guest("a", more="install: {tarball: z.tar}, boot: {kernel: vmlinuz, ramdisk: /boot/initrd.img}")
    two = guest("b", more="install: {tarball: z.tar}")
    assert files(load(config(tmp_path, one, two)).cluster) == ("vmlinuz", "z.tar")


def test_a_config_survives_being_written_down_and_read_again(tmp_path: Path) -> None:
    more = "network: {address: 192.168.132.50/24}, boot: {by: guest}, install: {image: a.img}, options: {a: '1'}"
    cluster = load(config(tmp_path, guest("a", more=more))).cluster
    assert Cluster.model_validate_json(cluster.model_dump_json()) == cluster


def test_a_guest_from_elsewhere_is_checked_like_one_of_the_config(cluster: Cluster) -> None:
    stranger = described(home="xen3", install={})
    found = [problem.where for problem in guest_checks.run(cluster.model_copy(update={"guests": (stranger,)}))]
    assert found == [("guests", 0, "home"), ("guests", 0, "install")]


class TestFiles:
    """What lies beside a config, or should."""

    def faults(self, file: Path) -> list[tuple[str, str]]:
        return [(finding.path, finding.problem) for finding in check_files(load(file))]

    def test_each_missing_file_is_one_error_at_its_line(self, tmp_path: Path) -> None:
        install = "install: {image: a.img}"
        file = config(tmp_path, guest("a", more=install), guest("b", more=f"{install}, boot: {{kernel: k}}"))
        found = check_files(load(file))
        assert [(f.path, f.severity) for f in found] == [
            ("guests[0].install.image", "error"),
            ("guests[1].boot.kernel", "error"),
        ]
        assert "guests:" in file.read_text().splitlines()[(found[0].line or 0) - 1]
        assert found[0].problem == f"{tmp_path / 'a.img'} does not exist"

    def test_what_is_on_the_nodes_already_is_not_looked_for(self, tmp_path: Path) -> None:
        assert self.faults(config(tmp_path, guest("a", more="install: {tarball: /srv/a.tar}"))) == []

    def test_a_directory_is_no_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.tar").mkdir()
        fault = self.faults(config(tmp_path, guest("a", more="install: {tarball: a.tar}")))
        assert fault == [("guests[0].install.tarball", f"{tmp_path / 'a.tar'} is a directory")]

    def test_a_file_that_no_fat_can_hold_is_refused(self, tmp_path: Path) -> None:
        file = config(tmp_path, guest("a", more="install: {tarball: a.tar}"))
        with (tmp_path / "a.tar").open("wb") as f:
            f.truncate(carried.MAX_FILE)
        assert self.faults(file) == []
        with (tmp_path / "a.tar").open("wb") as f:
            f.truncate(carried.MAX_FILE + 1)
        assert "has 4096M, and the FAT" in self.faults(file)[0][1]

    @pytest.mark.parametrize("magic", [b"", b"QFI\xfb"])
    def test_an_image_of_a_larger_disk_than_the_guests_is_refused(self, magic: bytes, tmp_path: Path) -> None:
        image = tmp_path / "a.img"
        with image.open("wb") as f:
            f.write(magic + bytes(20) + (65 * MIB).to_bytes(8, "big") if magic else b"")
            f.truncate(MIB if magic else 65 * MIB)
        assert disk_size(image) == 65 * MIB
        fault = self.faults(config(tmp_path, guest("a", disk="64M", more="install: {image: a.img}")))
        assert fault == [("guests[0].install.image", f"{image} is the image of a disk of 65M, and a's has 64M")]
        assert self.faults(config(tmp_path, guest("a", disk="65M", more="install: {image: a.img}"))) == []

    def test_check_config_says_it(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = config(tmp_path, guest("a", more="install: {tarball: a.tar}"))
        assert check_config(file, templates=tmp_path / "t", secrets_directory=tmp_path / "s") == 2
        assert "guests[0].install.tarball: " in capsys.readouterr().err


def demand(name: str, memory: int, priority: int = 50, home: str = "x") -> Demand:
    return Demand(name, home, memory, 1, priority)


def names(demands: tuple[Demand, ...]) -> list[str]:
    return [one.name for one in demands]


DEMANDS = st.lists(
    st.builds(Demand, st.text("abc", min_size=1), st.just("x"), st.integers(1, 9), st.just(1), st.integers(0, 3)),
    unique_by=lambda one: one.name,
)


class TestAdmission:
    """The one rule by which guests get memory."""

    def test_the_higher_priority_comes_first_then_the_name(self) -> None:
        started, held = admit([demand("b", 4), demand("a", 4), demand("z", 4, priority=60)], 8)
        assert (names(started), names(held)) == (["z", "a"], ["b"])

    def test_a_smaller_one_may_start_behind_one_that_is_held(self) -> None:
        started, held = admit([demand("big", 9, priority=99), demand("small", 2)], 8)
        assert (names(started), names(held)) == (["small"], ["big"])

    def test_all_that_there_is_may_be_used(self) -> None:
        assert admit([demand("a", 8)], 8)[1] == ()

    @given(DEMANDS, st.integers(0, 40))
    def test_every_guest_is_started_or_held_and_none_beyond_the_memory(self, demands: list[Demand], free: int) -> None:
        started, held = admit(demands, free)
        assert sorted(names(started + held)) == sorted(names(tuple(demands)))
        left = free - sum(one.memory for one in started)
        assert left >= 0
        assert all(one.memory > left for one in held)

    @pytest.mark.usefixtures("real_programs")
    def test_a_node_that_admits_guests_does_not_pay_for_the_model(self) -> None:
        code = "import sys, config.placement; sys.exit('pydantic' in sys.modules or 'config.model' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SIZES = {"x": 10, "y": 10}


class TestSituations:
    """The pair, and what is left of it."""

    def test_while_both_are_up_each_guest_is_at_home(self) -> None:
        both = situations([demand("a", 8), demand("b", 8, home="y")], SIZES)[0]
        assert both.lost is None
        assert [(load.node, names(load.started), load.left) for load in both.nodes] == [
            ("x", ["a"], 2),
            ("y", ["b"], 2),
        ]

    def test_a_survivor_keeps_its_own_and_takes_what_fits(self) -> None:
        demands = [demand("own", 6, priority=1), demand("top", 5, priority=99, home="y"), demand("c", 3, home="y")]
        _, lost_x, lost_y = situations(demands, SIZES)
        assert (lost_y.lost, names(lost_y.nodes[0].started), names(lost_y.held)) == ("y", ["own", "c"], ["top"])
        assert (lost_x.lost, names(lost_x.nodes[0].started), names(lost_x.held)) == ("x", ["top", "c"], ["own"])

    def test_one_that_is_held_at_home_waits_for_room_there(self) -> None:
        both, lost_x, _ = situations([demand("a", 11, home="x")], {"x": 10, "y": 20})
        assert names(both.held) == ["a"]
        assert names(lost_x.nodes[0].started) == ["a"]

    def test_a_config_that_passes_holds_nobody(self, tmp_path: Path) -> None:
        cluster = load(config(tmp_path, guest("a", "640M"), guest("b", "640M", home="xen2"))).cluster
        plan = situations(placement.demands_of(cluster), placement.sizes_of(cluster))
        assert [situation.held for situation in plan] == [(), (), ()]

    def test_the_sizes_are_those_of_the_memory_check(self, cluster: Cluster) -> None:
        node = cluster.nodes[0]
        assert placement.sizes_of(cluster)["xen1"] + capacity.memory_need(cluster, node) == node.memory


class TestPlanCapacity:
    """The command: what it prints, and its exit code."""

    def test_a_pair_with_room_for_all_exits_0(self, tmp_path: Path) -> None:
        console = Console(width=100, record=True, file=(tmp_path / "out").open("w"))
        file = config(tmp_path, guest("web01"), guest("db01", home="xen2"))
        assert plan_capacity(file, console=console) == 0
        text = console.export_text()
        assert "both nodes up" in text
        assert "xen1 is lost" in text
        assert "db01, web01" in text

    def test_a_guest_without_room_is_named_with_what_it_needs(self, tmp_path: Path) -> None:
        console = Console(width=100, record=True, file=(tmp_path / "out").open("w"))
        file = config(tmp_path, guest("a", "1G"), guest("b", "1G", home="xen2"))
        assert plan_capacity(file, console=console) == 2
        assert "xen1 is lost: a is held: it needs 1033M, and xen2 has 327M left" in console.export_text()

    def test_scripts_get_the_same_in_bytes(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = config(tmp_path, guest("a", "1G"), guest("b", "1G", home="xen2"))
        assert plan_capacity(file, json=True) == 2
        both, lost, _ = json.loads(capsys.readouterr().out)["situations"]
        share = (1024 + 1 + 8) * MIB
        room = {"memory": 1360 * MIB, "left": 1360 * MIB - share, "vcpus": 1, "held": []}
        assert both == {
            "lost": None,
            "nodes": [{"name": "xen1", **room, "runs": ["a"]}, {"name": "xen2", **room, "runs": ["b"]}],
        }
        assert lost == {"lost": "xen1", "nodes": [{"name": "xen2", **room, "runs": ["b"], "held": ["a"]}]}

    def test_a_config_with_another_fault_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="initdead"):
            plan_capacity(config(tmp_path, guest("a", "9G"), old="initdead: 60", new="initdead: 6"))
