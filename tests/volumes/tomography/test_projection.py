import numpy as np
import pytest
from skimage.transform import iradon, radon

from volumes.tomography.geometry import FanBeam, Parallel
from volumes.tomography.projection import back_project, project, reconstruct

SIZE = 65  # odd: scikit-image turns about pixel N // 2, which then is the centre
FAN = FanBeam(90, 111, 35.0, 125.0)
PARALLEL = Parallel(90, SIZE)


@pytest.fixture(scope="module")
def tf(cpu):
    import tensorflow

    return tensorflow


def disc(size, radius, x0, y0):
    """An anti-aliased disc of 1 about (x0, y0) from the centre: the mean of 16 x 16 points."""
    at = (np.arange(16 * size) + 0.5) / 16 - size / 2
    inside = (at - x0) ** 2 + (at[:, None] - y0) ** 2 <= radius**2
    return inside.reshape(size, 16, size, 16).mean((1, 3)).astype(np.float32)


def shapes(size=SIZE):
    """Discs in discs, all within the circle, without any symmetry."""
    return disc(size, 26, 2, -3) + 0.5 * disc(size, 9, -12, 5) - 0.7 * disc(size, 5, 9, -14)


def within(size=SIZE, margin=2.0):
    at = np.arange(size) - (size - 1) / 2
    return at**2 + at[:, None] ** 2 <= (size / 2 - margin) ** 2


def error(found, wanted):
    return np.linalg.norm(np.asarray(found) - wanted) / np.linalg.norm(wanted)


# -- Projection ------------------------------------------------------------------------------------


@pytest.mark.parametrize("beam", [FAN, PARALLEL], ids=["fan", "parallel"])
def test_a_disc_has_the_chords_of_geometry(tf, beam):
    theta, s = beam.rays
    away = s - (7 * np.cos(theta) - 4 * np.sin(theta))
    chords = 2 * np.sqrt(np.maximum(22.0**2 - away**2, 0))
    found = project(disc(SIZE, 22, 7, -4)[None], beam)[0]
    assert error(found, chords) < 0.015  # of the edge, which pixels of this size cannot hold
    # No ray is worse than others: those that change from rows to columns neither.
    assert np.abs(found - chords)[away**2 < 20**2].max() < 0.5


@pytest.mark.parametrize("beam", [FAN, PARALLEL], ids=["fan", "parallel"])
def test_a_smooth_blob_has_the_integrals_of_geometry(tf, beam):
    at = np.arange(SIZE) - (SIZE - 1) / 2
    blob = np.exp(-((at - 7) ** 2 + (at[:, None] + 4) ** 2) / (2 * 5.0**2)).astype(np.float32)
    theta, s = beam.rays
    away = s - (7 * np.cos(theta) - 4 * np.sin(theta))
    wanted = (2 * np.pi) ** 0.5 * 5 * np.exp(-(away**2) / (2 * 5.0**2))
    assert error(project(blob[None], beam)[0], wanted) < 0.004


def test_parallel_projection_is_that_of_scikit_image(tf):
    image = shapes()
    # In its sinograms y points up.
    wanted = radon(image[::-1], np.rad2deg(PARALLEL.angles), circle=True).T
    assert error(project(image[None], PARALLEL)[0], wanted) < 0.01


def test_a_fan_far_away_is_parallel(tf):
    far = 1e5
    fan = FanBeam(90, SIZE, np.rad2deg(2 * np.arctan(SIZE / 2 / far)), far)
    half = Parallel(45, SIZE)
    found = project(shapes()[None], fan)[0].numpy()
    wanted = project(shapes()[None], half)[0].numpy()
    assert error(found[:45], wanted) < 1e-3
    assert error(found[45:, ::-1], wanted) < 1e-3


def test_every_view_of_the_fan_sees_all_of_a_disc_in_the_middle(tf):
    found = project(disc(SIZE, 20, 0, 0)[None], FAN)[0].numpy()
    mass = (found * np.cos(np.arctan(FAN.shadow / 125.0)) ** 3).sum(1)
    np.testing.assert_allclose(mass, mass.mean(), rtol=2e-3)


@pytest.mark.parametrize("stride", [2, 5, 9])
def test_thinning_the_views_of_a_sinogram_is_projecting_fewer(tf, stride):
    found = project(shapes()[None], FAN.every(stride))
    np.testing.assert_allclose(found, project(shapes()[None], FAN)[:, ::stride], atol=2e-5)


def test_slices_do_not_mix(tf):
    images = np.stack([shapes(), np.zeros((SIZE, SIZE), np.float32), shapes().T])
    found = project(images, FAN)
    assert not found[1].numpy().any()
    for slice_, image in ((0, images[0]), (2, images[2])):
        np.testing.assert_allclose(found[slice_], project(image[None], FAN)[0], rtol=1e-5)
    back = reconstruct(found, FAN, SIZE)
    np.testing.assert_allclose(back[2], reconstruct(found[2:], FAN, SIZE)[0], atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_tiny_slices_are_projected_to_their_mass(tf, size):
    found = project(np.ones((1, size, size), np.float32), Parallel(1, 9))
    np.testing.assert_allclose(found.numpy().sum(), size**2, rtol=1e-5)


# -- Reconstruction --------------------------------------------------------------------------------


@pytest.mark.parametrize("beam", [FAN, FAN.every(2), PARALLEL], ids=["fan", "thinned", "parallel"])
def test_flat_regions_come_back(tf, beam):
    found = reconstruct(project(disc(SIZE, 26, 2, -3)[None], beam), beam, SIZE)[0].numpy()
    flat = disc(SIZE, 22, 2, -3) == 1
    assert found[flat].mean() == pytest.approx(1, abs=2e-3)
    assert found[within() & (disc(SIZE, 30, 2, -3) == 0)].mean() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("window", "theirs", "close"),
    [
        ("ram-lak", "ramp", 1e-5), ("shepp-logan", "shepp-logan", 1e-4),
        # Their Hann window is sampled such that it never reaches the highest frequency.
        ("cosine", "cosine", 1e-4), ("hann", "hann", 2e-3),
    ],
)  # fmt: skip
def test_filtered_back_projection_is_that_of_scikit_image(tf, window, theirs, close):
    sinogram = project(shapes()[None], PARALLEL)
    angles = np.rad2deg(PARALLEL.angles)
    wanted = iradon(sinogram[0].numpy().T, angles, filter_name=theirs, circle=True)[::-1]
    found = reconstruct(sinogram, PARALLEL, SIZE, window)[0].numpy()
    assert error(found[within()], wanted[within()]) < close


def test_a_thing_comes_back_where_it_was(tf):
    image = disc(SIZE, 2, 17, -11)
    found = reconstruct(project(image[None], FAN), FAN, SIZE)[0].numpy()
    at = np.arange(SIZE) - (SIZE - 1) / 2
    near = disc(SIZE, 5, 17, -11)
    centre = [(found * near * axis).sum() / (found * near).sum() for axis in (at, at[:, None])]
    np.testing.assert_allclose(centre, [17, -11], atol=0.05)


# -- Gradients -------------------------------------------------------------------------------------

SMALL = [FanBeam(23, 41, 50.0, 40.0), Parallel(17, 33), FanBeam(1, 1)]


def inner(one, other):
    return float(np.vdot(np.float64(one), np.float64(other)))


@pytest.mark.parametrize("beam", SMALL, ids=["fan", "parallel", "one ray"])
def test_the_gradient_of_the_projection_is_its_transpose(tf, beam):
    rng = np.random.default_rng(0)
    x = tf.Variable(rng.random((2, 31, 31)), dtype=tf.float32)
    w = rng.random((2, beam.views, beam.bins)).astype(np.float32)
    with tf.GradientTape() as tape:
        sinogram = project(x, beam)
    gradient = tape.gradient(sinogram, x, w)
    assert inner(sinogram, w) == pytest.approx(inner(x, gradient), rel=1e-6)


@pytest.mark.parametrize("beam", SMALL, ids=["fan", "parallel", "one ray"])
@pytest.mark.parametrize("operator", [back_project, reconstruct])
def test_the_gradient_of_the_back_projection_is_its_transpose(tf, beam, operator):
    rng = np.random.default_rng(0)
    # All positive: where terms of both signs cancel, rounding would be all that is left.
    x = tf.Variable(rng.random((2, beam.views, beam.bins)), dtype=tf.float32)
    w = rng.random((2, 31, 31)).astype(np.float32)
    with tf.GradientTape() as tape:
        image = operator(x, beam, 31)
    gradient = tape.gradient(image, x, w)
    scale = float(np.linalg.norm(image) * np.linalg.norm(w))
    assert inner(image, w) == pytest.approx(inner(x, gradient), abs=1e-6 * scale)


def test_a_slice_is_found_by_descending_that_gradient(tf):
    beam, wanted = Parallel(40, 31), disc(31, 9, 3, -2)
    sinogram, x = project(wanted[None], beam), tf.Variable(tf.zeros((1, 31, 31)))
    for _ in range(60):  # Landweber, at a step below 2 / |A|^2
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((project(x, beam) - sinogram) ** 2) / 2
        x.assign_sub(6e-4 * tape.gradient(loss, x))
    assert error(x[0], wanted) < 0.12


def test_the_operators_may_stand_in_a_graph(tf):
    image = disc(31, 9, 3, -2)[None]

    @tf.function
    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(reconstruct(project(x, SMALL[1]), SMALL[1], 31) ** 2)
        return tape.gradient(loss, x)

    x = tf.Variable(image)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(reconstruct(project(x, SMALL[1]), SMALL[1], 31) ** 2)
    np.testing.assert_allclose(slope(x), tape.gradient(loss, x), rtol=1e-4, atol=1e-4)
