"""The script for ten minutes of a GPU runs where there is none: with small numbers, on the CPU."""

import json
import sys
from pathlib import Path

import pytest

from engine.checkpoints import checkpoint
from tests.gpu import ten_minutes

WORDS = ["respr_unet3d", *ten_minutes.SMALL.words, "steps=3"]
SPLIT = ["split.validation=1", "split.test=1"]


@pytest.fixture
def results(cpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of all parts, which share this process: to import TensorFlow for each takes minutes."""

    def answer(command: list[str], limit_s: float) -> object:
        return ten_minutes.main(command[3:])

    monkeypatch.setattr(ten_minutes, "_answer", answer)
    given = ["--out", str(tmp_path), "--devices", "cpu", "--small", "--seconds", "600", "--"]
    return ten_minutes.main([*given, *WORDS, *SPLIT])


def test_every_part_runs_and_is_saved(results, tmp_path: Path) -> None:
    assert json.loads((tmp_path / "results.json").read_text()) == results
    steps = {name: part["found"] for name, part in results.items() if name.startswith("step")}
    assert list(steps) == [f"step {p} {x}" for p in ten_minutes._PRECISIONS for x in ("on", "off")]
    peak = results["matrix"]["found"]["flop_per_s"]
    for found in steps.values():
        assert found["crops_per_s"] == pytest.approx(2 / found["step_s"])
        assert found["share_of_matrix_product"] == pytest.approx(found["flop_per_s"] / peak)
        assert 0 <= found["input_wait"] < 1
    assert len(results["denoise"]["found"]["rows"]) >= 4
    assert results["resume"]["found"]["same_bits"] is True
    assert results["training"]["exit_code"] == 0
    assert checkpoint.steps(tmp_path / "run" / "checkpoints")[-1] == 3


def test_a_part_that_hangs_or_fails_costs_the_others_nothing(tmp_path: Path) -> None:
    hangs = [sys.executable, "-c", "import time; time.sleep(600)"]
    assert ten_minutes._answer(hangs, 0.5) == {"failed": "took more than 0 s"}
    fails = [sys.executable, "-c", "raise SystemExit('no such card')"]
    assert ten_minutes._answer(fails, 60) == {"failed": "exit code 1", "said": "no such card\n"}
    over = ten_minutes.Session(tmp_path, 0, [])
    assert over.part("matrix", 60) == {"skipped": "no time was left"}
    assert json.loads((tmp_path / "results.json").read_text())["matrix"]["found"] == {
        "skipped": "no time was left"
    }
