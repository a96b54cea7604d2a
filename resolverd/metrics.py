"""The status document as Prometheus text: what counts up, what is so now, and how long answers take.

Values are read when they are asked for; the processes count by themselves anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

CONTENT_TYPE = CONTENT_TYPE_LATEST


class _Document(Collector):
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def collect(self) -> Iterator[Metric]:
        document = self._document
        yield _info(document)
        yield _gauge("resolverd_healthy", "Whether every check holds.", document["state"] == "healthy")
        checks = GaugeMetricFamily("resolverd_check", "Whether one check holds.", labels=["id"])
        for check in document["checks"]:
            checks.add_metric([check["id"]], int(check["ok"]))
        yield checks
        yield from _dns(document["dns"])
        yield from _cluster(document["cluster"])
        yield from _tunnel(document["tunnel"])
        yield from _host(document["host"])


def text(document: Mapping[str, Any]) -> bytes:
    """``document``, as ``status`` has it, for GET /metrics."""
    registry = CollectorRegistry()
    registry.register(_Document(document))
    return generate_latest(registry)


def _info(document: Mapping[str, Any]) -> Metric:
    info = GaugeMetricFamily("resolverd_info", "Which version runs.", labels=["version", "backend"])
    info.add_metric([document["version"], document["host"]["backend"]], 1)
    return info


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(name, about, value=float(value))


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(name, about, value=float(value))


def _dns(dns: Mapping[str, Any]) -> Iterator[Metric]:
    answers = CounterMetricFamily("resolverd_dns_queries", "Answers sent.", labels=["type", "rcode", "rule"])
    for each in dns.get("answers", ()):
        answers.add_metric([each["type"], each["rcode"], each["rule"]], each["count"])
    yield answers
    if latency := dns.get("latency"):
        yield _histogram(latency)
    yield _counter("resolverd_dns_memo_hits", "Answers that were repeated.", dns.get("memo-hits", 0))
    yield _gauge("resolverd_dns_memo_entries", "Answers that are kept.", dns.get("memo", 0))
    yield _counter("resolverd_dns_lost_replies", "Replies the system did not take.", dns.get("lost-replies", 0))
    forwarded = CounterMetricFamily("resolverd_dns_forwarded", "Questions for others.", labels=["result"])
    for result, count in dns.get("forwarded", {}).items():
        forwarded.add_metric([result], count)
    yield forwarded


def _histogram(latency: Mapping[str, Any]) -> Metric:
    total, buckets = 0, []
    for bound, count in zip([*map(str, latency["bounds"]), "+Inf"], latency["counts"], strict=True):
        total += count
        buckets.append((bound, float(total)))
    about = "Seconds from reading a question to sending its answer."
    return HistogramMetricFamily("resolverd_dns_latency_seconds", about, buckets=buckets, sum_value=latency["sum"])


def _cluster(cluster: Mapping[str, Any]) -> Iterator[Metric]:
    yield _gauge("resolverd_cluster_synced", "Whether the cluster has been listed.", cluster["synced"])
    yield _gauge("resolverd_cluster_away", "Whether the API server is away.", cluster["away"])
    yield _gauge("resolverd_cluster_age_seconds", "Age of what is known while it is away.", cluster["age"])
    yield _gauge("resolverd_cluster_watches", "Watches that are open.", cluster["watches"])
    yield _counter("resolverd_cluster_watches_begun", "Watches begun, reconnects included.", cluster["watches-begun"])
    yield _counter("resolverd_cluster_requests", "Requests to the API server.", cluster["requests"])
    yield _counter("resolverd_cluster_events", "Changes taken in.", cluster["events"])
    objects = GaugeMetricFamily("resolverd_cluster_objects", "What is known.", labels=["kind"])
    for kind in ("namespaces", "services", "endpoints"):
        objects.add_metric([kind], cluster[kind])
    yield objects


def _tunnel(tunnel: Mapping[str, Any]) -> Iterator[Metric]:
    yield _gauge("resolverd_tunnel_ready", "Whether connections can be made.", tunnel["state"] in ("ready", "direct"))
    yield _gauge("resolverd_tunnel_streams", "Open connections.", tunnel["streams"])
    yield _gauge("resolverd_tunnel_routes", "Routes into the tunnel.", len(tunnel["routes"]))
    yield _counter("resolverd_tunnel_bytes", "Octets carried, both directions.", tunnel.get("bytes", 0))
    yield _counter("resolverd_tunnel_turned_away", "Connections above the limit.", tunnel.get("turned-away", 0))
    dropped = CounterMetricFamily("resolverd_tunnel_packets_dropped", "Packets nobody takes.", labels=["reason"])
    for reason, count in tunnel.get("dropped", {}).items():
        dropped.add_metric([str(reason)], count)
    yield dropped


def _host(host: Mapping[str, Any]) -> Iterator[Metric]:
    yield _gauge("resolverd_host_domains", "Domains the host's resolver sends us.", len(host["domains"]))
    withheld = GaugeMetricFamily("resolverd_host_withheld", "Domains that are not taken.", labels=["reason"])
    counts: dict[str, int] = {}
    for item in host["withheld"]:
        counts[item["reason"]] = counts.get(item["reason"], 0) + 1
    for reason, count in counts.items():
        withheld.add_metric([reason], count)
    yield withheld
    yield _gauge("resolverd_host_withdrawn", "Whether all was taken back.", host["withdrawn"] is not None)
