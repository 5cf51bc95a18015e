"""What a node's commands load: fencing and each change of a volume wait for that, on both nodes."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("pydantic", "yaml", "jinja2")
"""Most of a second of a server's time, together."""
QUICK = (
    "command",
    "fencing",
    "settlement",
    "status",
    "storage",
    *(
        f"guests.{module}"
        for module in ("actions", "creation", "maintenance", "peer", "supervisor", "verbs", "volumes")
    ),
)
"""Modules of firstboot that whoever waits for a command has to load."""


@pytest.mark.usefixtures("real_programs")
@pytest.mark.parametrize("module", QUICK)
def test_a_command_that_needs_no_config_does_not_load_its_model(module: str) -> None:
    code = f"import sys, firstboot.{module}; print(*(heavy for heavy in {HEAVY} if heavy in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split() == []
