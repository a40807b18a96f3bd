"""Files, batches, jobs, webhooks."""

from panels import Dashboard, Panel, quantiles, rate

DASHBOARD = Dashboard(
    "durable",
    "Triptych: durable work",
    {
        "Queues": [
            Panel(
                "Jobs",
                "short",
                {"{{queue}} {{state}}": "max by (queue, state) (gateway_jobs)"},
                "Of all gateways that share a store.",
            ),
            Panel(
                "Ends",
                "short",
                {"{{queue}} {{outcome}}": rate("gateway_ended_jobs_total", "queue, outcome")},
                "Jobs a second, by what became of them.",
            ),
            Panel(
                "Time of a job",
                "s",
                quantiles("gateway_job_seconds", "queue"),
                "Of one attempt: a segment of a batch, a job, a delivery.",
            ),
        ],
        "Webhooks and people": [
            Panel(
                "Attempts",
                "short",
                {"{{outcome}}": rate("gateway_webhook_attempts_total", "outcome")},
                "Deliveries a second, by what came of them.",
            ),
            Panel(
                "Deliveries that wait",
                "short",
                {
                    "deliveries": "max(gateway_webhook_pending_deliveries)",
                    "age of the oldest, s": "max(gateway_webhook_oldest_pending_seconds)",
                },
                "A receiver that is away has some.",
            ),
            Panel(
                "Texts that wait for people",
                "short",
                {
                    "texts": "max(gateway_moderation_pending_reviews)",
                    "age of the oldest, s": "max(gateway_moderation_oldest_pending_review_seconds)",
                },
                "Moderations between two thresholds.",
            ),
        ],
        "Storage": [
            Panel(
                "Room",
                "bytes",
                {"{{instance}}": "gateway_storage_free_bytes"},
                "Below --min-free-bytes nothing new is taken.",
            ),
            Panel("Files", "bytes", {"bytes": "max(gateway_stored_bytes)"}, "Of all tenants, counted once a minute."),
            Panel(
                "Number of files",
                "short",
                {"files": "max(gateway_stored_files)"},
                "Of all tenants, counted once a minute.",
            ),
        ],
    },
)
