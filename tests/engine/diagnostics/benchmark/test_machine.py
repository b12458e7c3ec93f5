import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.diagnostics.benchmark import machine

MEASURE = """
from engine.diagnostics.benchmark import machine
before = machine.resident_bytes()
held = bytearray(100 * 2**20)
del held
print(machine.peak_bytes() - before)
"""

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")


def test_the_kind_names_cores_and_vector_instructions():
    assert re.fullmatch(r"\d+ cores(, (AVX-512|AVX2|NEON))?", machine.kind())


@linux
def test_the_peak_counts_what_was_freed_again_and_not_the_peak_of_the_parent():
    held = bytearray(300 * 2**20)
    line = [sys.executable, "-c", MEASURE]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert int(done.stdout) == pytest.approx(100 * 2**20, rel=0.05)
    assert machine.peak_bytes() > len(held)


def test_without_proc_nothing_is_guessed(monkeypatch):
    monkeypatch.setattr(machine, "_text", lambda path: "")
    assert (machine.resident_bytes(), machine.peak_bytes()) == (None, None)
    assert re.fullmatch(r"\d+ cores", machine.kind())
