import pytest

from engine.diagnostics.benchmark.arithmetic import MatrixProduct, multiply_adds, step_flop
from engine.networks import BiasFreeUNet2D, ConvNet3D, ResPrUNet, UNet3D

SHAPE = (2, 4, 8, 8, 1)
VOXELS = 2 * 4 * 8 * 8


def test_the_multiply_adds_of_a_u_net_are_those_counted_by_hand(cpu):
    fine = 27 * (1 * 3 + 3 * 3 + (3 + 3) * 3 + 3 * 3) + 3  # down, up after the skip, head
    coarse = 27 * (3 * 6 + 6 * 3)
    network = UNet3D(width=3, levels=2).build()
    assert multiply_adds(network, SHAPE) == VOXELS * fine + VOXELS // 8 * coarse


def test_the_prior_is_a_second_channel_of_the_first_convolution(cpu):
    alone, with_prior = (kind(width=3, levels=2).build() for kind in (UNet3D, ResPrUNet))
    added = VOXELS * 27 * 1 * 3
    assert multiply_adds(with_prior, SHAPE) == multiply_adds(alone, SHAPE) + added


def test_a_strided_and_a_transposed_convolution_count_each_block_once(cpu):
    shell = 9 * (1 * 16 + 16 * 16 + 16 * 16 + 16 * 1)
    blocks = 2 * 2 * 9 * 5 * 5
    between = 4 * 2 * 16 * 5  # kernels of 2 x 2, down and up
    network = BiasFreeUNet2D(widths=(5,)).build()
    assert multiply_adds(network, SHAPE) == VOXELS * shell + VOXELS // 4 * (blocks + between)


def test_a_training_step_does_three_passes_of_two_operations(cpu):
    network = ConvNet3D().build()
    assert step_flop(network, SHAPE) == 6 * multiply_adds(network, SHAPE)


def test_a_matrix_product_has_a_rate(cpu):
    assert 1e8 < MatrixProduct().flop_per_s() < 1e15


@pytest.mark.parametrize("batch", [1, 3])
def test_the_arithmetic_grows_with_the_batch(cpu, batch):
    network = UNet3D(width=2, levels=2).build()
    shape = (batch, *SHAPE[1:])
    assert multiply_adds(network, shape) == batch * multiply_adds(network, (1, *SHAPE[1:]))
