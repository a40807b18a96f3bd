"""What a process holds, over time."""

import threading
import time

import psutil

SAMPLE_S = 0.1
MIB = 1 << 20


class Sampler:
    """Looks at what a process holds, in a thread of its own."""

    def __init__(self, pid: int) -> None:
        self.began = time.monotonic()
        self.samples: list[tuple[float, float]] = []  # seconds, MiB
        self._process, self._over = psutil.Process(pid), threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def now(self) -> float:
        return time.monotonic() - self.began

    def _look(self) -> None:
        over = False
        while not over:
            self.samples.append((self.now(), self._process.memory_info().rss / MIB))
            over = self._over.wait(SAMPLE_S)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
