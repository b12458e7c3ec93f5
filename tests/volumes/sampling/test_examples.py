from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from volumes.boxes import Box, read_box
from volumes.errors import BadInput
from volumes.sampling.crops import Crop
from volumes.sampling.examples import Examples
from volumes.sampling.noise import AsScanned, Gaussian, Recorded
from volumes.sampling.priors import NeighbourMean
from volumes.sampling.scanner_noise import LowDose, SparseView
from volumes.storage.cache_folder import CacheFolder
from volumes.tomography.geometry import FanBeam
from volumes.tomography.scanner import Scanner, circle
from volumes.volume import Volume

DEPTHS = (11, 5, 1, 17)
PRIOR = NeighbourMean(radius=3, decay=0.2, decay_per_mm=0.05)


def volume(number, shape):
    """Random voxels, which identify the place and the orientation of a crop."""
    hu = np.random.default_rng(number).integers(-1000, 1000, shape).astype(np.int16)
    return Volume(hu, (1.0 + number, 0.8, 0.8), f"case_{number:05d}", f"{number:064x}")


@pytest.fixture(scope="module")
def examples():
    volumes = [volume(n, (depth, 19, 13)) for n, depth in enumerate(DEPTHS)]
    return Examples(volumes, Crop((4, 8, 6), 0.8), Gaussian((0.05, 0.2)), PRIOR, seed=3)


def volume_of(examples, example):
    return next(v for v in examples.volumes if v.case == example.case)


def mirrored(array, flips):
    return array[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def with_halo(box, halo):
    start, shape = box.start, box.shape
    return Box((start[0] - halo, *start[1:]), (shape[0] + 2 * halo, *shape[1:]))


def flips_of(examples, example):
    """The flips with which the voxels of the example equal those of the volume."""
    expected = read_box(volume_of(examples, example).hu, with_halo(example.box, examples.halo))
    found = [f for f in product((False, True), repeat=3)
             if np.array_equal(mirrored(example.hu, f), expected)]  # fmt: skip
    assert found, "the example's voxels are not the volume's under any flip"
    return found[0]


def same(one, other):
    assert (one.case, one.box, one.sigma) == (other.case, other.box, other.sigma)
    for field in ("hu", "weights", "key"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_an_example_is_the_same_in_whichever_order_it_is_asked_for(examples):
    forward = [examples[i] for i in range(12)]
    for i in reversed(range(12)):
        same(examples[i], forward[i])


def test_another_object_with_the_same_seed_gives_the_same_examples(examples):
    for i in (0, 7, 10_000_019):
        same(replace(examples)[i], examples[i])


def test_another_seed_gives_other_examples(examples):
    other = replace(examples, seed=4)
    assert any(examples[i].box != other[i].box for i in range(8))
    assert all((examples[i].key != other[i].key).any() for i in range(8))


def test_examples_have_noise_of_their_own(examples):
    assert len({tuple(examples[i].key.tolist()) for i in range(50)}) == 50
    assert len({examples[i].sigma for i in range(50)}) == 50
    assert all(0.05 <= examples[i].sigma <= 0.2 for i in range(50))


def test_each_round_visits_every_volume_once(examples):
    for turn in range(10):
        cases = sorted(examples[4 * turn + i].case for i in range(4))
        assert cases == [v.case for v in examples.volumes]


def test_rounds_have_orders_of_their_own(examples):
    rounds = {tuple(examples[4 * turn + i].case for i in range(4)) for turn in range(10)}
    assert len(rounds) > 3


def test_the_voxels_of_an_example_are_the_volume_s_but_for_flips(examples):
    flips = {flips_of(examples, examples[i]) for i in range(60)}
    assert len(flips) == 8


def test_without_flips_the_voxels_are_the_volume_s(examples):
    plain = replace(examples, crop=replace(examples.crop, flips=False))
    for i in range(12):
        expected = read_box(volume_of(plain, plain[i]).hu, with_halo(plain[i].box, plain.halo))
        np.testing.assert_array_equal(plain[i].hu, expected)


def test_a_turned_example_is_the_crop_with_its_slices_turned(examples):
    crop = Crop((4, 6, 6), 0.8, flips=False, turns=True)
    turned, plain = (replace(examples, crop=replace(crop, turns=t)) for t in (True, False))
    found = set()
    for i in range(40):
        assert turned[i].box == plain[i].box
        quarters = [k for k in range(4)
                    if np.array_equal(np.rot90(plain[i].hu, k, (1, 2)), turned[i].hu)]  # fmt: skip
        assert len(quarters) == 1, "the voxels are not those of the crop under one quarter turn"
        found.update(quarters)
    assert found == {0, 1, 2, 3}


def test_the_prior_s_weights_do_not_change_with_turns(examples):
    crop = Crop((4, 6, 6), 0.8, turns=True)
    turned, plain = (replace(examples, crop=replace(crop, turns=t)) for t in (True, False))
    for i in range(12):
        np.testing.assert_array_equal(turned[i].weights, plain[i].weights)


def test_an_example_holds_the_crop_and_the_slices_that_its_prior_needs(examples):
    for i in range(12):
        assert examples[i].hu.shape == (4 + 2 * 3, 8, 6)
        assert examples[i].weights.shape == (4, 4 + 2 * 3)


def test_without_a_prior_there_is_no_halo_and_no_weight(examples):
    plain = replace(examples, prior=None)
    assert plain[0].hu.shape == (4, 8, 6)
    assert plain[0].weights.shape == (4, 0)


@pytest.mark.parametrize("length", [1, 4, 11])
def test_the_prior_of_an_example_is_that_of_the_whole_volume_at_its_place(examples, length):
    many = replace(examples, crop=replace(examples.crop, shape=(length, 8, 6)))
    top = bottom = flipped = 0
    for i in range(120):
        example = many[i]
        source = volume_of(many, example)
        depth, first = len(source.hu), example.box.start[0]
        if length > depth:
            continue
        whole_weights = PRIOR.weights(0, depth, depth, source.spacing_mm[0])[:, 3:-3]
        whole = np.tensordot(whole_weights, source.hu.astype(np.float64), 1)
        prior = np.tensordot(example.weights, example.hu.astype(np.float64), 1)
        flips = flips_of(many, example)
        np.testing.assert_allclose(mirrored(prior, flips), whole[example.box.slices], atol=1e-3)
        top, bottom = top + (first == 0), bottom + (first + length == depth)
        flipped += flips[0]
    assert min(top, bottom, flipped) > 3


@pytest.mark.parametrize(("depth", "length"), [(1, 4), (3, 4), (5, 16), (2, 9)])
def test_where_the_crop_is_deeper_than_the_volume_its_reflection_counts_as_volume(
    examples, depth, length
):
    crop = Crop((length, 8, 6), 0.8)
    deep = replace(examples, volumes=[volume(9, (depth, 19, 13))], crop=crop)
    for i in range(16):
        example = deep[i]
        before = -example.box.start[0]
        after = length - depth - before
        padded = np.pad(deep.volumes[0].hu, ((before, after), (0, 0), (0, 0)), mode="reflect")
        weights = PRIOR.weights(0, length, length, deep.volumes[0].spacing_mm[0])[:, 3:-3]
        whole = np.tensordot(weights, padded.astype(np.float64), 1)
        prior = np.tensordot(example.weights, example.hu.astype(np.float64), 1)
        inner = Box((0, *example.box.start[1:]), example.box.shape)
        expected = whole[inner.slices]
        np.testing.assert_allclose(mirrored(prior, flips_of(deep, example)), expected, atol=1e-3)


def test_a_volume_smaller_than_the_crop_on_every_axis_gives_a_full_crop(examples):
    small = replace(examples, volumes=[volume(9, (2, 3, 1))])
    for i in range(8):
        assert small[i].hu.shape == (10, 8, 6)
        flips_of(small, small[i])


def test_volumes_that_are_mapped_into_memory_give_the_same_examples(examples, tmp_path):
    mapped = []
    for number, one in enumerate(examples.volumes):
        np.save(tmp_path / f"{number}.npy", one.hu)
        mapped.append(replace(one, hu=np.load(tmp_path / f"{number}.npy", mmap_mode="r")))
    for i in range(8):
        same(replace(examples, volumes=mapped)[i], examples[i])


def test_examples_at_every_scale_have_the_shape_of_the_crop_and_their_halo():
    crop = Crop((2, 12, 12), 1.0, scales=(1.0, 0.6))
    examples = Examples([volume(0, (9, 40, 33))], crop, Gaussian(), PRIOR, seed=0)
    sides = set()
    for i in range(12):
        example = examples[i]
        assert example.hu.shape == (2 + 2 * PRIOR.halo, 12, 12)
        sides.add(example.box.shape)
    assert sides == {(2, 12, 12), (2, 20, 20)}


def test_recorded_noise_is_the_same_block_in_the_same_pose_as_the_clean_one():
    clean = volume(0, (9, 19, 13))
    recorded = replace(clean, noisy_hu=(clean.hu + 7).astype(np.int16))
    crop = Crop((4, 8, 8), 0.8, turns=True, scales=(1.0, 0.8))
    examples = Examples([recorded], crop, Recorded(), PRIOR, seed=1)
    for i in range(8):
        example = examples[i]
        assert example.noisy_hu.shape == example.hu.shape
        # Resampling rounds and clips to the range of a block: the shift is kept to within 1.
        np.testing.assert_allclose(example.noisy_hu - example.hu, 7, atol=1)


def test_simulated_noise_carries_no_recording():
    examples = Examples([volume(0, (9, 19, 13))], Crop((4, 8, 6)), Gaussian(), None, seed=1)
    assert examples[0].noisy_hu.shape == (0, 8, 6)


def test_a_volume_without_a_recording_is_refused():
    examples = Examples([volume(0, (9, 19, 13))], Crop((4, 8, 6)), Recorded(), None, seed=1)
    with pytest.raises(BadInput, match="case_00000: has no noisy scan beside it"):
        examples[0]


# -- Scanner noise ---------------------------------------------------------------------------------

SCANNER = Scanner(FanBeam(60, 41, 35.0, 62.5))


@pytest.fixture
def scans(cpu, phantom_hu, tmp_path):
    """Two small scans, one of them not square, with cached sinograms."""
    parts = {"one": phantom_hu[:7, 16:48, 16:48], "two": phantom_hu[3:8, 20:44, 16:48]}
    return [
        Volume(hu, (3.0, 8.0, 8.0), name, name, kept=CacheFolder(tmp_path / "kept"))
        for name, hu in parts.items()
    ]


def scanned(scans, crop, noise=LowDose((1e3, 1e5), scanner=SCANNER), prior=PRIOR):  # noqa: B008
    return Examples(scans, crop, noise, prior, seed=5)


@pytest.mark.parametrize("noise", [LowDose(1e4, scanner=SCANNER), SparseView(20, scanner=SCANNER)])
def test_a_scanned_example_is_cut_and_posed_like_the_clean_one(scans, noise):
    crop = Crop((3, 12, 12), 1.0, turns=True)
    quiet = replace(noise, photons=1e14)
    if isinstance(noise, SparseView):
        quiet = replace(quiet, views=60)
    examples, silent = scanned(scans, crop, noise), scanned(scans, crop, quiet)
    for i in range(8):
        one, other = examples[i], silent[i]
        assert one.noisy_hu.shape == one.hu.shape == (3 + 2 * 3, 12, 12)
        np.testing.assert_array_equal(one.hu, other.hu)
        assert (one.noisy_hu != other.noisy_hu).any()
        # Without noise the result is the clean crop except at edges, in the same pose and place.
        turned = [np.rot90(other.noisy_hu, k, (1, 2))[::z] for k in range(4) for z in (1, -1)]
        errors = [np.mean((t.astype(float) - one.hu) ** 2) for t in turned]
        assert np.argmin(errors) == 0


def test_a_scanned_example_is_the_same_however_often_and_in_whichever_order(scans):
    crop = Crop((3, 12, 12), 1.0)
    forward = [scanned(scans, crop)[i] for i in range(6)]
    examples = scanned(scans, crop)
    for i in (5, 3, 3, 0, 4, 1, 2):
        same(examples[i], forward[i])
        np.testing.assert_array_equal(examples[i].noisy_hu, forward[i].noisy_hu)


def test_the_clean_crop_is_air_outside_of_the_circle(scans):
    examples = scanned(scans[:1], Crop((1, 32, 32), 1.0, flips=False), prior=None)
    outside = ~circle((32, 32))
    for i in range(4):
        example = examples[i]
        z = example.box.start[0]
        assert (example.hu[0][outside] == -1000).all()
        assert (example.noisy_hu[0][outside] == -1000).all()
        inside = example.hu[0][~outside]
        np.testing.assert_array_equal(inside, scans[0].hu[z][~outside])


def test_beyond_the_volume_a_scanned_crop_is_its_reflection(scans):
    examples = scanned(scans[1:], Crop((9, 40, 40), 1.0, flips=False))
    example = examples[0]
    for hu in (example.hu, example.noisy_hu):
        for k in range(1, 4):
            middle = 3 + 2 - example.box.start[0] - 2  # the volume's first slice
            np.testing.assert_array_equal(hu[middle - k], hu[middle + k])
            np.testing.assert_array_equal(hu[:, 8 - k], hu[:, 8 + k])


def test_patches_in_a_row_are_cut_from_the_same_noisy_slices(scans):
    examples = scanned(scans, Crop((2, 32, 32), 1.0, flips=False, patches=4), prior=None)
    for group in range(6):
        four = [examples[4 * group + k] for k in range(4)]
        assert len({(example.case, example.box.start[0]) for example in four}) == 1
        for example in four:  # of whole slices: all the same
            if example.case == "one":
                np.testing.assert_array_equal(example.noisy_hu, four[0].noisy_hu)
    cases = [examples[4 * group].case for group in range(6)]
    assert all({cases[k], cases[k + 1]} == {"one", "two"} for k in (0, 2, 4))


def test_patches_have_places_and_poses_of_their_own(scans):
    examples = scanned(scans, Crop((1, 8, 8), 1.0, patches=16), prior=None)
    found = [examples[i] for i in range(16)]
    assert len({example.box.start[1:] for example in found}) > 8
    again = scanned(scans, Crop((1, 8, 8), 1.0, patches=16), prior=None)
    for i in (11, 3, 15):
        np.testing.assert_array_equal(again[i].noisy_hu, found[i].noisy_hu)


def test_patches_are_scanned_once(scans, monkeypatch):
    counted, scan = [], Scanner.scan

    def counting(scanner, *arguments):
        counted.append(arguments)
        return scan(scanner, *arguments)

    monkeypatch.setattr(Scanner, "scan", counting)
    examples = scanned(scans, Crop((1, 8, 8), 1.0, patches=16), prior=None)
    for i in range(32):
        examples[i]
    assert len(counted) == 2


def test_patches_of_white_noise_share_their_slices_and_not_their_noise(examples):
    grouped = replace(examples, crop=replace(examples.crop, patches=3))
    for group in range(4):
        three = [grouped[3 * group + k] for k in range(3)]
        assert len({(example.case, example.box.start[0]) for example in three}) == 1
        assert len({tuple(example.key.tolist()) for example in three}) == 3


@pytest.mark.parametrize("prior", [None, NeighbourMean(1), NeighbourMean(3)], ids=str)
def test_an_objective_gets_its_slices_and_their_place_in_the_volume(prior):
    volumes = [volume(n, (depth, 19, 13)) for n, depth in enumerate(DEPTHS)]
    crop, noise = Crop((4, 8, 6)), Gaussian((0.05, 0.2))
    plain = Examples(volumes, crop, noise, prior, seed=3)
    wide = Examples(volumes, crop, noise, prior, seed=3, margin=2)
    assert wide.halo == max(2, plain.halo)
    for i in range(12):
        one, other = plain[i], wide[i]
        assert (one.case, one.box, one.sigma) == (other.case, other.box, other.sigma)
        np.testing.assert_array_equal(one.key, other.key)
        beyond = wide.halo - plain.halo
        inner = slice(beyond, len(other.hu) - beyond)
        np.testing.assert_array_equal(other.hu[inner], one.hu)
        np.testing.assert_array_equal(other.slices[inner], one.slices)
        if prior:
            assert other.weights.shape == (4, 4 + 2 * wide.halo)
            np.testing.assert_array_equal(other.weights[:, inner], one.weights)
            assert not other.weights[:, :beyond].any()
        hu = volume_of(wide, other).hu
        for row, index in zip(other.hu, other.slices, strict=True):
            assert set(row.ravel()) <= set(hu[index].ravel())


def test_scans_as_they_are_are_their_own_noisy_images():
    examples = Examples([volume(0, (9, 19, 13))], Crop((4, 8, 6)), AsScanned(), None, 1, margin=1)
    for i in range(4):
        np.testing.assert_array_equal(examples[i].noisy_hu, examples[i].hu)
