"""G1 and G5: trainings that are killed or stopped, at any moment and in every phase."""

import json
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from engine.checkpoints import checkpoint
from engine.runs.run import Run
from tests.gates.trainings import RECIPE, Aim, ended, start
from tests.training import rows

WORDS = (
    "crop.shape=8,16,16", "batch=2", "split.validation=1", "split.test=1", "validate_slices=4",
    "learning_rate=1e-3", "checkpoint_every=5", "validate_every=20", "-q",
)  # fmt: skip


# What a process does to its run folder before it trains, three times: run.json and the recipe.
BEGINNING = ("open tmp", "write tmp", "fsync tmp", "rename tmp")


class Trainings:
    """Trainings of one recipe: an undisturbed one, and disturbed ones."""

    def __init__(self, folder: Path, data: Path, recipe: str) -> None:
        self.killed, self.whole = folder / "killed" / "run", folder / "whole" / "run"
        self.said, self.noted, self.cache = folder / "said", folder / "noted", folder / "cache"
        if recipe == "dropping":
            (folder / "dropping.py").write_text(RECIPE)
            self.words = [str(folder / "dropping.py"), *WORDS]
        elif recipe == "blind":  # coloured noise, an average of the weights, several levels
            self.words = ["ct_denoiser", *WORDS, "crop.shape=1,16,16", "network.widths=2,3"]
        else:
            self.words = [recipe, *WORDS, "network.width=2"]
        self.words += ["--data", str(data)]
        self.steps = 0

    def start(self, run: Path, aim: Aim | None = None, noted: Path | None = None):
        words = [*self.words, f"steps={self.steps}", "--run", str(run)]
        return start(words, self.cache, self.said, aim, noted)

    def phases(self) -> dict[str, int]:
        """How often each phase comes from one save to the next, and each of a beginning.

        The one that is left alone is trained by this.
        """
        assert ended(self.start(self.whole, noted=self.noted)) == 0, self.said.read_text()
        done = Counter(json.loads(self.noted.read_text()))
        saves = done["rename into place"]
        each = {name: max(1, n // saves) for name, n in done.items() if n > saves // 2}
        return each | dict.fromkeys(BEGINNING, 3)

    def at_once(self, aim: Aim) -> int:
        """The result of a disturbed training."""
        return ended(self.start(self.killed, aim))

    def some_time(self, after_s: float) -> int:
        """The result of a training that is killed some time after its first step."""
        before, process = self.size(), self.start(self.killed)
        while self.size() == before:
            assert process.is_alive(), self.said.read_text()
            time.sleep(0.005)
        time.sleep(after_s)
        process.kill()
        return ended(process)

    def size(self) -> int:
        metrics = self.killed / "metrics.jsonl"
        return metrics.stat().st_size if metrics.exists() else 0

    def assert_same(self) -> None:
        """Checks that the end equals that of the undisturbed training, without left-over files."""
        assert ended(self.start(self.killed)) == 0, self.said.read_text()
        one, other = (Run(run).checkpoint("last") for run in (self.killed, self.whole))
        assert checkpoint.fingerprint(one) == checkpoint.fingerprint(other)
        assert checkpoint.verified(one) == checkpoint.verified(other)
        assert rows(self.killed) == rows(self.whole)
        assert not [path for path in self.killed.rglob("*") if path.name.endswith(".tmp")]
        assert not list(Run(self.killed).checkpoints.glob("*-step-*"))


@pytest.fixture
def trainings(dataset, tmp_path):
    def make(recipe, steps):
        made = Trainings(tmp_path, dataset, recipe)
        made.steps = steps
        return made

    return make


@pytest.mark.gate("G1")
@pytest.mark.parametrize(
    ("recipe", "push", "soak"), [("dropping", 6, 40), ("respr_unet3d", 2, 30), ("blind", 2, 20)]
)
def test_a_training_that_is_killed_ends_with_the_bits_of_one_that_was_not(
    trainings, faults, recipe, push, soak
):
    kills = faults.times(push=push, soak=soak)
    ours = trainings(recipe, 10 * kills + 10)
    phases = ours.phases()
    random = faults.random(recipe)
    # In the soak, every phase once at the end.
    last = random.sample([*phases], len(phases)) if faults.soak else []
    aimed = [*random.choices([*phases], k=kills - len(last)), *last]
    struck = Counter()
    for i in range(kills):
        name = aimed[i]
        if i % 4 == 3 and i < kills - len(last):
            code = ours.some_time(random.uniform(0, 0.4))
        else:
            struck[name] += 1
            code = ours.at_once(Aim(name, random.randrange(phases[name])))
        assert code == -9, f"{name}: {code}; {ours.said.read_text()}"
        if i % 4 == 1:  # and again, while it takes up where it was
            code = ours.at_once(Aim(random.choice(BEGINNING), random.randrange(3)))
            assert code == -9, ours.said.read_text()
            faults.handled()
    assert (checkpoint.steps(Run(ours.killed).checkpoints) or [0])[-1] < ours.steps
    ours.assert_same()
    if faults.soak:
        assert set(struck) == set(phases)
    faults.handled(kills)


PHASES = {
    "start": "engine.training.preparation.load_recipe",
    "cache build": "volumes.dataset.store.Store.volume",
    "import": "engine.runtime.start",
    "step": "engine.training.trainer.Trainer._learn",
    "validation": "engine.training.trainer.Trainer._validate",
    "save": "write state.npz",
    "naming": "rename into place",
}
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")


@pytest.mark.gate("G5")
def test_a_stopped_training_saves_a_checkpoint_and_resumes_bitwise(trainings, faults):
    asked = [(name, signal) for name in PHASES for signal in SIGNALS]
    if not faults.soak:  # every phase and every signal, not each with each
        asked = [(name, SIGNALS[i % 4]) for i, name in enumerate(PHASES)]
    ours = trainings("dropping", 5 * len(asked) + 40)
    assert ended(ours.start(ours.whole)) == 0, ours.said.read_text()
    shutil.rmtree(ours.cache)
    for i, (name, signal) in enumerate(asked):
        before = checkpoint.steps(Run(ours.killed).checkpoints)
        code = ours.at_once(Aim(PHASES[name], skip=i % 2 * (name == "save"), signals=(signal,)))
        assert code == 75, f"{signal} in {name}: {code}; {ours.said.read_text()}"
        after = checkpoint.steps(Run(ours.killed).checkpoints)
        if name in ("step", "validation", "save", "naming"):
            assert after[-1] > (before or [0])[-1]
        else:
            assert after == before
        faults.handled()
    told = ("engine: error: ", "engine: warning: ")
    assert all(line.startswith(told) for line in errors(ours.said))
    ours.assert_same()


@pytest.mark.gate("G5")
def test_a_second_signal_ends_at_once_and_costs_no_more_than_the_steps_since(trainings, faults):
    second = [("SIGTERM", "SIGINT", 130), ("SIGUSR1", "SIGTERM", 75)]
    asked = [(name, *how) for name in PHASES for how in second]
    if not faults.soak:
        asked = [(name, *second[i % 2]) for i, name in enumerate(["save", "naming", "validation"])]
    ours = trainings("dropping", 5 * len(asked) + 40)
    assert ended(ours.start(ours.whole)) == 0, ours.said.read_text()
    for name, first, then, wanted in asked:
        before = checkpoint.steps(Run(ours.killed).checkpoints)
        code = ours.at_once(Aim(PHASES[name], signals=(first, then), apart_s=1.1))
        if name in ("start", "cache build", "import"):
            wanted = 75  # nothing had to be saved: the first one has ended it
        assert code == wanted, f"{first} and {then} in {name}: {code}; {ours.said.read_text()}"
        if name in ("start", "cache build", "import"):
            assert checkpoint.steps(Run(ours.killed).checkpoints) == before
        faults.handled()
    ours.assert_same()


def errors(said: Path) -> list[str]:
    """What was said, what is not the result left out."""
    return [line for line in said.read_text().splitlines() if not line.startswith("/")]
