from pathlib import Path

import pytest

from engine.denoising.batch import SliceProgress, Tally
from engine.errors import BadInput, NumericalFailure, OutOfMemory
from engine.terminal import Terminal

A, B, C = (Path(name) for name in ("a.nii", "b.nii", "c.nii"))


def refuse(tally, path, error):
    with tally.noted(path):
        raise error


def test_the_summary_counts_and_names_what_failed_whatever_ends_the_batch(capfd):
    tally = Tally(4, Terminal(), batch=True)
    refuse(tally, A, BadInput(A, "is empty", "Export it again"))
    tally.done, tally.kept = 1, 1
    with pytest.raises(KeyboardInterrupt), tally.summarised():
        raise KeyboardInterrupt
    err = capfd.readouterr().err
    assert err == (
        "engine: error: a.nii: is empty. Export it again.\n"
        "4 scans: 1 done, 1 kept, 1 failed, 1 not reached\n"
    )


def test_the_kind_of_the_error_is_that_of_all_failures_or_bad_input():
    for kinds, wanted in [
        ((NumericalFailure, NumericalFailure), NumericalFailure),
        ((NumericalFailure, BadInput), BadInput),
    ]:
        tally = Tally(3, Terminal(quiet=True), batch=True)
        for path, kind in zip((A, B), kinds, strict=True):
            refuse(tally, path, kind(path, "is odd", "Repair it"))
        with pytest.raises(
            wanted,
            match=r"2 of 3 scans: could not be denoised. Repair or leave out a\.nii, b\.nii\.",
        ):
            tally.end()


def test_a_scan_that_does_not_fit_into_memory_stops_no_other(capfd):
    tally = Tally(3, Terminal(), batch=True)
    refuse(tally, C, MemoryError())
    assert "c.nii: does not fit into memory. Use a smaller --tile" in capfd.readouterr().err
    with pytest.raises(OutOfMemory):
        tally.end()


def test_the_error_of_a_single_scan_is_raised_as_it_is():
    for error in (MemoryError(), BadInput(A, "is empty", "Export it again")):
        with pytest.raises(type(error)) as caught:
            refuse(Tally(1, Terminal(), batch=True), A, error)
        assert caught.value is error


class Shown:
    """A terminal that keeps what its bars show."""

    def __init__(self):
        self.shown = []

    def progress(self, what, total, unit=""):
        return self.part(what, total)

    def part(self, what, total):
        from contextlib import nullcontext

        shown = Shown()
        shown.shown, shown.what = self.shown, (what, total)
        return nullcontext(shown)

    def at(self, done, note=""):
        self.shown.append((*self.what, done, note))


def test_progress_counts_slices_of_the_scan_and_of_the_batch():
    terminal = Shown()
    with SliceProgress.of([10, 30], terminal) as slices:
        for depth, tiles in ((10, 1), (30, 3)):
            with slices.scan(f"{depth}.nii", depth, tiles) as at:
                for done in range(1, tiles + 1):
                    at(done)
    whole = [done for what, _, done, _ in terminal.shown if what == "all scans"]
    assert whole == [0, 10, 10, 20, 30, 40]
    assert ("30.nii", 30, 20, "") in terminal.shown
    assert ("all scans", 40, 40, "scan 2 of 2") in terminal.shown


def test_a_single_scan_has_one_bar():
    terminal = Shown()
    with SliceProgress.of([8], terminal) as slices, slices.scan("a.nii", 8, 4) as at:
        at(2)
    assert terminal.shown == [("a.nii", 8, 0, ""), ("a.nii", 8, 4, "")]
