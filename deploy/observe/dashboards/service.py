"""What clients notice, and the gateway."""

from panels import API, Dashboard, Panel, quantiles, rate

DASHBOARD = Dashboard(
    "service",
    "Triptych: service",
    {
        "Objectives": [
            Panel(
                "Failed requests",
                "percentunit",
                {
                    "of 5 minutes": "triptych:request_failures:ratio5m",
                    "of an hour": "triptych:request_failures:ratio1h",
                },
                "Requests that were answered with 5xx, for lack of room too. The objective is 0.5 % at most.",
            ),
            Panel(
                "Late first tokens",
                "percentunit",
                {
                    "of 5 minutes": "triptych:late_first_tokens:ratio5m",
                    "of an hour": "triptych:late_first_tokens:ratio1h",
                },
                "Generations whose first token took longer than 2.5 s. The objective is 5 % at most.",
            ),
            Panel(
                "Ready",
                "bool_yes_no",
                {"{{instance}}": "gateway_ready"},
                "Whether /readyz says yes: of each gateway.",
            ),
        ],
        "Requests": [
            Panel(
                "Requests",
                "reqps",
                {"{{route}}": rate("gateway_requests_total", "route", API)},
                "Answered ones, by route.",
            ),
            Panel(
                "Time of a request",
                "s",
                quantiles("gateway_request_seconds", "route", API),
                "From its headers to its end: of a stream that is its last event.",
            ),
            Panel(
                "Time to the first token",
                "s",
                quantiles("gateway_first_token_seconds", "model"),
                "From the end of a request's body.",
            ),
            Panel(
                "Refusals and failures",
                "reqps",
                {"{{status}} {{reason}}": rate("gateway_requests_total", "status, reason", f'{API}, reason!="OK"')},
                "By status and reason; docs/errors.md tells what each means.",
            ),
            Panel(
                "What is under way",
                "short",
                {"requests": "sum(gateway_inflight_requests)", "streams": "sum(gateway_streams)"},
                "Requests that are served now, and of these the streams that are written.",
            ),
            Panel(
                "Connections that were refused",
                "cps",
                {"{{listener}}": rate("gateway_refused_connections_total", "listener")},
                "Beyond what a listener, or an address, may have.",
            ),
        ],
        "Hot paths as gateways see them": [
            Panel(
                "Calls",
                "reqps",
                {"{{method}} {{outcome}}": rate("gateway_hotpath_seconds_count", "method, outcome")},
                "By method and what came of them, those by which the gateway tries models included.",
            ),
            Panel(
                "Time of a call",
                "s",
                quantiles("gateway_hotpath_seconds", "method"),
                "All attempts, each for itself.",
            ),
            Panel(
                "Load",
                "short",
                {
                    "{{replica}}": "gateway_replica_load_tokens",
                    "{{replica}}, of this gateway": "gateway_replica_outstanding_tokens",
                    "{{replica}}, calls": "gateway_replica_outstanding_calls",
                },
                "Tokens that wait or run, as each tells; and what a gateway waits for of each.",
            ),
            Panel(
                "Connected and ejected",
                "bool_yes_no",
                {
                    "{{replica}} connected": "gateway_replica_connected",
                    "{{replica}} ejected": "gateway_replica_ejected",
                },
                "One that is ejected gets no calls until a trial succeeds.",
            ),
            Panel(
                "Ejections and retries",
                "cps",
                {
                    "ejections {{replica}}": rate("gateway_replica_ejections_total", "replica"),
                    "retries {{replica}}": rate("gateway_replica_retries_total", "replica"),
                    "refused retries": "sum(rate(gateway_refused_retries_total[$__rate_interval]))",
                },
                "A call is made elsewhere only where nothing was executed, and only so often.",
            ),
            Panel(
                "Refused without asking",
                "reqps",
                {"known to be full": "sum(rate(gateway_known_full_total[$__rate_interval]))"},
                "Each hot path had just refused the like of them.",
            ),
        ],
        "The gateway itself": [
            Panel(
                "Processors",
                "short",
                {"{{instance}}": 'rate(process_cpu_seconds_total{job="gateway"}[$__rate_interval])'},
                "How many it takes.",
            ),
            Panel(
                "Memory",
                "bytes",
                {"{{instance}}": 'process_resident_memory_bytes{job="gateway"}'},
                "What the system has given it.",
            ),
            Panel(
                "Limits and settings",
                "short",
                {
                    "a local share holds": "gateway_limits_degraded",
                    "{{source}} is stale, s": "gateway_source_stale_seconds",
                },
                "Redis is away; a file or the database cannot be read, and what was good last stays in force.",
            ),
            Panel(
                "Spans",
                "short",
                {
                    "taken": "sum(rate(gateway_trace_spans_exported_total[$__rate_interval]))",
                    "{{why}}": rate("gateway_trace_spans_dropped_total", "why"),
                },
                "A second: what the collector of traces took, and what was lost.",
            ),
            Panel(
                "Certificate",
                "s",
                {"{{instance}}": "gateway_certificate_end_timestamp_seconds - time()"},
                "Until it ends, where the gateway has one.",
            ),
        ],
    },
)
