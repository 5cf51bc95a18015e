"""What Invoke's tasks have in common: a mistake is one message and a code, and a reader that has gone is none."""

from __future__ import annotations

import subprocess
import sys

import pytest

from images.jobs import REPOSITORY

WRITER = """
from images.invoked import speaks

@speaks
def task():
    for _ in range(100000):
        print("line")

task()
"""


@pytest.mark.usefixtures("real_programs")
def test_a_reader_that_has_read_enough_is_no_error() -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    with writer:
        assert writer.stdout.readline() == "line\n"
        writer.stdout.close()
        said = writer.stderr.read()
    assert "BrokenPipeError" not in said
