"""A cluster of 5,000 namespaces, 10,000 services and 100,000 endpoints: time, memory, CPU, and answers meanwhile.

The API server is a process of its own (``big_api.py``), on the same cores. The daemon is a plain DNS server; with
``--tunnel``, as root on the stage (``python -m resolverd.demo.stage -- python tests/bench/bench_cluster.py --tunnel``),
there is a tunnel process, too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from big_api import ENDPOINTS, NAMESPACES, SERVICES
from pinger import Dns, Pinger, name_of

PORT = 5399
HOST_NAMES = 100
"""What one host asks for."""
TICKS = os.sysconf("SC_CLK_TCK")


class Api:
    """The API server's process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def say(self, line: str) -> str:
        assert self.process.stdin
        assert self.process.stdout
        print(line, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()


@contextmanager
def api(kubeconfig: Path) -> Iterator[Api]:
    command = [sys.executable, str(Path(__file__).parent / "big_api.py"), str(kubeconfig)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    process.stdout.readline()
    try:
        yield Api(process)
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def daemon(kubeconfig: Path, state: Path, log: IO[bytes], *, tunnel: bool) -> Iterator[subprocess.Popen[bytes]]:
    flags = ["--kubeconfig", str(kubeconfig), "--state-dir", str(state), "--backend", "none"]
    flags += ["--dns-listen", f"127.0.0.1:{PORT}", "--tunnel" if tunnel else "--no-tunnel"]
    process = subprocess.Popen([sys.executable, "-m", "resolverd", "run", *flags], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def memory(pid: int) -> str:
    """Resident and proportional memory of the daemon and its workers."""
    found = []
    for each in family(pid):
        text = Path(f"/proc/{each}/smaps_rollup").read_text()
        rows = dict(line.split(":") for line in text.splitlines()[1:])
        found.append((int(rows["Rss"].split()[0]) / 1024, int(rows["Pss"].split()[0]) / 1024))
    parts = " + ".join(f"{rss:.0f}" for rss, _ in found)
    return f"RSS {parts} = {sum(r for r, _ in found):.0f} MiB, PSS {sum(p for _, p in found):.0f} MiB"


def cpu(pid: int) -> list[float]:
    """Seconds of CPU the daemon and each of its workers have used."""
    found = []
    for each in family(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        found.append((int(fields[11]) + int(fields[12])) / TICKS)
    return found


def status(state: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "resolverd", "status", "--state-dir", str(state), "-o", "json"]
    document: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)
    return document


def wait_for(name: str, expected: str, longest: float) -> float:
    """Seconds until ``name`` has the address ``expected`` (empty: any)."""
    began, dns = time.monotonic(), Dns(PORT)
    while time.monotonic() - began < longest:
        try:
            code, found = dns.ask(name)
        except OSError:
            time.sleep(0.005)
            continue
        if code == 0 and (found == expected or not expected):
            return time.monotonic() - began
        time.sleep(0.001)
    raise SystemExit(f"{name} never became {expected}")


def run(folder: Path, *, tunnel: bool) -> None:
    state, kubeconfig = folder / "state", folder / "kubeconfig"
    with (folder / "log").open("wb") as log, api(kubeconfig) as big:
        pinger = Pinger(PORT, SERVICES)
        with daemon(kubeconfig, state, log, tunnel=tunnel) as process:
            ready = wait_for(name_of(SERVICES - 1), "", 60)
            print(f"ready            {ready:.2f} s after the start, {sum(cpu(process.pid)):.1f} s of CPU")
            time.sleep(5)
            tell(pinger)
            print(f"memory           {memory(process.pid)}")
            found = status(state)["cluster"]
            print(f"asked            {found.get('requests')} requests, {found.get('watches')} watches open")
            for names in (HOST_NAMES, SERVICES):
                storm(big, process.pid, names)
            changes(big)
            big.say("away")
            time.sleep(5)
            dns = Dns(PORT)
            answered = sum(dns.ask(name_of(number))[0] == 0 for number in range(SERVICES))
            print(f"away             {answered} of {SERVICES} names answered")
            ip, _ = json.loads(big.say("touch 4711"))
            big.say("back")
            print(f"back             fresh after {wait_for(name_of(4711), ip, 30):.2f} s")
            print(f"memory, peak     {memory(process.pid)}")
            process.kill()
            process.wait()
        big.say("away")
        time.sleep(2)  # the workers of the one that was killed give the device back
        with daemon(kubeconfig, state, log, tunnel=tunnel) as process:
            try:
                print(f"restart, away    answers after {wait_for(name_of(4711), '', 30):.2f} s")
            except SystemExit:
                print((folder / "log").read_text()[-2000:])
                raise
    subprocess.run([sys.executable, "-m", "resolverd", "down", "--state-dir", str(state)], check=True)


def tell(pinger: Pinger) -> None:
    answers, echo = pinger.end()
    print(f"answers          {answers}")
    print(f"  an echo        {echo}")


def storm(big: Api, pid: int, names: int) -> None:
    pinger = Pinger(PORT, names)
    before, began = cpu(pid), time.monotonic()
    big.say("storm 500 10")
    used = [after - start for start, after in zip(before, cpu(pid), strict=True)]
    lasted = time.monotonic() - began
    each = " + ".join(f"{100 * part / lasted:.0f}" for part in used)
    print(f"500 events/s     {each} = {100 * sum(used) / lasted:.0f} % of a core (the last one answers the pinger)")
    tell(pinger)


def changes(big: Api) -> None:
    took = []
    for number in range(200):
        dns = Dns(PORT)
        dns.ask(name_of(number))
        ip, began = json.loads(big.say(f"touch {number}"))
        while dns.ask(name_of(number))[1] != ip:
            time.sleep(0.0005)
        took.append(time.monotonic() - began)
        time.sleep(0.02)
    took.sort()
    print(f"changed service  p50 {1e3 * took[100]:.1f} ms, p99 {1e3 * took[198]:.1f} ms from event to answer")


def main() -> None:
    if len(sys.argv) > 2:
        raise SystemExit(__doc__)
    print(f"{NAMESPACES} namespaces, {SERVICES} services, {ENDPOINTS} endpoints; {os.cpu_count()} cores")
    can_tunnel = "--tunnel" in sys.argv
    with tempfile.TemporaryDirectory() as place:
        run(Path(place), tunnel=can_tunnel)


if __name__ == "__main__":
    main()
