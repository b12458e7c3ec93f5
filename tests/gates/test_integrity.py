"""G14: a denoised scan is the same scan for every format, tiling and machine."""

import json
import os
import random
import subprocess
import sys
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from engine.checkpoints import checkpoint
from engine.denoising.denoise import Denoised, DenoiseSettings, denoise
from engine.denoising.verify import verify
from engine.denoising.writer import write
from engine.errors import BadUsage
from engine.inference.predictor import Predictor
from engine.runs.trained_model import Model, open_model
from engine.scoring.residual import describe_residual, leak_warnings
from tests.engine.tiny import comment, content, scan_file, tiny, untrained, voxels
from tests.gates.ledger import Faults
from volumes import nifti
from volumes.dataset import find_cases
from volumes.padding import padding

pytestmark = pytest.mark.gate("G14")

DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
SCALES = ((1.0, 0.0), (0.5, -12.0), (-2.0, 40.0))
ORDERS = tuple(
    "".join(codes)
    for axes in permutations(("RL", "AP", "SI"))
    for codes in product(*axes)
)  # fmt: skip
STORED = tuple(product(DTYPES, "<>", SCALES, ORDERS))


def returning(arrays: checkpoint.Arrays) -> checkpoint.Arrays:
    """Weights by which a U-Net of width 2 returns what it is given, its negative part, too.

    One channel carries x, the other -x, as rectified units must; the skips lead both past the
    levels below, whose channels come second where they are joined.
    """
    made = {name: np.zeros_like(array) for name, array in arrays.items()}
    for name, array in made.items():
        if "kernel" in name:
            seen, given = array.shape[3:]
            signs = np.array([[1, -1]]) if seen == 1 else np.array([[1], [-1]])
            array[tuple(n // 2 for n in array.shape[:3])] = (
                signs if 1 in (seen, given) else np.eye(seen, given)
            )
    return made


def network(folder: Path, runtime, *fields: str, change=None) -> tuple[Model, object]:
    model = open_model(untrained(folder, tiny("unet3d", *fields), runtime, change))
    return model, Predictor.of(model)


@pytest.fixture(scope="module")
def identity(cpu, tmp_path_factory: pytest.TempPathFactory):
    """A network of two levels that returns its input."""
    return network(tmp_path_factory.mktemp("gate") / "identity", cpu, change=returning)


@pytest.fixture(scope="module")
def unet(cpu, tmp_path_factory: pytest.TempPathFactory):
    """An untrained network of three levels, whose estimate differs in every voxel."""
    return network(tmp_path_factory.mktemp("gate") / "unet", cpu, "network.levels=3")


def done(pair, path: Path, **request) -> Denoised:
    return denoise(nifti.open_scan(path), *pair, DenoiseSettings(**request), lambda _: None)


def estimate(pair, path: Path, **request) -> np.ndarray:
    """(Z, Y, X) HU of the denoised scan."""
    result = done(pair, path, **request)
    return result.scan.hu(result.scan.canonical(result.after))


def stored_values(rng: np.random.Generator, kind: str, shape, slope: float, inter: float):
    """Stored values of tissue, air, and what lies between whole HU where the datatype can."""
    hu = rng.uniform(-900, 700, shape)
    value = (hu - inter) / slope
    if kind[0] == "f":
        return value.astype(kind)
    limits = np.iinfo(kind)
    return np.clip(np.rint(value), limits.min, limits.max).astype(kind)


def test_an_identity_network_keeps_every_bit_of_every_format(
    identity, tmp_path: Path, faults: Faults
) -> None:
    forms = list(STORED)
    faults.random("forms").shuffle(forms)
    # In every push each datatype is met in each byte order, scaling and order of axes of some.
    for number, (kind, order, (slope, inter), axes) in enumerate(
        forms[: faults.times(push=480, soak=len(forms))]
    ):
        rng = np.random.default_rng(number)
        values = stored_values(rng, kind, (3, 4, 5), slope, inter).astype(order + kind)
        path = scan_file(
            tmp_path / "scan.nii", values, axes, slope=slope, inter=inter,
            extension=comment(b"kept", ">" if values.dtype.byteorder == ">" else "<"),
        )  # fmt: skip
        out = tmp_path / "out.nii"
        write(done(identity, path), out, residual=False, overwrite=True)
        assert content(out) == content(path), (kind, order, slope, axes)
        faults.handled()


def test_the_identity_is_one_only_by_its_weights(identity, unet, tmp_path: Path) -> None:
    values = stored_values(np.random.default_rng(0), "i2", (3, 4, 5), 1.0, 0.0)
    path = scan_file(tmp_path / "scan.nii", values)
    assert np.any(voxels(path) != estimate(unet, path))
    assert np.any(done(identity, path).before == done(identity, path).after)


def awkward(random_: random.Random) -> tuple[int, int, int]:
    """A shape from 1 to 67 along each axis, small ones as likely as large ones."""
    z, y, x = (min(67, int(2 ** random_.uniform(0, 6.1))) for _ in range(3))
    return z, y, x


def test_any_tile_of_any_shape_gives_the_untiled_estimate(
    unet, tmp_path: Path, faults: Faults
) -> None:
    for number in range(faults.times(push=200, soak=1000)):
        chosen = faults.random("tiles", number)
        shape = awkward(chosen)
        tile = tuple(chosen.randint(1, max(n, 2)) for n in shape)
        tile = tuple(max(t, -(-n // 3)) for n, t in zip(shape, tile, strict=True))  # 27 at most
        hu = np.random.default_rng(number).uniform(-900, 300, shape).astype("<f4")
        path = scan_file(tmp_path / "scan.nii", hu)
        seam = np.abs(estimate(unet, path, tile=tile) - estimate(unet, path, tile=shape)).max()
        assert seam <= 0.01, (shape, tile)
        faults.handled()


def test_any_stream_of_any_shape_gives_the_untiled_estimate(
    unet, tmp_path: Path, faults: Faults
) -> None:
    for number in range(faults.times(push=60, soak=600)):
        chosen = faults.random("streams", number)
        shape = awkward(chosen)
        slab = chosen.choice((1, 2, 3, 8, 16))
        plane = [max(chosen.randint(1, n), -(-n // 2)) for n in shape[1:]]  # at most 4 columns
        hu = np.random.default_rng(number).uniform(-900, 300, shape).astype("<f4")
        path = scan_file(tmp_path / "scan.nii", hu)
        whole = estimate(unet, path, tile=shape)
        planes = estimate(unet, path, tile=(slab, *shape[1:]), streamed=True)
        np.testing.assert_array_equal(planes, whole, str((shape, slab)))
        columns = estimate(unet, path, tile=(slab, *plane), streamed=True)
        assert np.abs(columns - whole).max() <= 0.01, (shape, slab, plane)
        faults.handled(2)


def test_every_voxel_is_written_once(unet, tmp_path: Path, faults: Faults) -> None:
    model, estimator = unet
    path = tmp_path / "scan.nii"
    for number in range(faults.times(push=20, soak=200)):
        chosen = faults.random("written", number)
        shape = tuple(min(n, 24) for n in awkward(chosen))
        tile = tuple(chosen.randint(1, n + 1) for n in shape)
        streamed = chosen.random() < 0.5
        written = np.zeros(shape, int)

        class Counted:
            def beyond_halo(self, network) -> float:
                return estimator.beyond_halo(network)

            def planned(self, plan):
                return estimator.planned(plan)

            def tiles(self, plan, noisy, prior, written=written):
                for box, part in estimator.tiles(plan, noisy, prior):
                    written[box.slices] += 1
                    yield box, part

        scan_file(path, np.random.default_rng(number).uniform(-900, 300, shape).astype("<f4"))
        settings = DenoiseSettings(tile=tile, streamed=streamed)
        denoise(nifti.open_scan(path), model, Counted(), settings, lambda _: None)
        assert (written == 1).all(), (shape, tile)
        faults.handled()


def test_an_impulse_at_any_border_stays_where_it_is(
    identity, unet, tmp_path: Path, faults: Faults
) -> None:
    shape = (5, 9, 7)
    inner = np.zeros(shape, bool)
    inner[1:-1, 1:-1, 1:-1] = True
    border = [tuple(int(i) for i in at) for at in np.argwhere(~inner)]
    faults.random("impulses").shuffle(border)
    for at in border[: faults.times(push=30, soak=len(border))]:
        hu = np.full(shape, 40, "<f4")
        hu[at] = 340
        path = scan_file(tmp_path / "scan.nii", hu)
        found = estimate(identity, path, tile=(2, 4, 4))
        np.testing.assert_array_equal(found, hu, err_msg=str(at))
        # Of a network that is no identity, what an impulse does is the same in tiles and without.
        tiled, whole = (estimate(unet, path, tile=tile) for tile in ((4, 4, 4), shape))
        np.testing.assert_allclose(tiled, whole, atol=0.01, err_msg=str(at))
        faults.handled()


@pytest.mark.parametrize("level_hu", [-1000, 0, 1000])
@pytest.mark.parametrize("sigma_hu", [0, 5, 30])
def test_the_mean_of_a_uniform_phantom_stays(
    identity, tmp_path: Path, level_hu: int, sigma_hu: int
) -> None:
    noise = np.random.default_rng(0).normal(0, sigma_hu, (6, 40, 40)) if sigma_hu else 0
    hu = np.rint(np.full((6, 40, 40), level_hu) + noise).astype("<i2")
    path = scan_file(tmp_path / "scan.nii", hu)
    found = estimate(identity, path, tile=(4, 16, 16))
    for part in (np.s_[:], np.s_[0], np.s_[:, 0], np.s_[:, :, 0], np.s_[:, -1, -1]):
        assert abs(found[part].mean() - hu[part].mean()) <= 0.5


def test_a_network_that_sees_beyond_its_radius_gets_one_tile_or_none(
    cpu, tmp_path: Path, faults: Faults
) -> None:
    import keras

    hu = np.random.default_rng(0).uniform(-900, 300, (4, 12, 12)).astype("<f4")
    path = scan_file(tmp_path / "scan.nii", hu)
    model, _ = network(tmp_path / "small", cpu, "network.levels=1")
    mean = keras.ops.mean
    for layer in (
        keras.layers.GroupNormalization(groups=1),
        keras.layers.Lambda(lambda x: x - mean(x, axis=(1, 2, 3), keepdims=True)),
        keras.layers.Lambda(lambda x: x - mean(x, axis=1, keepdims=True)),
        keras.layers.Lambda(lambda x: x / keras.ops.max(x, axis=(1, 2, 3), keepdims=True)),
        keras.layers.Conv3D(1, 2 * model.recipe.network.radius[0] + 3, padding="same"),
    ):
        noisy = keras.Input((None, None, None, 1))
        pair = model, Predictor(keras.Model(noisy, layer(noisy)))
        with pytest.raises(BadUsage, match="UNet3D sees beyond its radius"):
            done(pair, path, tile=(1, 4, 4))
        assert done(pair, path, tile=(4, 12, 12)).about["tiles"]["count"] == 1
        faults.handled()


def test_the_output_is_reproducible(
    unet, engine, tmp_path: Path, phantom_hu: np.ndarray, faults: Faults
) -> None:
    """Denoises twice, also a renamed input, in processes with other numbers of threads."""
    run = unet[0].run.folder
    noise = np.random.default_rng(3).normal(0, 140, phantom_hu.shape)
    scans = [tmp_path / name for name in ("scan.nii.gz", "renamed 患者.nii.gz")]
    for scan in scans:
        scan_file(scan, (phantom_hu + noise).astype("<f4"))
    outs = []
    for number, scan in enumerate((scans[0], scans[0], scans[1])):
        outs.append(tmp_path / f"out{number}.nii.gz")
        words = ("-m", run, "-o", outs[-1], "--reproducible", "-q", "--devices", "cpu")
        assert engine("denoise", scan, *words)[0] == 0
    for threads in ("1", "2", "3")[: faults.times(push=2, soak=3)]:
        outs.append(tmp_path / f"threads{threads}.nii.gz")
        words = ["-m", str(run), "-o", str(outs[-1]), "--reproducible", "-q", "--devices", "cpu"]
        subprocess.run(
            [sys.executable, "-m", "engine", "denoise", str(scans[0]), *words],
            env={**os.environ, "TF_NUM_INTRAOP_THREADS": threads}, check=True,
        )  # fmt: skip
    files, sidecars = ([p.read_bytes() for p in outs],
                       [p.with_name(p.name[:-7] + ".json").read_bytes() for p in outs])  # fmt: skip
    assert len(set(files)) == 1
    assert len(set(sidecars)) == 1
    faults.handled(len(outs))


def test_every_edit_of_a_file_or_sidecar_is_detected(
    unet, engine, tmp_path: Path, phantom_hu: np.ndarray, faults: Faults
) -> None:
    run = unet[0].run
    scan = scan_file(tmp_path / "scan.nii", phantom_hu[:4].astype("<i2"))
    assert engine("denoise", scan, "-m", run.folder, "-q", "--save-residual")[0] == 0
    out, place = tmp_path / "scan_denoised.nii", tmp_path / "scan_denoised.json"
    whole, said = out.read_bytes(), json.loads(place.read_text())
    assert list(verify(out, run, scan))
    decisive = ("model", "recipe", "recipe_sha256", "input_sha256", "output_sha256", "residual",
                "residual_sha256", "voxels")  # fmt: skip
    for number in range(faults.times(push=40, soak=400)):
        chosen = faults.random("verify", number)
        if number % 2:
            block = bytearray(whole)
            block[chosen.randrange(len(block))] ^= 1 << chosen.randrange(8)
            out.write_bytes(block)
        else:
            name = decisive[number // 2 % len(decisive)]
            place.write_text(json.dumps({**said, name: _edited(said[name], chosen)}))
        code, _, err = engine("verify", out, "-m", run.folder)
        assert code in (3, 5), number
        assert err.count("\n") == 1
        out.write_bytes(whole)
        place.write_text(json.dumps(said))
        faults.handled()


def _edited(value, chosen: random.Random):
    """Another value of the same type."""
    if isinstance(value, dict):
        names = [n for n in sorted(value) if n not in ("above_window", "saturated")]
        name = chosen.choice(names)
        return {**value, name: _edited(value[name], chosen)}
    if isinstance(value, list):
        return [*value, 0]
    return f"{value}0" if isinstance(value, str) else (value or 0) + 1


# -- Real scans ------------------------------------------------------------------------------------


class Careless:
    """The worst network that still clips: everything is soft tissue."""

    def beyond_halo(self, network) -> float:
        return 0.0

    def planned(self, plan):
        return plan

    def tiles(self, plan, noisy, prior):
        for tile in plan.tiles():
            yield tile.keep, np.full(tile.keep.shape, np.float32(0.75))


@pytest.mark.real_ct
def test_real_scans_keep_padding_bone_and_metal(
    unet, real_ct: Path, tmp_path: Path, faults: Faults
) -> None:
    cases = find_cases(real_ct)
    for case in cases[: faults.times(push=4, soak=len(cases))]:
        scan = case.open()
        hu = scan.read_hu()
        first = len(hu) // 2
        path = scan_file(tmp_path / "scan.nii", hu[first : first + 8])
        before = voxels(path).astype(np.float32)
        after = estimate((unet[0], Careless()), path)
        mask = padding(before)
        np.testing.assert_array_equal(after[mask], before[mask])
        dense = _inside(before > 700)
        assert dense.any(), case.name
        assert abs((after - before)[dense].mean()) < 5
        assert after[dense].max() == before[dense].max()
        assert np.mean(after[~mask] != before[~mask]) > 0.3
        faults.handled()


@pytest.mark.real_ct
def test_real_scans_keep_every_bit_with_an_identity_network(
    identity, real_ct: Path, tmp_path: Path, faults: Faults
) -> None:
    cases = find_cases(real_ct)
    for case in cases[: faults.times(push=2, soak=len(cases))]:
        scan = case.open()
        assert isinstance(scan, nifti.Scan)
        hu = scan.read_hu()
        first = len(hu) // 2
        path = scan_file(tmp_path / "scan.nii", hu[first : first + 6, ::2, ::2])
        result = done(identity, path, tile=(4, 64, 64))
        differing = result.scan.canonical(result.before) != result.scan.canonical(result.after)
        # Single voxels beyond what the network is shown pass for noise; nothing else may change.
        shown = identity[0].recipe.window.hu(np.array(identity[0].recipe.noise.bounds))
        beyond = (voxels(path) < shown[0]) | (voxels(path) > shown[1])
        assert not np.any(differing & ~beyond)
        assert differing.mean() < 1e-3
        faults.handled()


def _inside(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return ndimage.binary_erosion(mask, np.ones((1, 3, 3)))


def test_every_kind_of_network_keeps_to_its_radius(cpu, tmp_path: Path, faults: Faults) -> None:
    hu = np.random.default_rng(0).uniform(-900, 300, (3, 40, 36)).astype("<f4")
    path = scan_file(tmp_path / "scan.nii", hu)
    kinds = ("respr_unet3d", "unet2d", "dncnn", "unet2d_residual_bn", "resnet2d", "convnet3d")
    for name in kinds[: faults.times(push=3, soak=len(kinds))]:
        model = open_model(untrained(tmp_path / name, tiny(name), cpu))
        pair = model, Predictor.of(model)
        tiled, whole = (estimate(pair, path, tile=tile) for tile in ((1, 16, 16), (3, 40, 36)))
        assert np.abs(tiled - whole).max() <= 0.01, name
        faults.handled()


@pytest.mark.real_ct
def test_anatomy_removed_from_real_scans_gives_a_warning(
    real_ct: Path, tmp_path: Path, faults: Faults
) -> None:
    cases = find_cases(real_ct)
    for case in cases[: faults.times(push=2, soak=len(cases))]:
        hu = case.open().read_hu()
        clean = hu[len(hu) // 2 :][:4]
        rng = faults.random(case.name)
        noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 70, clean.shape)
        noisy = np.rint(clean + noise).astype(np.int16)
        scan, mask = nifti.open_scan(scan_file(tmp_path / "noisy.nii", noisy)), padding(clean)
        removed = {
            "the noise": clean,
            "noise and edges": ndimage.gaussian_filter(noisy.astype(float), (0, 1, 1)),
        }
        for what, estimate in removed.items():
            after = np.where(mask, noisy, np.rint(estimate)).astype(np.int16)
            told = leak_warnings(describe_residual(scan, noisy, after, mask))
            assert bool(told) == (what != "the noise"), (case.name, what)
            faults.handled()
