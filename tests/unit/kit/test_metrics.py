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
