"""A stand-in for the programs of a Mac, which reads the folder as configd does. Its words are those of public reports.

The text of scutil, route and ifconfig follows what people printed in issues and in Apple's manual pages; nothing here
was recorded by us.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from resolverd.errors import HostError
from resolverd_platform.command import Finished

SCUTIL_HEAD = """DNS configuration

resolver #1
  search domain[0] : fritz.box
  nameserver[0] : 192.168.10.1
  nameserver[1] : fde2:c0d2:6cb1:0:62b5:8dff:fecc:bddf
  nameserver[2] : fe80::1%en0
  if_index : 14 (en0)
  flags    : Request A records, Request AAAA records
  reach    : 0x00020002 (Reachable,Directly Reachable Address)

resolver #2
  domain   : corp.example.com
  nameserver[0] : 172.31.66.13
  if_index : 18 (utun4)
  flags    : Supplemental, Request A records, Request AAAA records
  reach    : 0x00000002 (Reachable)
  order    : 102200

resolver #3
  domain   : 64.100.in-addr.arpa.
  nameserver[0] : 100.100.100.100
  if_index : 28 (utun3)
  flags    : Supplemental, Request A records, Request AAAA records
  order    : 103002

resolver #4
  domain   : local
  options  : mdns
  timeout  : 5
  flags    : Request A records, Request AAAA records
  reach    : 0x00000000 (Not Reachable)
  order    : 300000
"""
SCUTIL_TAIL = """
DNS configuration (for scoped queries)

resolver #1
  search domain[0] : scoped.example.org
  nameserver[0] : 9.9.9.9
  if_index : 14 (en0)
  flags    : Scoped, Request A records
"""
ROUTE = """   route to: default
destination: default
       mask: default
    gateway: 192.168.10.254
  interface: en0
      flags: <UP,GATEWAY,DONE,STATIC,PRCLONING,GLOBAL>
 recvpipe  sendpipe  ssthresh  rtt,msec    rttvar  hopcount      mtu     expire
       0         0         0         0         0         0      1500         0
"""
IFCONFIG = """lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384
\toptions=1203<RXCSUM,TXCSUM,TXSTATUS,SW_TIMESTAMP>
\tinet 127.0.0.1 netmask 0xff000000
\tinet6 ::1 prefixlen 128
\tinet6 fe80::1%lo0 prefixlen 64 scopeid 0x1
gif0: flags=8010<POINTOPOINT,MULTICAST> mtu 1280
en0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\tether dc:a9:04:90:64:08
\tinet6 fe80::bb:28d9:f87f:a606%en0 prefixlen 64 secured scopeid 0x4
\tinet6 2001:db8:1::25 prefixlen 64 autoconf secured
\tinet 192.168.10.171 netmask 0xffffff00 broadcast 192.168.10.255
\tmedia: autoselect
\tstatus: active
en7: flags=8822<BROADCAST,SMART,SIMPLEX,MULTICAST> mtu 1500
\tinet 10.9.9.9 netmask 0xffffff00 broadcast 10.9.9.255
utun4: flags=8051<UP,POINTOPOINT,RUNNING,MULTICAST> mtu 1400
\tinet 10.8.0.6 --> 10.8.0.5 netmask 0xffffffff
utun9: flags=8051<UP,POINTOPOINT,RUNNING,MULTICAST> mtu 65535
\tinet 198.18.53.1 --> 198.18.53.2 netmask 0xffffffff
"""


@dataclass
class MacDouble:
    """Runs the four programs; ``folder`` is its /etc/resolver."""

    folder: Path
    commands: list[str] = field(default_factory=list)
    failing: dict[str, Finished | HostError] = field(default_factory=dict)
    """Program -> how it ends."""

    async def __call__(self, *command: str) -> Finished:
        program = command[0].rpartition("/")[2]
        self.commands.append(" ".join((program, *command[1:])))
        failure = self.failing.get(program)
        if isinstance(failure, HostError):
            raise failure
        if failure is not None:
            return failure
        if program == "scutil":
            return Finished(0, SCUTIL_HEAD + self._from_files() + SCUTIL_TAIL, "")
        if program == "route" and "-inet6" in command:
            return Finished(1, "", "route: writing to routing socket: not in table\n")
        return Finished(0, {"route": ROUTE, "ifconfig": IFCONFIG}.get(program, ""), "")

    def flushes(self) -> list[str]:
        """Those since the last look."""
        seen, self.commands = self.commands, []
        return [command for command in seen if command.startswith(("dscacheutil", "killall"))]

    def _from_files(self) -> str:
        """As configd shows a client for each file: without an interface."""
        blocks = []
        for number, path in enumerate(sorted(self.folder.iterdir()) if self.folder.is_dir() else [], start=5):
            lines = path.read_text().splitlines() if path.is_file() else []
            said = dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
            block = [f"resolver #{number}", f"  domain   : {said.get('domain', path.name)}"]
            block += [f"  search domain[{n}] : {name}" for n, name in enumerate(said.get("search", "").split())]
            block += [f"  nameserver[0] : {said['nameserver']}"] if "nameserver" in said else []
            block += [f"  port     : {said['port']}"] if "port" in said else []
            blocks.append("\n".join([*block, "  flags    : Request A records, Request AAAA records", ""]))
        return "".join(f"\n{block}" for block in blocks)
