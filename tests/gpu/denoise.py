"""Times `engine denoise` on a device: for the day that a GPU is at hand.

    python -m tests.gpu.denoise                                  # 1,059 slices of 512 x 512, auto
    python -m tests.gpu.denoise --shape 16,64,64 --width 4 --devices cpu

Prints for each precision, with and without XLA: the seconds of the whole command, those of the
network alone (first pass, which compiles, and second), the share of the command in which the
network computes, voxels a second, and the difference from float32. PyTorch computes the same
network with the same weights, if it is installed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engine import runtime
from engine.denoising.denoise_request import DenoiseRequest
from engine.denoising.denoise_scans import denoise_scans
from engine.inference.predictor import Predictor
from engine.inference.tiling import plan
from engine.recipe.overrides import override
from engine.recipe.recipe_file import find_recipe, load_recipe
from engine.runs.run import Run
from engine.runs.trained_model import Model, open_model
from engine.terminal import Terminal
from tests.engine.tiny import untrained
from volumes import nifti
from volumes.boxes import Box
from volumes.volume import Shape, Unit

_TORCH_SLICES = 32


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Measures, prints one line for each setting, and returns what they hold."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", default="1059,512,512", help="Z,Y,X of the scan")
    parser.add_argument("--width", type=int, default=32, help="of the ResPr-UNet")
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--precision", default="float32,bfloat16,float16")
    given = parser.parse_args(arguments)
    z, y, x = (int(size) for size in given.shape.split(","))
    started = runtime.start_inference(given.devices)
    print(f"{', '.join(started.about['devices'])}: {z} x {y} x {x} voxels, width {given.width}")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = (f"network.width={given.width}",)
        recipe = override(load_recipe(find_recipe("respr_unet3d")), words)
        run = untrained(folder / "run", recipe, started)
        scan = folder / "scan.nii.gz"
        nifti.write_hu(scan, _noise((z, y, x)), (1.0, 0.8, 0.8))
        model = open_model(run, "last")
        for precision in given.precision.split(","):
            for xla in (False, True):
                row = _measured(model, run, scan, (z, y, x), given.devices, precision, xla)
                rows.append(row)
                print(json.dumps(row), flush=True)
        rows += _torch_rows(model, (min(z, _TORCH_SLICES), y, x), given.precision.split(","))
    return rows


def _noise(shape: Shape) -> np.ndarray:
    plane = np.random.default_rng(0).normal(40, 60, shape[1:]).astype(np.int16)
    return np.stack([np.roll(plane, number, 0) for number in range(shape[0])])


def _measured(
    model: Model, run: Run, scan: Path, shape: Shape, devices: str, precision: str, xla: bool
) -> dict[str, Any]:
    compiler = "on" if xla else "off"
    predictor = Predictor.of(model, precision=precision, xla=xla)
    first_s, second_s = (_seconds(lambda: _network(predictor, model, shape)) for _ in range(2))
    out = scan.with_name("out.nii.gz")
    request = DenoiseRequest(
        (scan,), run, "last", output=out, overwrite=True, devices=devices, precision=precision,
        xla=compiler,
    )  # fmt: skip
    whole_s = _seconds(lambda: denoise_scans(request, Terminal(quiet=True)))
    about = json.loads((scan.parent / "out.json").read_text())
    return {
        "with": "engine", "precision": precision, "xla": compiler,
        "command_s": round(whole_s, 2), "network_first_s": round(first_s, 2),
        "network_s": round(second_s, 4), "network_share": round(second_s / whole_s, 3),
        "voxels_per_s": round(float(np.prod(shape)) / second_s), "told": about["precision"],
        "tiles": about["tiles"],
    }  # fmt: skip


def _network(predictor: Predictor, model: Model, shape: Shape) -> None:
    """The network alone: nothing is read, prepared or kept."""
    block = np.random.default_rng(0).random((64, *shape[1:]), np.float32)

    def blocks(box: Box) -> Unit:
        z, y, x = box.shape
        found: Unit = np.resize(block[: min(z, 64), :y, :x], box.shape)
        return found

    for _ in predictor.tiles(plan(shape, model.recipe.network), blocks, blocks):
        pass


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


# -- PyTorch ---------------------------------------------------------------------------------------


def _torch_rows(model: Model, shape: Shape, precisions: list[str]) -> list[dict[str, Any]]:
    """PyTorch on one block of slices, without the halo that separate blocks would need."""
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed")
        return []
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    weights = {variable.path: variable.numpy() for variable in model.network().weights}
    images = [np.random.default_rng(i).random(shape, np.float32) for i in range(2)]
    exact = model.network()([image[None, ..., None] for image in images]).numpy()[0, ..., 0]
    rows = []
    for precision in precisions:
        dtype = getattr(torch, precision)
        network = _in_torch(weights, model.recipe.network.levels, dtype, device)

        def compute(network: Any = network) -> Any:
            with torch.inference_mode():
                given = [torch.from_numpy(image)[None, None].to(device) for image in images]
                return network(*given)[0, 0].float().cpu().numpy()

        compute()  # chooses its algorithms
        seconds = _seconds(compute)
        row = {
            "with": f"torch {torch.__version__}", "precision": precision, "network_s": seconds,
            "voxels_per_s": round(float(np.prod(shape)) / seconds),
            "largest_difference": float(np.abs(compute() - exact).max()),
        }  # fmt: skip
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def _in_torch(weights: dict[str, Any], levels: int, dtype: Any, device: str) -> Callable[..., Any]:
    """The ResPr-UNet of `engine.networks.unet` with the same weights and the same float32 head."""
    import torch
    from torch.nn import functional

    def convolved(x: Any, name: str, kind: Any = dtype) -> Any:
        kernel = torch.from_numpy(weights[f"{name}/kernel"]).permute(4, 3, 0, 1, 2)
        bias = torch.from_numpy(weights[f"{name}/bias"])
        kernel, bias = (part.contiguous().to(device, kind) for part in (kernel, bias))
        return functional.conv3d(x.to(kind), kernel, bias, padding="same")

    def twice(x: Any, name: str) -> Any:
        for end in ("a", "b"):
            x = functional.relu(convolved(x, f"{name}_{end}"))
        return x

    def network(noisy: Any, prior: Any) -> Any:
        x, skips = torch.cat([noisy, prior], 1), []
        for level in range(1, levels):
            x = twice(x, f"down{level}")
            skips.append(x)
            x = functional.max_pool3d(x, 2)
        x = twice(x, "bottom")
        for level in range(levels - 1, 0, -1):
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = twice(torch.cat([skips.pop(), x], 1), f"up{level}")
        return convolved(x, "head", torch.float32) + prior

    return network


if __name__ == "__main__":
    main()
