package openai

import (
	"fmt"
	"regexp"
	"strings"

	"triptych.dev/gateway/internal/fault"
)

// field is a field of the contract, and what requests call it. A group is kept: an index.
type field struct {
	contract *regexp.Regexp
	request  string
}

// inRequestTerms turns an error of the hot path, which names the contract's fields, into one that names the request's.
// fields are tried in order; called says what this request calls one that has several names. A fault of a field that no
// client can set is ours.
//
// The hot path's message begins with the field, in backquotes, and goes on with what is wrong with it: that much is
// said of the request's field, and nothing within it is changed.
func inRequestTerms(err error, fields []field, called func(param string) string) *fault.Fault {
	found := *fault.Of(err)
	if found.Param == "" {
		return &found
	}
	for _, f := range fields {
		match := f.contract.FindStringSubmatchIndex(found.Param)
		if match == nil {
			continue
		}
		param := called(string(f.contract.ExpandString(nil, f.request, found.Param, match)))
		if problem, cut := strings.CutPrefix(found.Message, "`"+found.Param+"`"); cut {
			found.Message = "`" + param + "`" + problem
		}
		found.Param = param
		return &found
	}
	return fault.InternalError(fmt.Errorf("the hot path refused a field that the gateway sets: %w", &found))
}

// inputTerms are the terms of a request with inputs.
type inputTerms struct {
	// SingleInput: one input, not a list, so an error of it is of "input", not of "input[0]".
	SingleInput bool
}

var inputFields = []field{
	{regexp.MustCompile(`^(?:inputs|texts)(\[\d+\])?`), "input${1}"},
	{regexp.MustCompile(`^(model|dimensions|truncate)$`), "${1}"},
}

// tooLong is in OpenAI's words, by which clients know that a text is too long. param has what problem says.
func tooLong(limit uint64, param, problem string) string {
	return fmt.Sprintf("This model's maximum context length is %d tokens: `%s` has %s", limit, param, problem)
}

// Explain says what an error of the request's call means in the request's own terms.
func (r *EmbeddingsRequest) Explain(err error) *fault.Fault {
	found := r.inputTerms.Explain(err)
	if found.Reason == fault.InputTooLong && found.Param != "" && found.Limit > 0 {
		problem := "more"
		if found.Actual > 0 {
			problem = fmt.Sprintf("%d tokens", found.Actual)
		}
		found.Message = tooLong(found.Limit, found.Param, problem)
	}
	return found
}

// Explain says what an error of the request's call means in the request's own terms.
func (in inputTerms) Explain(err error) *fault.Fault {
	return inRequestTerms(err, inputFields, func(param string) string {
		if in.SingleInput && strings.HasPrefix(param, "input[") {
			return "input"
		}
		return param
	})
}
