import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engine import runtime
from engine.errors import BadUsage


def machine(*capabilities):
    """A stand-in for TensorFlow on a machine with GPUs of these compute capabilities."""
    gpus = [SimpleNamespace(name=f"gpu{i}", capability=c) for i, c in enumerate(capabilities)]
    noted = SimpleNamespace(visible=None, growing=[])
    config = SimpleNamespace(
        list_physical_devices=lambda kind: gpus if kind == "GPU" else [],
        set_visible_devices=lambda devices, kind: setattr(noted, "visible", devices),
        experimental=SimpleNamespace(
            set_memory_growth=lambda gpu, on: noted.growing.append(gpu),
            get_device_details=lambda gpu: {"compute_capability": gpu.capability},
        ),
    )
    return SimpleNamespace(config=config), gpus, noted


@pytest.mark.parametrize("devices", ["auto", "cpu", "gpu", "gpu:0", "gpu:0,1", "cpu:2"])
def test_devices_are_named_as_the_contract_names_them(devices):
    assert runtime.check(devices, "auto", "auto") is None


@pytest.mark.parametrize("devices", ["tpu", "gpu:", "gpu:a", "cpu:0", "gpu:0,", "GPU", ""])
def test_other_devices_are_refused_by_the_name_of_the_option(devices):
    with pytest.raises(BadUsage, match=r"^--devices: does not accept "):
        runtime.check(devices, "auto", "auto")


def test_an_unknown_precision_is_refused_with_those_that_exist():
    with pytest.raises(BadUsage, match=r"^--precision: .*float32, bfloat16, float16"):
        runtime.check("auto", "float8", "auto")


def test_an_unknown_choice_of_xla_is_refused_with_those_that_exist():
    with pytest.raises(BadUsage, match=r"^--xla: .*auto, on, off"):
        runtime.check("auto", "auto", "maybe")


def test_on_a_cpu_auto_is_float32_without_the_compiler(cpu):
    assert (cpu.replicas, cpu.precision, cpu.xla) == (1, "float32", False)


def test_explicit_options_override_auto(cpu):
    asked = runtime.start("cpu", "bfloat16", "on")
    assert (asked.precision, asked.xla) == ("bfloat16", True)


def test_the_layout_of_a_process_is_set_once(cpu):
    assert runtime.start("cpu", "float16").strategy is cpu.strategy


def test_the_runtime_describes_what_changes_the_bits(cpu, tf):
    assert cpu.about["tensorflow"] == tf.__version__
    assert cpu.about["threads"] >= 1
    assert set(cpu.about) == {
        "tensorflow", "keras", "devices", "onednn", "threads", "precision", "xla",
    }  # fmt: skip


def asking(threads):
    """A stand-in for TensorFlow whose user asked for this number of threads."""
    threading = SimpleNamespace(get_intra_op_parallelism_threads=lambda: threads)
    return SimpleNamespace(config=SimpleNamespace(threading=threading))


@pytest.mark.parametrize(
    ("asked", "environment", "expected"),
    [(0, None, 3), (5, None, 5), (5, "2", 5), (0, "2", 2), (0, "0", 3), (0, "many", 3)],
)
def test_threads_are_those_that_tensorflow_takes(monkeypatch, asked, environment, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5}, raising=False)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    if environment:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", environment)
    assert runtime._threads(asking(asked)) == expected


def test_without_an_affinity_all_processors_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert runtime.processors() == os.cpu_count()


def test_the_user_s_choice_of_kernels_stays(cpu, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    runtime.tensorflow.__wrapped__()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_another_backend_of_keras_is_overruled(cpu, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    runtime.tensorflow.__wrapped__()
    assert os.environ["KERAS_BACKEND"] == "tensorflow"


def test_auto_takes_all_gpus_and_lets_their_memory_grow():
    tf, gpus, noted = machine((8, 0), (8, 0))
    assert runtime._chosen(tf, "auto") == gpus
    runtime._show(tf, gpus, "auto")
    assert noted.visible == gpus
    assert noted.growing == gpus


def test_numbers_choose_among_the_gpus():
    tf, gpus, _ = machine((8, 0), (8, 0), (8, 0))
    assert runtime._chosen(tf, "gpu:0,2") == [gpus[0], gpus[2]]


def test_on_the_cpu_every_gpu_is_hidden():
    tf, _, noted = machine((8, 0))
    runtime._show(tf, runtime._chosen(tf, "cpu:2"), "cpu:2")
    assert noted.visible == []


def test_a_gpu_that_is_not_there_is_refused():
    tf, _, _ = machine((8, 0))
    with pytest.raises(BadUsage, match="asks for GPU 3, but TensorFlow sees 1"):
        runtime._chosen(tf, "gpu:0,3")


def test_a_gpu_is_refused_where_there_is_none():
    tf, _, _ = machine()
    with pytest.raises(BadUsage, match="TensorFlow sees none"):
        runtime._chosen(tf, "gpu")


def test_a_second_call_for_other_devices_is_refused_in_one_line(cpu):
    with pytest.raises(BadUsage, match=r"^--devices: asks for cpu:2, but .* computes on cpu:0 "):
        runtime.start("cpu:2")
    assert runtime.start("cpu").strategy is cpu.strategy


@pytest.mark.parametrize("same", [True, False])
def test_devices_that_the_program_around_has_taken_are_used_or_refused(same):
    tf, gpus, _ = machine((8, 0), (8, 0))

    def taken(*_):
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    tf.config.set_visible_devices = taken
    tf.config.get_visible_devices = lambda _: gpus if same else gpus[:1]
    if same:
        runtime._show(tf, gpus, "auto")
    else:
        with pytest.raises(BadUsage, match="has computed on others"):
            runtime._show(tf, gpus, "auto")


def test_training_after_inference_has_the_arithmetic_of_training(cpu, monkeypatch):
    said = []
    experimental = SimpleNamespace(
        enable_tensor_float_32_execution=said.append,
        get_device_details=lambda gpu: {"device_name": "a"},
    )
    threading = SimpleNamespace(get_intra_op_parallelism_threads=lambda: 1)
    config = SimpleNamespace(experimental=experimental, threading=threading)
    fake = SimpleNamespace(config=config, __version__="2")
    monkeypatch.setattr(runtime, "tensorflow", lambda: fake)
    monkeypatch.setattr(
        runtime,
        "_layout",
        lambda devices, workers=None: (None, ["/gpu:0"], [SimpleNamespace(name="a")]),
    )
    runtime.start_inference("auto")
    runtime.start("auto", "float32")
    assert said == [True, False, True]


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ([], "float32"), ([(8, 0)], "bfloat16"), ([(9, 0)], "bfloat16"), ([(7, 5)], "float16"),
        ([(6, 1)], "float32"), ([(9, 0), (7, 0)], "float16"),
    ],
)  # fmt: skip
def test_the_oldest_gpu_decides_the_precision(capabilities, precision):
    tf, gpus, _ = machine(*capabilities)
    assert runtime._precision(tf, gpus) == precision


@pytest.mark.parametrize(("gpus", "tensor_float"), [([], []), (["gpu0"], [False])])
def test_inference_on_a_gpu_is_float32_to_the_last_bit_unless_asked(
    cpu, monkeypatch, gpus, tensor_float
):
    said, asked = [], []
    experimental = SimpleNamespace(enable_tensor_float_32_execution=said.append)
    fake = SimpleNamespace(config=SimpleNamespace(experimental=experimental))
    monkeypatch.setattr(runtime, "tensorflow", lambda: fake)
    monkeypatch.setattr(runtime, "_layout", lambda devices, workers=None: (None, [], gpus))
    monkeypatch.setattr(runtime, "start", lambda *words: asked.append(words))
    for precision in ("auto", "float32", "bfloat16"):
        runtime.start_inference("auto", precision)
    assert [words[1] for words in asked] == ["float32", "float32", "bfloat16"]
    assert said == tensor_float * 3


def test_inference_on_a_cpu_is_float32_without_the_compiler(cpu):
    started = runtime.start_inference("cpu")
    assert (started.precision, started.xla) == ("float32", False)
    assert runtime.gpu_bytes() is None


def test_tensorflow_tells_the_memory_of_a_device(cpu, monkeypatch):
    monkeypatch.setattr(runtime, "_KIND", "CPU")  # it has a number for the CPU, too
    assert runtime._gpu_bytes.__wrapped__() == 2**28
    monkeypatch.setattr(runtime, "_KIND", "another")
    assert runtime._gpu_bytes.__wrapped__() is None


def test_the_output_of_c_code_during_an_import_is_hidden(capfd):
    with runtime._quiet():
        os.write(2, b"oneDNN custom operations are on")
    assert capfd.readouterr().err == ""


def failing_import():
    with runtime._quiet():
        os.write(2, b"libcudart.so not found")
        raise ImportError


def test_the_output_of_a_failing_import_is_shown(capfd):
    with pytest.raises(ImportError):
        failing_import()
    assert capfd.readouterr().err == "libcudart.so not found"


def without_a_temporary_folder(monkeypatch, *, memfd):
    def none(*_, **__):
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryFile", none)
    if not memfd:
        monkeypatch.delattr(os, "memfd_create")


@pytest.mark.parametrize(("memfd", "shown"), [(True, "libcudart.so not found"), (False, "")])
def test_no_temporary_folder_is_needed(capfd, monkeypatch, memfd, shown):
    without_a_temporary_folder(monkeypatch, memfd=memfd)
    test_the_output_of_c_code_during_an_import_is_hidden(capfd)
    with pytest.raises(ImportError):
        failing_import()
    assert capfd.readouterr().err == shown


@pytest.mark.parametrize(
    ("home", "temporary", "expected"),
    [
        ("/root", True, {}),
        ("~", True, {"KERAS_HOME": os.devnull}),
        ("/root", False, {"TEST_TMPDIR": os.devnull}),
    ],
)
def test_without_home_or_temporary_folder_none_is_made(monkeypatch, home, temporary, expected):
    def none():
        raise FileNotFoundError

    for name in ("KERAS_HOME", "TEST_TMPDIR"):
        monkeypatch.setenv(name, "")  # restored afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr("os.path.expanduser", lambda _: home)
    if not temporary:
        monkeypatch.setattr("tempfile.gettempdir", none)
    runtime._forgo_missing_folders()
    found = {name: os.environ[name] for name in ("KERAS_HOME", "TEST_TMPDIR") if name in os.environ}
    assert found == expected


def test_loading_several_networks_gives_no_warning(cpu, caplog):
    import keras
    import tensorflow as tf

    from engine.inference.predictor import Predictor
    from engine.inference.tiling import Plan, blocks_of
    from engine.networks import ConvNet2D

    tf.get_logger().addHandler(caplog.handler)
    for width in range(1, 8):
        network = ConvNet2D(widths=(width,))
        plan = Plan((1, 8, 8), (1, 8, 8), network)
        Predictor(network.build()).volume(plan, blocks_of(np.zeros((1, 8, 8), np.float32)), None)
    keras.backend.clear_session()
    assert "retracing" not in caplog.text


# -- The hash of the code --------------------------------------------------------------------------

ROOT = Path(runtime.__file__).parents[1]


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The folder of a copy of the program, which is taken for it."""
    for package in ("engine", "volumes"):
        shutil.copytree(ROOT / package, tmp_path / package)
    monkeypatch.setattr(runtime, "__file__", str(tmp_path / "engine" / "runtime.py"))
    runtime.code_sha256.cache_clear()
    yield tmp_path
    runtime.code_sha256.cache_clear()


def test_another_byte_of_the_program_is_another_program(copied):
    whole = runtime.code_sha256()
    for name in ("volumes/padding.py", "engine/networks/unet.py"):
        runtime.code_sha256.cache_clear()
        assert runtime.code_sha256() == whole
        with open(copied / name, "a") as file:
            file.write("#")
        runtime.code_sha256.cache_clear()
        assert runtime.code_sha256() != whole
        whole = runtime.code_sha256()


def test_a_file_of_another_name_is_another_program(copied):
    whole = runtime.code_sha256()
    (copied / "volumes" / "window.py").rename(copied / "volumes" / "windows.py")
    runtime.code_sha256.cache_clear()
    assert runtime.code_sha256() != whole


def test_a_program_without_its_files_has_no_hash(tmp_path, monkeypatch, copied):
    monkeypatch.setattr(runtime, "__file__", str(tmp_path / "none" / "engine" / "x.py"))
    runtime.code_sha256.cache_clear()
    assert runtime.code_sha256() is None
