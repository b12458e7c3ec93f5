"""Bad and odd scans: every file that must be refused, or read correctly.

Each is made here from nibabel's header and numpy's bytes: nothing of the engine's own writer is
used.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

NAN, INF = float("nan"), float("inf")
# (Z, Y, X) HU of a body in air, as the axes IPL store it.
HU = np.random.default_rng(0).integers(-1024, 1500, (5, 6, 7)).astype(np.int16)
IPL = np.array([[0, 0, -0.7, 30], [0, -0.8, 0, 20], [-3, 0, 0, 10], [0, 0, 0, 1.0]])
AXES = ("IPL", "LPS", "RAS", "LAS", "SPR", "PIR", "AIL", "ILA")
DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")


@dataclass(frozen=True)
class File:
    """One file of the catalogue.

    Attributes:
        name: what is wrong or odd about it.
        make: writes it into a folder; returns the path that a user would name.
        says: words of the refusal; of a file that is taken, of its warning; empty where none is.
        taken: whether it is read.
        flags: of the command line.
        hu: what it holds, (Z, Y, X), where it is taken.
        known: whether nibabel reads it, and rightly.
    """

    name: str
    make: Callable[[Path], Path]
    says: str = ""
    taken: bool = False
    flags: tuple[str, ...] = ()
    hu: Any = None
    known: bool = True


# -- How they are made -----------------------------------------------------------------------------


def head(shape: tuple[int, ...], code: str = "i2", order: str = "<", *, kind: Any = None,
         between: bytes = bytes(4), **fields: Any) -> bytes:  # fmt: skip
    """A valid header, with `fields` overwritten without a check."""
    made = (kind or nib.Nifti1Header)(endianness=order)
    made.set_data_shape(shape)
    made.set_data_dtype(np.dtype(code))
    made.set_qform(IPL, 1)
    made.set_sform(IPL, 1)
    made["magic"] = made.single_magic
    made["vox_offset"] = made.sizeof_hdr + len(between)
    made["scl_slope"], made["scl_inter"] = 1.0, 0.0
    for name, value in fields.items():
        if np.ndim(made[name]):
            made[name][: len(value)] = value
        else:
            made[name] = value
    return bytes(made.binaryblock) + between


def content(hu: Any = HU, order: str = "<", **fields: Any) -> bytes:
    """A single file of HU in the order of their array."""
    hu = np.asarray(hu)
    code = fields.pop("code", hu.dtype.str[1:])
    return head(hu.shape, code, order, **fields) + hu.astype(order + code).tobytes("F")


def put(block: bytes, name: str = "scan.nii") -> Callable[[Path], Path]:
    """Writes bytes as they are."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(block)
        return folder / name

    return make


def packed(block: bytes, name: str = "scan.nii.gz") -> Callable[[Path], Path]:
    """Writes bytes compressed."""
    return put(gzip.compress(block, 1, mtime=0), name)


def _both(name: str, says: str, **fields: Any) -> Iterator[File]:
    yield File(f"{name}, plain", put(content(**fields)), says)
    yield File(f"{name}, compressed", packed(content(**fields)), says)


# -- Streams ---------------------------------------------------------------------------------------


def _flipped(block: bytes, bit: int) -> bytes:
    damaged = bytearray(block)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def _streams() -> Iterator[File]:
    whole = gzip.compress(content(), 1, mtime=0)
    long = gzip.compress(content(np.tile(HU, (9, 9, 9))), 1, mtime=0)
    for share in (0.001, 0.1, 0.5, 0.95):
        says = "end early" if share < 0.01 else "ends after"
        yield File(f"cut to {share:.1%}", put(long[: int(share * len(long))], "scan.nii.gz"), says)
    for cut in range(1, 9):
        yield File(f"trailer cut by {cut}", put(whole[:-cut], "scan.nii.gz"), "end early")
    middle = 8 * (len(whole) // 2)
    for where, bit in (("data", middle), ("checksum", 8 * len(whole) - 50),
                       ("length", 8 * len(whole) - 20)):  # fmt: skip
        yield File(
            f"flipped bit in the {where}", put(_flipped(whole, bit), "scan.nii.gz"), "damaged"
        )
    bad = put(_flipped(whole, 8 * len(whole) - 50), "scan.nii.gz")
    yield File(
        "wrong checksum, allowed", bad, "wrong checksum", True, ("--allow-bad-crc",), HU, False
    )
    more = ("--allow-bad-crc",)
    yield File(
        "cut, bad checksums allowed", put(long[:-200], "scan.nii.gz"), "ends after", False, more
    )
    for name, tail in (("text", b"<!-- served by a proxy -->"), ("one byte", b"x")):
        yield File(
            f"followed by {name}",
            put(whole + tail, "scan.nii.gz"),
            "followed by bytes",
            True,
            hu=HU,
            known=False,
        )
    yield File("followed by zeros", put(whole + bytes(512), "scan.nii.gz"), "", True, hu=HU)
    yield File("followed by half a member", put(whole + whole[:40], "scan.nii.gz"), "end early")
    parts = [content()[:100], content()[100:500], content()[500:]]
    members = b"".join(gzip.compress(part, mtime=0) for part in parts)
    yield File("several members", put(members, "scan.nii.gz"), "", True, hu=HU)
    yield File(
        "voxels behind the voxels", packed(content() + bytes(99)), "99 bytes more", True, hu=HU
    )
    yield File(
        "plain, voxels behind the voxels", put(content() + bytes(99)), "99 bytes more", True, hu=HU
    )
    yield File(
        "plain, called .nii.gz",
        put(content(), "scan.nii.gz"),
        "not compressed",
        True,
        hu=HU,
        known=False,
    )
    yield File(
        "compressed, called .nii",
        packed(content(), "scan.nii"),
        "is gzip-compressed",
        True,
        hu=HU,
        known=False,
    )
    yield File("empty", put(b""), "is empty")
    yield File("empty, called .nii.gz", put(b"", "scan.nii.gz"), "is empty")
    yield File("a gzip stream of nothing", packed(b""), "is empty")
    yield File("forty bytes", put(content()[:40]), "not a header")
    yield File("forty bytes, compressed", packed(content()[:40]), "not a header")
    # Members may follow each other: 4.2 MB that are more than 4 GiB, made without making them.
    piece = gzip.compress(bytes(2**26), 9, mtime=0)
    bomb = gzip.compress(head((2049, 1024, 1024)), mtime=0) + 65 * piece
    yield File("4 GiB of honest zeros", put(bomb, "scan.nii.gz"), "4.0 GiB of voxels, more than 4")
    small = ("--max-gib", "0.0000001")
    yield File("more than is asked for", packed(content()), "more than 1e-07", False, small)
    endless = gzip.compress(content(), mtime=0) + 2 * piece
    yield File(
        "128 MiB behind the voxels",
        put(endless, "scan.nii.gz"),
        "GiB after its voxels",
        False,
        ("--max-gib", "0.1"),
    )
    yield File("more than deflate can hold", packed(head((512, 512, 400)) + bytes(99)), "can hold")
    yield File("plain, cut", put(content()[:-9]), "ends after")
    yield File("header only", put(content()[:352]), "ends after")
    yield File("header only, compressed", packed(content()[:352]), "ends after")


# -- What is no scan -------------------------------------------------------------------------------


def _others() -> Iterator[File]:
    for name, block, says in (
        ("a web page", b"<!DOCTYPE html>\n<html>404</html>" * 20, "web page"),
        ("a git-LFS pointer", b"version https://git-lfs.github.com/spec/v1\n", "was not fetched"),
        ("a PNG picture", b"\x89PNG\r\n\x1a\n" + bytes(400), "PNG"),
        ("a DICOM slice", bytes(128) + b"DICM" + bytes(400), "dcm2niix"),
        ("a MetaImage header", b"ObjectType = Image\n" + b"#" * 400, "MetaImage"),
        ("an NRRD file", b"NRRD0004\n" + b"#" * 400, "NRRD"),
        ("zeros", bytes(1000), "not a header"),
        ("text", b"patient,age\n" * 99, "not a header"),
    ):  # fmt: skip
        yield File(name, put(block), says)
        yield File(f"{name}, called .nii.gz", put(block, "imaging.nii.gz"), says)
    yield File("a web page, compressed", packed(b"<html>" * 99), "web page")
    yield File(
        "compressed twice", packed(gzip.compress(content(), mtime=0)), "gzip-compressed twice"
    )
    yield File("a tar archive, compressed", packed(_tar()), "tar archive. Decompress it first")
    yield File("a tar archive", put(_tar(), "scan.tar"), "tar archive. Decompress it first")
    yield File("Analyze 7.5", put(content(magic=b"")), "it is an Analyze 7.5 header")
    for signature, says in (
        (b"\xff\xd8\xff\xe0", "a JPEG"), (b"II*\0", "a TIFF"), (b"MM\0*", "a TIFF"),
        (b"%PDF-1.4", "a PDF"), (b"\x89HDF\r\n", "an HDF5"), (b"MATLAB 5.0", "a MATLAB"),
        (b"\x93NUMPY", "a numpy array"), (b"7z\xbc\xaf\x27\x1c", "7-Zip archive. Decompress"),
        (b"Rar!\x1a", "RAR archive. Decompress"), (b"\x04\x22\x4d\x18", "lz4-compressed. Decompr"),
        (b"\x1f\x9d", "compressed by compress. Decompr"),
        (b"\xef\xbb\xbf<html>", "web page. Downl"),
    ):  # fmt: skip
        yield File(f"{says}, called .nii", put(signature + bytes(500)), says)
    for name, block in (("zst", b"\x28\xb5\x2f\xfd" + bytes(400)), ("bz2", b"BZh9" + bytes(400)),
                        ("xz", b"\xfd7zXZ\0" + bytes(400))):  # fmt: skip
        yield File(f"compressed by {name}", put(block, f"scan.nii.{name}"), "Decompress it first")
    yield File(
        "a zip archive", put(b"PK\x03\x04" + bytes(400), "scan.nii.zip"), "Decompress it first"
    )


def _tar() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo("scan.nii")
        member.size = len(content())
        archive.addfile(member, io.BytesIO(content()))
    return made.getvalue()


# -- Headers ---------------------------------------------------------------------------------------


def _headers() -> Iterator[File]:
    yield from _both("no magic", "not a NIfTI file", magic=b"")
    yield from _both("wrong magic", "not a NIfTI file", magic=b"abc")
    yield from _both("magic of a pair", "one half of a .hdr/.img pair", magic=b"ni1")
    yield from _both("sizeof_hdr of zero", "not a NIfTI file", sizeof_hdr=0)
    for count in (0, 8, -1):
        yield from _both(f"{count} dimensions", "impossible dimensions", dim=[count])
    yield from _both("a side of zero", "impossible dimensions", dim=[3, 0])
    yield from _both("a side below zero", "impossible dimensions", dim=[3, 5, -6])
    for sides in ([3, 32767, 32767, 32767], [7, 32767, 32767, 32767, 1, 1, 1, 1]):
        yield from _both(f"sides of 32767 in {sides[0]}", "declares", dim=sides)
    yield from _both("seven sides of 32767", "not one 3D volume", dim=[7] + 7 * [32767])
    for code, says in ((0, "unknown"), (999, "999"), (1, "one bit"), (1536, "128-bit"),
                       (128, "colour image"), (2304, "colour image"), (32, "complex"),
                       (1792, "complex"), (2048, "complex")):  # fmt: skip
        yield from _both(f"datatype {code}", says, datatype=code)
    yield File(
        "bits that are not the datatype's",
        put(content(bitpix=8)),
        "declares 8 bits",
        True,
        hu=HU,
        known=False,
    )
    for slope, inter in ((INF, 0), (-INF, 0), (1, NAN), (1, INF)):
        yield from _both(
            f"slope {slope:g}, intercept {inter:g}",
            "scales its voxels",
            scl_slope=slope,
            scl_inter=inter,
        )
    for slope, inter in ((0, 0), (0, -1024), (NAN, 5)):
        made = put(content(scl_slope=slope, scl_inter=inter))
        yield File(f"slope {slope:g}, intercept {inter:g}", made, "", True, hu=HU)
    for offset in (0, -352, 348, 353.5, 1e9, NAN):
        yield from _both(f"voxels at byte {offset:g}", "places its voxels", vox_offset=offset)
    huge = b"\1\0\0\0" + struct.pack("<ii", 2**31 - 16, 6) + bytes(24)
    yield from _both("an extension of 2 GB", "has an extension of", between=huge)
    yield from _both(
        "an extension of less than nothing",
        "has an extension of",
        between=b"\1\0\0\0" + struct.pack("<ii", -16, 6) + bytes(24),
    )
    yield File(
        "an extension announced, none there", put(content(between=b"\1\0\0\0")), "", True, hu=HU
    )
    note = b"\1\0\0\0" + struct.pack("<ii", 32, 6) + b"a private note, 24 bytes"
    yield File("an extension", put(content(between=note)), "", True, hu=HU)
    yield File("NIfTI-2", packed(content(kind=nib.Nifti2Header)), "", True, hu=HU)
    big = packed(content(kind=nib.Nifti2Header, order=">"))
    yield File("NIfTI-2, big-endian", big, "", True, hu=HU)


def _orientations() -> Iterator[File]:
    no_sform = {"sform_code": 0}
    for size in (0, -1, NAN):
        made = put(content(pixdim=[1, size, 1, 1]))
        yield File(
            f"voxels of {size:g} mm, a sform",
            made,
            "impossible voxel sizes",
            True,
            hu=HU,
            known=False,
        )
        yield from _both(
            f"voxels of {size:g} mm, no sform", "has voxels of", pixdim=[1, size, 1, 1], **no_sform
        )
    yield from _both("a sform with NaN", "inverted", srow_y=[0, NAN, 0, 0])
    yield from _both("a sform of zeros", "inverted", srow_x=[0] * 4, srow_y=[0] * 4, srow_z=[0] * 4)
    yield from _both(
        "a flat sform", "inverted", srow_x=[0, 0, -1, 0], srow_y=[0, -1, 0, 0], srow_z=[0, -1, 0, 0]
    )
    yield from _both("voxels of a light-year", "has voxels of", srow_x=[0, 0, 1e19, 0])
    made = put(content(quatern_b=5.0))
    yield File(
        "an impossible quaternion, a sform", made, "impossible quaternion", True, hu=HU, known=False
    )
    yield from _both(
        "an impossible quaternion, no sform", "quaternion is impossible", quatern_b=5.0, **no_sform
    )
    turn = {"quatern_b": 0.0, "quatern_c": 1.000002, "quatern_d": 0.0}
    turned = HU[::-1].transpose(2, 1, 0)  # left, anterior, inferior after half a turn about y
    rounded = put(
        content(np.ascontiguousarray(turned[:, ::-1]), **turn, **no_sform, pixdim=[1, 0.7, 0.8, 3])
    )
    yield File(
        "a quaternion rounded beyond one", rounded, "", True, hu=_lai(turned[:, ::-1]), known=False
    )
    moved = IPL[:3] + np.array([0, 0, 0, 5])
    made = put(content(srow_x=moved[0], srow_y=moved[1], srow_z=moved[2]))
    yield File("a sform that is not the qform", made, "the sform is used", True, hu=HU)
    las = np.ascontiguousarray(HU[::-1, ::-1].transpose(2, 1, 0))
    made = put(content(las, sform_code=0, qform_code=0))
    yield File("no orientation at all", made, "declares no orientation", True, hu=HU)
    for code in (-7, 300):
        made = put(content(sform_code=code))
        yield File(f"sform_code {code}", made, f"unknown sform_code {code}", True, hu=HU)
    sheared = IPL.copy()
    sheared[1, 0] = 0.8  # a gantry that was tilted
    made = put(content(srow_x=sheared[0], srow_y=sheared[1], srow_z=sheared[2], qform_code=0))
    yield File("a tilted gantry", made, "are sheared by 15 degrees", True, hu=HU)
    for name, sizes in (("2 mm", (2, 2, 2)), ("the default 1 mm", (1, 1, 1)),
                        ("those of other axes", (0.7, 0.8, 3))):  # fmt: skip
        for code in (0, 1):
            made = put(content(pixdim=[1, *sizes], qform_code=code))
            says = "but of 3 x 0.8 x 0.7 mm by its sform: the sform is used"
            yield File(f"pixdim of {name}, qform_code {code}", made, says, True, hu=HU)
    made = put(content(pixdim=[1, 3.02, 0.797, 0.7], qform_code=0))
    yield File("a rounded pixdim", made, "", True, hu=HU)
    for axes in AXES:
        yield File(f"axes {axes}", _turned(axes), "", True, hu=HU)
    cube = {f"srow_{row}": [*one, 0] for row, one in zip("xyz", np.eye(3), strict=True)}
    square = np.random.default_rng(3).integers(-1024, 1500, (4, 9, 9)).astype("i2")
    made = put(content(square, qform_code=0, pixdim=[1, 1, 1, 1], **cube))
    as_said = square.transpose(2, 1, 0)[::-1, ::-1, ::-1]
    yield File("an array without a geometry", made, "--axes ZYX reads it so", True, hu=as_said)
    named = ("--axes", "ZYX")
    says = "its spacing is unknown"
    yield File("its axes named", made, says, True, named, square, known=False)


def _units() -> Iterator[File]:
    for code, name, factor in ((1, "metres", 1e-3), (2, "millimetres", 1), (3, "micrometres", 1e3)):
        rows = {f"srow_{row}": one * factor for row, one in zip("xyz", IPL[:3], strict=True)}
        for time in (0, 8, 24):
            sizes = [1, *(factor * mm for mm in (3, 0.8, 0.7))]
            made = put(content(xyzt_units=code + time, qform_code=0, pixdim=sizes, **rows))
            yield File(f"{name}, time {time}", made, "", True, hu=HU)
    for code, name in ((1, "metres"), (3, "micrometres")):
        made = put(content(xyzt_units=code))
        yield File(f"millimetres called {name}", made, "millimetres are assumed", True, hu=HU)
    made = put(content(xyzt_units=5))
    yield File("a unit of no standard", made, "unknown unit of length", True, hu=HU)
    for factor, name in ((1e-3, "metres"), (1e3, "micrometres"), (1e-6, "nothing")):
        rows = {f"srow_{row}": one * factor for row, one in zip("xyz", IPL[:3], strict=True)}
        yield from _both(f"{name} called millimetres", "as no CT has", qform_code=0, **rows)
    long = np.resize(HU, (1340, 6, 7))  # 4.02 m
    yield File("a field of view beyond 4 m", packed(content(long)), "as no CT has")


def _lai(stored: Any) -> Any:
    """(Z, Y, X) of an array whose axes point left, anterior, inferior."""
    return stored.transpose(2, 1, 0)[:, ::-1]


def _turned(axes: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("IPL"), nib.orientations.axcodes2ornt(axes)
        )
        nib.save(nib.Nifti1Image(HU, IPL).as_reoriented(turn), folder / "scan.nii.gz")
        return folder / "scan.nii.gz"

    return make


# -- Voxels ----------------------------------------------------------------------------------------


def _datatypes() -> Iterator[File]:
    for code in DTYPES:
        slope, inter = {1: (8.0, -1024.0)}.get(np.dtype(code).itemsize, (1.0, 0.0))
        if np.dtype(code).kind == "u":
            inter = -1024.0
        if code == "i1":
            inter = 0.0
        stored = np.clip(np.rint((HU - inter) / slope), *_limits(code))
        for order, name in (("<", "little"), (">", "big")):
            made = put(content(stored, order, code=code, scl_slope=slope, scl_inter=inter))
            hu = slope * stored + inter
            yield File(f"{name}-endian {np.dtype(code).name}", made, "", True, hu=hu)
    few = np.clip(HU, -128, 127).astype("i1")
    yield File("int8 without a slope", put(content(few)), "HU beyond -128 to 127", True, hu=few)
    made = put(content(-2.0 * HU, code="i2", scl_slope=-0.5))
    yield File("a slope below zero", made, "", True, hu=HU)


def _limits(code: str) -> tuple[float, float]:
    if np.dtype(code).kind == "f":
        return -INF, INF
    return float(max(np.iinfo(code).min, -(2**31))), float(min(np.iinfo(code).max, 2**31))


def _values() -> Iterator[File]:
    grey = np.random.default_rng(1).integers(0, 256, HU.shape)
    raw = HU.astype(int) + 1024
    for name, values, code, more in (
        ("grey values", grey, "u1", {}),
        ("values in [0, 1]", grey / 255, "f4", {}),
        ("raw values without their intercept", raw, "i2", {}),
        ("raw values in padding of -2000", np.where(grey < 40, -2000, raw), "i2", {}),
        ("a slope of 1e-30", HU, "i2", {"scl_slope": 1e-30}),
        ("values scaled to mean 0 and deviation 1", (HU - HU.mean()) / HU.std(), "f4", {}),
        ("bytes in the wrong order", HU.byteswap().astype(int), "i2", {}),
    ):
        made = put(content(values, code=code, **more))
        yield File(name, made, "not in Hounsfield units: values range")
        slope = np.float32(more.get("scl_slope", 1))
        hu = np.asarray(values).astype(code).astype(float) * slope
        yield File(f"{name}, trusted", made, "not look like Hounsfield", True, ("--assume-hu",), hu)
    yield from _other_units()
    for number in (NAN, INF, -INF):
        few, many = HU.astype("f4"), HU.astype("f4")
        few.ravel()[:2], many.ravel()[:3] = number, number
        yield File(
            f"2 of 210 voxels {number:g}",
            put(content(few)),
            "2 voxels that are not finite",
            True,
            hu=few,
        )
        yield File(
            f"3 of 210 voxels {number:g}", put(content(many)), "1.4% voxels that are not finite"
        )
    yield File("all voxels NaN", put(content(np.full(HU.shape, NAN, "f4"))), "100.0% voxels")
    yield File(
        "NaN, whatever is trusted",
        put(content(np.full(HU.shape, NAN, "f4"))),
        "not finite",
        False,
        ("--assume-hu",),
    )
    for value in (0, 40, -1024, -3024):
        flat = np.full(HU.shape, value, "i2")
        yield File(f"{value} everywhere", put(content(flat)), "the one value", True, hu=flat)
    for value in (-1024, -2000, -3024):
        padded = HU.copy()
        padded[:, :2] = value
        yield File(f"padding of {value}", put(content(padded)), "", True, hu=padded)
    metal = HU.copy()
    metal[2, 2, 2:4] = 30000, -32000
    yield File("metal, and metal that wrapped around", put(content(metal)), "", True, hu=metal)
    for shape in ((1, 6, 7), (1, 1, 1), (3, 301, 299), (2, 512, 796), (1059, 16, 16)):
        hu = np.random.default_rng(2).integers(-1024, 1500, shape).astype("i2")
        says = "the one value" if hu.size == 1 else ""
        yield File(f"{' x '.join(map(str, shape))} voxels", packed(content(hu)), says, True, hu=hu)


def _body() -> Any:
    """(8, 32, 32) HU of soft tissue with bone in air, with noise of 20 HU."""
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    slice_ = np.where(y**2 + x**2 < 0.6, 40.0, -1000.0)
    slice_[(y - 0.3) ** 2 + x**2 < 0.02] = 700
    return slice_ + np.random.default_rng(4).normal(0, 20, (8, 32, 32))


def _other_units() -> Iterator[File]:
    body = _body()
    outside = np.broadcast_to(np.add.outer(*2 * [np.linspace(-1, 1, 32) ** 2]) > 1, body.shape)
    draw = np.random.default_rng(5)
    for name, values, code, says in (
        ("an intercept applied twice", body - 1024, "i2", "was applied twice. Add 1,024 to"),
        ("no intercept", np.maximum(body + 1024, 0), "i2", "-1024 was missing. Subtract 1,024"),
        ("no intercept but for the padding", np.where(outside, -1024, body + 1024), "i2",
         "-1024 was missing. Subtract 1,024"),
        ("HU wrapped to uint16", body.astype("i2").view("u2"), "u2", "stored as uint16. Save it"),
    ):  # fmt: skip
        yield File(name, put(content(np.rint(values), code=code)), says)
    for name, values, says in (
        ("an MR phase", draw.integers(-4096, 4096, body.shape), "are below -2000"),
        ("a slope of 10 lost", body / 10, "a sharp peak at -100"),
        ("a slope of 2 lost", body / 2, "no peak at -1000"),
        ("deviations times 100", 100 * (body - body.mean()) / body.std(), "have a sharp peak"),
        ("a PET", np.where(body > -500, draw.gamma(2, 1500, body.shape),
                           draw.normal(-30, 50, body.shape)), "are above 3071"),
        ("half of an intercept", np.clip(body, 0, 200) - 500, "lie in soft tissue"),
        ("bytes in padding", np.where(outside, -1024, draw.integers(0, 256, body.shape)),
         "no value is below 0, except the constant -1024"),
    ):  # fmt: skip
        hu = np.rint(values).astype("i2")
        yield File(name, put(content(hu)), says, True, hu=hu)
    noise = draw.normal(0, 280, body.shape)
    for name, hu in (
        ("noise of 280 HU", body + noise), ("air alone", draw.normal(-1000, 15, body.shape)),
        ("air under noise", np.where(outside, -3024, noise - 1000)),
        ("water", body[:, 8:24, 8:24] - 40),
        ("a slice", body[:1]), ("lungs", draw.normal(-780, 60, body.shape)),
        ("a padded body", np.where(outside, -2000, body)),
    ):  # fmt: skip
        hu = np.rint(hu).astype("i2")
        yield File(f"a scan: {name}", put(content(hu)), "", True, hu=hu)


def _dimensions() -> Iterator[File]:
    four = np.stack([HU, HU[::-1], HU[:, ::-1]], axis=-1)
    for name, make in (("plain", put), ("compressed", packed)):
        yield File(f"three volumes, {name}", make(content(four)), "--volume 0 to --volume 2")
        for k in range(3):
            chosen = ("--volume", str(k))
            yield File(
                f"volume {k} of three, {name}",
                make(content(four)),
                "",
                True,
                chosen,
                four[..., k],
                known=False,
            )
        yield File(
            f"volume 3 of three, {name}",
            make(content(four)),
            "has no volume 3",
            False,
            ("--volume", "3"),
        )
        cut = content(four)[:-9]
        yield File(
            f"volume 0 of three that are cut, {name}",
            make(cut),
            "ends after",
            False,
            ("--volume", "0"),
        )
    yield File(
        "one volume in four dimensions", put(content(HU[..., None])), "", True, hu=HU, known=False
    )
    yield File("a vector a voxel", put(content(four[..., None, :])), "holds vectors (5 x 6 x 7 x 1")
    yield File("one dimension", put(content(HU.ravel())), "holds a line of 210 values")
    for name, make in (("plain", put), ("compressed", packed)):
        for code in (0, 1):
            made = make(content(HU[0], qform_code=code))
            words = f"two dimensions, {name}, qform {code}"
            yield File(words, made, "", True, hu=HU[:1], known=False)
    for thickness in (0, NAN, -1):
        made = put(content(HU[0], pixdim=[1, 3, 0.8, thickness]))
        words = f"two dimensions, {thickness:g} mm thick"
        yield File(words, made, "", True, hu=HU[:1], known=False)


# -- Places ----------------------------------------------------------------------------------------


def _half(*, image: bool, named: str) -> Callable[[Path], Path]:
    """A .hdr/.img pair, or the header alone."""

    def make(folder: Path) -> Path:
        block = head(HU.shape, magic=b"ni1", vox_offset=0)
        (folder / "scan.hdr").write_bytes(block[:348])
        if image:
            (folder / "scan.img").write_bytes(HU.tobytes("F"))
        return folder / named

    return make


def _packed_pair(folder: Path) -> Path:
    extended = head(
        HU.shape,
        magic=b"ni1",
        vox_offset=16,
        between=b"\1\0\0\0" + struct.pack("<ii", 16, 6) + bytes(8),
    )
    (folder / "scan.hdr.gz").write_bytes(gzip.compress(extended[:340] + extended[340:], mtime=0))
    (folder / "scan.img.gz").write_bytes(gzip.compress(bytes(16) + HU.tobytes("F"), mtime=0))
    return folder / "scan.hdr.gz"


def _short_pair(folder: Path) -> Path:
    path = _half(image=True, named="scan.hdr")(folder)
    os.truncate(folder / "scan.img", 99)
    return path


def _single_called_hdr(folder: Path) -> Path:
    (folder / "scan.img").write_bytes(b"")
    return put(content(), "scan.hdr")(folder)


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "scan.nii")
    return folder / "scan.nii"


def _linked(target: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "scan.nii.gz").symlink_to(target)
        return folder / "scan.nii.gz"

    return make


def _loop(folder: Path) -> Path:
    (folder / "other.nii").symlink_to(folder / "scan.nii")
    return _linked("other.nii")(folder)


def _folder(folder: Path) -> Path:
    (folder / "scan.nii.gz").mkdir()
    return folder / "scan.nii.gz"


def _link_to_a_scan(folder: Path) -> Path:
    put(content(), "object")(folder)
    (folder / "scan.nii").symlink_to("object")
    return folder / "scan.nii"


def _places() -> Iterator[File]:
    yield File("a pair, by its header", _half(image=True, named="scan.hdr"), "", True, hu=HU)
    yield File("a pair, by its image", _half(image=True, named="scan.img"), "", True, hu=HU)
    yield File("a pair, compressed, with an extension", _packed_pair, "", True, hu=HU)
    yield File(
        "a header without its image",
        _half(image=False, named="scan.hdr"),
        "scan.img does not exist",
    )
    yield File(
        "an image without its header", put(HU.tobytes(), "scan.img"), "scan.hdr does not exist"
    )
    yield File("a pair, its image cut", _short_pair, "ends after")
    yield File("a whole file called .hdr", _single_called_hdr, "is a single-file NIfTI")
    yield File("a folder", _folder, "is a folder")
    yield File("a pipe", _fifo, "not a regular file")
    yield File("a device without end", lambda _: Path("/dev/zero"), "not a regular file")
    yield File("a link to a device", _linked("/dev/zero"), "not a regular file")
    yield File("a link to nothing", _linked("gone.nii.gz"), "cannot be read")
    yield File("links in a circle", _loop, "cannot be read")
    yield File("no file", lambda folder: folder / "scan.nii.gz", "cannot be read")
    yield File("a name through a file", lambda f: put(content())(f) / "scan.nii", "cannot be read")
    yield File("a name too long to be one", lambda f: f / ("x" * 300 + ".nii"), "cannot be read")
    yield File("a link to a scan", _link_to_a_scan, "", True, hu=HU)
    for name in ("with spaces.nii", "naïve 患者 (1).nii.gz", "two\nlines.nii", "-rf.nii",
                 "scan.v1.2.nii", "SCAN.NII.GZ", "scan", "bell\a.nii", "y" * 251 + ".nii",
                 os.fsdecode(b"latin-\xe9.nii"), "$(reboot);.nii", "%s{0}[bold].nii"):  # fmt: skip
        made = packed if name.lower().endswith(".gz") else put
        yield File(
            f"a scan called {name[:30]!r}", made(content(), name), "", True, hu=HU, known=False
        )
        yield File(f"a bad file called {name[:30]!r}", put(b"", name), "is empty")


def files() -> list[File]:
    """The whole catalogue."""
    rooms = (
        _streams, _others, _headers, _orientations, _units, _datatypes, _values, _dimensions,
        _places,
    )  # fmt: skip
    return [file for room in rooms for file in room()]
