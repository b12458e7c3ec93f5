import contextlib
import io
import re

import pytest

from engine.diagnostics.benchmark import packages
from engine.diagnostics.benchmark.denoise import compare
from engine.diagnostics.benchmark.ways import COMMAND, STAGES, STREAMED, UNTILED
from engine.errors import BadUsage
from engine.terminal import Terminal


def tables(text: str) -> list[dict[str, list[str]]]:
    """The rows of each Markdown table by their names, the first of them the columns."""
    found = []
    for block in text.split("\n\n"):
        if block.startswith("|"):
            rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()]
            assert len({len(row) for row in rows}) == 1
            found.append({name: cells for name, *cells in (rows[0], *rows[2:])})
    return found


@pytest.fixture(scope="module")
def printed(cpu):
    """What a comparison without other packages prints."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(packages, "package", lambda name: None)
        compare((16, 64, 64), 2, 2, Terminal(quiet=True))
    return out.getvalue()


def test_every_way_has_its_time_memory_and_exactness(printed):
    ways, _ = tables(printed)
    assert ways.pop("") == ["s", "processor s", "relative to streamed", "GiB", "HU from untiled"]
    assert list(ways) == [UNTILED, STREAMED, "network, tiles that keep 8 x 32 x 32", COMMAND]
    for seconds, processor_s, relative, gib, _ in ways.values():
        assert float(seconds) >= 0
        assert float(processor_s) >= 0
        assert re.fullmatch(r"1|\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)", relative)
        assert float(gib) < 2
    exact = {name: cells[-1] for name, cells in ways.items()}
    assert exact.pop(COMMAND) == ""
    assert all(float(hu) < 0.001 for hu in exact.values())
    assert ways[STREAMED][2] == "1"


def test_the_shares_of_the_stages_are_those_of_the_whole_command(printed):
    _, stages = tables(printed)
    assert stages.pop("stage of the whole command") == ["processor s", "in the rounds", "share"]
    assert set(stages) == {*STAGES.values(), "rest"}
    assert list(stages)[-1] == "rest"
    total = sum(float(share.removesuffix("%")) for *_, share in stages.values())
    assert total == pytest.approx(100, abs=20)  # medians of two rounds


def test_what_was_compared_is_named_and_what_is_missing_is_said(printed):
    assert printed.startswith("UNet3D(width=2, levels=3), 16 x 64 x 64 voxels, 2 rounds; ")
    assert printed.endswith("Not compared, because it is not installed: PyTorch, MONAI.\n")


def test_a_shape_that_the_network_cannot_halve_twice_is_refused():
    with pytest.raises(
        BadUsage, match=r"--shape: takes multiples of 4,4,4, not 30,128,128\. Write such as"
    ):
        compare((30, 128, 128), 16, 1, Terminal())
