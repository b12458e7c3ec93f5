import re

import pytest

from engine.diagnostics.benchmark import step
from engine.diagnostics.benchmark.arithmetic import MatrixProduct
from engine.terminal import Terminal


def test_the_step_is_compared_with_fit_and_with_a_matrix_product(cpu, monkeypatch, capsys):
    monkeypatch.setattr(step, "_SMALL", ("crop.shape=8,32,32", "network.width=4", "batch=2"))
    monkeypatch.setattr(step, "_apart", lambda steps, rounds, onednn=None: 2.0)
    monkeypatch.setattr(MatrixProduct, "flop_per_s", lambda self: 1e9)
    monkeypatch.setattr(step._Ours, "seconds", lambda self, steps: 0.5)
    monkeypatch.setattr(step._Fit, "seconds", lambda self, steps: 1.0)
    monkeypatch.setattr(step.packages, "package", lambda name: None)
    step.compare(3, 2, Terminal())
    out = capsys.readouterr().out
    rows = dict(re.findall(r"^ *(the engine's step|keras fit, \S+ ?\S*) +(\d.*?) *$", out, re.M))
    assert rows["the engine's step"].split()[:2] == ["0.500", "1.00"]
    assert rows["keras fit, nothing set"].split()[:2] == ["2.000", "4.00"]
    assert "2 rounds of 3 steps, ratio to fit in single rounds: 2.00 to 2.00" in out
    gflop, share = re.search(r"does (\S+) GFLOP, at (\d+)% \(\d+% to \d+%\)", out).groups()
    assert abs(float(gflop) / 0.5 * 100 - int(share)) <= 10 + 1  # of 1 GFLOP/s
    assert float(gflop) > 0


def test_each_side_takes_a_step(cpu, monkeypatch):
    from engine.recipe.overrides import override
    from engine.recipe.recipe_file import find_recipe, load_recipe

    small = ("crop.shape=8,16,16", "network.width=2", "batch=1")
    recipe = override(load_recipe(find_recipe("respr_unet3d")), small)
    assert step._Ours(recipe).seconds(1) > 0
    assert step._Fit(recipe, jit_compile=False).seconds(1) > 0


def test_pytorch_takes_turns_where_it_is_installed(cpu, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.setattr(step, "_SMALL", ("crop.shape=4,16,16", "network.width=2", "batch=1"))
    monkeypatch.setattr(step, "_apart", lambda steps, rounds, onednn=None: 2.0)
    step.compare(2, 2, Terminal())
    row = re.search(r"^ *PyTorch, eager +(\S+) +(\S+)", capsys.readouterr().out, re.M)
    assert all(float(number) >= 0 for number in row.groups())
