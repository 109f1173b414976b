"""Metrics are made once and rendered for Prometheus."""

import pytest

from machinery.kit.metrics import Metrics


def test_same_name_same_metric() -> None:
    metrics = Metrics()
    metrics.counter("requests_total", "Requests.", ["verb"]).labels("get").inc()
    metrics.counter("requests_total", "Requests.", ["verb"]).labels("get").inc()
    metrics.histogram("wait_seconds", "Waiting.").observe(0.2)
    metrics.gauge("depth", "Depth.").set(3)
    text = metrics.render().decode()
    assert 'requests_total{verb="get"} 2.0' in text
    assert 'wait_seconds_bucket{le="0.25"} 1.0' in text
    assert "depth 3.0" in text
    assert "process_resident_memory_bytes" in text


def test_same_name_other_kind() -> None:
    metrics = Metrics()
    metrics.counter("a_total", "A.")
    with pytest.raises(TypeError, match="already a Counter"):
        metrics.gauge("a_total", "A.")


def shown(metrics: Metrics, name: str) -> list[str]:
    """The lines of a metric."""
    lines = metrics.render().decode().splitlines()
    return [line for line in lines if line.startswith(name)]


def test_a_histogram_counts_what_is_at_most_as_big() -> None:
    metrics = Metrics()
    wait = metrics.histogram("wait_seconds", "Waiting.", ["queue"], buckets=(0.5, 2)).labels("a")
    for seconds in (0.25, 0.5, 1.0, 8.0):
        wait.observe(seconds)
    assert shown(metrics, "wait_seconds") == [
        'wait_seconds_bucket{le="0.5",queue="a"} 2.0',
        'wait_seconds_bucket{le="2.0",queue="a"} 3.0',
        'wait_seconds_bucket{le="+Inf",queue="a"} 4.0',
        'wait_seconds_count{queue="a"} 4.0',
        'wait_seconds_sum{queue="a"} 9.75',
    ]


def test_what_was_not_counted_yet() -> None:
    """Without labels there is one series from the start, with labels none before it is asked for."""
    metrics = Metrics()
    metrics.counter("lost_total", "Lost.")
    metrics.gauge("active", "At work.", ["who"])
    assert shown(metrics, "lost_total") == ["lost_total 0.0"]
    assert shown(metrics, "active") == []


def test_labels_are_counted() -> None:
    metrics = Metrics()
    with pytest.raises(ValueError, match="has the labels"):
        metrics.counter("lost_total", "Lost.", ["who"]).labels("a", "b")
