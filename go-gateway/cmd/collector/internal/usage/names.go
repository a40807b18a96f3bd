package usage

// Names of what the stack's spans have. They are the gateway's and the hot path's: internal/tracing/conventions.go and genai.go
// there, crates/server/src/traces/conventions.rs here. tests/e2e/test_collector.py goes red where they part.
const (
	gatewayScope = "triptych.dev/gateway"
	hotpathScope = "triptych.dev/hotpath"

	requestIDKey = "triptych.request.id"
	tenantKey    = "triptych.tenant"
	outcomeKey   = "triptych.outcome"
	inputsKey    = "triptych.inputs"

	operationKey    = "gen_ai.operation.name"
	modelKey        = "gen_ai.request.model"
	inputTokensKey  = "gen_ai.usage.input_tokens"
	cachedTokensKey = "gen_ai.usage.cache_read.input_tokens"
	outputTokensKey = "gen_ai.usage.output_tokens"
	finishesKey     = "gen_ai.response.finish_reasons"
	firstChunkKey   = "gen_ai.response.time_to_first_chunk"

	routeKey  = "http.route"
	statusKey = "http.response.status_code"
)

// Names that only records have.
const (
	eventName  = "triptych.usage"
	requestKey = "triptych.request" // the name of its span: "POST /v1/embeddings", "execute /v1/embeddings"
	callsKey   = "triptych.calls"   // of hot paths
	secondsKey = "triptych.seconds."
	total      = "total"
)

// phases are parts of a request's time by the names of their spans, and as records have them.
var phases = map[string]string{
	"authenticate": "authenticate", "receive body": "receive_body", "admit": "admit", "stream": "stream", // the gateway's
	"tokenize": "tokenize", "format": "format", "queue": "queue", "inference": "inference", "prefill": "prefill", "decode": "decode",
}
