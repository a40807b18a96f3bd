"""Who uses what, and who waits for whom."""

from panels import Dashboard, Panel, rate, ratio, top

DASHBOARD = Dashboard(
    "tenants",
    "Triptych: tenants",
    {
        "What they use": [
            Panel(
                "Requests",
                "reqps",
                {"{{tenant}}": top(rate("gateway_tenant_requests_total", "tenant"))},
                "The ten busiest. (other) are all that have no series of their own.",
            ),
            Panel(
                "Tokens",
                "short",
                {"{{tenant}}": top(rate("gateway_tokens_total", "tenant"))},
                "Charged ones, a second.",
            ),
            Panel(
                "Tokens by model",
                "short",
                {"{{model}}": rate("gateway_tokens_total", "model")},
                "Charged ones, a second, of all tenants.",
            ),
            Panel(
                "Generated tokens",
                "short",
                {"{{tenant}}": top(rate("gateway_generated_tokens_total", "tenant"))},
                "A second.",
            ),
            Panel(
                "Reused tokens",
                "percentunit",
                {"{{tenant}}": f"{top(ratio('gateway_cached_tokens_total', 'gateway_tokens_total', 'tenant'))}"},
                "Tokens whose computation was reused, of all that were charged.",
            ),
            Panel(
                "Streams",
                "short",
                {"{{tenant}}": top("sum by (tenant) (gateway_streams)")},
                "That are written now.",
            ),
        ],
        "What they take": [
            Panel(
                "Computing",
                "short",
                {
                    "{{tenant}}": top(
                        rate("gateway_tenant_seconds_total", "tenant", 'phase=~"inference|prefill|decode"')
                    )
                },
                "Seconds a second that their calls were computed. Those that share a run each have all of it.",
            ),
            Panel(
                "Waiting",
                "short",
                {"{{tenant}}": top(rate("gateway_tenant_seconds_total", "tenant", 'phase="queue"'))},
                "Seconds a second that their calls waited in queues of the hot paths: who waits for whom.",
            ),
            Panel(
                "Rows",
                "short",
                {"{{tenant}}": top(rate("gateway_tenant_row_seconds_total", "tenant"))},
                "How many rows of generating models they have, on average.",
            ),
        ],
        "What they are refused": [
            Panel(
                "By tenant",
                "reqps",
                {"{{tenant}} {{limit}}": top(rate("gateway_rate_limited_total", "tenant, limit"))},
                "429, and which limit of theirs it was.",
            ),
            Panel("By limit", "reqps", {"{{limit}}": rate("gateway_rate_limited_total", "limit")}, "Of all tenants."),
            Panel(
                "Not given back",
                "short",
                {"settlements": "sum(increase(gateway_dropped_settlements_total[1h]))"},
                "Of the last hour: Redis was away for too long.",
            ),
        ],
    },
)
