"""Recordings that do not fit their clean scans: told in one line, with the explaining figure."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.gates.ledger import Faults
from volumes import nifti
from volumes.dataset import find_cases
from volumes.dataset.recordings import Compared
from volumes.dataset.store import Store
from volumes.errors import BadInput
from volumes.phantoms.abdomen import abdomen

COMPARED = Compared(Path("quarter.nii.gz"), "imaging.nii.gz")


@pytest.fixture(scope="module")
def clean():
    """(12, 96, 96) HU of a phantom."""
    hu, _ = abdomen((12, 96, 96), rng=np.random.default_rng(0))
    return hu.astype(np.float64)


def noise(sigma_hu, shape, seed=0):
    return np.random.default_rng(seed).normal(0, sigma_hu, shape)


def found(clean, noisy):
    """What is told of two images, as HU."""
    stored = (np.clip(np.rint(each), -32768, 32767).astype(np.int16) for each in (clean, noisy))
    return COMPARED.oddities(*stored)


@pytest.mark.parametrize("sigma_hu", [5, 30, 140, 300])
def test_a_recording_of_the_same_voxels_is_not_odd(clean, sigma_hu):
    assert found(clean, clean + noise(sigma_hu, clean.shape)) == ()


def test_a_recording_clipped_at_air_is_not_odd(clean):
    noisy = np.maximum(clean + noise(140, clean.shape), -1024)
    assert found(clean, noisy) == ()


def test_two_recordings_of_the_same_dose_are_not_odd(clean):
    noisy = (clean + noise(40, clean.shape, seed) for seed in (0, 1))
    assert found(*noisy) == ()


def test_an_offset_below_20_hu_may_be_the_scanner_s(clean):
    assert found(clean, clean + 15 + noise(30, clean.shape)) == ()


ODD = {
    "offset of 70": (lambda x: x + 70, "lies (69|70|71) HU above imaging.nii.gz on average. Corr"),
    "offset of -40": (lambda x: x - 40, "lies (39|40|41) HU below imaging.nii.gz on average. Corr"),
    "no intercept": (
        lambda x: x + 1024,
        "1,02[3-5] HU above .* intercept of -1,024 HU seems to be",
    ),
    "no intercept, 1000": (lambda x: x + 1000, "intercept of -1,000 HU seems to be missing"),
    "intercept twice": (lambda x: x - 1024, "intercept of -1,024 HU seems to be applied twice"),
    "no intercept, 8192": (lambda x: x + 8192, "intercept of -8,192 HU seems to be missing"),
    "half": (lambda x: 0.5 * x, r"has 0\.(5|49\d|50\d) times the values .* Convert it"),
    "twice": (lambda x: 2 * x, r"has (2|1\.99|2\.0\d) times the values"),
    "half from air": (lambda x: 0.5 * (x + 1000) - 1000, r"has 0\.\d+ times .*, -(49|50)\d HU"),
    "one voxel right": (lambda x: np.roll(x, 1, 2), r"is shifted .* by \(0, 0, 1\) voxels"),
    "voxels up": (lambda x: np.roll(x, (-3, 2), (1, 2)), r"is shifted .* by \(0, -3, 2\) voxels"),
    "one slice down": (lambda x: np.roll(x, 1, 0), r"is shifted .* by \(1, 0, 0\) voxels"),
    "inverted": (lambda x: -x, "hardly resembles imaging.nii.gz: correlation -"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_explains_a_recording_is_told_in_one_line(clean, name):
    change, told = ODD[name]
    (words,) = found(clean, change(clean + noise(30, clean.shape)))
    assert re.search(told, words)
    assert len(words) < 200


REFUSED = {
    "left to right": (lambda x: x[:, :, ::-1], "lies mirrored left to right against"),
    "front to back": (lambda x: x[:, ::-1], "lies mirrored front to back against"),
    "half a turn": (lambda x: x[:, ::-1, ::-1], "lies mirrored front to back and left to right"),
    "a quarter turn": (lambda x: np.rot90(x, 1, (1, 2)), "lies turned by a quarter in its slices"),
    "attenuation": (lambda x: 0.0193 * (x + 1000), r"has 0\.019\d? times the values"),
    "another unit": (lambda x: 10 * x, r"has (10|9\.\d+|10\.\d) times the values"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_certainly_no_recording_is_refused(clean, name):
    change, told = REFUSED[name]
    with pytest.raises(BadInput, match=rf"^quarter\.nii\.gz: {told}"):
        found(clean, change(clean + noise(30, clean.shape)))


def test_a_copy_of_the_clean_scan_is_refused(clean):
    with pytest.raises(BadInput, match=r"holds the voxels of imaging\.nii\.gz: there is no noise"):
        found(clean, clean)


def test_a_copy_with_rounding_errors_is_told(clean):
    (words,) = found(clean, clean + (noise(1, clean.shape) > 1.5))
    assert "there is hardly any noise" in words


def test_swapped_roles_are_told(clean):
    (words,) = found(clean + noise(60, clean.shape), clean + noise(30, clean.shape, 1))
    level, other = map(float, re.findall(r"[\d.]+(?= (?:against|HU))", words))
    assert level == pytest.approx(30, rel=0.25)
    assert other == pytest.approx(60, rel=0.1)
    assert "Swap the two" in words


def test_a_shift_of_an_image_of_few_rows_is_told(clean):
    strip = np.tile(clean[:, 40:55], (4, 1, 1))  # 15 rows are 3 blocks of 4
    shifted = np.roll(strip, 3, axis=2) + noise(10, strip.shape)
    (told,) = found(strip, shifted)
    assert "is shifted" in told


def test_another_patient_is_told(clean):
    other, _ = abdomen((12, 96, 96), rng=np.random.default_rng(5))
    turned = np.roll(other, 30, 2)
    (words,) = found(clean, turned + noise(30, clean.shape))
    assert words.startswith("hardly resembles imaging.nii.gz: correlation ")


def head(seed):
    """(8, 64, 64) HU: organs at other places of the same outline, with the same spine."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (8, 64, 64)), indexing="ij")
    hu = np.where((y / 0.75) ** 2 + (x / 0.85) ** 2 < 1, 40.0, -1000.0)
    for _ in range(5):
        (cz, cy, cx), (rz, ry, rx) = rng.uniform(-0.4, 0.4, 3), rng.uniform(0.15, 0.35, 3)
        organ = ((z - cz) / (3 * rz)) ** 2 + ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
        hu[organ] = rng.uniform(-120, 200)
    hu[((y - 0.5) / 0.12) ** 2 + (x / 0.12) ** 2 < 1] = 700
    return hu


HEADS = [head(seed) for seed in range(12)]


@pytest.mark.gate("G7")
@pytest.mark.parametrize(("axis", "how"), [(0, "head to feet"), (2, "left to right")])
def test_a_turned_recording_is_refused_although_its_outline_fits(axis, how, faults: Faults) -> None:
    for seed, clean in enumerate(HEADS):
        assert found(clean, clean + noise(60, clean.shape, seed)) == ()
        with pytest.raises(BadInput, match=f"lies mirrored {how} against imaging"):
            found(clean, np.flip(clean, axis) + noise(60, clean.shape, seed))
        faults.handled()


def test_another_patient_of_the_same_outline_is_told_by_its_soft_tissue():
    told = [found(clean, other + noise(60, clean.shape, seed))
            for seed, (clean, other) in enumerate(pairwise(HEADS))]  # fmt: skip
    words = [each[0] for each in told if each]
    other_tissue = "shows other soft tissue than imaging.nii.gz: its contrast is 0."
    assert all(other_tissue in text for text in words)
    assert len(words) >= 8  # of 11; organs may coincide, too


def test_constant_and_small_images_are_not_judged():
    flat = np.full((12, 96, 96), 40.0)
    assert found(flat, flat + noise(30, flat.shape)) == ()
    assert found(flat, flat) == ()
    assert found(flat[:1, :8, :8], flat[:1, :8, :8] + 500) == ()


@pytest.fixture
def two(tmp_path, clean):
    """A function that writes a recording beside a clean scan: the case of the two."""

    def write(noisy):
        folder = tmp_path / "data" / "case_00000"
        folder.mkdir(parents=True, exist_ok=True)
        for name, hu in (("imaging", clean), ("quarter", noisy)):
            path = folder / f"{name}.nii.gz"
            nifti.write_hu(path, np.rint(hu).astype(np.int16), (3.0, 1.0, 1.0), overwrite=True)
        (case,) = find_cases(folder.parent, "quarter")
        return case

    return write


def test_the_store_tells_of_a_recording_when_it_is_read_and_whenever_it_is_used(
    two, tmp_path, clean
):
    case = two(clean + 1024 + noise(90, clean.shape))
    for _ in range(2):
        told = Store(tmp_path / "store").volume(case).odd[case.noisy]
        assert [words for words in told if "intercept of -1,024 HU seems to be missing" in words]
    fit = two(clean + noise(90, clean.shape))
    assert Store(tmp_path / "store").volume(fit).odd[fit.noisy] == ()


def test_the_padding_of_a_scan_is_no_part_of_the_comparison(two, tmp_path, clean):
    noisy = clean + noise(30, clean.shape)
    padded = noisy.copy()
    padded[:, :10] = -2000
    case = two(padded)
    assert not [w for w in Store(tmp_path / "store").volume(case).odd[case.noisy] if "above" in w]


def told(clean, noisy):
    """What is told of two images in a line, refused or not."""
    try:
        return "; ".join(found(clean, noisy))
    except BadInput as refusal:
        return str(refusal)


@pytest.mark.gate("G7")
def test_recordings_of_many_faults_are_told_or_refused(faults: Faults, clean) -> None:
    """Offsets, slopes, shifts and turns of any size, under noise of any strength."""
    for i in range(faults.times(push=40, soak=2000)):
        draw = faults.random(i)
        noisy = clean + noise(draw.choice((10, 40, 140)), clean.shape, i)
        sign = draw.choice((-1, 1))
        made = draw.choice((
            noisy + sign * draw.uniform(30, 9000),
            noisy * draw.choice((draw.uniform(0.02, 0.85), draw.uniform(1.15, 12))),
            np.roll(noisy, (sign * draw.randint(2, 12), draw.randint(-12, 12)), (1, 2)),
            np.flip(noisy, draw.choice(((1,), (2,), (1, 2)))),
        ))  # fmt: skip
        assert 0 < len(told(clean, made)) < 200, i
        assert found(clean, noisy) == ()
        faults.handled()


@pytest.mark.real_ct
def test_recorded_doses_are_not_odd(real_ct: Path) -> None:
    folders = sorted((real_ct.parent / "pairs").glob("mayo_*"))
    assert folders
    for folder in folders:
        full, quarter = (
            nifti.open_scan(folder / f"{n}.nii.gz").read_hu() for n in ("full", "quarter")
        )
        assert COMPARED.oddities(full, quarter) == ()
        assert "less noise" in COMPARED.oddities(quarter, full)[0]
