import numpy as np
import pytest

from volumes.errors import BadInput
from volumes.nifti import open_scan
from volumes.nifti.hu_check import Census
from volumes.nifti.read_options import STRICT, ReadOptions

BODY = np.random.default_rng(0).normal(40, 60, (4, 50, 50)).astype(np.float32)


def check(hu, trust=STRICT):
    census = Census()
    for slice_ in np.asarray(hu, np.float32):
        census.add(slice_)
    return census.warnings("scan.nii", trust)


@pytest.mark.parametrize(
    "put", [[], [-2048], [np.nan], [np.inf], [-np.inf], [np.nan, -3000, np.inf]]
)
@pytest.mark.parametrize("everywhere", [False, True])
def test_gaps_and_padding_are_counted_apart_in_every_piece(put, everywhere):
    hu = BODY.ravel().copy()
    if put:
        hu[:: 1 if everywhere else 7] = np.resize(put, len(hu[:: 1 if everywhere else 7]))
    census = Census()
    for piece in np.split(hu, [1, 7, 8, 5000, 5000]):
        census.add(piece)
    finite = [value for value in hu.tolist() if np.isfinite(value)]
    measured = [value for value in finite if value > -1500]
    counted = vars(census)
    assert counted["_total"] == len(hu)
    assert counted["_finite"] == len(finite)
    assert counted["_measured"] == len(measured)
    assert counted["_below"] == sum(value < -20 for value in measured)
    assert counted["_low"] == min(finite, default=np.inf)
    assert counted["_high"] == max(finite, default=-np.inf)
    assert counted["_lowest_measured"] == min(measured, default=np.inf)


def test_a_body_without_any_air_is_taken(phantom_hu):
    assert check(BODY) == []
    assert check(phantom_hu) == []


@pytest.mark.parametrize(
    "values",
    [
        np.abs(BODY),
        BODY + 1024,
        BODY / 1000,
        BODY * 1e-30,
        (BODY - BODY.mean()) / BODY.std(),
        np.where(np.arange(50) < 20, -2000, BODY + 1024),
        BODY.astype("i2").byteswap(),
    ],
    ids=["grey", "raw", "scaled", "tiny", "normalised", "raw in padding", "bytes swapped"],
)
def test_values_that_are_no_hounsfield_units_are_refused_unless_they_are_vouched_for(values):
    with pytest.raises(
        BadInput, match=r"is not in Hounsfield units: values range .*\.\..*--assume-hu"
    ):
        check(values)
    (warning,) = check(values, ReadOptions(hu=True))
    assert "does not look like Hounsfield" in warning


def test_a_share_of_voxels_that_are_not_finite_is_padding_and_more_are_damage():
    hu = BODY.copy()
    hu.ravel()[: hu.size // 100] = np.nan
    (warning,) = check(hu)
    assert "100 voxels that are not finite" in warning
    hu.ravel()[: hu.size // 100 + 1] = np.inf
    with pytest.raises(BadInput, match="not finite"):
        check(hu, ReadOptions(hu=True))


@pytest.mark.parametrize("value", [0, 40, -1024, -3024, 5000])
def test_one_value_everywhere_gives_a_warning(value):
    (warning,) = check(np.full((2, 9, 9), value))
    assert f"the one value {value}" in warning


def test_padding_and_one_value_give_no_warning():
    hu = np.full((2, 9, 9), 40.0)
    hu[:, 0] = -2000
    assert check(hu) == []


def test_metal_beyond_the_scale_of_a_scanner_is_taken():
    hu = BODY.copy()
    hu.ravel()[: hu.size // 200] = 30000
    assert check(hu) == []


@pytest.mark.real_ct
def test_no_real_ct_is_refused_nor_the_middle_of_one(real_ct):
    paths = sorted(real_ct.parent.rglob("*.nii.gz"))
    assert len(paths) > 40
    for path in paths:
        scan = open_scan(path).verified()
        assert scan.warnings == ()
        if real_ct in path.parents:
            hu = scan.canonical(scan.read())
            y, x = hu.shape[1:]
            check(hu[:, 3 * y // 8 : 5 * y // 8, 3 * x // 8 : 5 * x // 8])
