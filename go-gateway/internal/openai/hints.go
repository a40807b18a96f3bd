package openai

import (
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/strictjson"
)

// chatHints are fields of a chat that are about how it is served, filed or billed elsewhere, and ask for no other answer.
// Many clients send them by themselves, so they are taken and change nothing, but that calls with the same
// prompt_cache_key go to the same hot path; README.md lists them.
func chatHints(promptCacheKey **string) strictjson.Fields {
	var text *string
	var flag bool
	return strictjson.Fields{
		"metadata":               labels,
		"prompt_cache_key":       strictjson.String(promptCacheKey),
		"prompt_cache_retention": strictjson.String(&text),
		"reasoning_effort":       strictjson.String(&text),
		"safety_identifier":      strictjson.String(&text),
		"service_tier":           strictjson.String(&text),
		"store":                  strictjson.Bool(&flag),
		"verbosity":              strictjson.String(&text),
	}
}

// labels reads an object of strings: marks of a caller's own, accepted and not used.
func labels(decoder *strictjson.Decoder, name string) error {
	if err := strictjson.ExpectKind(decoder, jsontext.KindBeginObject, name, "an object of strings"); err != nil {
		return err
	}
	return strictjson.Members(decoder, func(key string) error {
		_, err := strictjson.ReadKind(decoder, jsontext.KindString, name+"."+strictjson.Clip(key), "a string")
		return strictjson.Quoting(strictjson.Clip(key), err)
	})
}
