package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// What OpenTelemetry's conventions for generative AI call things, in version 1.41.0: the last one that the general
// conventions had. They are in development, have moved to a repository of their own, and change; so they are here alone,
// and written out. Of what they have, whatever is a text (messages, instructions, documents) is left out.
const (
	operationKey    = attribute.Key("gen_ai.operation.name")
	providerKey     = attribute.Key("gen_ai.provider.name")
	modelKey        = attribute.Key("gen_ai.request.model")
	inputTokensKey  = attribute.Key("gen_ai.usage.input_tokens")
	cachedTokensKey = attribute.Key("gen_ai.usage.cache_read.input_tokens")
	outputTokensKey = attribute.Key("gen_ai.usage.output_tokens")
	finishesKey     = attribute.Key("gen_ai.response.finish_reasons")
	firstChunkKey   = attribute.Key("gen_ai.response.time_to_first_chunk") // seconds

	inputsKey = attribute.Key("triptych.inputs") // they have no name for it

	provider = "triptych"
)

// Operation is what is asked of a model. The first three are of the conventions, which let others be added.
type Operation string

// The operations.
const (
	Chat           Operation = "chat"
	TextCompletion Operation = "text_completion"
	Embeddings     Operation = "embeddings"
	Classification Operation = "classification"
	Tokenization   Operation = "tokenization"
)

// Inference is what a call of a model used, as far as it came. What is zero is not known, or there is none of it.
type Inference struct {
	// Model is empty where it is not known that there is such a one: then its name is what a client chose to send.
	Model         string
	Inputs        int
	InputTokens   uint64 // with those whose computation was reused
	CachedTokens  uint64 // of them
	OutputTokens  uint64
	FinishReasons []string // each of a bounded number
	FirstToken    time.Duration
}

func (i *Inference) attributes() []attribute.KeyValue {
	attributes := make([]attribute.KeyValue, 0, 7)
	if i.Model != "" {
		attributes = append(attributes, modelKey.String(i.Model))
	}
	for _, count := range []struct {
		key attribute.Key
		of  int64
	}{
		{inputsKey, int64(i.Inputs)}, {inputTokensKey, int64(i.InputTokens)}, {cachedTokensKey, int64(i.CachedTokens)}, {outputTokensKey, int64(i.OutputTokens)},
	} {
		if count.of > 0 {
			attributes = append(attributes, count.key.Int64(count.of))
		}
	}
	if len(i.FinishReasons) > 0 {
		attributes = append(attributes, finishesKey.StringSlice(i.FinishReasons))
	}
	if i.FirstToken > 0 {
		attributes = append(attributes, firstChunkKey.Float64(i.FirstToken.Seconds()))
	}
	return attributes
}

// StartInference begins the span of a call of a model.
func StartInference(ctx context.Context, operation Operation) (context.Context, *Span) {
	ctx, span := start(ctx, string(operation), trace.SpanKindInternal)
	if span != nil {
		span.set(operationKey.String(string(operation)), providerKey.String(provider))
	}
	return ctx, span
}

// EndInference ends the span of a call of a model, of which only now it may be known that there is such a one.
func (s *Span) EndInference(operation Operation, used Inference, outcome string) {
	if s == nil {
		return
	}
	if used.Model != "" {
		s.otel.SetName(string(operation) + " " + used.Model)
	}
	s.set(used.attributes()...)
	s.End(outcome)
}
