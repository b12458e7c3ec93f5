"""Estimates averaged over the turned and mirrored copies of an image."""

import csv
import json

import numpy as np
import pytest

from engine.inference.poses import averaged, poses_of
from engine.inference.tiling import Plan, blocks_of
from engine.networks import BiasFreeUNet2D, DnCNN, ResPrUNet, UNet3D
from tests.engine.tiny import scan_file, tiny, untrained
from tests.engine.undrawn import leave_out_pictures
from volumes.sampling.crops import Crop

NETWORKS = [DnCNN(4, 2), BiasFreeUNet2D(widths=(4, 4, 4)), UNet3D(2, 2), ResPrUNet(2, 2)]
ALL = Crop(shape=(1, 64, 64), turns=True)


@pytest.fixture(scope="module")
def built(cpu):
    """Each network alone, and averaged over all poses."""
    from engine.inference.predictor import Predictor

    made = {network: network.build(seed=1) for network in NETWORKS}
    return {
        network: (Predictor(model), Predictor(model, poses=poses_of(ALL)))
        for network, model in made.items()
    }


def random(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def estimate(network, predictor, noisy, tile=None):
    plan = Plan(noisy.shape, tile or noisy.shape, network)
    prior = blocks_of(noisy[:, ::-1] / 2) if network.sees_prior else None
    return predictor.volume(plan, blocks_of(noisy), prior)


def by_hand(network, predictor, noisy):
    """The mean over the eight poses of a square."""
    prior = noisy[:, ::-1] / 2
    found = []
    for quarters in range(4):
        for mirrored in (False, True):

            def posed(image, quarters=quarters, mirrored=mirrored):
                turned = np.rot90(image, quarters, axes=(1, 2))
                return np.ascontiguousarray(turned[:, :, ::-1] if mirrored else turned)

            second = blocks_of(posed(prior)) if network.sees_prior else None
            seen = posed(noisy)
            plan = Plan(seen.shape, seen.shape, network)
            one = predictor.volume(plan, blocks_of(seen), second)
            back = one[:, :, ::-1] if mirrored else one
            found.append(np.rot90(back, -quarters, axes=(1, 2)))
    return np.mean(found, axis=0)


@pytest.mark.parametrize(("crop", "count"), [
    (Crop(flips=False), 1), (Crop(), 4), (Crop((1, 8, 8), flips=False, turns=True), 4), (ALL, 8),
])  # fmt: skip
def test_the_poses_are_those_of_training_each_once_and_upright_first(crop, count):
    image = random(1, 3, 3)
    poses = poses_of(crop)
    assert len({pose.of(image).tobytes() for pose in poses}) == len(poses) == count
    np.testing.assert_array_equal(poses[0].of(image), image)


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_the_mean_is_that_of_eight_single_estimates(built, network):
    single, mean = built[network]
    noisy = random(4, 32, 16)
    found = estimate(network, mean, noisy)
    np.testing.assert_allclose(found, by_hand(network, single, noisy), rtol=0, atol=1e-6)
    assert np.abs(found - estimate(network, single, noisy)).max() > 1e-3


def test_the_mean_turns_with_the_image(built):
    network = NETWORKS[0]
    _, mean = built[network]
    noisy = random(2, 24, 24)
    turned = estimate(network, mean, np.ascontiguousarray(np.rot90(noisy, axes=(1, 2))))
    expected = np.rot90(estimate(network, mean, noisy), axes=(1, 2))
    np.testing.assert_allclose(turned, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_tiles_in_many_poses_leave_no_seams(built, network):
    _, mean = built[network]
    noisy = random(5, 43, 61)
    tiled = estimate(network, mean, noisy, tile=(2, 16, 24))
    np.testing.assert_allclose(tiled, estimate(network, mean, noisy), rtol=0, atol=1e-6)


def test_a_stream_is_cut_into_tiles(built):
    network = NETWORKS[2]
    _, mean = built[network]
    noisy = random(8, 16, 16)
    stream = Plan(noisy.shape, noisy.shape, network).in_slabs()
    found = mean.volume(stream, blocks_of(noisy), None)
    np.testing.assert_allclose(found, estimate(network, mean, noisy), rtol=0, atol=1e-6)


def test_one_pose_costs_nothing():
    image = random(1, 4, 4)
    seen = []

    def infer(images):
        seen.append(images[0])
        return images[0]

    assert np.shares_memory(averaged(poses_of(Crop(flips=False)), infer, [image]), image)
    assert len(seen) == 1


# -- The command -----------------------------------------------------------------------------------


@pytest.fixture
def scan(tmp_path, phantom_hu):
    return scan_file(tmp_path / "scan.nii.gz", phantom_hu[:3, :40, :32])


def test_the_command_averages_and_its_sidecar_says_so(engine, unet_run, scan):
    import engine as api

    words = ("denoise", scan, "-m", unet_run, "-q", "--poses")
    assert engine(*words)[0] == 0
    out = scan.with_name("scan_denoised.nii.gz")
    assert json.loads(out.with_name("scan_denoised.json").read_text())["poses"] is True
    code, said, _ = engine("verify", out, "-m", unet_run, "--again")
    assert code == 0
    assert "the network gives the same voxels, bit for bit" in said
    model = api.load(unet_run, quiet=True)
    one = model.denoise(scan).output.get_fdata()
    mean = model.denoise(scan, poses=True).output.get_fdata()
    written = api.denoise(scan, model=unet_run, poses=True, quiet=True).output.get_fdata()
    np.testing.assert_array_equal(mean, written)
    assert np.any(one != mean)


def test_a_network_that_saw_upright_slices_alone_is_refused(engine, cpu, scan, tmp_path):
    run = untrained(tmp_path / "upright", tiny("unet3d", "crop.flips=false"), cpu).folder
    code, _, err = engine("denoise", scan, "-m", run, "--poses")
    assert code == 2
    assert "--poses: the UNet3D was trained on upright slices. Leave it out." in err
    code, _, err = engine("evaluate", f"{run}+poses", "--data", tmp_path, "-o", tmp_path / "r")
    assert code == 2
    assert "was trained on upright slices" in err


def test_no_classical_method_has_poses(engine, tmp_path):
    code, _, err = engine("evaluate", "tv+poses", "--data", tmp_path, "-o", tmp_path / "r")
    assert code == 2
    assert "tv+poses: tv is no network and takes no +poses. Name tv." in err


def test_both_estimates_of_a_network_are_compared(engine, trained, dataset, tmp_path, monkeypatch):
    leave_out_pictures(monkeypatch)
    words = ("evaluate", trained, f"{trained}+poses", "--data", dataset, "-o", tmp_path / "r", "-q")
    assert engine(*words)[0] == 0
    with (tmp_path / "r" / "scores.csv").open() as lines:
        psnr = {row["method"]: row["psnr_db"] for row in csv.DictReader(lines)}
    assert sorted(psnr) == ["trained", "trained+poses"]
    assert psnr["trained"] != psnr["trained+poses"]
