"""Slow imports, done once by the process from which trainings are forked."""

import importlib
import os

from engine import runtime

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # small networks, and many of them at a time
runtime.tensorflow()
for module in (
    "engine.cli.main", "engine.training.fit", "engine.training.trainer",
    "engine.training.validation", "engine.denoising.denoise_scans",
    "engine.plots",
    "tests.engine.tiny", "scipy.ndimage", "keras", "skimage.metrics", "matplotlib.figure",
    "matplotlib.backends.backend_agg", "tensorflow.core.util.event_pb2",
):  # fmt: skip
    importlib.import_module(module)
