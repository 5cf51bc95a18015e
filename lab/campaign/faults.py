"""Faults of a formed pair: what is pulled, broken or killed, and put back where a person would have to put it back."""

from __future__ import annotations

from lab.campaign.fault import fault
from lab.campaign.scene import BOOT_LIMIT, LOSS_LIMIT, Scene

FILLER = "/var/tmp/filler"  # noqa: S108  on the node, where only root is
FILL = f"""mkdir {FILLER}; i=0
for size in 1G 64M 4M 256K 4K; do while fallocate -l $size {FILLER}/$i; do i=$((i+1)); done; done 2>/dev/null"""
"""Leaves the root file system without a free block, root's reserve included, in a second."""


def _lose_power(scene: Scene, victim: str, survivor: str) -> None:
    """Pull the victim's plug, and put it back once the survivor has gone on alone."""
    scene.lab.kill(victim)
    scene.wait_alone(survivor)
    scene.plug_in(victim)


def _slow_resync(scene: Scene) -> tuple[str, str]:
    """Bring about a resync that lasts: what one node wrote alone goes to the other one slowly; target and source."""
    target, source = scene.pick()
    scene.lab.kill(target)
    scene.wait_alone(source)
    scene.shell(source, f"dd if=/dev/urandom of={scene.scratch} bs=1M count=48 oflag=direct status=none")
    scene.shell(source, "drbdsetup disk-options 0 --c-plan-ahead=0 --resync-rate=1M")
    scene.plug_in(target)
    scene.wait(f"{target} resyncs", BOOT_LIMIT, lambda: scene.drbd(source).connection == "SyncSource", poll=1)
    return target, source


@fault("power-one", "one node loses its power, and gets it back")
def power_one(scene: Scene) -> None:
    victim, survivor = scene.pick()
    scene.strike(f"{victim} loses its power")
    _lose_power(scene, victim, survivor)


@fault("power-both", "both nodes lose their power at once, and get it back one after the other")
def power_both(scene: Scene) -> None:
    first, second = scene.pick()
    scene.strike("both lose their power")
    scene.lab.kill()
    scene.plug_in(first)
    scene.sleep(0, 20)
    scene.plug_in(second)


@fault("reboot", "one node is rebooted in good order")
def reboot(scene: Scene) -> None:
    victim, _ = scene.pick()
    scene.strike(f"{victim} is rebooted in good order")
    scene.lab.reboot(victim)


@fault("reboot-both", "both nodes are shut down in good order, one a little later, and started again")
def reboot_both(scene: Scene) -> None:
    first, _ = scene.pick()
    scene.strike(f"both are shut down in good order, {first} first")
    scene.shell(first, "systemctl poweroff --no-block")
    scene.sleep(0, 15)
    scene.lab.reboot()


@fault("panic", "the dom0 kernel of one node panics")
def panic(scene: Scene) -> None:
    victim, survivor = scene.pick()
    before = scene.power_ons()
    scene.strike(f"{victim}'s kernel panics")
    scene.shell(victim, "echo 1 > /proc/sys/kernel/sysrq; (sleep 0.5; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 &")
    scene.wait_lost(victim, before)
    scene.wait_alone(survivor)


@fault("hang", "one node hangs for a time, and goes on as if nothing had been")
def hang(scene: Scene) -> None:
    victim, _ = scene.pick()
    seconds = scene.dice.choice((4.0, 9.0, 13.0, 20.0, 60.0))
    scene.strike(f"{victim} hangs for {seconds:.0f} s")
    scene.freeze(victim)
    scene.sleep(seconds, seconds + 2)
    scene.thaw(victim)


@fault("cluster-cut", "the cluster cable is out until one node has been fenced, and longer")
def cluster_cut(scene: Scene) -> None:
    before = scene.power_ons()
    scene.strike("the cluster cable is taken out")
    scene.lab.cut("cluster")
    lost = scene.wait_one_lost(before)
    scene.sleep(0, 30)
    scene.say(f"{lost} was fenced; the cluster cable is put back")
    scene.lab.heal("cluster")


@fault("cluster-one-way", "on the cluster cable of one node nothing passes one way")
def cluster_one_way(scene: Scene) -> None:
    victim, _ = scene.pick()
    direction = scene.dice.choice(("to-node", "from-node"))
    seconds = scene.dice.uniform(5, 45)
    scene.strike(f"nothing passes {direction} on {victim}'s cluster cable for {seconds:.0f} s")
    scene.lab.cut("cluster", victim, direction=direction)  # type: ignore[arg-type]
    scene.sleep(seconds, seconds)
    scene.lab.heal("cluster")


@fault("cluster-flap", "the cluster cable goes out and in, again and again")
def cluster_flap(scene: Scene) -> None:
    times = scene.dice.randint(4, 10)
    scene.strike(f"the cluster cable flaps {times} times")
    for _ in range(times):
        scene.lab.cut("cluster")
        scene.sleep(0.2, 4)
        scene.lab.heal("cluster")
        scene.sleep(0.2, 4)


@fault("cluster-loss", "20 % of the frames on the cluster link are lost")
def cluster_loss(scene: Scene) -> None:
    scene.strike("20 % of the frames on the cluster link are lost")
    scene.lab.cut("cluster", scene.nodes[0], loss=0.2)
    scene.sleep(20, 40)
    scene.lab.heal("cluster")


@fault("both-cut", "both cables of both nodes are out: no peer, no BMC")
def both_cut(scene: Scene) -> None:
    seconds = scene.dice.uniform(5, 75)
    scene.strike(f"all cables are out for {seconds:.0f} s")
    scene.lab.cut("cluster")
    scene.lab.cut("guest")
    scene.sleep(seconds, seconds)
    scene.lab.heal()


@fault("bmc-unreachable", "one node loses its power, and its BMC does not answer for a time")
def bmc_unreachable(scene: Scene) -> None:
    victim, survivor = scene.pick()
    scene.strike(f"{victim} and its BMC lose their power")
    scene.lab.bmc(victim, "unreachable")
    scene.lab.kill(victim)
    scene.wait(f"{survivor} is frozen", LOSS_LIMIT, lambda: scene.drbd(survivor).suspended, poll=1)
    scene.sleep(0, 60)
    scene.say(f"{victim}'s BMC answers again")
    scene.lab.bmc(victim, "ok")
    scene.wait_alone(survivor)
    scene.plug_in(victim)


@fault("bmc-lies", "the cluster cable is out, and one BMC acknowledges a power off and does nothing")
def bmc_lies(scene: Scene) -> None:
    liar, other = scene.pick()
    before = scene.power_ons()
    scene.strike(f"{liar}'s BMC lies, and the cluster cable is taken out")
    scene.lab.bmc(liar, "lies")
    scene.lab.cut("cluster")
    scene.wait_lost(other, before)
    scene.lab.bmc(liar, "ok")
    scene.lab.heal("cluster")


@fault("disk-error", "one node's disk fails; then it gets a good one, and is rebooted", failing_disk=True)
def disk_error(scene: Scene) -> None:
    victim = scene.failing_disk
    scene.strike(f"{victim}'s disk fails some writes later")
    scene.wait(f"{victim} lets go of its disk", LOSS_LIMIT, lambda: scene.drbd(victim).disk == "Diskless", poll=1)
    scene.sleep(0, 10)
    scene.say(f"{victim} is rebooted with a disk that works")
    scene.lab.reboot(victim)


@fault("root-full", "one node's root file system is full while the other one loses its power")
def root_full(scene: Scene) -> None:
    victim, survivor = scene.pick()
    scene.shell(survivor, FILL, check=False)
    scene.strike(f"{survivor}'s root file system is full, and {victim} loses its power")
    _lose_power(scene, victim, survivor)
    scene.sleep(0, 60)
    scene.shell(survivor, f"rm -r {FILLER}")


@fault("source-dies", "the source of a resync loses its power in the middle of it")
def source_dies(scene: Scene) -> None:
    target, source = _slow_resync(scene)
    scene.sleep(0, 10)
    scene.strike(f"{source} loses its power in mid-resync, with {target} Inconsistent")
    before = scene.power_ons()
    scene.lab.kill(source)
    scene.sleep(0, 30)
    if scene.power_ons() == before:
        scene.plug_in(source)


@fault("target-dies", "the target of a resync is fenced in the middle of it")
def target_dies(scene: Scene) -> None:
    target, source = _slow_resync(scene)
    scene.sleep(0, 10)
    before = scene.power_ons()
    scene.strike(f"{source} fences {target} in mid-resync, as its heartbeat would")
    scene.shell(source, f"stonith -t external/xenpair peer={target} -T reset {target}", timeout=LOSS_LIMIT)
    scene.wait_lost(target, before)


@fault("target-cut", "the target of a resync loses sight of its source in the middle of it")
def target_cut(scene: Scene) -> None:
    _slow_resync(scene)
    scene.strike("the cluster cable is taken out in mid-resync")
    scene.lab.cut("cluster")
    scene.sleep(5, 45)
    scene.lab.heal("cluster")


@fault("clock", "the clock of one node is off by a day, and then it loses its power")
def clock(scene: Scene) -> None:
    victim, survivor = scene.pick()
    days = scene.dice.choice(("-1", "+1"))
    scene.shell(survivor, f"date --set '{days} day'")
    scene.strike(f"{survivor}'s clock is off by {days} day, and {victim} loses its power")
    _lose_power(scene, victim, survivor)


@fault("heartbeat-killed", "heartbeat of one node is killed")
def heartbeat_killed(scene: Scene) -> None:
    victim, _ = scene.pick()
    scene.strike(f"heartbeat of {victim} is killed")
    scene.shell(victim, "systemctl kill --signal=KILL heartbeat.service")


@fault("swapped-disks", "both servers are off, and somebody swaps their disks; then swaps them back")
def swapped_disks(scene: Scene) -> None:
    scene.strike("both lose their power, and their disks are swapped")
    scene.lab.kill()
    scene.lab.swap_backing_disks()
    scene.plug_in()
    for node in scene.nodes:
        scene.wait_booted(node)
    scene.sleep(5, 15)
    scene.say("the disks are swapped back")
    scene.lab.kill()
    scene.lab.swap_backing_disks()
    scene.plug_in()
