from dataclasses import replace

import numpy as np
import pytest

from volumes.storage.cache_folder import CacheFolder
from volumes.tomography import sinogram_cache
from volumes.tomography.geometry import FanBeam, Parallel
from volumes.tomography.scanner import Scanner
from volumes.tomography.sinogram_cache import sinogram
from volumes.volume import Volume

SCANNER = Scanner(FanBeam(60, 41, 35.0, 62.5))


@pytest.fixture(scope="module", autouse=True)
def _tf(cpu):
    """Scanners need TensorFlow."""


@pytest.fixture
def volume(phantom_hu, tmp_path):
    return Volume(
        phantom_hu[:4, :31, :24],
        (3.0, 8.0, 8.0),
        "case",
        "ab" * 32,
        kept=CacheFolder(tmp_path / "s"),
    )


def projections(monkeypatch):
    """Counts the slices that are projected from now on."""
    project, counted = Scanner.project, []

    def counting(scanner, hu, pixel_mm):
        counted.append(hu)
        return project(scanner, hu, pixel_mm)

    monkeypatch.setattr(Scanner, "project", counting)
    return counted


def files(volume):
    return sorted(path for path in volume.kept.folder.rglob("*") if path.is_file())


def same(one, other):
    np.testing.assert_array_equal(one.integrals, other.integrals)
    assert one.integrals.dtype == other.integrals.dtype == np.float32
    assert (one.geometry, one.pixel_mm, one.shape) == (other.geometry, other.pixel_mm, other.shape)


def test_a_sinogram_is_that_of_the_scanner_when_it_is_made_and_when_it_is_read(volume):
    wanted = SCANNER.project(volume.hu[2], 8.0)
    for _ in range(2):
        same(sinogram(volume, 2, SCANNER), wanted)


def test_a_slice_is_projected_once(volume, monkeypatch):
    counted = projections(monkeypatch)
    for _ in range(3):
        sinogram(volume, 1, SCANNER)
    assert len(counted) == 1
    assert len(files(volume)) == 1


def test_a_cached_sinogram_takes_four_bytes_per_ray(volume):
    sinogram(volume, 0, SCANNER)
    assert 4 * 60 * 41 <= files(volume)[0].stat().st_size < 4 * 60 * 41 + 600


def test_a_volume_outside_of_a_store_keeps_nothing(volume, monkeypatch):
    counted, loose = projections(monkeypatch), replace(volume, kept=None)
    same(sinogram(loose, 1, SCANNER), sinogram(loose, 1, SCANNER))
    assert len(counted) == 2


@pytest.mark.parametrize(
    "other",
    [
        replace(SCANNER, mu_water_per_mm=0.02),
        replace(SCANNER, geometry=SCANNER.geometry.every(2)),
        replace(SCANNER, geometry=replace(SCANNER.geometry, source_pixels=70.0)),
        replace(SCANNER, geometry=Parallel(60, 41)),
    ],
    ids=["water", "views", "source", "parallel"],
)
def test_scanners_whose_integrals_differ_do_not_share_them(volume, other):
    sinogram(volume, 0, SCANNER)
    same(sinogram(volume, 0, other), other.project(volume.hu[0], 8.0))
    same(sinogram(volume, 0, SCANNER), SCANNER.project(volume.hu[0], 8.0))


def test_scanners_that_differ_in_their_filter_share_them(volume, monkeypatch):
    sinogram(volume, 0, SCANNER)
    counted = projections(monkeypatch)
    sinogram(volume, 0, replace(SCANNER, filter="hann"))
    assert not counted


def test_scans_of_other_content_do_not_share_them(volume):
    sinogram(volume, 0, SCANNER)
    other = replace(volume, hu=volume.hu[::-1], sha256="cd" * 32)
    same(sinogram(other, 0, SCANNER), SCANNER.project(other.hu[0], 8.0))


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "other"])
def test_a_damaged_sinogram_is_computed_again(volume, damage):
    wanted = sinogram(volume, 0, SCANNER)
    (path,) = files(volume)
    block = bytearray(path.read_bytes())
    if damage == "flipped":
        block[len(block) // 2] ^= 1
    elif damage == "other":
        with open(path, "wb") as file:
            np.savez(file, integrals=np.zeros((2, 3), np.float32))
        block = bytearray(path.read_bytes())
    path.write_bytes({"short": block[: len(block) // 2], "empty": b""}.get(damage, bytes(block)))
    same(sinogram(volume, 0, SCANNER), wanted)
    assert sinogram_cache._read(path, SCANNER.geometry) is not None


def test_with_a_read_only_cache_each_use_computes_the_sinogram(volume, monkeypatch):
    volume.kept.folder.write_text("a file stands where the folder should be")
    messages, counted = [], projections(monkeypatch)
    loose = replace(volume, kept=CacheFolder(volume.kept.folder, messages.append))
    for _ in range(3):
        same(sinogram(loose, 1, SCANNER), SCANNER.project(volume.hu[1], 8.0))
    assert len(counted) == 6
    assert len(messages) == 1


def test_a_damaged_sinogram_is_reported(volume):
    messages = []
    loud = replace(volume, kept=CacheFolder(volume.kept.folder, messages.append))
    sinogram(loud, 0, SCANNER)
    assert messages == []
    (path,) = files(volume)
    path.write_bytes(b"")
    sinogram(loud, 0, SCANNER)
    assert messages == [f"{path}: is damaged; it is computed again"]
