"""The cases of a training: what is told of a folder and its split, and what is refused."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.recipe.overrides import override
from engine.recipe.recipe import Recipe
from engine.terminal import Terminal
from engine.training import cases
from engine.training.cases import list_cases, read_cases
from tests.engine.tiny import scan_file, shrinking, tiny
from volumes import Gaussian
from volumes.dataset import Split
from volumes.dataset.store import Store
from volumes.errors import BadInput


def hu(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 400, (8, 16, 16)).astype("i2")


def folder_of(path: Path, count: int) -> Path:
    path.mkdir(parents=True)
    for i in range(count):
        scan_file(path / f"case_{i}.nii", hu(i))
    return path


def recipe(*words: str) -> Recipe:
    return override(tiny(), list(words))


def named(data: Path, side: str) -> Path:
    found = list_cases(tiny(), data, Terminal(quiet=True))
    return found.sides[side][0].path


@pytest.fixture
def fit(engine, tmp_path):
    def call(data: Path, *words: str):
        run = ("--run", tmp_path / "run")
        return engine("fit", "unet3d", *shrinking(), "--data", data, *run, *words)

    return call


@pytest.mark.parametrize("code", ["i2", "f4"])
@pytest.mark.parametrize("words", [(), ("--skip-bad",), ("--assume-hu", "--skip-bad")])
def test_a_label_map_that_no_name_tells_is_never_learned_from(fit, tmp_path, code, words):
    data = folder_of(tmp_path / "data", 4)
    lungs = np.random.default_rng(0).integers(0, 2, (8, 16, 16)).astype(code)
    for i in range(4):
        scan_file(data / f"case_{i}_lungs.nii", lungs)
    exit_code, out, err = fit(data, *words)
    assert (exit_code, out) == (3, "")
    assert "4 scans cannot be used: " in err
    assert err.endswith("Move label maps away, or name them such as case_0_label.nii.gz.\n")
    for i in range(4):
        assert f"case_{i}_lungs.nii" in err
    assert "is a label map, not a scan: 2 whole values" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("side", ["training", "validation", "test"])
def test_a_side_of_which_all_cases_are_bad_is_refused_where_bad_ones_are_skipped(
    fit, tmp_path, side
):
    data = folder_of(tmp_path / "data", 3)
    path = named(data, side)
    path.write_bytes(b"<html>")
    for more in ((), ("--dry-run",)):
        code, out, err = fit(data, "--skip-bad", *more)
        assert (code, out) == (3, "")
        assert f"{data}: has no good case for {side}; bad cases: 1." in err


@pytest.mark.parametrize("side", ["training", "validation", "test"])
def test_a_side_of_which_all_voxels_are_bad_is_refused_too(fit, tmp_path, side):
    data = folder_of(tmp_path / "data", 3)
    path = named(data, side)
    path.unlink()
    scan_file(path, hu(0) + 3000)
    code, _, err = fit(data, "--skip-bad")
    assert code == 3
    assert f"has no good case for {side}" in err


def test_a_split_without_a_test_side_needs_none(tmp_path):
    data = folder_of(tmp_path / "data", 3)
    found = list_cases(recipe("split.test=0"), data, Terminal(quiet=True))
    found.refuse(Terminal(quiet=True), skip_bad=True)
    assert [len(cases) for cases in found.sides.values()] == [2, 1, 0]


@pytest.mark.parametrize(
    ("count", "validation", "test", "told"),
    [
        (8, 4, 2, "8 cases are for training, 4 for validation and 2 for test: "
                  "split.validation=1 split.test=1 leaves 6 for training"),
        (11, 4, 2, "5 of 11 cases are for training"),
        (12, 4, 2, ""),
        (5, 4, 0, "1 of 5 cases are for training, 4 for validation: "
                  "split.validation=1 split.test=0 leaves 4 for training"),
        (3, 1, 1, ""),
        (200, 4, 2, ""),
    ],
)  # fmt: skip
def test_a_split_that_leaves_less_than_it_sets_aside_is_told(
    tmp_path, capsys, count, validation, test, told
):
    data = folder_of(tmp_path / "data", count)
    list_cases(recipe(f"split.validation={validation}", f"split.test={test}"), data, Terminal())
    err = capsys.readouterr().err
    assert (told in err) if told else (err == "")


def test_thick_slices_are_refused_for_what_learns_from_neighbours(fit, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for i in range(4):
        spacing_mm = (5.0 if i else 1.0, 0.8, 0.7)
        scan_file(data / f"case_{i}.nii", hu(i), spacing_mm=spacing_mm)
    words = override(
        tiny("selfsupervised_unet2d"), ["split.validation=case_1", "split.test=case_2"]
    )
    found = list_cases(words, data, Terminal(quiet=True))
    assert sorted(found.bad) == ["case_1", "case_3"]  # the test case is not learned from
    with pytest.raises(BadInput, match="has targets 10 mm away"):
        found.refuse(Terminal(quiet=True), skip_bad=False)
    # Where noise is added, the clean image of a thick validation case is known.
    simulated = override(words, ["objective.nearest=1"])
    simulated = replace(simulated, noise=Gaussian(0.1))
    assert sorted(list_cases(simulated, data, Terminal(quiet=True)).bad) == ["case_3"]


def test_a_split_of_named_cases_was_chosen(tmp_path, capsys):
    data = folder_of(tmp_path / "data", 5)
    list_cases(recipe("split.validation=case_[0-3]", "split.test=0"), data, Terminal())
    assert capsys.readouterr().err == ""


def test_sessions_of_a_subject_are_never_on_two_sides(tmp_path):
    for i in range(4):
        for session in ("ses-1", "ses-2"):
            path = tmp_path / f"sub-{i}" / session / "ct" / f"sub-{i}_{session}_ct.nii"
            path.parent.mkdir(parents=True)
            scan_file(path, hu(i))
    found = list_cases(tiny(), tmp_path, Terminal(quiet=True))
    assert [len(cases) for cases in found.sides.values()] == [4, 2, 2]
    with pytest.raises(BadInput, match=r"sub-\d both in test and in validation"):
        Split(("sub-1_ses-1",), ("sub-1_ses-2",)).assign(
            tmp_path, [case for cases in found.sides.values() for case in cases]
        )


def test_every_command_reads_a_folder_in_the_same_way_and_says_how(cpu, engine, fit, tmp_path):
    data = tmp_path / "data"
    for i in range(4):
        for place, values in (("imagesTr", hu(i)), ("labelsTr", (hu(i) > 0).astype("u1"))):
            (data / place).mkdir(parents=True, exist_ok=True)
            scan_file(data / place / f"liver_{i}.nii", values)
    line = f"{data}: read as MSD or nnU-Net, 4 volumes of imagesTr/; 4 label maps are no cases"
    _, _, by_fit = fit(data, "--dry-run")
    out = tmp_path / "out"
    _, _, by_degrade = engine("degrade", data, "--as", "gaussian:0.1", "-o", out)
    words = ("--split", "all", "--no-tuning", "-o", tmp_path / "report")
    code, _, by_evaluate = engine("evaluate", "noisy", "--data", data, *words)
    assert code == 0, by_evaluate
    for err in (by_fit, by_degrade, by_evaluate):
        assert line in err
    assert sorted(path.name for path in out.iterdir()) == [f"liver_{i}" for i in range(4)]
    code, told, _ = engine("info", data)
    assert code == 0
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in told.splitlines())
    assert rows["layout"] == "MSD or nnU-Net, in imagesTr/"
    assert rows["cases"] == "4: liver_0, liver_1, liver_2, liver_3"
    labels = ", ".join(f"labelsTr/liver_{i}.nii" for i in range(4))
    assert rows["label maps"] == f"4: {labels}"


# -- Reading several scans at a time ---------------------------------------------------------------


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads the cases of a folder with three processors."""
    monkeypatch.setattr(cases.runtime, "processors", lambda: 3)
    terminal = Terminal()

    def call(data: Path, check_stop=lambda: None, *, skip_bad=False):
        found = list_cases(tiny(), data, terminal)
        return read_cases(found, tiny(), terminal, check_stop, skip_bad=skip_bad)

    return call


def names(volumes):
    return {side: [volume.case for volume in members] for side, members in volumes.items()}


def test_scans_are_read_at_the_same_time_and_keep_their_order(read, tmp_path, monkeypatch):
    data = folder_of(tmp_path / "data", 6)
    met, volume = threading.Barrier(3), Store.volume

    def together(store, case, *, scanned=False):
        met.wait(timeout=20)  # fails unless three threads are here
        return volume(store, case, scanned=scanned)

    monkeypatch.setattr(Store, "volume", together)
    volumes, found = read(data)
    assert names(volumes) == {s: [c.name for c in side] for s, side in found.sides.items()}


def test_the_last_scan_may_be_the_first_that_is_ready(read, tmp_path, monkeypatch):
    data = folder_of(tmp_path / "data", 6)
    first, volume = [], Store.volume

    def slow(store, case, *, scanned=False):
        if not first:
            first.append(case.name)
            time.sleep(0.5)
        return volume(store, case, scanned=scanned)

    monkeypatch.setattr(Store, "volume", slow)
    volumes, found = read(data)
    assert names(volumes) == {s: [c.name for c in side] for s, side in found.sides.items()}


def test_all_scans_with_bad_voxels_are_named_whichever_thread_read_them(read, tmp_path):
    data = folder_of(tmp_path / "data", 6)
    for number in (1, 4):
        path = data / f"case_{number}.nii"
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"case_1\.nii.*case_4\.nii"):
        read(data)


def test_memory_limits_how_many_scans_are_read_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(cases.runtime, "processors", lambda: 8)
    listed = list_cases(tiny(), folder_of(tmp_path / "data", 6), Terminal(quiet=True))
    of_all = [case for side in listed.sides.values() for case in side]
    for free, threads in ((0, 1), (2 * 16 * 8 * 16 * 16 * 3, 3), (10**12, 6)):
        monkeypatch.setattr(cases.memory, "free_bytes", lambda free=free: free)
        with cases._readers(of_all) as readers:
            assert len(readers._threads) == threads


def test_a_wait_for_the_first_step_is_explained_once(read, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cases, "_TOLD_AFTER_S", -1.0)
    volume = Store.volume

    def slow(store, case, *, scanned=False):
        time.sleep(0.4)
        return volume(store, case, scanned=scanned)

    monkeypatch.setattr(Store, "volume", slow)
    read(folder_of(tmp_path / "data", 6))
    err = capsys.readouterr().err
    assert err.count("the training starts after the last one") == 1


def test_a_stop_while_a_scan_is_read_is_not_waited_for(read, tmp_path, monkeypatch):
    class AskedError(Exception):
        pass

    def stop():
        raise AskedError

    answered = threading.Event()
    monkeypatch.setattr(Store, "volume", lambda store, case, scanned=False: answered.wait(60))
    begun = time.monotonic()
    with pytest.raises(AskedError):
        read(folder_of(tmp_path / "data", 6), stop)
    assert time.monotonic() - begun < 30
    answered.set()
