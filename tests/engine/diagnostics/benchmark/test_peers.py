import numpy as np
import pytest

from engine.diagnostics.benchmark import packages, peers
from engine.diagnostics.benchmark.ways import UNTILED, ours
from engine.errors import NumericalFailure


@pytest.fixture
def _nothing_installed(monkeypatch):
    monkeypatch.setattr(packages, "package", lambda name: None)


@pytest.mark.usefixtures("_nothing_installed")
def test_without_pytorch_there_are_no_other_ways(case):
    assert peers.peers(case) == {}


def test_pytorch_has_the_same_layers_and_weights(case):
    pytest.importorskip("torch")
    assert 0 < peers.disagreement(case) < 1e-5
    one_pass = peers.peers(case)["PyTorch, one pass"]()
    assert case.apart_hu(one_pass, ours(case)[UNTILED]()) < 0.01


def test_another_network_in_pytorch_is_refused(case, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(peers, "TorchNetwork", lambda model: torch.zeros_like)
    with pytest.raises(NumericalFailure, match=r"PyTorch's network: differs by .* of the window"):
        peers.disagreement(case)


def test_sliding_windows_cover_the_scan_and_are_not_exact(case):
    pytest.importorskip("monai")
    ways, untiled = peers.peers(case), ours(case)[UNTILED]()
    assert list(ways)[1:] == [
        "MONAI, windows of 8 x 32 x 32, overlap 0.25",
        "MONAI, windows of 8 x 32 x 32, overlap 0.5",
        "nnU-Net's way, windows of 8 x 32 x 32",
    ]
    for name in list(ways)[1:]:
        estimate = ways[name]()
        assert estimate.shape == untiled.shape
        assert np.isfinite(estimate).all()
        assert case.apart_hu(estimate, untiled) > 0.1
