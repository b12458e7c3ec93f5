import errno
import io
import json
import os

import pytest

from engine.errors import CannotWrite, DiskFull
from engine.runs.metrics_file import MetricsFile, harm, validations
from engine.runs.run import Run


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def written(path, *rows):
    metrics = MetricsFile(path, 0)
    for step in rows:
        metrics.row(step=step, loss=0.1 * step)
    metrics.close()
    return path.read_bytes()


# -- Rows -----------------------------------------------------------------------------------------


def test_a_row_is_one_object_on_one_line(path):
    metrics = MetricsFile(path, 0)
    metrics.row(step=1, loss=0.1 + 0.2, method="noisy", mean={"psnr_db": 20.0})
    metrics.close()
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "loss": 0.1 + 0.2, "method": "noisy", "mean": {"psnr_db": 20.0}}
    ]


def test_rows_up_to_the_step_stay_to_the_byte(path):
    before = written(path, 1, 2, 2, 3, 4)
    MetricsFile(path, 4).close()
    assert path.read_bytes() == before


def test_rows_of_later_steps_go(path):
    before = written(path, 1, 2, 2, 3, 4)
    MetricsFile(path, 2).close()
    assert steps(path) == [1, 2, 2]
    assert before.startswith(path.read_bytes())


def test_rows_are_added_behind_those_that_stay(path):
    written(path, 1, 2, 3)
    metrics = MetricsFile(path, 2)
    metrics.row(step=3, again=True)
    metrics.close()
    assert steps(path) == [1, 2, 3]
    assert "again" in path.read_text().splitlines()[-1]


@pytest.mark.parametrize("torn", [b'{"step": 3, "lo', b'{"step": 3}', b"{", b"\0\0\0", b"[]", b"3"])
def test_a_last_line_that_was_being_written_goes(path, torn):
    before = written(path, 1, 2)
    path.write_bytes(before + torn)
    MetricsFile(path, 9).close()
    assert path.read_bytes() == before


def test_an_empty_file_stays_empty(path):
    path.write_bytes(b"")
    MetricsFile(path, 5).close()
    assert path.read_bytes() == b""


def test_rows_are_on_disk_after_a_sync(path):
    metrics = MetricsFile(path, 0)
    metrics.row(step=1)
    metrics.sync()
    assert steps(path) == [1]
    metrics.close()


class Full(io.FileIO):
    """A file on a disk that has room for so many bytes."""

    room = 0

    def write(self, block):
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().write(bytes(block)[: self.room])
        self.room -= written
        return written


@pytest.fixture
def full(monkeypatch):
    """Opens metrics on a disk of its own."""

    def opened(path, mode, buffering=-1):
        return Full(path, mode) if mode == "ab" else open(path, mode, buffering)

    monkeypatch.setattr("engine.runs.metrics_file.open", opened, raising=False)


@pytest.mark.parametrize("room", [0, 1, 30, 50])
def test_a_full_disk_tears_no_row_and_loses_none(path, full, room):
    metrics = MetricsFile(path, 0)
    metrics._file.room = room
    for step in (1, 2, 3):
        metrics.row(step=step, loss=0.5)
    with pytest.raises(DiskFull):
        metrics.sync()
    assert path.read_bytes() == b"" or path.read_bytes().endswith(b"}\n")
    metrics._file.room = 1000
    metrics.sync()
    metrics.close()
    assert steps(path) == [1, 2, 3]


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(CannotWrite):
        MetricsFile(tmp_path, 0)


@pytest.mark.parametrize("odd", [b"\n", b"\0\0\n", b"{\n", b"[]\n", b'{"loss": 1}\n'])
def test_a_damaged_line_between_rows_costs_no_row_and_is_reported(path, odd):
    lines = written(path, 1, 2, 3, 4).splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], odd, *lines[1:]]))
    told = []
    MetricsFile(path, 3, told.append).close()
    assert path.read_bytes() == b"".join([lines[0], odd, *lines[1:3]])
    assert told == [f"{path}: line 2 is no row of metrics; it is kept as it is"]


# -- Validations -----------------------------------------------------------------------------------


def row(step, method, mse):
    return {"step": step, "method": method, "mean": {"mse": mse, "psnr_db": 20.0 + step}}


@pytest.fixture
def noted(tmp_path):
    """A run whose metrics.jsonl holds some lines."""

    def note(*lines):
        run = Run(tmp_path)
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        run.metrics.write_text("\n".join(texts))
        return run

    return note


def test_validations_come_in_order_and_what_is_none_is_passed_over(noted):
    run = noted(
        row(0, "noisy", 0.1), {"step": 1, "loss": 2.0}, "", "[]", "{\"method\": 3}",
        row(4, "network", 0.2), '{"step": 5, "method": "net',
    )  # fmt: skip
    assert [(v.step, v.method, v.mean["mse"]) for v in validations(run)] == [
        (0, "noisy", 0.1), (4, "network", 0.2),
    ]  # fmt: skip


def test_a_run_without_metrics_has_no_validations(tmp_path):
    assert list(validations(Run(tmp_path))) == []


@pytest.mark.parametrize(("network", "harmful"), [(0.05, False), (0.1, True), (0.2, True)])
def test_a_network_that_makes_its_own_scans_no_better_is_known(noted, network, harmful):
    run = noted(row(0, "noisy", 0.1), row(4, "network", network), row(8, "network", 0.01))
    shown = {0.1: "10.00", 0.2: "6.99"}.get(network)
    told = (
        f"made its own validation scans no better at step 4: {shown} dB of the mean MSE, "
        "untouched 10.00 dB"
    )
    assert harm(run, 4) == (told if harmful else None)
    assert harm(run, 6) == (told if harmful else None)  # not validated: as it was before
    assert harm(run, 8) is None
    assert harm(run, 3) is None


@pytest.mark.parametrize(("before", "harmful"), [(0.1, False), (0.01, True)])
def test_it_is_compared_with_the_noisy_scans_of_its_time(noted, before, harmful):
    # Resumed after the fourth step with another noise, of which the scans are scored anew.
    run = noted(
        row(0, "noisy", before), row(4, "network", 0.05), row(4, "noisy", 0.055 - before / 2),
        row(8, "network", 0.001),
    )  # fmt: skip
    assert (harm(run, 4) is not None) == harmful
    assert harm(run, 8) is None


def test_whole_numbers_are_scores_too(noted):
    assert harm(noted(row(0, "noisy", 1), row(4, "network", 2)), 4) is not None


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1" + "0" * 400, "true", "[]"])
def test_what_is_no_score_says_nothing(noted, number):
    lines = [f'{{"step": {s}, "method": "{m}", "mean": {{"mse": {number}}}}}'
             for s, m in ((0, "noisy"), (4, "network"))]  # fmt: skip
    assert harm(noted(*lines, '{"step": 1e999, "method": "network", "mean": {}}'), 4) is None


def test_metrics_that_cannot_be_read_are_reported(noted, monkeypatch):
    run = noted(row(0, "noisy", 0.1))

    def forbidden(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)
    assert harm(run, 4) == "has no readable scores: metrics.jsonl: Permission denied"


@pytest.mark.parametrize("lines", [[], [row(0, "noisy", 0.1)], [row(4, "network", 0.1)],
                                   [row(0, "noisy", None), row(4, "network", 0.1)]])  # fmt: skip
def test_where_nothing_was_validated_nothing_is_said(noted, lines):
    assert harm(noted(*lines), 4) is None
