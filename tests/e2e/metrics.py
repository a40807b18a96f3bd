"""Metrics as Prometheus reads them."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from stack.description import Stack


def read(url: str) -> dict[str, float]:
    """Return every sample by its name, summed over labels."""
    return sum_by_name(httpx.get(url, timeout=10).raise_for_status().text)


def decoding(stack: Stack) -> float:
    """Continuations that the hot path is saying."""
    return read(stack.hotpath_metrics_url)["hotpath_decoding_rows"]


def generations(stack: Stack) -> dict[str, float]:
    """Generations that the hot path has ended, by what became of them."""
    text = httpx.get(stack.hotpath_metrics_url, timeout=10).raise_for_status().text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {entry.labels["outcome"]: entry.value for entry in samples if entry.name == "hotpath_generations_total"}


def charged_tokens(stack: Stack) -> dict[str, float]:
    """Tokens that each tenant was charged."""
    text = httpx.get(stack.metrics_url, timeout=10).raise_for_status().text
    sums: dict[str, float] = {}
    for sample in (sample for family in text_string_to_metric_families(text) for sample in family.samples):
        if sample.name == "gateway_tokens_total":
            sums[sample.labels["tenant"]] = sums.get(sample.labels["tenant"], 0) + sample.value
    return sums


def sum_by_name(text: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
    return sums
