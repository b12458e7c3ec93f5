"""The timing script runs where there is no GPU: with small numbers, on the CPU."""

import pytest

from tests.gpu.denoise import main


@pytest.fixture
def rows(cpu):
    words = ["--shape", "6,16,16", "--width", "2", "--devices", "cpu"]
    return main([*words, "--precision", "float32,bfloat16"])


def test_every_setting_is_timed(rows):
    ours = [row for row in rows if row["with"] == "engine"]
    settings = [(row["precision"], row["xla"]) for row in ours]
    assert settings == [(p, x) for p in ("float32", "bfloat16") for x in ("off", "on")]
    for row in ours:
        assert 0 < row["network_s"] < row["command_s"]
        assert row["voxels_per_s"] == pytest.approx(6 * 16 * 16 / row["network_s"], rel=0.5)
    assert [row["told"] == "float32" for row in ours] == [True, True, False, False]


def test_pytorch_computes_the_same_network_if_it_is_there(rows):
    pytest.importorskip("torch")
    (exact, lower) = (row for row in rows if row["with"] != "engine")
    assert exact["largest_difference"] < 1e-5
    assert lower["largest_difference"] < 0.05
