"""Models, queues and runs."""

from panels import Dashboard, Panel, quantiles, rate, ratio

DASHBOARD = Dashboard(
    "hotpath",
    "Triptych: hot path",
    {
        "Models": [
            Panel(
                "State",
                "short",
                {"{{instance}} {{model}} {{state}}": "hotpath_model_state == 1"},
                "ready, loading or failed.",
            ),
            Panel(
                "Inputs",
                "short",
                {"{{model}} {{outcome}}": rate("hotpath_inputs_total", "model, outcome")},
                "Texts a second, by what became of them.",
            ),
            Panel(
                "Failed runs",
                "short",
                {"{{model}}": rate("hotpath_run_failures_total", "model")},
                "A run that fails is made again, one input at a time.",
            ),
        ],
        "Queues": [
            Panel(
                "Tokens that wait",
                "short",
                {"{{instance}} {{model}}": "hotpath_queued_tokens"},
                "What the scale of hot paths should follow.",
            ),
            Panel(
                "Inputs",
                "short",
                {
                    "{{model}} wait": "sum by (model) (hotpath_queued_inputs)",
                    "{{model}} run": "sum by (model) (hotpath_running_inputs)",
                },
                "Of encoders.",
            ),
            Panel(
                "Time in the queue",
                "s",
                quantiles("hotpath_queue_seconds", "method"),
                "Until the first input, or the first chunk of a prompt, runs.",
            ),
        ],
        "Encoders": [
            Panel("Time of a run", "s", quantiles("hotpath_inference_seconds", "model"), "Of a session."),
            Panel(
                "Inputs of a run",
                "short",
                {"{{model}}": ratio("hotpath_batch_inputs_sum", "hotpath_batch_inputs_count", "model")},
                "On average: more of them where more wait.",
            ),
            Panel(
                "Tokens of a run",
                "short",
                {"{{model}}": ratio("hotpath_batch_tokens_sum", "hotpath_batch_tokens_count", "model")},
                "On average. Nothing is padded.",
            ),
        ],
        "Generation": [
            Panel(
                "Generations",
                "short",
                {
                    "wait": "sum(hotpath_queued_generations)",
                    "read their prompts": "sum(hotpath_prefilling_generations)",
                    "rows that speak": "sum(hotpath_decoding_rows)",
                    "parked rows": "sum(hotpath_parked_rows)",
                },
                "Now. A parked row waits for who reads it.",
            ),
            Panel(
                "Ends",
                "short",
                {"{{model}} {{outcome}}": rate("hotpath_generations_total", "model, outcome")},
                "Generations a second, by what became of them.",
            ),
            Panel("Time to the first token", "s", quantiles("hotpath_first_token_seconds", "model"), "From the call."),
            Panel(
                "Tokens",
                "short",
                {
                    "prompt": "sum(rate(hotpath_prompt_tokens_total[$__rate_interval]))",
                    "reused": "sum(rate(hotpath_reused_tokens_total[$__rate_interval]))",
                    "generated": "sum(rate(hotpath_generated_tokens_total[$__rate_interval]))",
                },
                "A second.",
            ),
            Panel(
                "Accepted drafts",
                "percentunit",
                {"{{model}}": ratio("hotpath_accepted_tokens_total", "hotpath_drafted_tokens_total", "model")},
                "Of the tokens that were guessed, those that the model says too.",
            ),
            Panel(
                "Time of a step",
                "s",
                quantiles("hotpath_decode_seconds", "model"),
                "Each row says at least one token in it.",
            ),
            Panel(
                "Time of a chunk",
                "s",
                quantiles("hotpath_prefill_seconds", "model"),
                "Of a prompt: so long speakers wait at most.",
            ),
            Panel(
                "Rows of a step",
                "short",
                {"{{model}}": ratio("hotpath_decode_rows_sum", "hotpath_decode_rows_count", "model")},
                "On average.",
            ),
            Panel(
                "Cache",
                "short",
                {"reserved": "sum(hotpath_reserved_tokens)", "kept for reuse": "sum(hotpath_kept_tokens)"},
                "In tokens: what running generations may need, and what later ones may reuse.",
            ),
            Panel(
                "Formats",
                "bytes",
                {"cache": "sum(hotpath_format_cache_bytes)", "texts": "sum(hotpath_format_text_bytes)"},
                "What compiled schemas take.",
            ),
        ],
        "The process": [
            Panel(
                "Calls",
                "reqps",
                {"{{method}} {{code}}": rate("hotpath_grpc_requests_total", "method, code")},
                "By method and gRPC's code.",
            ),
            Panel(
                "Spans",
                "short",
                {
                    "taken": "sum(rate(hotpath_trace_spans_exported_total[$__rate_interval]))",
                    "{{why}}": rate("hotpath_trace_spans_dropped_total", "why"),
                },
                "A second: what the collector of traces took, and what was lost.",
            ),
        ],
    },
)
