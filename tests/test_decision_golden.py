"""What ``resolverd why`` prints, as a page to read: ``tests/golden/why.txt``.

After a change that is meant, write it anew: ``python tests/test_decision_golden.py``, and read what differs.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))

import pytest
from decisions import HOST, decider, explained, loaded

from resolverd.cli.why_table import lines
from resolverd.host import Capabilities, OtherLink

WIDTH = 80
PAGE = Path(__file__).parent / "golden" / "why.txt"
CONFIG = """\
dns:
  include-suffixes: [.corp.internal, .my-org.dev, .git.io]
  exclude-suffixes:
    - .com
    - .io
    - .old.corp.internal
    - .billing
  excludes: [metrics.shop]
  mappings:
    - {name: db.local-dev, alias-for: db.shop.svc.cluster.local}
  allow-collisions: [web]
"""
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: dev-cluster
contexts: [{name: dev-cluster, context: {cluster: dev}}]
clusters:
- name: dev
  cluster:
    extensions:
    - name: telepresence.io
      extension: {never-proxy: [10.9.0.0/16], dns: {lookup-timeout: 3s}}
"""
LEGEND = """\
Rule       what decides
From       where that was written, or who in the cluster says so
Why        the same in words; in brackets, why a namespace is withheld
Overruled  what matched too, and why it did not decide
Still      names that reach such a namespace all the same
Host asks  where this host sends the question, and why there
To change  what to put into the config file for another decision
"""
NAMESPACES = ("billing", "db", "dev", "home", "rs", "shop", "vpn", "web")
VPN = Capabilities("systemd-resolved", other_links=(OtherLink("wg0", routing=("vpn",)),), host_search=("home",))
NAMES = (
    ("The cluster's own names", ("web.shop.svc.cluster.local", "web.shop.svc", "web.shop", "web", "10.96.0.7")),
    ("A namespace that has the name of something else", ("docs.rs", "web.dev", "nas.home", "host.vpn", "x.web")),
    ("Names of the internet", ("github.com", "example.org", "a.b.co.uk", "www.mongodb", "127.0.0.1")),
    ("What you gave to the cluster", ("git.corp.internal", "api.my-org.dev", "x.git.io", "db.local-dev")),
    ("What you took from it", ("x.old.corp.internal", "invoices.billing", "metrics.shop", "io", "wpad.shop")),
    ("Not quite a name", ("shop",)),
)


def page(folder: Path) -> Iterator[str]:
    settings = loaded(folder, CONFIG, KUBECONFIG)
    origins = {name: origin.replace(f"{folder}/", "") for name, origin in settings.origins.items()}
    one = decider(settings.settings, *NAMESPACES, origins=origins, host=VPN)
    yield "What `resolverd why` says, name by name."
    yield f"The cluster has the namespaces {', '.join(NAMESPACES)}."
    yield "Single labels are looked for in shop, the context's namespace. The host searches"
    yield "home, and a VPN on wg0 answers for vpn. The config file is:"
    yield ""
    yield from (f"    {number:2}  {line}" for number, line in enumerate(CONFIG.splitlines(), 1))
    yield from ("", "What the lines say:", "", *(f"    {line}" for line in LEGEND.splitlines()))
    for title, names in NAMES:
        yield from ("", f"## {title}")
        for name in names:
            yield from ("", f"$ resolverd why {name}")
            yield from lines(explained(name, one, VPN))


def text() -> str:
    with tempfile.TemporaryDirectory() as folder:
        return "\n".join(page(Path(folder))) + "\n"


def test_the_page_is_what_it_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    assert text() == PAGE.read_text()


def test_it_fits_a_terminal() -> None:
    assert max(map(len, PAGE.read_text().splitlines())) <= WIDTH
    assert sum(len(names) for _, names in NAMES) == 25
    assert VPN != HOST


if __name__ == "__main__":
    os.environ["COLUMNS"] = str(WIDTH)
    PAGE.write_text(text())
    print(f"{PAGE} is written")
