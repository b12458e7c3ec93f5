"""The cluster: the processes of one training on several machines, and the links between them.

Rank 0 is the chief. It alone writes, and begins every step; the other processes, its workers, only
compute their share. Each worker has one TCP link to the chief, beside the channels by which
TensorFlow sums gradients. The system closes the link of a process that dies, so that the others
learn of it at once, wherever they are, and end. TensorFlow itself may wait for ever.

A link carries lines of JSON: words of the chief, and requests to stop and ends of any process.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from engine.errors import BadUsage, Interrupted, PeerLost, Refusal
from engine.runtime import code_sha256
from engine.terminal import Terminal
from engine.training.seat import Seat, seat
from engine.training.signals import Stop, Stopped
from volumes.storage.atomic import remove_temporaries
from volumes.storage.json_files import parse_json

PATIENCE_S = 300.0  # for processes that a batch system starts one after the other
_GRACE_S = 20.0  # for a process to end by itself
_POLL_S = 0.1
# A machine without power or network is noticed after (1 + 3) * 15 s at most.
_SILENT_S, _PROBES = 15, 3
_NO_ANSWER = ("AbortedError", "DeadlineExceededError", "UnavailableError")  # of TensorFlow
_AGAIN = "Run the same command to resume"


class Cluster:
    """The processes of a training, seen from one of them.

    Args:
        seat: of this process.
        stop: takes requests to stop that other processes have received.
        terminal: shows why the process ends.

    Attributes:
        addresses: of TensorFlow by rank, "host:port"; empty if the process trains alone.
    """

    def __init__(self, seat: Seat | None, stop: Stop, terminal: Terminal) -> None:
        self.rank, self.size = (seat.rank, seat.size) if seat else (0, 1)
        self.addresses: list[str] = []
        self._seat, self._stop, self._terminal = seat, stop, terminal
        self._links: dict[int, _Link] = {}  # by the rank at the other end
        self._told_stop = False

    @property
    def chief(self) -> bool:
        """Whether this process writes; true if it trains alone."""
        return self.rank == 0

    # -- Words -------------------------------------------------------------------------------------

    def tell(self, word: Any) -> None:
        """Sends a word of the chief to its workers."""
        for link in self._links.values():
            link.send({"word": word})

    def told(self) -> Any:
        """Waits for the next word of the chief. Meanwhile a request to stop is sent to it."""
        return self._received(self._links[0])

    def gather(self, word: Any = None) -> None:
        """Waits until each worker has called `gather`."""
        if not self.chief:
            self._links[0].send({"word": word})
        for link in self._links.values() if self.chief else ():
            self._received(link)

    def _received(self, link: _Link) -> Any:
        while True:
            if self._stop.asked and not self.chief and not self._told_stop:
                link.send({"stop": self._stop.asked})
                self._told_stop = True
            with suppress(queue.Empty):
                message = link.words.get(timeout=_POLL_S)
                if "end" in message:
                    raise SystemExit(message["end"])
                return message["word"]

    # -- Beginning and end -------------------------------------------------------------------------

    def join(self, patience_s: float = PATIENCE_S) -> None:
        """Links the processes, and tells each the addresses of all.

        Raises:
            PeerLost: naming the processes that have not come in this time.
            BadUsage: if two have one rank, or another version of the program.
        """
        assert self._seat is not None
        until = time.monotonic() + patience_s
        host, port = self._seat.own
        own = f"{host}:{port or _free_port()}"
        if self.chief:
            self._welcome(own, until, patience_s)
            return
        link = self._links[0] = _Link(self._connected(until, patience_s))
        link.send({"rank": self.rank, "own": own, "code": code_sha256()})
        link.watch(self._ended, self._asked)
        self.addresses = self.told()

    def _welcome(self, own: str, until: float, patience_s: float) -> None:
        assert self._seat is not None
        names, addresses = self._seat.names, {0: own}
        with self._listening() as listener:
            while missing := [rank for rank in range(self.size) if rank not in addresses]:
                if time.monotonic() > until:
                    cause = f"{', '.join(names[r] for r in missing)} did not come within "
                    cause += f"{patience_s:.0f} s"
                    remedy = "Start it, or look at its messages; then run the same command again"
                    raise PeerLost("cluster", cause, remedy)
                with suppress(TimeoutError):
                    link = _Link(listener.accept()[0])
                    hello = link.hello()
                    if (rank := hello.get("rank")) not in missing:
                        link.close()
                        continue
                    self._links[rank] = link
                    addresses[rank] = str(hello["own"])
                    if hello["code"] != code_sha256():
                        remedy = "Install the same version on every machine"
                        raise BadUsage(names[rank], "runs another version of the engine", remedy)
        for link in self._links.values():
            link.watch(self._ended, self._asked)
        self.addresses = [addresses[rank] for rank in range(self.size)]
        self.tell(self.addresses)

    @contextmanager
    def _listening(self) -> Iterator[socket.socket]:
        assert self._seat is not None
        port = self._seat.chief[1]
        with socket.socket(socket.AF_INET) as listener:
            # TensorFlow listens at this port later, beside the links.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("", port))
            except OSError as error:
                remedy = "End what listens there, or choose another port in TF_CONFIG"
                raise PeerLost(f"port {port}", f"is in use ({error.strerror})", remedy) from error
            listener.listen(self.size)
            listener.settimeout(_POLL_S)
            yield listener

    def _connected(self, until: float, patience_s: float) -> socket.socket:
        assert self._seat is not None
        while True:
            try:
                return socket.create_connection(self._seat.chief, timeout=5)
            except OSError as error:
                if time.monotonic() > until:
                    where = ":".join(map(str, self._seat.chief))
                    cause = f"the chief at {where} did not answer within {patience_s:.0f} s "
                    cause += f"({error.strerror or error})"
                    remedy = "Start it, or look at its messages; then run the same command again"
                    raise PeerLost("cluster", cause, remedy) from error
                time.sleep(_POLL_S)

    def leave(self, code: int) -> None:
        """Ends the part of this process, and waits until the others have ended theirs."""
        for link in self._links.values():
            link.send({"end": code})
        for link in self._links.values():
            link.close()

    def _asked(self, signal: str) -> None:
        self._stop.asked = self._stop.asked or signal

    def _ended(self, link: _Link, code: int | None) -> None:
        """Ends this process soon, as the one at the other end has ended, or at once if it died.

        Called in the thread of the link: the main thread may wait for that process for ever.
        """
        # The main thread of a worker ends with this code when it next waits for a word.
        if link.left.wait(0 if self.chief or code is None else _GRACE_S):
            return
        assert self._seat is not None
        who = self._seat.names[next(r for r, each in self._links.items() if each is link)]
        if code is None:
            code = PeerLost.exit_code
            cause = f"{who} has died, and ends this training"
            self._terminal.refusal(PeerLost("cluster", cause, _AGAIN))
        elif self.chief:
            cause = f"{who} has ended with exit code {code}, and ends this training"
            self._terminal.refusal(PeerLost("cluster", cause, "Its own message says why"))
        for other in self._links.values():
            other.send({"end": code})
        remove_temporaries()
        os._exit(code)


ALONE = Cluster(None, Stop(), Terminal())


class _Link:
    """A TCP connection to another process, read by a thread."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        for level, option, value in (
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", 0), _SILENT_S),
            (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", 0), _SILENT_S),
            (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", 0), _PROBES),
        ):
            connection.setsockopt(level, option, value)
        self._connection = connection
        self._lines: BinaryIO = connection.makefile("rb")
        self.words: queue.Queue[dict[str, Any]] = queue.Queue()
        self._thread: threading.Thread | None = None
        self.left = threading.Event()  # whether this process has ended its part

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message. If the other process has died, `watch` tells."""
        if "end" in message:
            self.left.set()
        with suppress(OSError):
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def hello(self) -> dict[str, Any]:
        """The first message of a worker; empty if a stranger has connected."""
        self._connection.settimeout(5)
        with suppress(OSError, ValueError):
            found = parse_json(self._lines.readline(2**16))
            self._connection.settimeout(None)
            if isinstance(found, dict) and {"rank", "own", "code"} <= set(found):
                return found
        return {}

    def watch(
        self, ended: Callable[[_Link, int | None], None], asked: Callable[[str], None]
    ) -> None:
        """Reads messages until the connection ends.

        Args:
            ended: called with the exit code of the other process; None if it has died.
            asked: called with the signal by which it was asked to stop.
        """

        def read() -> None:
            code = None
            with suppress(OSError, ValueError):
                for line in self._lines:
                    message = parse_json(line)
                    if "stop" in message:
                        asked(message["stop"])
                        continue
                    code = message.get("end")
                    self.words.put(message)
                    if code is not None:
                        break
            ended(self, code)

        self._thread = threading.Thread(target=read, name="link", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Closes the connection, after the other process has ended its part."""
        if self._thread is not None:
            self._thread.join(_GRACE_S)
        self._lines.close()
        self._connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


@contextmanager
def joined(stop: Stop, terminal: Terminal, *, patience_s: float = PATIENCE_S) -> Iterator[Cluster]:
    """The cluster of this process while the block runs; of one process without TF_CONFIG or srun.

    In a worker, the terminal falls silent. The block of a worker ends with SystemExit, as soon as
    that of the chief ends, with its exit code.

    Raises:
        PeerLost: if another process does not come.
        BadUsage: if the environment is contradictory.
    """
    own = seat()
    cluster = Cluster(own, stop, terminal)
    if own is None:
        yield cluster
        return
    if not cluster.chief:
        terminal.silence()
    code = 1
    try:
        cluster.join(patience_s)
        yield cluster
        code = 0
    except Refusal as refusal:
        code = refusal.exit_code
        raise
    except Stopped:
        code = Interrupted.exit_code
        raise
    except SystemExit as end:
        code = int(end.code or 0)
        raise
    except Exception as error:
        # TensorFlow may notice first that a process has died. Within this second, the thread of its
        # link ends this process, and says so.
        time.sleep(1.0)
        if type(error).__name__ in _NO_ANSWER:
            code = PeerLost.exit_code
            raise PeerLost("cluster", "a process no longer answers", _AGAIN) from error
        raise
    finally:
        cluster.leave(code)
