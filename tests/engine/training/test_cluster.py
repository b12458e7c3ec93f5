import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest

from engine.errors import PeerLost
from engine.terminal import Terminal
from engine.training.cluster import Cluster
from engine.training.seat import seat
from engine.training.signals import Stop
from tests.engine.training.test_seat import SLURM
from tests.processes import free_ports, tf_config
from tests.training import TINY


@pytest.fixture
def ports() -> list[int]:
    return free_ports(3)


def cluster(ports: list[int], rank: int) -> Cluster:
    seated = seat({"TF_CONFIG": tf_config(ports, rank)})
    return Cluster(seated, Stop(), Terminal(quiet=True))


def together(calls: Iterable[Callable[[], None]]) -> None:
    """Calls functions at the same time, and waits for all."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def left(clusters: list[Cluster], code: int) -> list[object]:
    """The exit codes of the workers, if their chief ends with a code."""
    codes: list[object] = []

    def work(worker: Cluster) -> None:
        try:
            while True:  # words that the test has left
                worker.told()
        except SystemExit as end:
            codes.append(end.code)
            worker.leave(0)

    chief, *workers = clusters
    together([partial(chief.leave, code), *(partial(work, worker) for worker in workers)])
    return codes


@pytest.fixture
def linked(ports: list[int]) -> Iterator[list[Cluster]]:
    """Three clusters as their processes see them."""
    found = [cluster(ports, rank) for rank in range(3)]
    together([each.join for each in found])
    yield found
    assert left(found, 6) == [6, 6]


def test_linked_processes_know_all_addresses_hear_the_chief_and_end_with_its_exit_code(
    ports: list[int], linked: list[Cluster]
) -> None:
    chief, *workers = linked
    chief.tell({"step": 4})
    assert [worker.told() for worker in workers] == [{"step": 4}] * 2
    assert chief.addresses == [f"localhost:{port}" for port in ports]
    assert [worker.addresses for worker in workers] == [chief.addresses] * 2


def test_a_worker_that_is_asked_to_stop_asks_the_chief(linked: list[Cluster]) -> None:
    chief, worker, _ = linked
    worker._stop.asked = "SIGUSR1"
    told = threading.Thread(target=worker.told)
    told.start()
    while chief._stop.asked is None:
        told.join(0.05)
    chief.tell("on")
    told.join()
    assert chief._stop.asked == "SIGUSR1"


def test_processes_that_do_not_start_are_named(ports: list[int]) -> None:
    alone = cluster(ports, 0)
    with pytest.raises(PeerLost, match=rf"localhost:{ports[1]}, localhost:{ports[2]} did not come"):
        alone.join(0.3)
    with pytest.raises(PeerLost, match=rf"the chief at localhost:{ports[0]} did not answer"):
        cluster(ports, 1).join(0.3)


def test_a_port_in_use_is_named(ports: list[int]) -> None:
    with socket.socket() as other:
        other.bind(("", ports[0]))
        other.listen()
        with pytest.raises(PeerLost, match=f"port {ports[0]}: is in use"):
            cluster(ports, 0).join(0.3)


def test_a_stranger_at_the_port_is_ignored(ports: list[int]) -> None:
    chief = cluster(ports[:2], 0)
    joining = threading.Thread(target=chief.join)
    joining.start()
    worker = cluster(ports[:2], 1)
    while True:
        try:
            with socket.create_connection(("localhost", ports[0])) as stranger:
                stranger.sendall(b'GET / HTTP/1.1\r\n\r\n{"rank": [1]}\n')
            break
        except ConnectionRefusedError:
            continue
    worker.join()
    joining.join()
    assert worker.addresses == chief.addresses
    left([chief, worker], 0)


def test_a_dry_run_joins_no_cluster(
    engine, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    words = ("fit", "dncnn", *TINY, "--data", dataset, "--run", tmp_path / "run", "--dry-run")
    code, out, err = engine(*words)
    assert (code, "error" in err) == (0, False), err
    assert "network: " in out
