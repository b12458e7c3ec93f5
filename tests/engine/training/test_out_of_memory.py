import numpy as np
import pytest

from engine.errors import DiskFull, OutOfMemory
from engine.recipe.overrides import override
from tests.engine.tiny import tiny


@pytest.mark.parametrize(
    ("replicas", "batch", "shape", "wanted"),
    [
        (1, 2, "32,256,256", (1, (32, 256, 256))),
        (1, 8, "32,256,256", (4, (32, 256, 256))),
        (2, 4, "32,256,256", (2, (32, 256, 256))),
        (2, 2, "32,256,256", (2, (32, 128, 256))),
        (1, 1, "32,64,256", (1, (32, 64, 128))),
        (1, 1, "2,2,6", (1, (2, 2, 2))),
        (1, 1, "2,2,2", None),
    ],
)
def test_the_smaller_step_has_half_the_voxels_or_less_and_fits_stride_and_replicas(
    replicas, batch, shape, wanted
):
    from engine.training.out_of_memory import smaller

    recipe = override(tiny(), [f"batch={batch}", f"crop.shape={shape}"])
    assert recipe.network.stride == (2, 2, 2)
    found = smaller(recipe, replicas)
    assert found == wanted
    if found:
        assert 2 * found[0] * np.prod(found[1]) <= batch * np.prod(recipe.crop.shape)
        assert found[0] % replicas == 0


@pytest.mark.parametrize("name", ["unet2d", "dncnn"])
def test_a_crop_of_one_slice_keeps_it(name):
    from engine.training.out_of_memory import smaller

    recipe = override(tiny(name), ["batch=1"])
    assert smaller(recipe, 1)[1][0] == 1


def test_a_full_device_is_reported_in_one_line_with_a_step_that_takes_less(tf, tmp_path):
    from engine.training.out_of_memory import told

    page = "OOM when allocating tensor with shape[2,8,16,16]\n" * 40
    with pytest.raises(OutOfMemory) as caught, told(tiny(), tmp_path, 1):
        raise tf.errors.ResourceExhaustedError(None, None, page)
    assert caught.value.exit_code == 7
    assert str(caught.value) == (
        f"{tmp_path}: memory does not hold a step of 2 crops of 8 x 16 x 16. "
        "Use batch=1 accumulate=2, which needs about half as much."
    )


def test_a_disk_that_is_full_is_not_taken_for_memory(tf, tmp_path):
    from engine.training.out_of_memory import told

    for words in ("No space left on device", "Disk quota exceeded"):
        with pytest.raises(DiskFull) as caught, told(tiny(), tmp_path, 1):
            raise tf.errors.ResourceExhaustedError(None, None, f"a/b; {words}")
        assert str(caught.value).startswith(f"{tmp_path}: cannot be written: {words}. ")
        assert caught.value.exit_code == 4


def test_other_errors_pass(tf, tmp_path):
    from engine.training.out_of_memory import told

    with pytest.raises(ZeroDivisionError), told(tiny(), tmp_path, 1):
        raise ZeroDivisionError


def test_a_training_without_memory_ends_with_7(tf, engine, dataset, tmp_path, monkeypatch):
    from engine.training.step import TrainingStep
    from tests.engine.tiny import shrinking

    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(TrainingStep, "__call__", full)
    run = tmp_path / "run"
    code, _, err = engine("fit", "unet3d", *shrinking(), "--data", dataset, "--run", run, "-q")
    assert code == 7
    assert err.startswith(f"engine: error: {run}: memory does not hold a step of 2 crops")
    assert err.count("\n") == 1
