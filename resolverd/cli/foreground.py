"""``resolverd run``."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from resolverd import config, logs, start
from resolverd.errors import ResolverdError

log = logging.getLogger(__name__)


def run_daemon(file: str, flags: dict[str, Any]) -> int:
    """Run until stopped; 0 then. ResolverdError when it cannot start or go on."""
    level = config.load(file, flags).settings.daemon.log_level
    logs.configure(level)
    try:
        asyncio.run(start.run(lambda: _read(file, flags)))
    except asyncio.CancelledError:
        log.info("stopped before it had begun")
    except ResolverdError:
        log.debug("the error in full", exc_info=True)
        raise
    return 0


def _read(file: str, flags: dict[str, Any]) -> config.Loaded:
    loaded = config.load(file, flags)
    for note in loaded.notes:
        log.info("config: %s", note)
    return loaded
