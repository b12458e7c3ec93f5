"""The gates: tests that inject and count faults, with a table of the results.

A test that carries `@pytest.mark.gate("G3")` belongs to a gate. It asks the fixture `faults` how
many to inject (`faults.times(push=100, soak=5000)`), and counts each that was handled as promised
(`faults.handled()`). `--soak` asks for the long numbers, `--fault-seed` for other faults than
usual, and `--gates=FILE` writes the table between the markers of a Markdown file:

    pytest -m gate --soak --gates=tests/README.md
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

GATES = {
    "G1": "kill -9 at any moment: the resumed training ends with the same bits",
    "G2": "every state that a crash or a power cut can leave of a save",
    "G3": "damaged, swapped, edited checkpoints",
    "G4": "resumes under another recipe, machine, clock",
    "G5": "signals, in every phase",
    "G6": "full disks, rights, quotas, at every write",
    "G7": "bad input files through the command line",
    "G8": "mutated headers",
    "G9": "mutated gzip streams",
    "G10": "the cache: damaged, stale, full, built by many",
    "G11": "non-finite numbers, trainings that learn nothing",
    "G12": "readers that fail while a training waits for them",
    "G13": "two processes, one run folder",
    "G14": "what a denoised scan must keep",
    "G15": "files that try to run code, reach out or leak names",
    "G16": "a scan in another file: recognised, and another scan is not taken for it",
    "G17": "noise and scores: those of the files that are written",
    "G18": "streams that are closed, full or narrow, odd environments, and any names of files",
    "G19": "kill -9 among many scans in shards: the files of one undisturbed command",
    "G20": "scans read, denoised and written at once: delays of any stage, Ctrl-C at any moment",
    "G21": "kill -9 of one of several processes: the others end, and any number resumes",
}
BEGIN, END = "<!-- gates -->", "<!-- /gates -->"


@dataclass
class Faults:
    """The faults of one test.

    Attributes:
        gate: its name, such as "G3".
        seed: of the faults that are drawn.
        soak: whether the long numbers are asked for.
        count: how many were handled as promised so far.
    """

    gate: str
    seed: int
    soak: bool
    count: int = 0

    def times(self, *, push: int, soak: int) -> int:
        """The number of faults to inject."""
        return soak if self.soak else push

    def random(self, *key: object) -> random.Random:
        """A generator for one fault: the same seed and key, the same fault."""
        return random.Random(f"{self.gate} {self.seed} {key}")

    def handled(self, count: int = 1) -> None:
        """Counts faults, after the assertions on them passed."""
        self.count += count


@dataclass
class _Row:
    tests: int = 0
    faults: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0


@dataclass(eq=False)  # a plugin is known by its identity
class Ledger:
    """The results of the gates of one session."""

    soak: bool
    rows: dict[str, _Row] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Records the report of a test."""
        told = dict(report.user_properties).get(_PROPERTY)
        if told is not None and _decides(report):
            gate, faults = told
            self.note(gate, report.outcome, faults, report.duration)

    def note(self, gate: str, outcome: str, faults: int, seconds: float) -> None:
        """Adds the outcome of one test."""
        row = self.rows.setdefault(gate, _Row())
        row.tests += 1
        row.faults += faults
        row.failed += outcome == "failed"
        row.skipped += outcome == "skipped"
        row.seconds += seconds

    def table(self) -> str:
        """The table in Markdown."""
        lines = ["| gate | what is done to it | tests | faults | not as promised | seconds |"]
        lines += ["|---|---|---|---|---|---|"]
        for gate in (gate for gate in GATES if gate in self.rows):
            row = self.rows[gate]
            tests = f"{row.tests}" + (f" ({row.skipped} skipped)" if row.skipped else "")
            lines.append(
                f"| {gate} | {GATES[gate]} | {tests} | {row.faults:,} | {row.failed} "
                f"| {row.seconds:.0f} |"
            )
        rows = self.rows.values()
        lines.append(
            f"| all | | {sum(r.tests for r in rows):,} | {sum(r.faults for r in rows):,} "
            f"| {sum(r.failed for r in rows)} | {sum(r.seconds for r in rows):.0f} |"
        )
        return "\n".join(lines)

    def publish(self, path: Path) -> None:
        """Replaces the table between the markers of a Markdown file."""
        text = path.read_text()
        if BEGIN not in text or END not in text:
            raise pytest.UsageError(f"{path} has no {BEGIN} and {END}")
        command = "pytest -m gate" + (" --soak" if self.soak else "")
        inside_here = path.resolve().is_relative_to(Path.cwd().resolve())
        file = os.path.relpath(path) if inside_here else path.name
        said = f"`{command} --gates={file}` printed, on {os.cpu_count()} cores:"
        inside = re.escape(BEGIN) + ".*?" + re.escape(END)
        table = f"{BEGIN}\n{said}\n\n{self.table()}\n{END}"
        path.write_text(re.sub(inside, lambda _: table, text, count=1, flags=re.DOTALL))


_PROPERTY = "gate and faults"
_LEDGER = pytest.StashKey[Ledger]()
_FAULTS = pytest.StashKey[Faults]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gates")
    group.addoption("--soak", action="store_true", help="inject the long numbers of faults")
    group.addoption("--fault-seed", type=int, default=0, help="of the faults that are drawn")
    group.addoption("--gates", type=Path, metavar="FILE", help="write the table into this file")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LEDGER] = ledger = Ledger(config.getoption("--soak"))
    config.pluginmanager.register(ledger, "gates")


def _decides(report: pytest.TestReport) -> bool:
    """Whether a report has the outcome of its test."""
    return report.when == "call" or (report.when == "setup" and not report.passed)


def _gate(item: pytest.Item) -> str | None:
    marker = item.get_closest_marker("gate")
    return marker.args[0] if marker else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        gate = _gate(item)
        if gate is not None and gate not in GATES:
            raise pytest.UsageError(f"{item.nodeid}: there is no gate {gate}")


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    """The faults of this test."""
    gate = _gate(request.node)
    assert gate is not None, "a test that injects faults names its gate"
    config = request.config
    made = Faults(gate, config.getoption("--fault-seed"), config.getoption("--soak"))
    request.node.stash[_FAULTS] = made
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    gate = _gate(item)
    if gate is None or not _decides(report):
        return report
    counted = item.stash.get(_FAULTS, None)
    # A test without the fixture is one fault of its own.
    faults = counted.count if counted else int(report.passed)
    if report.passed and not faults:
        report.outcome, report.longrepr = "failed", f"{gate}: no fault was injected"
    if report.failed and counted:
        report.sections.append(("replay", f"pytest '{item.nodeid}' --fault-seed {counted.seed}"))
    # Where several processes test, reports are what the first one hears of the others.
    report.user_properties.append((_PROPERTY, (gate, faults)))
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    ledger = config.stash[_LEDGER]
    if not ledger.rows:
        return
    path = config.getoption("--gates")
    if path is None:
        return
    terminalreporter.write_line(ledger.table())
    ledger.publish(path)
