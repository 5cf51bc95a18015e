"""Faults of two nodes in their first boot, which has to end in a formed pair whatever happens on its way."""

from __future__ import annotations

from firstboot.steps.seed import SEED_LABEL
from lab.campaign.fault import fault
from lab.campaign.scene import BOOT_LIMIT, Scene, StuckError

UNIT = "xenpair-firstboot.service"


@fault("first-boot-killed", "first boot is killed again and again, on either node", since="fresh")
def killed(scene: Scene) -> None:
    scene.strike("first boot is killed again and again")
    for _ in range(scene.dice.randint(2, 6)):
        victim, _ = scene.pick()
        scene.sleep(1, 20)
        scene.wait_reachable(victim)
        scene.say(f"first boot of {victim} is killed at: {scene.progress(victim)}")
        scene.shell(victim, f"systemctl kill --signal=KILL {UNIT}", check=False)


@fault("first-boot-power", "a node loses its power in its first boot, and gets it back", since="fresh")
def power(scene: Scene) -> None:
    victim, _ = scene.pick()
    seconds = scene.dice.uniform(0, 90)
    scene.sleep(seconds, seconds)
    scene.strike(f"{victim} loses its power at: {scene.progress(victim)}")
    scene.lab.kill(victim)
    scene.sleep(0, 30)
    scene.plug_in(victim)


@fault("first-boot-power-both", "both nodes lose their power in their first boot, and get it back", since="fresh")
def power_both(scene: Scene) -> None:
    seconds = scene.dice.uniform(0, 90)
    scene.sleep(seconds, seconds)
    scene.strike("both lose their power at: " + " and ".join(map(scene.progress, scene.nodes)))
    scene.lab.kill()
    scene.plug_in()


@fault(
    "first-boot-apart", "one node begins its first boot when the other one has long been waiting for it", since="fresh"
)
def apart(scene: Scene) -> None:
    late, early = scene.pick()
    scene.strike(f"{late} is off while {early} does its first boot")
    scene.lab.kill(late)
    scene.wait(f"{early} waits", BOOT_LIMIT, lambda: "join: waiting" in scene.progress(early), poll=1)
    scene.sleep(0, 60)
    scene.plug_in(late)


@fault(
    "first-boot-stranger",
    "a node with a wrong join secret asks to join, and is refused; then it gets the right one",
    since="fresh",
)
def stranger(scene: Scene) -> None:
    stranger, other = scene.pick()
    scene.lab.cut("cluster")
    for node in scene.nodes:
        scene.wait(f"{node} waits", BOOT_LIMIT, lambda: "join: waiting" in scene.progress(node), poll=1)  # noqa: B023
    scene.strike(f"{stranger} asks to join with a wrong secret")
    # Without its seed medium: first boot would take the right one from there again.
    scene.shell(stranger, f"rm /dev/disk/by-label/{SEED_LABEL}")
    secrets = "/etc/xenpair/secrets.yaml"
    scene.shell(stranger, f"cp --preserve {secrets} /run/right && sed -i 's/^join: ..../join: beef/' {secrets}")
    scene.shell(stranger, f"systemctl restart {UNIT}")
    scene.lab.heal("cluster")
    scene.sleep(20, 40)
    for node in (stranger, other):
        if scene.shell(node, "ls /var/lib/xenpair/join.json", check=False):
            raise StuckError(f"{node} has joined, and one of the two is a stranger")
    scene.say(f"{stranger} gets the right secret")
    scene.shell(stranger, f"cp --preserve /run/right {secrets} && xenpair resume")
