import math

import numpy as np
import pytest

from engine.inference.prior_image import prior_blocks
from engine.inference.tiling import Plan, blocks_of, plan
from engine.networks import DnCNN, ResidualUNet2D, ResPrUNet, UNet2D, UNet3D
from volumes import NeighbourMean
from volumes.boxes import Box
from volumes.storage import memory

TILES = {  # by the shape of the volume
    (5, 33, 47): (4, 16, 9), (17, 19, 13): (6, 17, 11), (1, 40, 40): (1, 8, 8),
    (12, 64, 64): (4, 8, 32),
}  # fmt: skip
NETWORKS = [UNet3D(2, 2), UNet3D(2, 3), UNet2D(2, 3), DnCNN(4, 2), ResPrUNet(2, 2)]
PRIOR = NeighbourMean(radius=4, decay=0.04)


@pytest.fixture(scope="module")
def built(cpu):
    """Each network with its estimator; biases are not zero, so that edges could show."""
    from engine.inference.predictor import Predictor

    pairs = {}
    for network in NETWORKS:
        model = network.build(seed=1)
        for variable in model.trainable_variables:
            if variable.path.endswith("bias"):
                variable.assign(variable + 0.1)
        pairs[network] = (model, Predictor(model))
    return pairs


def noisy(shape):
    return np.random.default_rng(0).random(shape, np.float32)


def whole_prior(image, spacing_z_mm=3.0):
    """The prior by its definition, slice by slice."""
    prior = np.empty_like(image)
    for z in range(len(image)):
        near = range(max(z - PRIOR.radius, 0), min(z + PRIOR.radius + 1, len(image)))
        weight = np.exp([-PRIOR.decay * abs(k - z) for k in near])
        prior[z] = np.tensordot(weight / weight.sum(), image[near.start : near.stop], 1)
    return prior


def images_of(network, image):
    return [image, whole_prior(image)] if network.sees_prior else [image]


def untiled(network, model, image):
    """The model on the whole volume, reflected at its far ends up to the stride."""
    pad = [(0, -n % s) for n, s in zip(image.shape, network.stride, strict=True)]
    padded = []
    for given in images_of(network, image):
        reflected = given
        for axis, (_, more) in enumerate(pad):
            width = [(0, more) if a == axis else (0, 0) for a in range(3)]
            mode = "reflect" if given.shape[axis] > 1 else "edge"
            reflected = np.pad(reflected, width, mode)
        padded.append(reflected[None, ..., None])
    found = model(padded if network.sees_prior else padded[0], training=False).numpy()
    z, y, x = image.shape
    return found[0, :z, :y, :x, 0]


def tiled(network, estimator, image, tile):
    prior = None
    if network.sees_prior:
        prior = prior_blocks(PRIOR, blocks_of(image), len(image), 3.0)
    return estimator.volume(Plan(image.shape, tile, network), blocks_of(image), prior)


# -- Tiles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "tile"), TILES.items())
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_tiles_leave_no_seams(built, network, shape, tile):
    model, estimator = built[network]
    image = noisy(shape)
    found = tiled(network, estimator, image, tile)
    np.testing.assert_allclose(found, untiled(network, model, image), rtol=0, atol=1e-6)


def test_a_halo_that_is_too_small_would_be_seen(built, monkeypatch):
    network = UNet3D(2, 2)
    model, estimator = built[network]
    image = noisy((12, 64, 64))
    monkeypatch.setattr(UNet3D, "radius", (2, 2, 2))
    found = tiled(network, estimator, image, (4, 8, 8))
    assert np.abs(found - untiled(network, model, image)).max() > 1e-3


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_the_kept_parts_of_the_tiles_cover_every_voxel_once(built, network):
    written = np.zeros((5, 33, 47), int)
    for tile in Plan((5, 33, 47), (4, 8, 8), network).tiles():
        written[tile.keep.slices] += 1
    assert (written == 1).all()


def test_estimates_come_tile_by_tile_with_their_place(built):
    network = DnCNN(4, 2)
    _, estimator = built[network]
    image = noisy((2, 20, 20))
    whole = tiled(network, estimator, image, (2, 20, 20))
    parts = list(estimator.tiles(Plan(image.shape, (1, 10, 10), network), blocks_of(image), None))
    assert len(parts) == 8
    for box, part in parts:
        np.testing.assert_allclose(part, whole[box.slices], atol=1e-6)


# -- Priors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3, 6, 20])
def test_blocks_of_the_prior_are_blocks_of_the_whole_prior(depth):
    image = noisy((depth, 5, 6))
    blocks = prior_blocks(PRIOR, blocks_of(image), depth, 3.0)
    whole = whole_prior(image)
    for first in range(depth):
        for length in range(1, depth - first + 1):
            found = blocks(Box((first, 1, 2), (length, 3, 4)))
            expected = whole[first : first + length, 1:4, 2:6]
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_beyond_the_volume_the_prior_is_reflected():
    image = noisy((6, 5, 6))
    blocks = prior_blocks(PRIOR, blocks_of(image), 6, 3.0)
    reflected = np.pad(whole_prior(image), ((0, 2), (0, 3), (0, 2)), "reflect")
    np.testing.assert_allclose(blocks(Box((0, 0, 0), (8, 8, 8))), reflected, atol=1e-6)


def test_the_distance_of_slices_counts_where_the_prior_asks_for_it():
    image, prior = noisy((6, 4, 4)), NeighbourMean(radius=2, decay=0.0, decay_per_mm=0.5)
    thin, thick = (
        prior_blocks(prior, blocks_of(image), 6, mm)(Box((0, 0, 0), (6, 4, 4)))
        for mm in (0.01, 100.0)
    )
    np.testing.assert_allclose(thick, image, atol=1e-6)  # neighbours are too far away to count
    assert np.abs(thin - image).max() > 0.1


# -- Plans -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("free_gib", [1.0, 2.0, 16.0])
@pytest.mark.parametrize("shape", [(1059, 512, 512), (64, 512, 512), (1, 2048, 2048)])
@pytest.mark.parametrize("network", [UNet3D(32), UNet2D(32), ResPrUNet(32), DnCNN()], ids=str)
def test_a_plan_stays_within_a_quarter_of_the_free_memory(monkeypatch, network, shape, free_gib):
    monkeypatch.setattr(memory, "free_bytes", lambda: int(free_gib * 2**30))
    assert plan(shape, network).bytes <= free_gib / 4 * 2**30


def test_a_plan_never_takes_more_than_4_gib(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**50)
    network, shape = UNet3D(32), (1059, 512, 512)
    assert math.prod(shape) * network.bytes_per_voxel > 4 * 2**30
    assert 2**30 < plan(shape, network).bytes <= 4 * 2**30


@pytest.mark.parametrize("network", [UNet3D(8), UNet2D(8)], ids=str)
def test_a_small_volume_is_one_tile(monkeypatch, network):
    monkeypatch.setattr(memory, "free_bytes", lambda: 16 * 2**30)
    assert plan((20, 96, 96), network).count == 1


@pytest.mark.parametrize("network", [UNet2D(32), DnCNN(), ResidualUNet2D()], ids=str)
def test_whole_slices_of_a_2d_network_are_parted_before_any_is_cut(monkeypatch, network):
    monkeypatch.setattr(memory, "free_bytes", lambda: 64 * 2**30)
    found = plan((1059, 512, 512), network)
    assert found.tile[1:] == (512, 512)
    assert 1 < found.count < 1059
    assert found.bytes <= 2**29


def test_a_slice_that_does_not_fit_is_cut(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**28)
    found = plan((5, 512, 512), UNet2D(32))
    assert found.tile[0] == 1
    assert found.tile[1] < 512
    assert found.bytes <= 2**26


def test_where_nothing_fits_the_smallest_tiles_are_taken(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 0)
    assert plan((8, 64, 64), UNet3D(32)).tile[1:] == UNet3D(32).stride[1:]
    assert plan((8, 64, 64), UNet2D(32)).tile == UNet2D(32).stride


def test_a_tile_that_is_asked_for_is_taken(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 0)
    assert plan((8, 64, 64), UNet3D(32), (8, 32, 32)).tile == (8, 32, 32)


def test_the_bytes_of_a_plan_are_those_of_its_largest_tile_with_halo():
    found = Plan((4, 200, 200), (4, 40, 40), UNet2D(32, 3))
    assert UNet2D(32, 3).radius == (0, 23, 23)
    assert found.bytes == 4 * (40 + 24 + 24) ** 2 * UNet2D(32, 3).bytes_per_voxel


def test_the_count_of_a_plan_is_the_number_of_its_tiles():
    assert Plan((5, 33, 47), (4, 8, 8), UNet3D(2, 2)).count == 2 * 5 * 6
