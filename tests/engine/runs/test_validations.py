import json

import pytest

from engine.runs.metrics_file import harm, validations
from engine.runs.run import Run


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


def test_metrics_that_cannot_be_read_are_told(noted, monkeypatch):
    run = noted(row(0, "noisy", 0.1))

    def forbidden(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)
    assert harm(run, 4) == "does not tell how it scored: metrics.jsonl: Permission denied"


@pytest.mark.parametrize("lines", [[], [row(0, "noisy", 0.1)], [row(4, "network", 0.1)],
                                   [row(0, "noisy", None), row(4, "network", 0.1)]])  # fmt: skip
def test_where_nothing_was_validated_nothing_is_said(noted, lines):
    assert harm(noted(*lines), 4) is None
