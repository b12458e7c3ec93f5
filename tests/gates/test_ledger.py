from pathlib import Path

import pytest

from tests.gates.ledger import BEGIN, END, GATES, Ledger

pytest_plugins = ("pytester",)

A_GATE = """
import pytest

@pytest.mark.gate("{gate}")
def test_faults(faults):
    for _ in range(faults.times(push=3, soak=50)):
        faults.handled()
    {last}

@pytest.mark.gate("G9")
def test_one_fault():
    pass
"""


@pytest.fixture
def gates(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    # A conftest of another folder: its hooks are not asked for tests beside it.
    inner = pytester.mkpydir("inner")
    (inner / "conftest.py").write_text("def pytest_runtest_logreport(report): pass\n")
    (inner / "test_inner.py").write_text("def test_inner(): pass\n")
    pytester.makefile(".md", TABLE=f"before\n{BEGIN}\nold\n{END}\nafter\n")

    def run(*options: str, gate: str = "G3", last: str = "") -> tuple[pytest.RunResult, str]:
        pytester.makepyfile(A_GATE.format(gate=gate, last=last))
        pytester.makeini("[pytest]\nmarkers =\n    gate(name): of the faults\n")
        plugin = ("-p", "tests.gates.ledger")
        result = pytester.runpytest_subprocess(*plugin, "--gates", "TABLE.md", *options)
        return result, (pytester.path / "TABLE.md").read_text()

    return run


def test_the_table_counts_injected_faults_and_is_between_its_markers(gates) -> None:
    result, text = gates()
    assert result.ret == 0
    assert text.startswith("before\n")
    assert text.rstrip().endswith("after")
    assert "old" not in text
    assert f"| G3 | {GATES['G3']} | 1 | 3 | 0 |" in text
    assert f"| G9 | {GATES['G9']} | 1 | 1 | 0 |" in text
    assert "| all | | 2 | 4 | 0 |" in text


def test_faults_of_several_processes_are_added(gates) -> None:
    result, text = gates("-n", "2")
    assert result.ret == 0
    assert f"| G3 | {GATES['G3']} | 1 | 3 | 0 |" in text
    assert "| all | | 2 | 4 | 0 |" in text


def test_the_soak_injects_the_long_numbers_and_the_table_says_so(gates) -> None:
    _, text = gates("--soak")
    assert "| 1 | 50 | 0 |" in text
    assert "pytest -m gate --soak --gates=TABLE.md" in text


def test_the_table_shows_a_failed_gate_and_how_to_replay_it(gates) -> None:
    result, text = gates("--fault-seed", "7", last="assert False")
    assert result.ret == 1
    assert "| 1 | 3 | 1 |" in text
    result.stdout.fnmatch_lines(["*test_faults*--fault-seed 7*"])


def test_a_gate_that_injected_nothing_fails(gates) -> None:
    result, _ = gates(last="faults.count = 0")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*G3: no fault was injected*"])


def test_a_gate_without_a_name_in_the_list_is_refused(gates) -> None:
    result, _ = gates(gate="G99")
    assert result.ret != 0


def test_the_table_names_its_file_by_the_path_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tests" / "README.md"
    path.parent.mkdir()
    path.write_text(f"{BEGIN}\n{END}\n")
    monkeypatch.chdir(tmp_path)
    Ledger(soak=True).publish(path)
    assert "`pytest -m gate --soak --gates=tests/README.md` printed" in path.read_text()


def test_a_file_without_markers_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("no markers")
    with pytest.raises(pytest.UsageError):
        Ledger(soak=False).publish(path)
    assert path.read_text() == "no markers"
