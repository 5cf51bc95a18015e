"""First boot: each step in its order, journaled, resumable at any point."""

from __future__ import annotations

import logging

from config.door import write_file
from config.errors import XenpairError
from firstboot.errors import NodeError
from firstboot.journal import Journal
from firstboot.news import News
from firstboot.node import this_node
from firstboot.places import Places
from firstboot.recovery import open_journal
from firstboot.report import Reporter
from firstboot.steps import Step, Work, seed
from firstboot.steps.access import Access
from firstboot.steps.cluster import Heartbeat
from firstboot.steps.disks import Disks
from firstboot.steps.guests import Guests
from firstboot.steps.identity import Identity
from firstboot.steps.join import Join
from firstboot.steps.network import Network
from firstboot.steps.replication import Replication
from firstboot.steps.volumes import Volumes

log = logging.getLogger("xenpair")

STEPS: tuple[type[Step], ...] = (Identity, Network, Access, Disks, Join, Replication, Volumes, Heartbeat, Guests)
SEED = "seed"
NAMES: tuple[str, ...] = (SEED, *(step.name for step in STEPS))


def first_boot(places: Places) -> None:
    """From whatever this node has reached to a member of the formed pair. Raises XenpairError where a step stops."""
    news = News(places)
    reporter = Reporter(places.progress, NAMES, news.tell)
    try:
        if places.formed.exists():
            # Nothing of it is ever done again, whatever has become of the records.
            reporter.formed()
            return
        reporter.begin(SEED)
        seed.obtain(places, reporter.waiting)
        node = this_node(places)
        reporter.done(SEED)
        journal = open_journal(node)
        _announce_resume(journal, reporter)
        work = Work(node, journal, reporter.waiting)
        join = Join()
        for step in (join if kind is Join else kind() for kind in STEPS):
            _complete(step, work, reporter)
        join.stop()
        write_file(places.formed, node.me.name + "\n")
        reporter.formed()
    except XenpairError as e:
        reporter.failed(str(e))
        raise
    except OSError as e:
        error = NodeError(f"the system refuses: {e}", hint="is a disk full, or gone? Then `xenpair resume`")
        reporter.failed(str(error))
        raise error from e
    except Exception as e:
        reporter.failed(f"this is a bug: {type(e).__name__}; `journalctl -u xenpair-firstboot` has all of it")
        raise
    finally:
        news.close()


def _announce_resume(journal: Journal, reporter: Reporter) -> None:
    pending = [step.name for step in STEPS if not journal.is_done(step.name)]
    if journal.entries and pending:
        reporter.resumed(pending[0])


def _complete(step: Step, work: Work, reporter: Reporter) -> None:
    if not step.check(work):
        reporter.begin(step.name)
        if not work.journal.is_done(step.name):
            work.journal.write(step.name, "begun")
        step.apply(work)
        if not step.check(work):
            raise NodeError(
                f"step {step.name} was carried out, and its check still says no",
                hint="see `journalctl -u xenpair-firstboot`, then `xenpair resume`",
            )
    if not work.journal.is_done(step.name):
        work.journal.write(step.name, "done")
    reporter.done(step.name)
