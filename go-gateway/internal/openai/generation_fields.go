package openai

import (
	"fmt"
	"regexp"
	"strings"

	"triptych.dev/gateway/internal/fault"
)

var generationFields = []field{
	{regexp.MustCompile(`^model$`), "model"},
	{regexp.MustCompile(`^conversation\.(messages\[\d+\](?:\.(?:role|content))?)`), "${1}"},
	{regexp.MustCompile(`^prompts(\[\d+\])\.(?:text|token_ids)\b(?:\.ids)?(\[\d+\])?`), "prompt${1}${2}"},
	{regexp.MustCompile(`^(?:conversation|text|token_ids|prompt)\b(?:\.ids)?(\[\d+\])?`), "prompt${1}"},
	{regexp.MustCompile(`^choices$`), "n"},
	{regexp.MustCompile(`^stop\.strings(\[\d+\])?`), "stop${1}"},
	{regexp.MustCompile(`^stop\.token_ids(\[\d+\])?`), "stop_token_ids${1}"},
	{regexp.MustCompile(`^stop\.(ignore_eos|min_tokens)$`), "${1}"},
	{regexp.MustCompile(`^sampling\.([a-z_]+)`), "${1}"},
	{regexp.MustCompile(`^format\.json_schema`), "response_format.json_schema.schema"},
	{regexp.MustCompile(`^format`), "response_format"},
	{regexp.MustCompile(`^(max_tokens|top_logprobs)$`), "${1}"},
}

// Explain says what an error of the request's call means in the request's own terms.
func (r *GenerationRequest) Explain(err error) *fault.Fault {
	found := inRequestTerms(err, generationFields, r.paramName)
	if found.Reason != fault.InputTooLong || found.Param == "" || found.Limit == 0 {
		return found
	}
	// The actual number is known where the prompt was counted to its end; it is of prompt and reply together.
	problem, reply := "more", max(1, uint64(r.Generate.GetMaxTokens()))
	if found.Actual > reply {
		problem = fmt.Sprintf("%d tokens and `%s` is %d", found.Actual-reply, r.maxTokensField, reply)
	}
	found.Message = tooLong(found.Limit, found.Param, problem)
	return found
}

// paramName is what this request calls a field that has several names.
func (r *GenerationRequest) paramName(param string) string {
	switch own, differs := r.Dialect.fields[param]; {
	case differs:
		return own
	case param == "max_tokens":
		return r.maxTokensField
	case strings.HasPrefix(param, "stop[") && r.singleStop:
		return "stop"
	default:
		return param
	}
}
