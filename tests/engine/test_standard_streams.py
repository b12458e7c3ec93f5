import io
import os
import subprocess
import sys

import pytest

from engine import standard_streams

PREPARED = """
import os, sys
from engine import standard_streams
standard_streams.prepare()
"""


def python(code, redirections="", **environment):
    """Runs a program with its streams redirected by the shell: (exit code, stdout, stderr)."""
    line = f'exec {sys.executable} -c "$CODE" {redirections}'
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, check=False,
        env={**os.environ, "CODE": code, **environment},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_open_so_that_no_file_gets_its_number(tmp_path, closed):
    code = (
        PREPARED
        + f"""
with open({str(tmp_path / "file")!r}, "wb") as file:
    assert file.fileno() > 2, file.fileno()
    os.write(2, b"a library")
    print("a result"), print("a message", file=sys.stderr)
    assert sys.stdin.read() == "" or True
    file.write(b"voxels")
"""
    )
    assert python(code, closed)[0] == 0
    assert (tmp_path / "file").read_bytes() == b"voxels"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_character_that_the_encoding_lacks_is_escaped_and_bytes_of_names_stay(encoding):
    code = PREPARED + r'print("1 ± 2 µ 😀 M\udcfcller"); print("± M\udcfc", file=sys.stderr)'
    found = python(code, PYTHONIOENCODING=encoding)
    out = {
        "ascii": rb"1 \xb1 2 \xb5 \U0001f600 M" + b"\xfcller\n",
        "latin-1": b"1 \xb1 2 \xb5 \\U0001f600 M\xfcller\n",
        "utf-8": "1 ± 2 µ 😀 M".encode() + b"\xfcller\n",
    }
    err = {"ascii": rb"\xb1", "latin-1": b"\xb1", "utf-8": "±".encode()}
    assert found == (0, out[encoding], err[encoding] + b" M\\udcfc\n")


def test_an_error_of_writing_ends_nothing_and_is_told():
    code = (
        PREPARED
        + """
for _ in range(3):
    print("x" * 100_000, flush=True)
    print("y" * 100_000, file=sys.stderr)
sys.exit(standard_streams.unwritten().errno)
"""
    )
    assert python(code, ">/dev/full 2>/dev/full")[0] == 28
    assert python(code, "> >(true) 2> >(true)")[0] == 32


def test_a_full_pipe_that_does_not_block_is_waited_for():
    code = (
        PREPARED
        + """
os.set_blocking(1, False)
print("x" * 1_000_000)
assert standard_streams.unwritten() is None
"""
    )
    found = python(code, "| (sleep 0.3; wc -c)")
    assert found == (0, b"1000001\n", b"")


def test_other_streams_are_left_alone(monkeypatch):
    ours = io.StringIO()
    monkeypatch.setattr(sys, "stdout", ours)
    monkeypatch.setattr(sys, "stderr", ours)
    standard_streams.prepare()
    assert sys.stdout is sys.stderr is ours
    assert standard_streams.unwritten() is None
