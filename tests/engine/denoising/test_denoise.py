import hashlib
import itertools
import json
import math
import os
import struct
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from engine.checkpoints import checkpoint
from engine.denoising.denoise import DenoiseSettings, denoise
from engine.denoising.finishing import _Change
from engine.denoising.writer import write
from engine.errors import BadInput, BadUsage, CannotWrite, Mismatch
from engine.inference.predictor import Predictor
from engine.recipe.serialization import without_later
from engine.runs import prior_network
from engine.runs.run import Run
from engine.runs.trained_model import open_model
from engine.runtime import code_sha256
from tests.engine.tiny import comment, content, head, scan_file, tiny, untrained, voxels
from tests.engine.tiny import identity as identical
from volumes import nifti

# Ways to store the same anatomy: datatype, slope, intercept, extension.
FORMS = {
    "int16": ("<i2", 1.0, 0.0, b""),
    "big-endian int16": (">i2", 1.0, 0.0, b""),
    "uint16 with intercept": ("<u2", 1.0, -1024.0, b""),
    "scaled int16": ("<i2", 0.5, 3.0, b""),
    "negative slope": ("<i2", -1.0, 10.0, b""),
    "coarse uint8": ("u1", 16.0, -1600.0, b""),
    "int32": ("<i4", 1.0, 0.0, b""),
    "float32": ("<f4", 1.0, 0.0, b""),
    "scaled float32": ("<f4", 0.1, 0.3, b""),
    "big-endian float64": (">f8", 1.0, 0.0, b""),
    "with an extension": ("<i2", 1.0, 0.0, comment(b"from the scanner")),
    "with a big-endian extension": (">i2", 1.0, 0.0, comment(b"from the scanner", ">")),
}
ORDERS = [
    "".join(codes)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*axes)
]


def opened(folder):
    model = open_model(Run(folder))
    return model, Predictor.of(model)


def blurring(arrays):
    """Weights that make a U-Net of one channel and one level return the mean of neighbours."""
    kernel = np.full_like(arrays["model/bottom_a/kernel"], 1 / 27)
    return identical(arrays) | {"model/bottom_a/kernel": kernel}


@pytest.fixture(scope="module")
def unet(unet_run):
    """An untrained network: its estimate is wrong everywhere."""
    return opened(unet_run)


@pytest.fixture(scope="module")
def respr(respr_run):
    """A network that returns its prior."""
    return opened(respr_run)


@pytest.fixture(scope="module")
def identity(identity_run):
    """A network that returns its input, and air where the input is below air."""
    return opened(identity_run)


@pytest.fixture(scope="module")
def blur(cpu, tmp_path_factory):
    """A network that returns the mean of 3 x 3 x 3 voxels."""

    recipe = tiny("unet3d", "network.width=1", "network.levels=1")
    return opened(untrained(tmp_path_factory.mktemp("runs") / "blur", recipe, cpu, blurring).folder)


@pytest.fixture
def noisy_hu(phantom_hu):
    """The phantom with 10 % noise, int16 HU."""
    noise = np.random.default_rng(1).normal(0, 140, phantom_hu.shape)
    return np.clip(np.rint(phantom_hu + noise), -1400, 2000).astype(np.int16)


@pytest.fixture
def tissue_hu():
    """Soft tissue and fat at random, far from the window's ends, int16 HU."""
    return np.random.default_rng(2).integers(-400, 60, (6, 20, 24), np.int16)


def form(path, hu, name):
    dtype, slope, inter, extension = FORMS[name]
    stored = (hu - inter) / slope
    if "f" not in dtype:
        limits = np.iinfo(dtype)
        stored = np.clip(np.rint(stored), limits.min, limits.max)
    return scan_file(
        path, stored.astype(dtype), slope=slope, inter=inter, extension=extension
    )  # fmt: skip


def applied(network, path, out=None, **request):
    """Denoises a file and writes the result beside it."""
    out = out or path.with_name("out.nii")
    done = denoise(nifti.open_scan(path), *network, DenoiseSettings(**request), lambda _: None)
    write(done, out, residual=False, overwrite=True)
    return out


# -- The file --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
def test_the_output_has_the_header_of_the_input_to_the_byte(unet, tmp_path, noisy_hu, name):
    path = form(tmp_path / "scan.nii", noisy_hu, name)
    out = applied(unet, path)
    assert head(out) == head(path)
    assert len(content(out)) == len(content(path))
    assert content(out) != content(path)


@pytest.mark.parametrize("name", FORMS)
def test_without_strength_the_input_comes_back_to_the_bit(unet, tmp_path, noisy_hu, name):
    path = form(tmp_path / "scan.nii", noisy_hu, name)
    assert content(applied(unet, path, strength=0.0)) == content(path)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("<f4", [-0.0, 1e-45, 0.1, 123.456, -1e-20, 1e30]),
        ("<f8", [-0.0, 1 / 3, 100 + 1e-12, -1e-300, 1e30, 0.1]),
        ("<i4", [2**24 + 1, -(2**24) - 3, 2**31 - 1, 0, 1, 2]),
        ("<i8", [2**53 + 1, 2**24 + 1, 0, 1, 2, 3]),
    ],
)
def test_without_strength_values_that_no_float32_holds_come_back(unet, tmp_path, dtype, values):
    stored = np.full((4, 8, 8), 40).astype(dtype)
    stored[2, 3, :6] = values
    path = scan_file(tmp_path / "scan.nii", stored)
    assert content(applied(unet, path, strength=0.0)) == content(path)


def test_half_the_strength_goes_half_the_way(unet, tmp_path, noisy_hu):
    path = form(tmp_path / "scan.nii", noisy_hu, "float32")
    whole = voxels(applied(unet, path, tmp_path / "whole.nii"))
    half = voxels(applied(unet, path, tmp_path / "half.nii", strength=0.5))
    np.testing.assert_allclose(half, (noisy_hu + whole) / 2, atol=1e-3)


def test_the_order_of_the_axes_changes_no_voxel(unet, tmp_path, noisy_hu):
    assert len(ORDERS) == 48
    expected = voxels(applied(unet, scan_file(tmp_path / "scan.nii", noisy_hu)))
    assert not np.array_equal(expected, noisy_hu)
    for axes in ORDERS:
        path = scan_file(tmp_path / f"{axes}.nii", noisy_hu, axes)
        np.testing.assert_array_equal(voxels(applied(unet, path)), expected, err_msg=axes)


def test_the_datatype_changes_no_voxel_but_by_its_rounding(unet, tmp_path, noisy_hu):
    noisy_hu = np.maximum(noisy_hu, -1024)
    exact = voxels(applied(unet, form(tmp_path / "float.nii", noisy_hu, "float32")))
    for name in ("int16", "big-endian int16", "uint16 with intercept", "negative slope"):
        dtype, slope, inter, _ = FORMS[name]
        found = voxels(applied(unet, form(tmp_path / "scan.nii", noisy_hu, name)))
        ends = sorted(slope * np.array([np.iinfo(dtype).min, np.iinfo(dtype).max]) + inter)
        expected = np.clip(exact, *ends)
        np.testing.assert_allclose(found * slope + inter, expected, atol=0.501, err_msg=name)


def test_a_slice_of_two_dimensions_is_denoised_as_one_of_three(unet, tmp_path, noisy_hu):
    slice_ = np.ascontiguousarray(noisy_hu[0].T)
    denoised = []
    for name, stored in (("two", slice_), ("three", slice_[:, :, None])):
        path = tmp_path / f"{name}.nii"
        nib.save(nib.Nifti1Image(stored, np.diag([-0.7, -0.8, 3, 1])), path)
        out = applied(unet, path)
        assert head(out) == head(path)
        assert nib.load(out).shape == stored.shape
        denoised.append(content(out)[352:])
    assert denoised[0] == denoised[1] != content(path)[352:]


def test_one_slice_is_a_scan(unet, tmp_path, noisy_hu):
    out = applied(unet, scan_file(tmp_path / "scan.nii", noisy_hu[:1, :33, :47]))
    assert voxels(out).shape == (1, 33, 47)


# -- Padding ---------------------------------------------------------------------------------------


@pytest.fixture
def outside(noisy_hu):
    """Mask of the padding outside a round field of view."""
    _, y, x = np.indices(noisy_hu.shape)
    return (y - 32) ** 2 + (x - 32) ** 2 > 28**2


@pytest.mark.parametrize("value", [-3024, -2048, -1024, -500, 0, 40, 3071])
def test_padding_comes_back_to_the_bit(unet, tmp_path, noisy_hu, outside, value):
    noisy_hu[outside] = value
    found = voxels(applied(unet, scan_file(tmp_path / "scan.nii", noisy_hu)))
    assert (found[outside] == value).all()
    assert (found[~outside] != noisy_hu[~outside]).mean() > 0.9


def test_voxels_that_are_not_finite_come_back_to_the_bit(unet, tmp_path, noisy_hu):
    stored = noisy_hu.astype("<f4")
    patterns = np.array([0x7FC00000, 0xFFC00001, 0x7FA00123, 0x7F800000, 0xFF800000], "<u4")
    bits = stored.view("<u4")
    bits[3, 10, 10:15] = patterns
    bits[5, 20:30, 20:30] = patterns[0]
    path = scan_file(tmp_path / "scan.nii", stored)
    found = voxels(applied(unet, path))
    missing = ~np.isfinite(stored)
    assert missing.sum() == 105
    np.testing.assert_array_equal(found.view("<u4")[missing], bits[missing])
    assert np.isfinite(found[~missing]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -3024.0])
def test_the_network_sees_air_in_the_place_of_padding(unet, tmp_path, noisy_hu, value):
    stored = noisy_hu.astype("<f4")
    hole = np.s_[4:8, 20:30, 20:30]
    found = []
    for filling in (value, -1000.0):
        stored[hole] = filling
        path = scan_file(tmp_path / "scan.nii", stored)
        found.append(voxels(applied(unet, path)))
        found[-1][hole] = 0
    np.testing.assert_array_equal(*found)


def test_a_scan_of_nothing_but_padding_comes_back(unet, tmp_path):
    path = scan_file(tmp_path / "scan.nii", np.full((4, 16, 16), -2000, "<i2"))
    assert content(applied(unet, path)) == content(path)


# -- Values beyond the window ----------------------------------------------------------------------


class Saturating:
    """The best possible estimate of a network that was trained on clipped images."""

    def planned(self, plan):
        return plan

    def tiles(self, plan, noisy, prior):
        for tile in plan.tiles():
            yield tile.keep, np.clip(noisy(tile.read), 0, 1)[tile.inner]


def test_bone_far_above_the_window_keeps_its_values(unet, tmp_path):
    hu = np.full((8, 24, 24), 50, np.int16)
    hu[2:7, 6:16, 6:16] = 1200
    hu[3:5, 8:10, 8:10] = 3071
    path = scan_file(tmp_path / "scan.nii", hu)
    out = applied((unet[0], Saturating()), path)
    np.testing.assert_array_equal(voxels(out)[2:7, 6:16, 6:16], hu[2:7, 6:16, 6:16])


def test_between_tissue_and_bone_nothing_jumps(unet, tmp_path):
    ramp = np.linspace(-200, 1400, 200).astype("<f4")
    hu = np.broadcast_to(ramp, (8, 16, 200)).copy()
    path = scan_file(tmp_path / "scan.nii", hu)
    out = voxels(applied((unet[0], Saturating()), path))
    assert np.abs(np.diff(out, axis=2)).max() < 4 * np.diff(ramp).max()


def test_noise_below_air_is_removed(identity, tmp_path):
    hu = np.full((6, 16, 16), -1000, np.int16)
    hu[:, :, 8:] = 40
    hu[2, 5, 3] = -1400
    found = voxels(applied(identity, scan_file(tmp_path / "scan.nii", hu)))
    assert found[2, 5, 3] == -1000


def test_a_spike_of_noise_is_not_taken_for_bone(blur, tmp_path):
    hu = np.full((6, 16, 16), 40, np.int16)
    hu[3, 8, 8] = 900
    found = voxels(applied(blur, scan_file(tmp_path / "scan.nii", hu)))
    assert found.max() < 100


def test_bone_is_kept_from_a_network_that_was_trained_without_clipping(cpu, tmp_path):
    recipe = tiny("unet3d", "network.width=1", "network.levels=1", "window.clip=false")
    network = opened(untrained(tmp_path / "linear", recipe, cpu, blurring).folder)
    hu = np.full((6, 16, 16), 1000, np.int16)
    hu[3, 8, 8] = 1270
    path = scan_file(tmp_path / "scan.nii", hu)
    assert content(applied(network, path)) == content(path)


@pytest.mark.parametrize(("setting", "option"), [
    ({"strength": -0.1}, "--strength"), ({"strength": 1.6}, "--strength"),
    ({"strength": math.nan}, "--strength"), ({"photons": 0.0}, "--photons"),
    ({"photons": 1e16}, "--photons"), ({"tile": (0, 8, 8)}, "--tile"), ({"tile": (8, 8)}, "--tile"),
])  # fmt: skip
def test_impossible_settings_are_refused_wherever_they_come_from(setting, option):
    with pytest.raises(BadUsage, match=f"{option}: must"):
        DenoiseSettings(**setting)


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_a_clip_keeps_its_values_whatever_noise_the_network_was_trained_on(cpu, tmp_path, sigma):
    recipe = tiny("unet3d", "network.width=1", "network.levels=1", f"noise.sigma={sigma}")
    network = opened(untrained(tmp_path / "blur", recipe, cpu, blurring).folder)
    hu = np.full((6, 20, 20), -1000, np.int16)
    hu[:, 10:] = 40
    hu[3, 5, 6:8] = hu[3, 15, 6:8] = 3000  # beside air, and in tissue
    found = voxels(applied(network, scan_file(tmp_path / "scan.nii", hu)))
    assert (found[3, [5, 15], 6:8] == 3000).all()


def test_tissue_within_the_window_is_the_network_s(identity, tmp_path, tissue_hu):
    found = voxels(applied(identity, scan_file(tmp_path / "scan.nii", tissue_hu)))
    np.testing.assert_array_equal(found, tissue_hu)


# -- Tiles -----------------------------------------------------------------------------------------


def test_small_tiles_change_nothing(unet, tmp_path, noisy_hu):
    path = form(tmp_path / "scan.nii", noisy_hu[:7, :50, :41], "float32")
    whole = voxels(applied(unet, path, tmp_path / "whole.nii", tile=(64, 64, 64)))
    tiled = voxels(applied(unet, path, tmp_path / "tiled.nii", tile=(2, 8, 8)))
    np.testing.assert_allclose(tiled, whole, atol=0.01)


def test_tiles_that_are_no_whole_slices_are_described_alike(unet, tmp_path, noisy_hu):
    path = form(tmp_path / "scan.nii", noisy_hu, "int16")
    scan = nifti.open_scan(path)
    whole, parts = (
        denoise(scan, *unet, DenoiseSettings(tile=tile), lambda _: None).about
        for tile in (None, (4, 16, 32))
    )
    for name in ("voxels", "change_hu", "residual"):
        assert parts[name] == whole[name]


def test_small_tiles_change_nothing_where_there_is_a_prior(respr, tmp_path, noisy_hu):
    path = form(tmp_path / "scan.nii", noisy_hu[:, :50, :41], "float32")
    whole = voxels(applied(respr, path, tmp_path / "whole.nii", tile=(64, 64, 64)))
    tiled = voxels(applied(respr, path, tmp_path / "tiled.nii", tile=(2, 8, 8)))
    np.testing.assert_allclose(tiled, whole, atol=0.01)


def test_the_computed_prior_is_the_mean_of_neighbouring_slices(respr, tmp_path, tissue_hu):
    found = voxels(applied(respr, form(tmp_path / "scan.nii", tissue_hu, "float32")))
    for z in range(6):
        near = range(max(z - 4, 0), min(z + 5, 6))
        weight = np.exp([-0.04 * abs(k - z) for k in near])
        mean = np.tensordot(weight / weight.sum(), tissue_hu[near.start : near.stop], 1)
        np.testing.assert_allclose(found[z], mean, atol=1e-2)


# -- A second scan ---------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path, tissue_hu):
    """A scan and a second one on the same grid, with other tissue."""
    other = np.random.default_rng(3).integers(-400, 60, tissue_hu.shape, np.int16)
    path = scan_file(tmp_path / "scan.nii", tissue_hu)
    return path, scan_file(tmp_path / "second.nii", other), other


def test_a_second_scan_takes_the_place_of_the_prior(respr, pair):
    path, second, other = pair
    np.testing.assert_array_equal(voxels(applied(respr, path, prior=second)), other)


@pytest.mark.parametrize("axes", ["RAS", "LPI", "SAL"])
def test_a_second_scan_may_be_stored_in_another_order(respr, pair, axes):
    path, second, other = pair
    second = scan_file(second, other, axes)
    np.testing.assert_array_equal(voxels(applied(respr, path, prior=second)), other)


def test_a_second_scan_may_be_of_another_datatype(respr, pair):
    path, second, other = pair
    second = form(second, other, "uint16 with intercept")
    np.testing.assert_array_equal(voxels(applied(respr, path, prior=second)), other)


def test_a_second_scan_may_have_padding_of_its_own(respr, pair):
    path, second, other = pair
    other = other.astype("<f4")
    other[2, 3, 4] = np.nan
    found = voxels(applied(respr, path, prior=scan_file(second, other)))
    assert found[2, 3, 4] == -1000
    found[2, 3, 4] = other[2, 3, 4] = 0
    np.testing.assert_array_equal(found, other)


def _about_its_diagonal(path, degrees):
    """Turns a scan about the line between its first and its last voxel, which stay in place."""
    image = nib.load(path)
    first, last = (image.affine @ [*index, 1] for index in ((0, 0, 0), np.array(image.shape) - 1))
    axis = (last - first)[:3] / np.linalg.norm((last - first)[:3])
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * axis).as_matrix()
    affine = image.affine.copy()
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = first[:3] + turn @ (image.affine[:3, 3] - first[:3])
    nib.save(nib.Nifti1Image(np.array(image.dataobj), affine), path)
    return path


@pytest.mark.parametrize(
    "elsewhere",
    [
        lambda path, hu: scan_file(path, hu[:-1]),
        lambda path, hu: scan_file(path, hu, spacing_mm=(3.0, 0.8, 0.71)),
        lambda path, hu: scan_file(path, hu, spacing_mm=(2.9, 0.8, 0.7)),
        lambda path, hu: scan_file(path, hu.transpose(0, 2, 1).copy()),
        lambda path, hu: _about_its_diagonal(scan_file(path, hu), degrees=3),
    ],
    ids=["one slice less", "wider voxels", "thinner slices", "turned", "turned about a diagonal"],
)
def test_a_second_scan_on_another_grid_is_refused(respr, pair, elsewhere):
    path, second, other = pair
    with pytest.raises(BadInput, match=f"is not on the grid of {path}") as refused:
        applied(respr, path, prior=elsewhere(second, other))
    assert refused.value.path == str(second)


def test_a_second_scan_elsewhere_in_the_patient_is_refused(respr, pair):
    path, second, _ = pair
    second.write_bytes(_shifted(second.read_bytes(), 12.5))
    with pytest.raises(BadInput, match="is not on the grid"):
        applied(respr, path, prior=second)


def _shifted(block, millimetres):
    """A NIfTI file whose sform is moved along the first axis."""
    at = 280 + 12  # srow_x[3]
    return block[:at] + np.float32(millimetres).tobytes() + block[at + 4 :]


def test_a_network_that_sees_no_prior_takes_no_second_scan(unet, pair):
    path, second, _ = pair
    with pytest.raises(BadUsage, match="UNet3D sees no prior"):
        applied(unet, path, prior=second)


def test_a_second_scan_that_is_none_is_refused(respr, pair, tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        applied(respr, pair[0], prior=tmp_path / "none.nii")


# -- The sidecar -----------------------------------------------------------------------------------


def sidecar_of(network, path, **request):
    return json.loads(applied(network, path, **request).with_suffix(".json").read_text())


def test_the_sidecar_describes_the_denoising(unet, unet_run, tmp_path, tissue_hu):
    path = scan_file(tmp_path / "scan.nii.gz", tissue_hu)
    about = sidecar_of(unet, path, strength=0.75, tile=(6, 8, 8))
    last = Run(unet_run).checkpoint("last")
    assert about["model"] == {"sha256": checkpoint.fingerprint(last), "step": 1}
    assert about["output_sha256"] == hashlib.sha256((tmp_path / "out.nii").read_bytes()).hexdigest()
    assert about["header"] == "kept"
    recipe = without_later(json.loads((unet_run / "recipe.json").read_text()))
    for name in ("steps", "validate_every", "checkpoint_every"):
        recipe.pop(name)
    assert about["recipe"] == recipe
    assert about["recipe_sha256"] == hashlib.sha256(json.dumps(recipe).encode()).hexdigest()
    assert about["input_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert about["second_scan_sha256"] is None
    assert about["recipe"]["network"] == {"kind": "UNet3D", "width": 2, "levels": 2}
    assert about["window_hu"] == [-1000, 400]
    assert about["strength"] == 0.75
    assert about["tiles"] == {"count": 9, "shape": [6, 8, 8]}
    assert "not a medical device" in about["notice"]


def test_the_sidecar_names_the_second_scan_by_its_content(respr, pair):
    path, second, _ = pair
    about = sidecar_of(respr, path, prior=second)
    assert about["second_scan_sha256"] == hashlib.sha256(second.read_bytes()).hexdigest()


def test_the_sidecar_describes_the_residual(unet, tmp_path, noisy_hu):
    path = scan_file(tmp_path / "scan.nii", noisy_hu)
    about = sidecar_of(unet, path)
    residual = noisy_hu - voxels(tmp_path / "out.nii").astype(float)
    assert about["residual"]["mean_hu"] == pytest.approx(residual.mean(), abs=1e-3)
    assert about["residual"]["std_hu"] == pytest.approx(residual.std(), abs=1e-3)
    assert about["residual"]["max_hu"] == np.abs(residual).max()
    assert about["voxels"]["changed"] == np.count_nonzero(residual)


def test_anatomy_in_the_residual_gives_a_warning_on_stderr_and_in_the_sidecar(
    engine, unet_run, tmp_path, phantom_hu
):
    scan = scan_file(tmp_path / "scan.nii", phantom_hu)
    code, _, err = engine("denoise", scan, "-m", unet_run, "-q")  # first weights remove anatomy
    assert code == 0
    (warning,) = json.loads((tmp_path / "scan_denoised.json").read_text())["warnings"]
    assert "correlates with the anatomy" in warning
    assert err == f"engine: warning: {tmp_path / 'scan_denoised.nii'}: {warning}\n"


def test_the_sidecar_names_versions_machine_and_time(engine, unet_run, tmp_path, tissue_hu):
    scan = scan_file(tmp_path / "scan.nii", tissue_hu)
    assert engine("denoise", scan, "-m", unet_run, "-q")[0] == 0
    about = json.loads((tmp_path / "scan_denoised.json").read_text())
    assert set(about["versions"]) >= {"engine", "tensorflow", "keras", "numpy"}
    assert about["code_sha256"] == code_sha256()
    assert set(about["machine"]) == {"devices", "threads", "onednn"}
    assert about["precision"] == "float32"
    assert about["time"].endswith("+00:00")


def test_a_reproducible_sidecar_has_neither_machine_nor_time(
    engine, unet_run, tmp_path, tissue_hu, monkeypatch
):
    scan = scan_file(tmp_path / "scan.nii", tissue_hu)
    sidecars = []
    for free in (2**20, 2**36):
        monkeypatch.setattr("volumes.storage.memory.free_bytes", lambda free=free: free)
        words = ("-m", unet_run, "-q", "--reproducible", "--overwrite")
        assert engine("denoise", scan, *words)[0] == 0
        sidecars.append((tmp_path / "scan_denoised.json").read_text())
    assert sidecars[0] == sidecars[1]
    assert not {"machine", "time"} & set(json.loads(sidecars[0]))


def test_the_network_behind_a_prior_is_named_by_its_weights_not_by_its_folder(
    engine, cpu, tmp_path, tissue_hu
):
    behind = untrained(tmp_path / "behind", tiny("unet2d"), cpu)
    recipe = tiny("respr_unet3d", f"prior={behind.folder}")
    run = untrained(tmp_path / "run", recipe, cpu)
    fresh = Run(tmp_path / "fresh")
    prior_network.resolve(recipe.prior, recipe.window, fresh).copy_into(fresh)
    (tmp_path / "fresh" / "prior").rename(run.folder / "prior")
    scan = scan_file(tmp_path / "scan.nii", tissue_hu)
    assert engine("denoise", scan, "-m", run.folder, "-q")[0] == 0
    text = (tmp_path / "scan_denoised.json").read_text()
    of = json.loads(text)["recipe"]["prior"]["of"]
    fingerprint = checkpoint.fingerprint(behind.checkpoint("last"))
    assert of == {"kind": "Estimated", "sha256": fingerprint}
    assert str(tmp_path) not in text


def test_the_sidecar_counts_voxels(respr, tmp_path, tissue_hu):
    stored = tissue_hu.astype("<f4")
    stored[1, 2, :5] = np.nan
    about = sidecar_of(respr, scan_file(tmp_path / "scan.nii", stored))
    assert about["voxels"]["total"] == stored.size
    assert about["voxels"]["padding"] == 5
    assert about["voxels"]["changed"] <= stored.size - 5
    assert about["voxels"]["above_window"] == 0


def test_the_sidecar_counts_voxels_kept_above_the_window(unet, tmp_path):
    hu = np.full((4, 16, 16), 1500, np.int16)
    hu[0, 0, 0] += 1  # a scan of one value is left alone
    about = sidecar_of((unet[0], Saturating()), scan_file(tmp_path / "scan.nii", hu))
    assert about["voxels"]["above_window"] == hu.size
    assert about["voxels"]["changed"] == 0
    assert about["change_hu"] == {}


def test_the_sidecar_gives_the_distribution_of_the_change(respr, pair, tissue_hu):
    path, second, _ = pair
    raised = tissue_hu + np.int16(20)
    raised[:, :, :12] = tissue_hu[:, :, :12] - 10
    about = sidecar_of(respr, path, prior=scan_file(second, raised))
    change = about["change_hu"]
    assert change["mean"] == pytest.approx(5, abs=1e-3)
    assert change["std"] == pytest.approx(15, abs=1e-3)
    assert change["p1"] == pytest.approx(-10, abs=1)
    assert change["p99"] == pytest.approx(20, abs=1)


def test_percentiles_of_a_small_change_are_symmetric():
    change, summary = np.random.default_rng(0).normal(0, 0.3, (64, 64)), _Change()
    summary.add(change.astype(np.float32), np.ones(change.shape, bool))
    found = summary.summary()
    assert found["p50"] == pytest.approx(0, abs=0.03)
    # Uniform within bins of 1 HU: half of the voxels lie in each of two bins.
    assert found["p1"] == pytest.approx(-0.98, abs=0.02)
    assert found["p99"] == pytest.approx(0.98, abs=0.02)


def test_saturated_voxels_are_counted(respr, tmp_path):
    low = np.full((4, 16, 16), -950, np.int16)
    stored = np.full((4, 16, 16), 100, "u1")  # 100 HU; the datatype ends at -900
    stored[0, 0, 0] += 1  # a scan of one value is left alone
    path = scan_file(tmp_path / "scan.nii", stored, slope=10.0, inter=-900.0)
    second = scan_file(tmp_path / "second.nii", low)
    out = applied(respr, path, prior=second)
    assert (voxels(out) == 0).all()
    assert json.loads(out.with_suffix(".json").read_text())["voxels"]["saturated"] == low.size


# -- The residual ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["int16", "float32", "uint16 with intercept", "scaled int16"])
def test_the_residual_is_input_minus_output(unet, tmp_path, noisy_hu, name):
    path = form(tmp_path / "scan.nii", noisy_hu, name)
    done = denoise(nifti.open_scan(path), *unet, DenoiseSettings(), lambda _: None)
    out, residual, _ = write(done, tmp_path / "out.nii", residual=True, overwrite=False)
    _, slope, inter, _ = FORMS[name]
    before, after = (voxels(p) * slope + inter for p in (path, out))
    np.testing.assert_array_equal(voxels(residual), (before - after).astype(np.float32))
    assert residual.name == "out_residual.nii"


def test_the_residual_has_the_grid_of_the_scan(unet, tmp_path, noisy_hu):
    path = scan_file(tmp_path / "scan.nii", noisy_hu, "LPS", extension=comment(b"hello"))
    done = denoise(nifti.open_scan(path), *unet, DenoiseSettings(), lambda _: None)
    _, residual, _ = write(done, tmp_path / "out.nii", residual=True, overwrite=False)
    np.testing.assert_array_equal(nib.load(residual).affine, nib.load(path).affine)
    assert head(residual)[112:120] == struct.pack("<ff", 1, 0)  # unscaled
    assert head(residual)[348:] == head(path)[348:]


def test_where_nothing_was_measured_the_residual_is_zero(unet, tmp_path, noisy_hu):
    stored = noisy_hu.astype("<f4")
    stored[2, 3, 4:8] = np.nan
    path = scan_file(tmp_path / "scan.nii", stored)
    done = denoise(nifti.open_scan(path), *unet, DenoiseSettings(), lambda _: None)
    _, residual, _ = write(done, tmp_path / "out.nii", residual=True, overwrite=False)
    assert (voxels(residual)[2, 3, 4:8] == 0).all()


# -- The command -----------------------------------------------------------------------------------


@pytest.fixture
def scan(tmp_path, tissue_hu):
    return scan_file(tmp_path / "scan.nii.gz", tissue_hu)


def test_output_and_sidecar_are_written_beside_the_scan(engine, unet_run, scan):
    code, out, _ = engine("denoise", scan, "-m", unet_run)
    assert code == 0
    assert out.splitlines() == [
        str(scan.with_name("scan_denoised.nii.gz")), str(scan.with_name("scan_denoised.json")),
    ]  # fmt: skip
    assert voxels(scan.with_name("scan_denoised.nii.gz")).shape == (6, 20, 24)


def test_the_same_scan_gives_the_same_bytes(engine, unet_run, scan, tmp_path):
    outs = [tmp_path / f"{name}.nii.gz" for name in ("one", "other")]
    for out in outs:
        assert engine("denoise", scan, "-m", unet_run, "-o", out)[0] == 0
    one, other = (out.read_bytes() for out in outs)
    assert one == other


def test_several_scans_go_into_a_folder_by_the_names_of_their_cases(
    engine, unet_run, dataset, tmp_path
):
    scans = sorted(dataset.glob("*/imaging.nii.gz"))[:2]
    code, _, _ = engine("denoise", *scans, "-m", unet_run, "-o", tmp_path / "out")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == [
        "case_00000_denoised.nii.gz", "case_00001_denoised.nii.gz",
    ]  # fmt: skip


def test_existing_output_is_refused_and_stays(engine, unet_run, scan):
    out = scan.with_name("scan_denoised.nii.gz")
    out.write_bytes(b"mine")
    code, said, err = engine("denoise", scan, "-m", unet_run)
    assert (code, said) == (4, "")
    assert err == (
        f"engine: error: {out}: exists already. Remove it, or ask for --overwrite.\n"
    )  # fmt: skip
    assert out.read_bytes() == b"mine"


def test_existing_output_is_replaced_where_that_is_asked_for(engine, unet_run, scan):
    out = scan.with_name("scan_denoised.nii.gz")
    out.write_bytes(b"mine")
    assert engine("denoise", scan, "-m", unet_run, "--overwrite")[0] == 0
    assert voxels(out).shape == (6, 20, 24)


def test_an_existing_residual_is_refused_before_anything_is_written(engine, unet_run, scan):
    residual = scan.with_name("scan_residual.nii.gz")
    residual.write_bytes(b"mine")
    code, _, err = engine("denoise", scan, "-m", unet_run, "--save-residual")
    assert code == 4
    assert str(residual) in err
    assert residual.read_bytes() == b"mine"
    assert not scan.with_name("scan_denoised.nii.gz").exists()


def links(scan):
    """Other ways to the scan: itself, a symbolic link to it, a hard link to it."""
    symbolic, hard = scan.with_name("symbolic.nii.gz"), scan.with_name("hard.nii.gz")
    symbolic.symlink_to(scan)
    os.link(scan, hard)
    return {"itself": scan, "symbolic": symbolic, "hard": hard}


@pytest.mark.parametrize("way", ["itself", "symbolic", "hard"])
def test_a_scan_is_never_replaced_by_its_output(engine, unet_run, scan, way):
    out, before = links(scan)[way], scan.read_bytes()
    code, said, err = engine("denoise", scan, "-m", unet_run, "-o", out, "--overwrite")
    assert (code, said) == (4, "")
    assert f"{out}: is an input" in err
    assert scan.read_bytes() == before


def test_a_scan_is_never_replaced_by_the_residual_of_another(engine, unet_run, scan):
    other = scan.with_name("scan_residual.nii.gz")
    other.write_bytes(scan.read_bytes())
    before = other.read_bytes()
    code, _, _ = engine(
        "denoise", scan, other, "-m", unet_run, "--save-residual", "--overwrite"
    )  # fmt: skip
    assert code == 4
    assert other.read_bytes() == before


def test_two_scans_that_would_become_one_file_are_refused(engine, unet_run, scan, tmp_path):
    twin = tmp_path / "elsewhere" / scan.name
    twin.parent.mkdir()
    twin.write_bytes(scan.read_bytes())
    code, _, err = engine("denoise", scan, twin, "-m", unet_run, "-o", tmp_path / "out")
    assert code == 2
    assert "would be written twice" in err


def test_the_residual_and_a_preview_are_written_where_asked_for(engine, unet_run, scan, tmp_path):
    preview = tmp_path / "look.png"
    code, out, _ = engine(
        "denoise", scan, "-m", unet_run, "--save-residual", "--preview", preview
    )  # fmt: skip
    assert code == 0
    assert preview.read_bytes().startswith(b"\x89PNG")
    residual = scan.with_name("scan_residual.nii.gz")
    assert {str(preview), str(residual)} <= set(out.splitlines())
    difference = voxels(scan).astype(int) - voxels(scan.with_name("scan_denoised.nii.gz"))
    np.testing.assert_array_equal(voxels(residual), difference)


def test_a_plan_is_shown_and_nothing_is_written(engine, unet_run, scan):
    before = sorted(scan.parent.iterdir())
    code, out, _ = engine("denoise", scan, "-m", unet_run, "--plan", "--tile", "6,8,8")
    assert code == 0
    assert out.startswith(f"{scan}: 6 x 20 x 24 voxels, 9 tiles that keep 6 x 8 x 8")
    assert sorted(scan.parent.iterdir()) == before


@pytest.mark.parametrize("tile", ["8,8", "8,8,0", "-8,8,8", "big", "8,8,8,8"])
def test_a_tile_that_is_none_is_refused(engine, unet_run, scan, tile):
    code, _, err = engine("denoise", scan, "-m", unet_run, "--tile", tile)
    assert code == 2
    assert "--tile: takes" in err


def test_the_checkpoint_is_chosen_on_the_command_line(engine, trained, scan):
    steps = []
    for which in ("2", "last"):
        out = scan.with_name(f"{which}.nii.gz")
        assert engine("denoise", scan, "-m", trained, "--checkpoint", which, "-o", out)[0] == 0
        steps.append(json.loads(scan.with_name(f"{which}.json").read_text())["model"]["step"])
    assert steps == [2, 4]


def test_a_run_is_never_the_model_unless_it_is_named(engine, cpu, scan, tmp_path, monkeypatch):
    untrained(tmp_path / "runs" / "mine", tiny("unet3d"), cpu)
    monkeypatch.chdir(tmp_path)
    assert engine("denoise", scan)[0] == 0
    about = json.loads(scan.with_name("scan_denoised.json").read_text())
    assert about["recipe"]["network"]["kind"] == "BiasFreeUNet2D"


def test_a_bad_scan_does_not_keep_the_good_ones_from_being_denoised(
    engine, unet_run, scan, tmp_path
):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"<html>")
    code, out, err = engine("denoise", bad, scan, "-m", unet_run, "-q")
    assert code == 3
    first, *_, last = err.splitlines()
    assert first.startswith(f"engine: error: {bad}: ")
    assert "looks like a web page" in first
    assert last.startswith("engine: error: 1 of 2 scans: could not be denoised.")
    assert out.splitlines()[0] == str(scan.with_name("scan_denoised.nii.gz"))
    assert not list(tmp_path.glob("bad_*"))


def test_the_only_scan_is_refused_in_one_line(engine, unet_run, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"<html>")
    code, out, err = engine("denoise", bad, "-m", unet_run, "-q")
    assert (code, out, err.count("\n")) == (3, "", 1)


def test_voxels_that_are_damaged_leave_no_output(engine, unet_run, scan):
    block = bytearray(scan.read_bytes())
    block[-6] ^= 1  # the checksum of the stream
    scan.write_bytes(block)
    code, _, err = engine("denoise", scan, "-m", unet_run)
    assert code == 3
    assert "compressed data are damaged" in err
    assert [path.name for path in scan.parent.iterdir()] == [scan.name]


def test_a_place_that_is_not_there_is_refused(engine, unet_run, scan, tmp_path):
    code, _, err = engine("denoise", scan, "-m", unet_run, "-o", tmp_path / "none" / "out.nii.gz")
    assert code == 4
    assert err.count("\n") == 1


# -- The model -------------------------------------------------------------------------------------


@pytest.fixture
def own_run(cpu, tmp_path):
    """A run that a test may damage."""
    return untrained(tmp_path / "own", tiny(), cpu)


def test_a_damaged_model_is_refused(engine, own_run, scan):
    state = own_run.checkpoints / "step-00000001" / "state.npz"
    block = bytearray(state.read_bytes())
    block[len(block) // 2] ^= 1
    state.write_bytes(block)
    code, _, err = engine("denoise", scan, "-m", own_run.folder)
    assert code == 5
    assert "is damaged" in err


def test_weights_of_another_network_are_refused(own_run):
    wider = replace(tiny(), network=replace(tiny().network, width=4))
    model = replace(open_model(own_run), recipe=wider)
    with pytest.raises(Mismatch, match="holds no variable model/down1_a/kernel"):
        Predictor.of(model)


def test_no_code_of_the_run_folder_is_executed(engine, own_run, scan, tmp_path):
    (own_run.folder / "recipe.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert engine("denoise", scan, "-m", own_run.folder)[0] == 0
    assert not (tmp_path / "ran").exists()


def test_the_file_exists_check_of_writing_holds_on_its_own(unet, scan, tmp_path):
    done = denoise(nifti.open_scan(scan), *unet, DenoiseSettings(), lambda _: None)
    out = tmp_path / "out.nii.gz"
    out.write_bytes(b"mine")
    with pytest.raises(CannotWrite, match="exists already"):
        write(done, out, residual=False, overwrite=False)
    assert out.read_bytes() == b"mine"


# -- Whole or not at all ---------------------------------------------------------------------------


@pytest.mark.parametrize("last", ["scan_denoised.nii", "scan_residual.nii", "scan_denoised.json"])
def test_where_one_file_cannot_be_written_none_is_left(
    engine, unet_run, tmp_path, tissue_hu, monkeypatch, last
):
    scan = scan_file(tmp_path / "scan.nii", tissue_hu)
    replace_ = os.replace

    def full(source, target):
        if str(target).endswith(last):
            raise OSError(28, "No space left on device")
        replace_(source, target)

    monkeypatch.setattr("os.replace", full)
    code, out, err = engine("denoise", scan, "-m", unet_run, "-q", "--save-residual")
    assert (code, out) == (4, "")
    assert "No space left" in err
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii"]


def test_a_sidecar_of_a_scan_that_was_replaced_does_not_pass_for_the_new_one_s(
    engine, unet_run, tmp_path, tissue_hu, monkeypatch
):
    scan = scan_file(tmp_path / "scan.nii", tissue_hu)
    assert engine("denoise", scan, "-m", unet_run, "-q")[0] == 0
    before = (tmp_path / "scan_denoised.json").read_text()
    words = ("-m", unet_run, "-q", "--overwrite", "--strength", "0.5")
    assert engine("denoise", scan, *words)[0] == 0
    (tmp_path / "scan_denoised.json").write_text(before)
    assert engine("verify", tmp_path / "scan_denoised.nii")[0] == 3


# -- Real scans ------------------------------------------------------------------------------------


@pytest.mark.real_ct
def test_a_real_scan_keeps_its_header_and_its_padding(unet, real_ct, tmp_path):
    path = real_ct / "case_00003" / "imaging.nii.gz"
    out = applied(unet, path, tmp_path / "out.nii.gz")
    assert head(out) == head(path)
    before, after = voxels(path), voxels(out)
    low = before <= -1500
    np.testing.assert_array_equal(after[low], before[low])
    assert (after != before).mean() > 0.3


@pytest.mark.real_ct
def test_a_real_scan_comes_back_to_the_bit_without_strength(unet, real_ct, tmp_path):
    path = real_ct / "case_00003" / "imaging.nii.gz"
    assert content(applied(unet, path, tmp_path / "out.nii.gz", strength=0.0)) == content(path)


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_a_prior_that_depends_on_the_noise_is_made_with_that_of_the_scan(
    cpu, tmp_path, monkeypatch, sigma
):
    recipe = tiny("respr_unet3d", "prior=tv", "noise.sigma=0.01,0.12")
    network = opened(untrained(tmp_path / "run", recipe, cpu).folder)
    noise = np.random.default_rng(0).normal(0, 1400 * sigma, (8, 96, 96))
    hu = np.full(noise.shape, -1000) + 1040 * (np.hypot(*np.mgrid[-48:48, -48:48]) < 44)
    path = tmp_path / "scan.nii.gz"
    nifti.write_hu(path, np.rint(hu + noise).astype(np.int16), (3.0, 0.8, 0.8))
    made = []
    monkeypatch.setattr(
        "engine.denoising.denoise.prior_image",
        lambda prior, noisy, shape, sigma, spacing: made.append(sigma) or noisy,
    )
    applied(network, path)
    assert made == [pytest.approx(sigma, rel=0.1)]
