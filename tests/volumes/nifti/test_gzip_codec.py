import gzip
import io
import os
import subprocess
import sys

import numpy as np
import pytest

from volumes.nifti import gzip_codec

NOISE = np.random.default_rng(0).normal(0, 12, 1_700_000).astype("<i2").tobytes()
CONTENTS = {
    "nothing": b"",
    "one byte": b"a",
    "one block": NOISE[: 2**20],
    "blocks": NOISE,
    "zeros": bytes(2**21 + 5),
    "random": os.urandom(2**20 + 7),
}


def written(*pieces):
    file = io.BytesIO()
    gzip_codec.write_gzip(file, pieces)
    return file.getvalue()


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("decoder", [gzip.GzipFile, gzip_codec.DECODER], ids=["zlib", "isal"])
def test_each_decoder_gives_back_what_was_written(content, decoder):
    with decoder(fileobj=io.BytesIO(written(content)), mode="rb") as file:
        assert file.read() == content


def test_a_stream_depends_neither_on_the_pieces_nor_on_the_number_of_threads(monkeypatch):
    whole = written(NOISE)
    assert written(*(NOISE[at : at + 70_001] for at in range(0, len(NOISE), 70_001))) == whole
    for threads in (1, 2, 7):
        monkeypatch.setattr(gzip_codec, "_THREADS", threads)
        assert written(NOISE) == whole


def test_a_stream_is_no_longer_than_that_of_one_thread():
    assert len(written(NOISE)) < 1.001 * len(gzip.compress(NOISE, 1, mtime=0))


def test_a_stream_has_no_name_and_no_time():
    assert written(b"a")[:10] == b"\x1f\x8b\x08" + bytes(5) + b"\x04\xff"


def test_an_error_on_writing_is_raised_and_leaves_no_thread():
    class Full(io.RawIOBase):
        def write(self, block):
            if len(block) > 100:
                raise OSError(28, "No space left on device")
            return len(block)

    import threading

    before = threading.active_count()
    with pytest.raises(OSError, match="No space"):
        gzip_codec.write_gzip(Full(), [NOISE])
    assert threading.active_count() == before


def test_the_standard_library_decodes_where_isal_is_not_installed():
    code = (
        "import sys; sys.modules['isal'] = None\n"
        "from volumes.nifti import gzip_codec, open_scan\n"
        "print(gzip_codec.DECODER.__name__)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "GzipFile\n"


def test_isal_decodes_where_it_is_installed():
    pytest.importorskip("isal")
    assert gzip_codec.DECODER.__name__ == "IGzipFile"
