package openai

import (
	"fmt"
	"regexp"
	"strings"

	"triptych.dev/gateway/internal/fault"
)

// contractInput is the contract's name of one input, or of all of them.
var contractInput = regexp.MustCompile(`^(?:inputs|texts)(\[\d+\])?`)

// InHTTPTerms turns a fault of the hot path, which names the contract's fields, into one that names the request's.
//
// singleInput says that the client sent one input and no list. A fault of a field that no client can set is ours.
func InHTTPTerms(found *fault.Fault, singleInput bool) *fault.Fault {
	if found.Param == "" {
		return found
	}
	translated := *found
	index := contractInput.FindStringSubmatch(found.Param)
	switch {
	case index != nil && singleInput:
		translated.Param = "input"
	case index != nil:
		translated.Param = "input" + index[1]
	case found.Param != "model" && found.Param != "dimensions" && found.Param != "truncate":
		return fault.InternalError(fmt.Errorf("the hot path refused a field that the gateway sets: %w", found))
	}
	translated.Message = strings.ReplaceAll(found.Message, found.Param, translated.Param)
	return &translated
}
