"""dnsperf as the load: queries per second, and how long answers take."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """What one run of dnsperf saw; latencies in microseconds."""

    rate: float
    lost: int
    latencies: tuple[float, ...] = ()

    def percentile(self, part: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(int(part * len(ordered)), len(ordered) - 1)]


def require(*programs: str) -> None:
    """Ends the program when one is missing."""
    for program in programs:
        if shutil.which(program) is None:
            raise SystemExit(
                f"{program} not found (apt-get install --no-install-recommends dnsperf dnsmasq-base unbound)"
            )


def saturate(address: str, port: int, questions: Path, seconds: int) -> Measured:
    """As many queries as the server answers, 100 outstanding for each of 10 clients."""
    return _run(address, port, questions, ("-l", str(seconds), "-c", "10", "-q", "100"))


def steady(address: str, port: int, questions: Path, seconds: int, rate: int) -> Measured:
    """``rate`` queries per second, each one's latency noted."""
    return _run(address, port, questions, ("-l", str(seconds), "-c", "10", "-Q", str(rate), "-v"))


def _run(address: str, port: int, questions: Path, load: tuple[str, ...]) -> Measured:
    # Ahead of all else on its core: a load that has to wait for its turn would call that the server's latency.
    ahead = ("chrt", "--rr", "1", "taskset", "-c", "1")
    command = [*ahead, "dnsperf", "-s", address, "-p", str(port), "-d", str(questions), *load]
    # A file, not a pipe: reading one along would take from the core that the load has.
    with tempfile.TemporaryFile("w+") as out:
        subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=True)
        out.seek(0)
        text = out.read()
    rate = re.search(r"Queries per second:\s+([\d.]+)", text)
    lost = re.search(r"Queries lost:\s+(\d+)", text)
    if rate is None or lost is None:
        raise SystemExit(f"dnsperf against {address} port {port}:\n{text[-2000:]}")
    if int(lost[1]) == 0 and "NOERROR " not in text:
        raise SystemExit(f"{address} port {port} answers with errors only:\n{text[-2000:]}")
    each = re.findall(r"^> NOERROR \S+ \S+ ([\d.]+)$", text, re.MULTILINE)
    return Measured(float(rate[1]), int(lost[1]), tuple(float(latency) * 1e6 for latency in each))
