import contextlib
import io
import re

import pytest

from engine.diagnostics.benchmark import packages
from engine.diagnostics.benchmark.feed import compare
from engine.diagnostics.benchmark.feed_ways import COPY, OURS, REFERENCE, UNFLIPPED
from engine.terminal import Terminal
from tests.engine.diagnostics.benchmark.test_denoise import tables
from volumes import Crop


@pytest.fixture(scope="module")
def printed(cpu):
    """What a comparison without other packages prints."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(packages, "package", lambda name: None)
        crop = Crop((4, 16, 16))
        compare((3, 20), 2, Terminal(quiet=True), plane=48, crop=crop)
    return out.getvalue()


def test_every_way_has_its_time_and_its_ratio_at_every_depth(printed):
    processor, relative, crops = tables(printed)
    ways = [COPY, OURS, UNFLIPPED, REFERENCE, f"{OURS}, from the disk"]
    assert processor.pop("processor ms a crop") == ["3 slices", "20 slices"]
    for table in (relative, crops):
        assert next(iter(table.values())) == ["3 slices", "20 slices"]
    assert list(processor) == ways
    assert list(relative)[1:] == list(crops)[1:] == ways
    assert relative[COPY] == ["1.00 (1.00 to 1.00)"] * 2
    for name in ways[1:]:
        assert all(re.fullmatch(r"\d+\.\d\d \(.* to .*\)", cell) for cell in relative[name])
        assert all(float(cell) > 0 for cell in crops[name])


def test_the_conversion_and_what_is_missing_are_told(printed):
    assert re.search(r"processor time: \d+ MB at 3 slices, \d+ MB at 20 slices\.", printed)
    assert printed.endswith("Not compared, because it is not installed: PyTorch, MONAI, TorchIO.\n")
