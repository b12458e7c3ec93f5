from functools import partial

import pytest

from engine.diagnostics.benchmark import denoise, feed, step


@pytest.fixture
def asked(monkeypatch):
    """What the benchmarks are asked for; none runs."""
    found = []
    for name, module in (("step", step), ("denoise", denoise), ("feed", feed)):
        noted = partial(lambda name, *given: found.append((name, given[:-1])), name)
        monkeypatch.setattr(module, "compare", noted)
    profiled = lambda steps, terminal: found.append(("profile", steps))  # noqa: E731
    monkeypatch.setattr(step, "profile", profiled)
    return found


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], ("step", (10, 5))),
        (["step", "--steps", "6", "--rounds", "2"], ("step", (6, 2))),
        (["step", "--profile", "--steps", "4"], ("profile", 4)),
        (["feed"], ("feed", ([16, 29, 40, 64, 300, 1059], 5))),
        (["feed", "--depths", "40,64", "--rounds", "3"], ("feed", ([40, 64], 3))),
        (["denoise"], ("denoise", ((32, 128, 128), 16, 5))),
        (
            ["denoise", "--shape", "8,64,48", "--width", "4", "--rounds", "1"],
            ("denoise", ((8, 64, 48), 4, 1)),
        ),
    ],
    ids=str,
)
def test_a_benchmark_runs_with_its_options(engine, asked, words, wanted):
    assert engine("bench", *words) == (0, "", "")
    assert asked == [wanted]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["feet"], "feet: is no benchmark. Use step, denoise, feed."),
        (["feed", "--depths", "40,1"], "--depths: takes numbers above 1, not '40,1'. Write such as "
                                       "29,300."),
        (["--depths", "40"], "--depths: belongs to `bench feed`. Leave it out."),
        (["--shape", "8,8,8"], "--shape: belongs to `bench denoise`. Leave it out."),
        (["step", "--width", "8"], "--width: belongs to `bench denoise`. Leave it out."),
        (["denoise", "--steps", "8"], "--steps: belongs to `bench step`. Leave it out."),
        (["denoise", "--shape", "8,8"], "--shape: takes Z,Y,X, not '8,8'. Write three numbers "
                                        "such as 32,256,256."),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_benchmark_does_not_take_is_refused(engine, asked, words, said):
    assert engine("bench", *words) == (2, "", f"engine: error: {said}\n")
    assert asked == []


def test_a_shape_is_refused_before_tensorflow_is_imported(engine):
    code, out, err = engine("bench", "denoise", "--shape", "30,128,128")
    assert (code, out) == (2, "")
    assert err == (
        "engine: error: --shape: takes multiples of 4,4,4, not 30,128,128. "
        "Write such as 32,128,128.\n"
    )
