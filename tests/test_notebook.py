"""A notebook of the Python API, run from top to bottom in a kernel of its own."""

import base64
import os
import sys
import time
from pathlib import Path

import pytest

CELLS = [
    'import engine\n\ndata = engine.phantom("phantoms", cases=4, shape=(12, 64, 64))\ndata',
    # A recipe of no file.
    """from engine import Recipe, schedules
from engine.networks import UNet3D
from engine.losses import mean_squared_error
from volumes import Crop, Gaussian, Split, Window

recipe = Recipe(
    split=Split(validation=1, test=1), window=Window(), crop=Crop(shape=(8, 32, 32)),
    noise=Gaussian(sigma=0.1), prior=None, network=UNet3D(width=4, levels=2),
    loss=mean_squared_error, learning_rate=schedules.constant(2e-3), batch=2, steps=40,
    validate_every=40, checkpoint_every=40,
)
trained = engine.fit(recipe, data=data, run="runs/notebook", devices="cpu")
trained""",
    "trained.figure",
    """import numpy as np

model = engine.load("runs/notebook", devices="cpu")
clean = np.full((12, 64, 64), -1000, np.int16)
clean[:, 12:52, 12:52] = 40
noisy = clean + np.random.default_rng(0).normal(0, 140, clean.shape).astype(np.int16)
result = model.denoise(noisy, spacing_mm=(3.0, 0.8, 0.8))
print("less noise:", np.std(result.output - clean) < np.std(noisy - clean))
result.figure""",
    'scores = engine.evaluate(["noisy", "runs/notebook"], data=data, devices="cpu")\nscores',
    'scores.figures["slices-10pc"]',
    """try:
    engine.fit("unet3", data=data)
except engine.Refusal as refusal:
    print(refusal)""",
    "engine.denoise(noisy)  # refused: an array has no spacing",
]
REFUSED = len(CELLS) - 1


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """The notebook after it was run, with what each cell gave."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    import nbformat

    folder = tmp_path_factory.mktemp("notebook")
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    cells[REFUSED].metadata["tags"] = ["raises-exception"]
    made = nbformat.v4.new_notebook(cells=cells)
    client = nbclient.NotebookClient(
        made, timeout=600, kernel_name=_kernel(folder), resources={"metadata": {"path": folder}}
    )
    try:
        client.execute()
    except (nbclient.exceptions.DeadKernelError, RuntimeError, OSError) as error:
        pytest.skip(f"no kernel can be started here: {error}")
    nbformat.write(made, folder / "notebook.ipynb")
    return folder, made


def _kernel(folder: Path) -> str:
    """A kernel of this Python, known to this process alone."""
    import json

    place = folder / "kernels" / "ours"
    place.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "ours", "language": "python"}
    (place / "kernel.json").write_text(json.dumps(spec))
    os.environ["JUPYTER_PATH"] = str(folder)
    return "ours"


def shown(made, number: int, kind: str) -> list[str]:
    """What a cell shows in one format."""
    outputs = made.cells[number].outputs
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def said(made, number: int) -> str:
    """All text of a cell."""
    outputs = made.cells[number].outputs
    texts = [output.get("text", "") for output in outputs]
    return "".join([*texts, *shown(made, number, "text/plain")])


def test_its_figures_are_there(notebook):
    folder, made = notebook
    pictures = [
        base64.b64decode(png) for number in range(len(CELLS))
        for png in shown(made, number, "image/png")
    ]  # fmt: skip
    assert len(pictures) == 3
    assert pictures[0] == (folder / "runs" / "notebook" / "preview.png").read_bytes()
    assert all(len(png) > 10_000 for png in pictures)


def test_its_scores_are_a_table_with_figures(notebook):
    _, made = notebook
    (table,) = [html for html in shown(made, 4, "text/html") if "<table>" in html]
    assert "<td>notebook</td>" in table
    assert table.count('src="data:image/png;base64,') == 3
    assert "PSNR" in said(made, 4)


def test_it_trains_and_denoises(notebook):
    folder, made = notebook
    assert "step=40" in said(made, 1)
    assert "To watch it: tensorboard --logdir runs/notebook" in said(made, 1)
    assert "less noise: True" in said(made, 3)
    assert (folder / "runs" / "notebook" / "recipe.py").is_file()


def test_it_shows_progress_and_no_escape_codes(notebook):
    _, made = notebook
    assert shown(made, 1, "application/vnd.jupyter.widget-view+json")
    for number in range(len(CELLS) - 1):
        assert "\x1b" not in said(made, number)


def test_a_refusal_is_one_line(notebook):
    _, made = notebook
    assert said(made, 6).startswith("unet3: is no recipe. Did you mean unet3d?")
    (error,) = [output for output in made.cells[REFUSED].outputs if output.output_type == "error"]
    assert error.ename == "BadUsage"
    assert "\n".join(error.traceback) == (
        "BadUsage: spacing_mm: is missing, and an array has none of its own. Give the distance of "
        "voxels along (Z, Y, X) in mm."
    )


def test_the_button_interrupt_saves_the_step(tmp_path):
    manager = pytest.importorskip(
        "jupyter_client", reason="jupyter_client is not installed"
    ).manager
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    kernel = manager.KernelManager(kernel_name=_kernel(tmp_path))
    try:
        kernel.start_kernel(cwd=str(tmp_path))
        client = kernel.blocking_client()
        client.start_channels()
        client.wait_for_ready(timeout=120)
    except (RuntimeError, OSError) as error:
        pytest.skip(f"no kernel can be started here: {error}")
    try:
        code = "import signal\nbefore = signal.getsignal(signal.SIGTERM)\n" + "\n".join(CELLS[:2])
        # With stop_on_error, the kernel may drop the next cell: it does so shortly after an error.
        asked = client.execute(code.replace("40", "100_000"), stop_on_error=False)
        metrics = tmp_path / "runs" / "notebook" / "metrics.jsonl"
        while not (metrics.exists() and b'"loss"' in metrics.read_bytes()):
            time.sleep(0.1)
            assert kernel.is_alive()
        kernel.interrupt_kernel()
        reply = client.get_shell_msg(timeout=120)
        while reply["parent_header"].get("msg_id") != asked:
            reply = client.get_shell_msg(timeout=120)
        assert reply["content"]["ename"] == "Interrupted", reply["content"]
        assert "stopped at step" in reply["content"]["evalue"]
        (saved,) = (tmp_path / "runs" / "notebook" / "checkpoints").iterdir()
        assert int(saved.name[5:]) > 0
        again = client.execute("assert signal.getsignal(signal.SIGTERM) is before", reply=True)
        assert again["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
