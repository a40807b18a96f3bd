package openai

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/strictjson"
)

// GenerationRequest is POST /v1/chat/completions or POST /v1/completions.
type GenerationRequest struct {
	// Generate is the hot path's request for the first prompt; its scheduling is left to the caller.
	Generate *inferencev1.GenerateRequest
	// More are those for further prompts, which differ in nothing else.
	More []*inferencev1.GenerateRequest
	// Dialect says which of the two it is, and so what the reply looks like.
	Dialect *Dialect
	// CacheKey marks requests that begin alike; empty: none was given.
	CacheKey string
	// Stream asks for server-sent events.
	Stream bool
	// IncludeUsage asks for a last chunk with the counts.
	IncludeUsage bool

	maxTokensField string // the name under which the client sent max_tokens
	singleStop     bool   // stop was one string, not a list
}

// Bounds of one request, whatever the model: the contract's, but for the first, which is OpenAI's. A model's own is
// lower; this one bounds what a reply holds for each choice before the hot path is asked.
const (
	maxChoices      = 128
	maxTopLogprobs  = 20
	maxStopStrings  = 16
	maxStopBytes    = 256 // bytes
	maxStopTokenIDs = 64
	maxLogitBiases  = 300
)

// generation collects the fields that chat and completions share.
type generation struct {
	request         *inferencev1.GenerateRequest
	model           *string
	completionLimit uint32 // max_completion_tokens
	stop            stopStrings
	format          responseFormat
	stream          bool
	streamOptions   bool
	includeUsage    bool
}

func newGeneration() *generation {
	return &generation{request: &inferencev1.GenerateRequest{
		Sampling: &inferencev1.Sampling{}, Stop: &inferencev1.Stop{},
	}}
}

// fields are the shared ones, and those of own.
func (g *generation) fields(own ...strictjson.Fields) strictjson.Fields {
	var label *string
	request, sampling, stop := g.request, g.request.GetSampling(), g.request.GetStop()
	shared := strictjson.Fields{
		"model":      strictjson.String(&g.model),
		"max_tokens": tokenLimit(&request.MaxTokens),
		"n":          strictjson.Uint32(1, maxChoices, func(v uint32) { request.Choices = v }),

		"temperature":        strictjson.Number(0, 2, func(v float32) { sampling.Temperature = &v }),
		"top_p":              topP(sampling),
		"top_k":              strictjson.Whole(-1, math.MaxUint32, func(v int64) { sampling.TopK = uint32(max(v, 0)) }), // -1 is off, too
		"min_p":              strictjson.Number(0, 1, func(v float32) { sampling.MinP = v }),
		"frequency_penalty":  strictjson.Number(-2, 2, func(v float32) { sampling.FrequencyPenalty = v }),
		"presence_penalty":   strictjson.Number(-2, 2, func(v float32) { sampling.PresencePenalty = v }),
		"repetition_penalty": strictjson.NumberAbove(0, 10, func(v float32) { sampling.RepetitionPenalty = &v }),
		"logit_bias":         logitBias(sampling),
		"seed":               strictjson.Bits64(func(v uint64) { sampling.Seed = &v }),

		"stop":           g.stop.read,
		"stop_token_ids": stopTokenIDs(stop),
		"ignore_eos":     strictjson.Bool(&stop.IgnoreEos),
		"min_tokens":     strictjson.Uint32(0, math.MaxUint32, func(v uint32) { stop.MinTokens = v }),

		"stream":          strictjson.Bool(&g.stream),
		"stream_options":  g.readStreamOptions,
		"response_format": g.format.read,

		"user": strictjson.String(&label), // a mark of the caller's own
	}
	for _, fields := range own {
		maps.Copy(shared, fields)
	}
	return shared
}

// tokenLimit reads max_tokens under one of its names.
func tokenLimit(destination *uint32) strictjson.Field {
	read := strictjson.Positive(destination)
	return func(decoder *strictjson.Decoder, name string) error {
		err := read(decoder, name)
		if found, ok := errors.AsType[*fault.Fault](err); ok {
			found.Message += " Leave it out for the model's own limit."
		}
		return err
	}
}

// topP reads top_p. The smallest one takes the likeliest token alone, and so does 0, which the contract does not have.
func topP(sampling *inferencev1.Sampling) strictjson.Field {
	return strictjson.Number(0, 1, func(v float32) {
		v = max(v, math.SmallestNonzeroFloat32)
		sampling.TopP = &v
	})
}

func (g *generation) readStreamOptions(decoder *strictjson.Decoder, name string) error {
	g.streamOptions = true
	return strictjson.Object(strictjson.Fields{
		"include_usage":       strictjson.Bool(&g.includeUsage),
		"include_obfuscation": strictjson.AcceptOnly("Streams are not padded here.", "false"),
	})(decoder, name)
}

// finish checks what no field shows alone.
func (g *generation) finish(d *Decoder, dialect *Dialect) (*GenerationRequest, error) {
	var err error
	if g.request.Model, err = d.requiredModel(g.model); err != nil {
		return nil, err
	}
	limitField := "max_tokens"
	if g.completionLimit != 0 {
		if g.request.MaxTokens != 0 && g.request.MaxTokens != g.completionLimit {
			return nil, fault.InField(fault.InvalidValue, "max_tokens",
				"max_tokens (%d) and max_completion_tokens (%d) are two names of one limit.",
				g.request.MaxTokens, g.completionLimit)
		}
		g.request.MaxTokens, limitField = g.completionLimit, "max_completion_tokens"
	}
	if g.streamOptions && !g.stream {
		return nil, fault.InField(fault.InvalidValue, "stream_options", "stream_options needs \"stream\": true.")
	}
	if g.request.Format, err = g.format.contract(); err != nil {
		return nil, err
	}
	if stop := g.request.GetStop(); g.request.Format != nil && (stop.GetIgnoreEos() || stop.GetMinTokens() > 0) {
		field := "min_tokens"
		if stop.GetIgnoreEos() {
			field = "ignore_eos"
		}
		return nil, fault.InField(fault.InvalidValue, field,
			"`%s` cannot go with `response_format`: a text ends where it is complete", field)
	}
	g.request.Stop.Strings = g.stop.strings
	return &GenerationRequest{
		Generate: g.request, Dialect: dialect, Stream: g.stream, IncludeUsage: g.includeUsage,
		maxTokensField: limitField, singleStop: g.stop.single,
	}, nil
}

// Calls are the hot path's requests, one for each prompt.
func (r *GenerationRequest) Calls() []*inferencev1.GenerateRequest {
	return append([]*inferencev1.GenerateRequest{r.Generate}, r.More...)
}

// Choices is how many continuations the reply has: so many for each prompt, in the prompts' order.
func (r *GenerationRequest) Choices() int {
	return (1 + len(r.More)) * int(max(1, r.Generate.GetChoices()))
}

// stopStrings is the field stop: one string or a list of them.
type stopStrings struct {
	single  bool
	strings []string
}

func (s *stopStrings) read(decoder *strictjson.Decoder, name string) error {
	if decoder.PeekKind() == jsontext.KindString {
		s.single = true
		return s.readOne(decoder, name)
	}
	return strictjson.List(decoder, name, "a string or a list of strings", maxStopStrings, func(i int) error {
		return s.readOne(decoder, strictjson.Element(name, i))
	})
}

func (s *stopStrings) readOne(decoder *strictjson.Decoder, param string) error {
	text, err := strictjson.ReadString(decoder, param, "a string")
	if err != nil {
		return err
	}
	if len(text) == 0 || len(text) > maxStopBytes {
		return fault.InField(fault.InvalidValue, param,
			"%s has %d bytes; it must have 1 to %d.", param, len(text), maxStopBytes)
	}
	s.strings = append(s.strings, text)
	return nil
}

func stopTokenIDs(stop *inferencev1.Stop) strictjson.Field {
	return func(decoder *strictjson.Decoder, name string) error {
		return strictjson.List(decoder, name, "a list of token ids", maxStopTokenIDs, func(i int) error {
			add := func(id uint32) { stop.TokenIds = append(stop.TokenIds, id) }
			return strictjson.Uint32(0, math.MaxUint32, add)(decoder, strictjson.Element(name, i))
		})
	}
}

// logitBias reads an object of token ids and what is added to their logits.
func logitBias(sampling *inferencev1.Sampling) strictjson.Field {
	return func(decoder *strictjson.Decoder, name string) error {
		if err := strictjson.ExpectKind(decoder, jsontext.KindBeginObject, name, "an object of numbers by token id"); err != nil {
			return err
		}
		sampling.LogitBias = map[uint32]float32{}
		return strictjson.Members(decoder, func(key string) error {
			parsed, err := strconv.ParseUint(key, 10, 32)
			if err != nil {
				return fault.InField(fault.InvalidValue, name,
					"%s must be by token id, and %q is none.", name, strictjson.Clip(key))
			}
			id := uint32(parsed)
			if _, twice := sampling.LogitBias[id]; twice || len(sampling.LogitBias) == maxLogitBiases {
				return fault.InField(fault.InvalidValue, name,
					"%s must name each token once, and at most %d.", name, maxLogitBiases)
			}
			set := func(bias float32) { sampling.LogitBias[id] = bias }
			return strictjson.Number(-100, 100, set)(decoder, fmt.Sprintf("%s.%d", name, id))
		})
	}
}
