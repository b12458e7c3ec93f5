"""The runtime: environment, devices, precision and compiler of TensorFlow, set once per process.

Only this module configures TensorFlow. The device layout of a process cannot be changed after the
first operation.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from engine import standard_streams
from engine.errors import BadUsage
from volumes.storage.digest import sha256

DEVICES = re.compile(r"^(auto|cpu|gpu|cpu:[1-9]\d?|gpu:\d+(,\d+)*)$")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
XLA = ("auto", "on", "off")


@dataclass(frozen=True)
class Runtime:
    """The devices and settings of a process.

    Attributes:
        strategy: distributes a step over the replicas.
        replicas: number of devices that share a batch.
        precision: of the inner layers of networks: float32, bfloat16 or float16.
        xla: whether XLA compiles the local part of the training step.
        about: everything that changes the last bits of a result: versions, devices, threads,
            compiler.
    """

    strategy: Any
    replicas: int
    precision: str
    xla: bool
    about: dict[str, Any]


def check(devices: str, precision: str, xla: str) -> None:
    """Refuses invalid options before TensorFlow is imported.

    Raises:
        BadUsage: naming the option and its valid values.
    """
    if not DEVICES.match(devices):
        raise BadUsage("--devices", f"does not accept {devices!r}", "Use auto, cpu, gpu or gpu:0,1")
    for option, value, known in (("precision", precision, PRECISIONS), ("xla", xla, XLA)):
        if value not in known:
            remedy = f"Use one of {', '.join(known)}"
            raise BadUsage(f"--{option}", f"does not accept {value!r}", remedy)


def start(
    devices: str = "auto", precision: str = "auto", xla: str = "auto",
    workers: Workers | None = None,
) -> Runtime:  # fmt: skip
    """Imports and configures TensorFlow.

    Args:
        devices: auto, cpu, gpu, gpu:0,1 (these GPUs), or cpu:2 (two logical devices on the CPU,
            which behave like two GPUs).
        precision: auto is float32 on a CPU, bfloat16 on GPUs from compute capability 8.0, float16
            with loss scaling on older ones.
        xla: auto compiles on GPUs only: on a CPU the compiled step is several times slower.
        workers: the processes that share a batch. It returns when each has called it, and
            TensorFlow then handles SIGTERM.

    Raises:
        BadUsage: if a requested device does not exist, or this process computes on others already.
    """
    check(devices, precision, xla)
    tf = tensorflow()
    strategy, names, gpus = _layout(devices, workers)
    processes = 1 if workers is None else len(workers.addresses)
    if gpus:  # TensorFlow's default, which `start_inference` may have changed
        tf.config.experimental.enable_tensor_float_32_execution(True)
    precision = _precision(tf, gpus) if precision == "auto" else precision
    compiled = bool(gpus) if xla == "auto" else xla == "on"
    about = {
        "tensorflow": tf.__version__,
        "keras": __import__("keras").__version__,
        "devices": ([_name(tf, gpu) for gpu in gpus] or names) * processes,
        "onednn": os.environ["TF_ENABLE_ONEDNN_OPTS"],
        "threads": _threads(tf),
        "precision": precision,
        "xla": compiled,
    }
    return Runtime(strategy, len(names) * processes, precision, compiled, about)


def start_inference(devices: str = "auto", precision: str = "auto", xla: str = "auto") -> Runtime:
    """As `start`, for a network that is only applied.

    It computes on the first of the devices. Without a request it computes in float32, also on a
    GPU: scores are those of the float32 network. There float32 means 24 bits, not the 11 bits of
    TensorFloat-32, which is TensorFlow's default for convolutions on GPUs.

    Raises:
        BadUsage: as `start`.
    """
    check(devices, precision, xla)
    started = start(devices, "float32" if precision == "auto" else precision, xla)
    if _layout(devices)[2]:
        tensorflow().config.experimental.enable_tensor_float_32_execution(False)
    return started


def gpu_bytes() -> int | None:
    """Memory of the GPU that this process computes on; None on a CPU, and before `start`.

    TensorFlow reads it once, when it starts. What other processes held then is not in it.
    """
    return _gpu_bytes() if _started_gpus else None


_started_gpus: list[Any] = []


@cache
def _gpu_bytes() -> int | None:
    # The public interface tells this limit to sessions only, and a session makes its own devices.
    try:
        from tensorflow.python import pywrap_tfe
        from tensorflow.python.client import pywrap_tf_session as session
        from tensorflow.python.eager import context

        devices = pywrap_tfe.TFE_ContextListDevices(context.context()._handle)
        return next(
            int(session.TF_DeviceListMemoryBytes(devices, number))
            for number in range(session.TF_DeviceListCount(devices))
            if session.TF_DeviceListType(devices, number) == _KIND
        )
    except (ImportError, AttributeError, TypeError, StopIteration):  # the interface has changed
        return None


_KIND = "GPU"


class Workers(NamedTuple):
    """The processes of one training: their "host:port" by rank, and the rank of this one."""

    addresses: tuple[str, ...]
    rank: int


class _Layout(NamedTuple):
    """The strategy of a process, the names of its devices, and the GPUs among them."""

    strategy: Any
    names: list[str]
    gpus: list[Any]


_layouts: list[_Layout] = []  # of this process: at most one


@cache
def _layout(devices: str, workers: Workers | None = None) -> _Layout:
    """The layout of these devices, set once per process.

    Raises:
        BadUsage: if a device does not exist, or the process has another layout.
    """
    tf = tensorflow()
    with _quiet():
        gpus, cpus = _chosen(tf, devices), _cpus(devices)
        for known in _layouts:
            if known.gpus != gpus or (not gpus and len(known.names) != cpus):
                used = ", ".join(name.removeprefix("/") for name in known.names)
                cause = f"asks for {devices}, but this process computes on {used} since its start"
                remedy = "Leave it out, or start Python anew: TensorFlow takes devices once"
                raise BadUsage("--devices", cause, remedy)
            return known
        _show(tf, gpus, devices)
        _started_gpus.extend(gpus)
        names = [f"/gpu:{i}" for i in range(len(gpus))] or _logical_cpus(tf, cpus)
        _layouts.append(_Layout(_strategy(tf, names, workers), names, gpus))
        return _layouts[0]


def _strategy(tf: Any, names: list[str], workers: Workers | None) -> Any:
    """The strategy of these devices, in this process or in several."""
    distribute = tf.distribute
    if workers is not None:  # before TensorFlow lists its devices
        resolver = distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": list(workers.addresses)}),
            task_type="worker", task_id=workers.rank, rpc_layer="grpc",
        )  # fmt: skip
        return distribute.MultiWorkerMirroredStrategy(resolver)
    tf.config.list_logical_devices()
    if len(names) > 1:
        return distribute.MirroredStrategy(names)
    return distribute.OneDeviceStrategy(names[0])


@cache
def tensorflow() -> Any:
    """Imports TensorFlow with the environment of the engine's benchmarks."""
    set_environment()
    with _quiet():
        import tensorflow as tf
    # Otherwise TensorFlow warns about retracing if several networks are loaded one after another.
    tf.get_logger().setLevel("ERROR")
    return tf


def set_environment() -> None:
    """Sets the environment that TensorFlow reads when it is imported."""
    # The oneDNN kernels train the 3D U-Net several times faster. On some processors they are off by
    # default. Values set by the user are kept.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    _forgo_missing_folders()


def _forgo_missing_folders() -> None:
    """Lets TensorFlow and Keras be imported by a user without a home or temporary folder."""
    if not os.path.isabs(os.path.expanduser("~")):
        os.environ.setdefault("KERAS_HOME", os.devnull)  # else Keras makes a folder named ~ here
    try:
        tempfile.gettempdir()
    except OSError:
        os.environ.setdefault("TEST_TMPDIR", os.devnull)  # that of tests, which TensorFlow imports


def processors() -> int:
    """The processors that this process may use, as its affinity says (taskset, cpusets)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _threads(tf: Any) -> int:
    """The threads of an operation, chosen as TensorFlow does. It heeds no quota of a container."""
    asked = tf.config.threading.get_intra_op_parallelism_threads()
    with contextlib.suppress(ValueError):
        asked = asked or int(os.environ.get("TF_NUM_INTRAOP_THREADS", "0"))
    return asked if asked > 0 else processors()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides what C++ code prints on stderr, and shows it if an exception is raised."""
    standard_streams.open_descriptors()
    if sys.stderr is not None:  # None in a process that was started with stderr closed
        sys.stderr.flush()
    stderr = os.dup(2)
    with _unnamed_file() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _unnamed_file() -> BinaryIO:
    """An unnamed file, in memory if the system can. Without a temporary folder, it stays empty."""
    with contextlib.suppress(OSError, AttributeError):
        return open(os.memfd_create("stderr"), "w+b")
    with contextlib.suppress(OSError):
        return cast(BinaryIO, tempfile.TemporaryFile())
    return open(os.devnull, "r+b")


def _chosen(tf: Any, devices: str) -> list[Any]:
    """The GPUs among the devices that are asked for."""
    present = tf.config.list_physical_devices("GPU")
    kind, _, numbers = devices.partition(":")
    if kind == "cpu":
        return []
    if numbers:
        wanted = [int(number) for number in numbers.split(",")]
        if max(wanted) >= len(present):
            cause = f"asks for GPU {max(wanted)}, but TensorFlow sees {len(present)}"
            raise BadUsage("--devices", cause, "Choose one of these, or use auto")
        return [present[number] for number in wanted]
    if kind == "gpu" and not present:
        cause = "asks for a GPU, but TensorFlow sees none"
        raise BadUsage("--devices", cause, "Install respr-engine[cuda], or use auto or cpu")
    return list(present)


def _cpus(devices: str) -> int:
    """The logical devices on the CPU that are asked for."""
    kind, _, number = devices.partition(":")
    return int(number or 1) if kind == "cpu" else 1


def _show(tf: Any, gpus: list[Any], devices: str) -> None:
    """Lets TensorFlow see these GPUs alone, and lets their memory grow.

    Raises:
        BadUsage: if the program around has computed with TensorFlow already, on other devices.
    """
    try:
        tf.config.set_visible_devices(gpus, "GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:
        if tf.config.get_visible_devices("GPU") != gpus:
            cause = f"asks for {devices}, but TensorFlow has computed on others in this process"
            raise BadUsage("--devices", cause, "Leave it out, or start Python anew") from error


def _logical_cpus(tf: Any, count: int) -> list[str]:
    if count > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        layout = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(cpu, layout)
    return [f"/cpu:{i}" for i in range(count)]


def _name(tf: Any, gpu: Any) -> str:
    return str(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name))


def _precision(tf: Any, gpus: list[Any]) -> str:
    if not gpus:
        return "float32"
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    oldest = min(detail.get("compute_capability", (0, 0)) for detail in details)
    return "bfloat16" if oldest >= (8, 0) else "float16" if oldest >= (7, 0) else "float32"


_PACKAGES = ("engine", "volumes")


@cache
def code_sha256() -> str | None:
    """The SHA-256 of the program's source files; None if they are not installed.

    The version number alone does not distinguish two commits.
    """
    root = Path(__file__).parents[1]
    files = sorted(path for name in _PACKAGES for path in (root / name).rglob("*.py"))
    found = hashlib.sha256()
    for path in files:
        found.update(f"{path.relative_to(root).as_posix()} {sha256(path)}\n".encode())
    return found.hexdigest() if files else None
