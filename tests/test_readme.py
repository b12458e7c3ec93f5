"""The example of Python in the README, run on small phantoms."""

import re
from pathlib import Path

import numpy as np

README = Path(__file__).parents[1] / "README.md"
SMALLER = {
    "cases=8": "cases=8, shape=(12, 48, 48)",
    "crop.shape=16,64,64": 'crop.shape=8,16,16", "network.width=2", "network.levels=2',
    "steps=200": "steps=2",
}


def test_the_example_of_python_runs(cpu, tmp_path, monkeypatch, phantom_hu):
    (code,) = re.findall(r"<!-- python -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 8
    for own, small in SMALLER.items():
        assert code.count(own) == 1
        code = code.replace(own, small)
    monkeypatch.chdir(tmp_path)
    noisy = phantom_hu + np.random.default_rng(0).normal(0, 140, phantom_hu.shape)
    found = {"noisy_hu": np.rint(noisy).astype(np.int16)}
    exec(code, found)
    assert found["trained"].run == Path("runs/respr_unet3d")
    assert found["denoised"].output.shape == phantom_hu.shape
