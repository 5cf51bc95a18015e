"""What the nodes' BMCs do, and how they fail: asked by the real ipmitool, with a real ipmi_sim each."""

import pytest

from lab import bmc_orders, bmc_view, command
from lab.errors import LabError
from lab.pair import Lab
from lab.report import LabStatus
from tests.unit.bmc_rig import Rig, eventually


class TestPower:
    """What a BMC does to its node."""

    def test_the_status_is_what_the_machine_is(self, rig: Rig) -> None:
        assert rig.power() == "on"
        rig.lab.kill("xen1")
        assert (rig.power("xen1"), rig.power("xen2")) == ("off", "on")

    def test_power_off_pulls_the_plug_of_that_node_and_no_other(self, rig: Rig) -> None:
        machine = rig.machine()
        assert rig.ipmitool("off") == (0, "Chassis Power Control: Down/Off\n")
        eventually(lambda: rig.power() == "off")
        assert not machine.alive()
        assert rig.machine("xen2").alive()
        assert "off acknowledged" in rig.log()
        assert "off done" in rig.log()

    def test_a_node_that_is_off_is_switched_on_and_one_that_is_on_stays_as_it_is(self, rig: Rig) -> None:
        machine = rig.machine("xen2")
        rig.lab.kill("xen1")
        for node in ("xen1", "xen2"):
            assert rig.ipmitool("on", node=node) == (0, "Chassis Power Control: Up/On\n")
            eventually(lambda: not bmc_orders.waiting(rig.lab.directory, node))  # noqa: B023
        assert rig.power() == "on"
        assert rig.machine().alive()
        assert rig.machine("xen2") == machine
        assert machine.alive()

    @pytest.mark.parametrize("order", ["cycle", "reset"])
    def test_a_cycle_and_a_reset_end_in_another_machine_that_is_on(self, rig: Rig, order: str) -> None:
        machine = rig.machine()
        assert rig.ipmitool(order)[0] == 0
        eventually(lambda: rig.machine() != machine and rig.machine().alive())
        assert not machine.alive()
        eventually(lambda: rig.power() == "on")

    def test_a_reset_leaves_a_machine_off_that_is_off(self, rig: Rig) -> None:
        rig.lab.kill("xen1")
        assert rig.ipmitool("reset")[0] == 0
        eventually(lambda: "reset done" in rig.log())
        assert rig.power() == "off"

    def test_many_orders_in_a_row_are_carried_out_in_their_order(self, rig: Rig) -> None:
        first = rig.machine()
        for order in ("off", "on", "off", "on"):
            assert rig.ipmitool(order)[0] == 0
        eventually(lambda: rig.log().count("done") == 4)
        assert [line.split()[-2] for line in rig.log().splitlines() if "done" in line] == ["off", "on", "off", "on"]
        assert rig.power() == "on"
        assert rig.machine() != first
        assert not first.alive()

    def test_what_this_chassis_cannot_do_is_refused(self, rig: Rig) -> None:
        code, _ = rig.ipmitool("soft")
        assert code != 0
        assert rig.power() == "on"

    def test_a_node_that_is_off_keeps_its_bmc(self, rig: Rig) -> None:
        rig.lab.kill()
        assert (rig.power("xen1"), rig.power("xen2")) == ("off", "off")


class TestModes:
    """What can be wrong with a BMC."""

    def test_one_that_lies_acknowledges_a_power_off_and_its_status_tells_the_truth(self, rig: Rig) -> None:
        rig.lab.bmc("xen1", "lies")
        assert rig.ipmitool("off") == (0, "Chassis Power Control: Down/Off\n")
        assert "nothing done: this BMC lies" in rig.log()
        assert bmc_orders.waiting(rig.lab.directory, "xen1") == ()
        assert rig.power() == "on"
        rig.lab.kill("xen1")
        assert rig.power() == "off"
        rig.lab.bmc("xen1", "ok")
        assert rig.ipmitool("on")[0] == 0
        eventually(lambda: rig.machine().alive())

    def test_one_with_another_password_lets_nobody_in_until_it_is_ok_again(self, rig: Rig) -> None:
        rig.lab.bmc("xen1", "wrong-password")
        code, output = rig.ipmitool("status")
        assert code != 0
        assert "Unable to establish IPMI v2 / RMCP+ session" in output
        assert rig.power("xen2") == "on"
        rig.lab.bmc("xen1", "lies")
        assert rig.power() == "on"

    def test_a_mode_outlives_the_bmc_and_the_lab_s_being_down(self, rig: Rig) -> None:
        rig.lab.bmc("xen1", "wrong-password")
        rig.lab.down()
        rig.lab.bmc("xen2", "lies")
        rig.start()
        assert rig.ipmitool("status")[0] != 0
        assert [b.mode for b in bmc_view.read(rig.lab.directory)] == ["wrong-password", "lies"]

    def test_status_names_the_bmcs_that_are_not_ok(self, rig: Rig) -> None:
        rig.lab.kill()
        assert rig.lab.status().bmcs == ()
        rig.lab.bmc("xen1", "lies")
        rig.lab.bmc("xen2", "unreachable")
        rig.lab.state().bmcs.sims["xen2"].kill()
        assert rig.lab.status().bmcs == ("xen1: lies", "xen2: unreachable")
        rig.lab._update(switch=rig.lab.state().bmcs.relay)
        assert rig.lab.status().bmcs == ("xen1: lies", "xen2: not running")
        status = LabStatus(accelerator=None, accelerator_reason="", cut=(), bmcs=("xen1: lies",), nodes=())
        assert "BMCs: xen1: lies" in str(status.table().caption)

    def test_a_node_or_mode_that_is_not_there_is_a_clear_error(self, rig: Rig) -> None:
        with pytest.raises(LabError, match="no node 'xen3'"):
            rig.lab.bmc("xen3", "ok")
        with pytest.raises(LabError, match=r"has no mode 'broken'(?s:.*)ok, unreachable, lies, wrong-password"):
            command.bmc_mode("broken")
        assert command.bmc_mode("lies") == "lies"
        nodes = tuple(node.model_copy(update={"bmc": None}) for node in rig.lab.state().cluster.nodes)
        rig.lab._update(cluster=rig.lab.state().cluster.model_copy(update={"nodes": nodes}))
        with pytest.raises(LabError, match="xen1 has no BMC in the lab's config"):
            rig.lab.bmc("xen1", "ok")


def test_a_node_counts_as_on_while_an_order_waits_that_may_start_it(rig: Rig) -> None:
    rig.lab.kill("xen1")
    bmc_orders.add(rig.lab.directory, "xen1", "off")
    assert rig.power() == "on"
    rig.lab.obey("xen1")
    assert rig.power() == "off"


def test_an_order_that_fails_is_logged_and_the_next_is_carried_out(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object, nodes: object) -> None:
        raise LabError("no memory")

    monkeypatch.setattr(Lab, "_power_on", broken)
    for order in ("on", "off"):
        bmc_orders.add(rig.lab.directory, "xen1", order)
    rig.lab.obey("xen1")
    assert "on failed: no memory" in caplog.text
    assert not rig.machine().alive()
    assert bmc_orders.waiting(rig.lab.directory, "xen1") == ()


def test_orders_that_nobody_takes_are_refused(off: Rig) -> None:
    with pytest.raises(FileNotFoundError):
        bmc_orders.add(off.lab.directory, "xen1", "on")
    assert bmc_orders.waiting(off.lab.directory, "xen1") == ()
    off.lab.obey("xen1")
