"""Where messages go of what nobody watches: what the kernel, heartbeat or the peer has started."""

from __future__ import annotations

import logging
import syslog

log = logging.getLogger("xenpair")


class _Syslog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        level = syslog.LOG_WARNING if record.levelno >= logging.WARNING else syslog.LOG_INFO
        syslog.syslog(level, record.getMessage())


def log_to_journal() -> None:
    """From now on, in the journal too."""
    syslog.openlog("xenpair", syslog.LOG_PID, syslog.LOG_DAEMON)
    log.addHandler(_Syslog())
