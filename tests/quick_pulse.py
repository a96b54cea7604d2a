"""Runs a Python program with a pulse four times as fast: ``quick_pulse.py PYTHON -m MODULE ARGUMENTS``."""

import runpy
import sys

from resolverd_tunnel import pulse

for name in ("INTERVAL", "IDLE_INTERVAL", "PATIENCE", "UNACKNOWLEDGED_LIMIT", "PAUSE"):
    setattr(pulse, name, getattr(pulse, name) / 4)
module = sys.argv[3]
sys.argv[:] = [module, *sys.argv[4:]]
runpy.run_module(module, run_name="__main__", alter_sys=True)
