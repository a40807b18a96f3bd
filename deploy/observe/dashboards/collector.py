"""The collector of traces: what came, what was kept, what is lost."""

from panels import Dashboard, Panel, rate

TAIL = "otelcol_processor_tail_sampling"

DASHBOARD = Dashboard(
    "collector",
    "Triptych: collector",
    {
        "Spans": [
            Panel(
                "Spans that came",
                "short",
                {
                    "taken": rate("otelcol_receiver_accepted_spans_total", "instance"),
                    "refused": rate("otelcol_receiver_refused_spans_total", "instance"),
                },
                "A second. What is refused, for lack of memory, is in no record; its sender counts it as not_exported.",
            ),
            Panel(
                "Traces",
                "short",
                {
                    "kept: {{sampled}}": rate(f"{TAIL}_global_count_traces_sampled_total", "sampled"),
                },
                "A second, once it was decided: those with an error, slow ones, and a share of the rest are kept.",
            ),
            Panel(
                "Traces in memory",
                "short",
                {"{{instance}}": f"{TAIL}_sampling_traces_on_memory"},
                "Those that wait for their decision, and those of late that were decided.",
            ),
        ],
        "Ways out": [
            Panel(
                "Sent",
                "short",
                {
                    "spans, {{exporter}}": rate("otelcol_exporter_sent_spans_total", "exporter"),
                    "records, {{exporter}}": rate("otelcol_exporter_sent_log_records_total", "exporter"),
                },
                "A second: to files, and to a store of traces.",
            ),
            Panel(
                "Not sent",
                "short",
                {
                    "no room, {{exporter}}": rate("otelcol_exporter_enqueue_failed_spans_total", "exporter"),
                    "given up, {{exporter}}": rate("otelcol_exporter_send_failed_spans_total", "exporter"),
                    "records, {{exporter}}": rate("otelcol_exporter_send_failed_log_records_total", "exporter"),
                },
                "A second. Spans are lost there; records are tried again.",
            ),
            Panel(
                "Queue",
                "short",
                {
                    "{{exporter}}": "otelcol_exporter_queue_size",
                    "{{exporter}}, at most": "otelcol_exporter_queue_capacity",
                },
                "Batches that wait for a store that is away, or slow.",
            ),
        ],
        "Records of usage": [
            Panel(
                "Records",
                "short",
                {"{{outcome}}": rate("collector_usage_requests_total", "outcome")},
                "A second, one for each request, by what became of it.",
            ),
            Panel(
                "Tokens",
                "short",
                {"{{kind}}": rate("collector_usage_tokens_total", "kind")},
                "A second, in records.",
            ),
            Panel(
                "What waits",
                "short",
                {
                    "spans": "sum(collector_usage_spans)",
                    "records": "sum(collector_usage_unsent)",
                    "requests that are remembered": "sum(collector_usage_remembered)",
                },
                "Spans for the rest of their request; records for their file; and what would be known again.",
            ),
            Panel(
                "What is missing",
                "short",
                {
                    "made too early": "sum(rate(collector_usage_early_total[$__rate_interval]))",
                    "records that are lost": "sum(rate(collector_usage_lost_total[$__rate_interval]))",
                    "spans in none, {{why}}": rate("collector_usage_discarded_spans_total", "why"),
                },
                "A second. Some spans are in none: the work of a job is no request.",
            ),
            Panel(
                "What looked like a key",
                "short",
                {"{{instance}}": rate("collector_redacted_total", "instance")},
                "A second. Nothing of this stack writes one.",
            ),
        ],
        "The collector itself": [
            Panel(
                "Processors",
                "short",
                {"{{instance}}": "rate(otelcol_process_cpu_seconds_total[$__rate_interval])"},
                "How many it takes.",
            ),
            Panel(
                "Memory",
                "bytes",
                {"{{instance}}": "otelcol_process_memory_rss_bytes"},
                "What the system has given it.",
            ),
        ],
    },
)
