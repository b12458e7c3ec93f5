"""Checked streams: the decompressed bytes of a scan's file, with all damage detected.

The checksum of a gzip stream is at its end. Readers that stop after the last voxel never verify it,
and load most single-bit errors silently. A checked stream is therefore read to its end. It never
waits for a pipe, and detects a file that is changed while it is read.

Whichever library decodes, the standard library judges: where the faster one finds a fault, the
stream is decoded again from its beginning. So a fault has the same message everywhere.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from volumes.errors import BadInput
from volumes.nifti import gzip_codec
from volumes.nifti.read_options import ReadOptions
from volumes.storage.read_errors import unreadable

DEFLATE_CEILING = 1032  # the largest compression ratio of deflate
DOWNLOAD = "Download or export it again"
_PIECE = 2**20

Stamp = tuple[int, int, int]


class Stream:
    """The decompressed bytes of a file, in order.

    Attributes:
        path: of the file.
        compressed: whether the content is a gzip stream; the file name is not considered.
        size: bytes on disk.
        stamp: size, modification time and inode. It changes with the file.
    """

    def __init__(
        self, path: Path, file: io.BufferedReader, before: hashlib._Hash | None = None
    ) -> None:
        status = os.fstat(file.fileno())
        self.path, self.size, self.stamp = path, status.st_size, _stamp(status)
        self.compressed = file.read(2) == b"\x1f\x8b"
        self._stored, self._before, self._decoder = file, before, gzip_codec.DECODER
        self._begin()

    def _begin(self) -> None:
        """Positions the stream at the first byte of the file."""
        self._stored.seek(0)
        self._hash = self._before.copy() if self._before else None
        self._bytes = self._stored
        if self._hash:
            self._bytes = io.BufferedReader(_HashedFile(self._stored, self._hash))
        self._file: io.BufferedReader | gzip.GzipFile = self._bytes
        if self.compressed:
            self._file = self._decoder(fileobj=self._bytes, mode="rb")
        self._done = 0

    def _next(self, most: int) -> bytes:
        """The next bytes, at most 1 MiB; none at the end.

        Raises:
            EOFError, zlib.error, gzip.BadGzipFile: from the standard library, if the compressed
                data end early or are damaged.
        """
        most = min(most, _PIECE)
        try:
            piece = self._file.read1(most)
        except gzip_codec.FAULTS:
            if self._decoder is gzip.GzipFile:
                raise
            delivered, self._decoder = self._done, gzip.GzipFile
            self._begin()
            while self._done < delivered and self._next(delivered - self._done):
                pass
            return self._next(most)
        self._done += len(piece)
        return piece

    def fill(self, buffer: memoryview, wanted: int = 0) -> int:
        """Fills a buffer with the next bytes, and returns how many there were.

        Args:
            buffer: of bytes.
            wanted: expected bytes of the whole file, for the message if it ends early.

        Raises:
            BadInput: if the compressed data are damaged or end early.
        """
        filled = 0
        try:
            # In pieces: the bytes before the damage are counted.
            while piece := self._next(len(buffer) - filled):
                buffer[filled : filled + len(piece)] = piece
                filled += len(piece)
        except EOFError as error:
            raise self._short(wanted) from error
        except (zlib.error, gzip.BadGzipFile) as error:
            raise self._damaged(error) from error
        return filled

    def read(self, count: int) -> bytes:
        """The next `count` bytes, or fewer at the end of the file.

        Raises:
            BadInput: as `fill`.
        """
        buffer = bytearray(count)
        return bytes(buffer[: self.fill(memoryview(buffer))])

    def skip(self, count: int, wanted: int) -> None:
        """Skips `count` bytes.

        Raises:
            BadInput: as `fill`, or if the file has fewer bytes.
        """
        buffer = memoryview(bytearray(min(count, _PIECE)))
        while count:
            piece = buffer[: min(count, _PIECE)]
            self.need(piece, wanted)
            count -= len(piece)

    def need(self, buffer: memoryview, wanted: int) -> None:
        """Fills all of a buffer.

        Raises:
            BadInput: as `fill`, or if the file has fewer bytes.
        """
        if self.fill(buffer, wanted) < len(buffer):
            self.refuse_changed(self.stamp)
            raise self._short(wanted)

    def rest(self, trust: ReadOptions) -> list[str]:
        """Reads to the end, where gzip verifies its checksum, and returns warnings.

        Raises:
            BadInput: if the checksum is wrong and not ignored, or if the stream is too long.
        """
        found, first = [], self._done
        most = max(trust.most_bytes, first)
        if not self.compressed:
            self._done = self.size
        try:
            while self.compressed and self._next(_PIECE):
                if self._done > most:
                    cause = f"has more than {trust.gib:g} GiB after its voxels"
                    raise BadInput(self.path, cause, DOWNLOAD)
        except gzip.BadGzipFile as error:
            # All voxels were read, so bytes after the gzip stream have not damaged them.
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
            found.append(f"holds {self._done - first:,} bytes more than its header declares")
        return found

    def sha256(self) -> str:
        """The SHA-256 of the bytes on disk, in hexadecimal. Reads those that are left."""
        assert self._hash is not None, "the stream was opened without `before`"
        while self._bytes.read(_PIECE):
            pass
        return self._hash.hexdigest()

    def refuse_changed(self, stamp: Stamp) -> None:
        """Refuses a file that was changed.

        Raises:
            BadInput: if its stamp differs.
        """
        refuse_changed(self.path, stamp)

    def _short(self, wanted: int) -> BadInput:
        if not wanted:
            return BadInput(self.path, "its compressed data end early", DOWNLOAD)
        return BadInput(self.path, f"ends after {self._done:,} of {wanted:,} bytes", DOWNLOAD)

    def _damaged(self, error: Exception) -> BadInput:
        remedy = DOWNLOAD
        if str(error).startswith(("CRC", "Incorrect length")):
            remedy += ", or pass --allow-bad-crc to read it anyway"
        return BadInput(self.path, f"its compressed data are damaged ({error})", remedy)


class _HashedFile(io.RawIOBase):
    """A file whose bytes are added to a hash while they are read."""

    def __init__(self, file: io.BufferedReader, found: hashlib._Hash) -> None:
        self._file, self._hash = file, found

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)
        self._hash.update(memoryview(buffer)[:count])
        return count


@contextmanager
def open_stream(path: Path, before: hashlib._Hash | None = None) -> Iterator[Stream]:
    """The checked stream of a file.

    Args:
        path: of the file.
        before: hash that the bytes on disk are added to for `Stream.sha256`; None hashes none.

    Raises:
        BadInput: if it is not a regular file or cannot be read.
    """
    try:
        _refuse_irregular(path, os.stat(path))
        # The file may be replaced by a pipe between the two checks: do not wait for it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            _refuse_irregular(path, os.fstat(descriptor))
            yield Stream(path, file, before)
    except OSError as error:
        raise unreadable(path, error) from error


def refuse_changed(path: Path, stamp: Stamp) -> None:
    """Refuses a file that was changed.

    Raises:
        BadInput: if its stamp differs.
    """
    try:
        now = _stamp(os.stat(path))
    except OSError as error:
        raise unreadable(path, error) from error
    if now != stamp:
        raise BadInput(path, "was changed while it was read", "Try again once it is complete")


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ino


def _refuse_irregular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise BadInput(path, f"is {kind}", "Name a .nii or .nii.gz file")
