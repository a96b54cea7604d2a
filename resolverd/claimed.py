"""What a daemon has of its host for as long as it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from resolverd.host import ResolverBackend
from resolverd.sockets import Listening
from resolverd_platform.suffix_list import PublicSuffixes
from resolverd_tunnel.device_linux import Device


@dataclass(frozen=True, slots=True)
class Host:
    """What was chosen and made on this host before anything runs."""

    backend: ResolverBackend
    reason: str
    """Why this back end."""
    device: Device | None
    listening: Listening
    suffixes: PublicSuffixes
    scratch: Path
    """A folder for temporary folders."""
    lock: int
    """The descriptor of the state directory's lock: workers keep it, so that the next daemon, or who cleans up, waits
    until they have let go of the device and the sockets."""
    also: Listening | None = None
    """Where the DNS server listens besides: at an address of the other family."""

    @property
    def is_exposed(self) -> bool:
        """Whether the DNS server listens where other hosts can ask it: neither on loopback nor on our own device."""
        address = self.listening.server.address
        own = self.device.addresses if self.device else ()
        return not (address.is_loopback or str(address) in own)
