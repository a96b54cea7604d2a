"""How long an empty stage takes, from its start to its end. Needs root."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 10


def main() -> None:
    for title, options in (("stage", []), ("stage with the stand-in for the internet", ["--internet"])):
        taken = []
        for _ in range(RUNS):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-m", "resolverd.demo.stage", *options, "--", "true"], check=True)
            taken.append(time.perf_counter() - began)
        print(f"{title}: median {statistics.median(taken):.2f} s, worst {max(taken):.2f} s of {RUNS}")


if __name__ == "__main__":
    main()
