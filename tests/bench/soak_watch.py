"""The watch under every fault there is, for as long as wanted: does what is known end up as the truth, and how soon.

``--minutes 5`` and ``--seed N``. Exit code 1 when a divergence outlived its fault by more than five seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from watch_soak import LONGEST, soaking


async def soak(minutes: float, seed: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        async with soaking(Path(folder), seed) as one:
            await one.run(60 * minutes, 2.0)
            load = one.follower.load
            print(f"{'fault':<24}{'times':>7}{'worst, s':>10}")
            for name in sorted(one.worst):
                print(f"{name:<24}{one.counts[name]:>7}{one.worst[name]:>10.2f}")
            print(f"{load.requests} requests, {load.watches} watches open, {one.follower.events} changes read")
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"peak memory {peak:.0f} MiB, demo cluster included")
            return int(max(one.worst.values()) > LONGEST)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=20261121)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    return asyncio.run(soak(given.minutes, given.seed))


if __name__ == "__main__":
    sys.exit(main())
