"""Asks for one name after the other, and an echo beside each, and says in the end how long the answers took.

``python tests/bench/pinger.py PORT NAMES``, until its standard input ends. A process of its own, so that nothing but
the answer is waited for. The echo does nothing: where it takes long as well, it is the machine that was away.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import socket
import statistics
import struct
import subprocess
import sys
import time
from contextlib import suppress

from big_api import NAMESPACES

LATE = 0.005
"""Seconds that no answer may take."""


class Dns:
    """Asks over one socket."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(2)
        self.number = 0

    def ask(self, name: str) -> tuple[int, str]:
        """Response code, and the address in the answer."""
        self.number = self.number % 65535 + 1
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        self.socket.send(struct.pack("!6H", self.number, 0x100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1")
        while True:
            data = self.socket.recv(512)
            if data[:2] == struct.pack("!H", self.number):
                return data[3] & 15, socket.inet_ntoa(data[-4:]) if data[7] else ""


def name_of(number: int) -> str:
    return f"service-{number}.team-{number % NAMESPACES}.svc.cluster.local"


class Pinger:
    """The process, to the benchmark."""

    def __init__(self, port: int, names: int) -> None:
        command = [sys.executable, __file__, str(port), str(names)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self._process.stdout.readline()

    def end(self) -> list[str]:
        """What it says: of the answers, and of the echo."""
        return self._process.communicate()[0].splitlines()


def go_first() -> None:
    with suppress(PermissionError):  # what is measured is the answer, not how long the asker waits for a processor
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def echo(end: socket.socket) -> None:
    os.close(sys.stdout.fileno())  # who reads it waits for the pinger's end alone
    go_first()
    while True:
        data, peer = end.recvfrom(512)
        end.sendto(data, peer)


def summary(took: list[float]) -> str:
    took = sorted(took) or [0.0]
    p50, p99, longest = statistics.median(took), took[int(len(took) * 0.99)], took[-1]
    late = sum(each > LATE for each in took)
    return f"p50 {1e3 * p50:.2f} ms, p99 {1e3 * p99:.2f} ms, longest {1e3 * longest:.1f} ms, {late} over 5 ms"


def main() -> None:
    port, names = map(int, sys.argv[1:])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind(("127.0.0.1", 0))
        server = multiprocessing.get_context("fork").Process(target=echo, args=(end,), daemon=True)
        server.start()
        place = end.getsockname()
    go_first()
    dns, mirror = Dns(port), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    mirror.connect(place)
    mirror.settimeout(2)
    lost = 0
    took: list[float] = []
    echoed: list[float] = []
    codes: set[int] = set()
    number = 0
    print("asking", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        began = time.perf_counter()
        try:
            code, _ = dns.ask(name_of(number % names))
        except OSError:  # nobody is there yet
            lost += number > 0
            time.sleep(0.01)
            continue
        if number:  # the first one waits for the DNS process to start
            took.append(time.perf_counter() - began)
        codes.add(code)
        number += 37
        began = time.perf_counter()
        mirror.send(b"?")
        with suppress(TimeoutError):
            mirror.recv(1)
        echoed.append(time.perf_counter() - began)
        time.sleep(0.001)
    server.terminate()
    print(f"{len(took)} asked, {lost} lost, {summary(took)}, codes {sorted(codes)}, of {names} names")
    print(summary(echoed))


if __name__ == "__main__":
    main()
