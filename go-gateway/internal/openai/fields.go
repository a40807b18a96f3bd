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
// It is for requests with inputs. singleInput says that the client sent one input and no list. A fault of a field that no client can set is ours.
func InHTTPTerms(found *fault.Fault, singleInput bool) *fault.Fault {
	if found.Param == "" {
		return found
	}
	index := contractInput.FindStringSubmatch(found.Param)
	switch {
	case index != nil && singleInput:
		return inTerms(found, "input")
	case index != nil:
		return inTerms(found, "input"+index[1])
	case found.Param == "model" || found.Param == "dimensions" || found.Param == "truncate":
		return found
	default:
		return notTheClients(found)
	}
}

// inTerms says param instead of the contract's field. The hot path's messages have it in backquotes; a field's name may be
// a word like any other, so it is replaced nowhere else but at the beginning.
func inTerms(found *fault.Fault, param string) *fault.Fault {
	translated := *found
	translated.Param = param
	translated.Message = strings.ReplaceAll(found.Message, "`"+found.Param+"`", "`"+param+"`")
	if rest, begins := strings.CutPrefix(found.Message, found.Param+" "); begins {
		translated.Message = param + " " + rest
	}
	return &translated
}

func notTheClients(found *fault.Fault) *fault.Fault {
	return fault.InternalError(fmt.Errorf("the hot path refused a field that the gateway sets: %w", found))
}

// generationTerms are the contract's fields of Generate and what they are called in a request. Longer ones come first. A
// group is kept: an index.
var generationTerms = []struct {
	contract *regexp.Regexp
	param    string
}{
	{regexp.MustCompile(`^model$`), "model"},
	{regexp.MustCompile(`^conversation\.(messages\[\d+\](?:\.(?:role|content))?)`), "${1}"},
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

// InHTTPTerms turns a fault of the hot path, which names the contract's fields, into one that names the request's.
func (r *GenerationRequest) InHTTPTerms(found *fault.Fault) *fault.Fault {
	if found.Param == "" {
		return found
	}
	for _, term := range generationTerms {
		if match := term.contract.FindStringSubmatchIndex(found.Param); match != nil {
			param := term.contract.ExpandString(nil, term.param, found.Param, match)
			translated := inTerms(found, r.called(string(param)))
			// The two fields that messages about another one name.
			others := strings.NewReplacer("`max_tokens`", "`"+r.maxTokensField+"`", "`format`", "`response_format`")
			translated.Message = others.Replace(translated.Message)
			return translated
		}
	}
	return notTheClients(found)
}

// called is what this request calls a field that has several names.
func (r *GenerationRequest) called(param string) string {
	switch {
	case param == "max_tokens":
		return r.maxTokensField
	case param == "prompt" && r.Chat:
		return "messages"
	case param == "top_logprobs" && !r.Chat:
		return "logprobs"
	case strings.HasPrefix(param, "stop[") && r.singleStop:
		return "stop"
	default:
		return param
	}
}
