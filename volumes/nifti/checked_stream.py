"""Streams: the bytes of a scan's file, decompressed where need be, that damage cannot slip through.

Readers that stop after the last voxel never see the checksum of a gzip stream, and load most
single-bit errors silently: a stream is read to its end. It never waits for a writer, and notices
where its file is changed while it is read.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from volumes.errors import BadInput
from volumes.nifti.read_options import Trust

DEFLATE_CEILING = 1032  # no deflate stream expands its bytes further
DOWNLOAD = "Download or export it again"
_PIECE = 2**20

Stamp = tuple[int, int, int]


class Stream:
    """A file's bytes in order.

    Attributes:
        path: of the file.
        compressed: whether it is a gzip stream, which its name does not decide.
        size: bytes on disk.
        stamp: what changes where the file does.
    """

    def __init__(self, path: Path, file: io.BufferedReader) -> None:
        status = os.fstat(file.fileno())
        self.path, self.size, self.stamp = path, status.st_size, _stamp(status)
        self.compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self._file: io.BufferedReader | gzip.GzipFile = file
        if self.compressed:
            self._file = gzip.GzipFile(fileobj=file)
        self._done = 0

    def fill(self, buffer: memoryview, wanted: int = 0) -> int:
        """Fills a buffer; how many bytes there were.

        Args:
            buffer: of bytes.
            wanted: bytes of the whole file, for what is told where it ends early.

        Raises:
            BadInput: where the compressed data are damaged or end early.
        """
        filled = 0
        try:
            # A piece at a time: what was read before damage is met counts.
            while piece := self._file.read1(min(len(buffer) - filled, _PIECE)):
                buffer[filled : filled + len(piece)] = piece
                filled += len(piece)
                self._done += len(piece)
        except EOFError as error:
            raise self._short(wanted) from error
        except (zlib.error, gzip.BadGzipFile) as error:
            raise self._damaged(error) from error
        return filled

    def read(self, count: int) -> bytes:
        """The next bytes; fewer than asked for where the file ends.

        Raises:
            BadInput: as `fill` does.
        """
        buffer = bytearray(count)
        return bytes(buffer[: self.fill(memoryview(buffer))])

    def skip(self, count: int, wanted: int) -> None:
        """Passes over bytes.

        Raises:
            BadInput: as `fill` does, or where the file ends before them.
        """
        buffer = memoryview(bytearray(min(count, _PIECE)))
        while count:
            piece = buffer[: min(count, _PIECE)]
            self.need(piece, wanted)
            count -= len(piece)

    def need(self, buffer: memoryview, wanted: int) -> None:
        """Fills a buffer wholly.

        Raises:
            BadInput: as `fill` does, or where the file ends before that.
        """
        if self.fill(buffer, wanted) < len(buffer):
            self.refuse_changed(self.stamp)
            raise self._short(wanted)

    def rest(self, trust: Trust) -> list[str]:
        """Reads on to the end, where gzip verifies its checksum; what is odd there, in words.

        Raises:
            BadInput: where the checksum is wrong, unless it is trusted, or nothing ends.
        """
        found, first = [], self._done
        most = max(trust.most_bytes, first)
        if not self.compressed:
            self._done = self.size
        try:
            while self.compressed and (piece := self._file.read1(_PIECE)):
                self._done += len(piece)
                if self._done > most:
                    cause = f"goes on for more than {trust.gib:g} GiB behind its voxels"
                    raise BadInput(self.path, cause, DOWNLOAD)
        except gzip.BadGzipFile as error:
            # All voxels were read, and what is no member of the stream has spoilt none of them.
            if str(error).startswith("Not a gzipped file"):
                found.append("is followed by bytes that are not part of its gzip stream")
            elif trust.checksum and str(error).startswith(("CRC", "Incorrect length")):
                found.append("has a wrong checksum: its voxels may be damaged")
            else:
                raise self._damaged(error) from error
        except EOFError as error:
            raise self._short(0) from error
        except zlib.error as error:
            raise self._damaged(error) from error
        if self._done > first:
            found.append(f"holds {self._done - first:,} bytes more than its header promises")
        return found

    def refuse_changed(self, stamp: Stamp) -> None:
        """Refuses a file that is no longer the one that it was.

        Raises:
            BadInput: naming it.
        """
        refuse_changed(self.path, stamp)

    def _short(self, wanted: int) -> BadInput:
        if not wanted:
            return BadInput(self.path, "its compressed data end early", DOWNLOAD)
        return BadInput(self.path, f"ends after {self._done:,} of {wanted:,} bytes", DOWNLOAD)

    def _damaged(self, error: Exception) -> BadInput:
        remedy = DOWNLOAD
        if str(error).startswith(("CRC", "Incorrect length")):
            remedy += ", or read it all the same by --allow-bad-crc"
        return BadInput(self.path, f"its compressed data are damaged ({error})", remedy)


@contextmanager
def opened(path: Path) -> Iterator[Stream]:
    """The stream of a file; what the system refuses becomes a refusal.

    Raises:
        BadInput: where it is not a regular file, or cannot be read.
    """
    try:
        _refuse_irregular(path, os.stat(path))
        # Between two looks a pipe may have taken the file's place: not even that is waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            _refuse_irregular(path, os.fstat(descriptor))
            yield Stream(path, file)
    except OSError as error:
        raise unreadable(path, error) from error


def refuse_changed(path: Path, stamp: Stamp) -> None:
    """Refuses a file that is no longer the one that it was.

    Raises:
        BadInput: naming it.
    """
    try:
        now = _stamp(os.stat(path))
    except OSError as error:
        raise unreadable(path, error) from error
    if now != stamp:
        raise BadInput(path, "was changed while it was read", "Try again once it is complete")


def unreadable(path: Path, error: OSError) -> BadInput:
    """The refusal that an operating system's error on reading becomes."""
    cause = f"cannot be read: {error.strerror or error}"
    return BadInput(path, cause, "Check its name and your rights")


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ino


def _refuse_irregular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise BadInput(path, f"is {kind}", "Name a .nii or .nii.gz file")
