package openai

import (
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// Prefixes of replies' ids; the request's id follows.
const (
	chatID       = "chatcmpl-"
	completionID = "cmpl-"
)

// GenerationReply collects a stream of the hot path for a client that wants the whole. Its errors mean that the hot path
// broke its contract.
type GenerationReply struct {
	request  *GenerationRequest
	progress progress
	choices  []collected
}

type collected struct {
	text   strings.Builder
	tokens []*inferencev1.GeneratedToken // kept only where log-probabilities are asked for
	finish *inferencev1.Finish
}

// NewGenerationReply begins a reply.
func NewGenerationReply(request *GenerationRequest) *GenerationReply {
	choices := request.Choices()
	return &GenerationReply{request: request, progress: newProgress(choices), choices: make([]collected, choices)}
}

// Add takes one step.
func (r *GenerationReply) Add(delta *inferencev1.GenerateDelta) error {
	if err := r.progress.check(delta); err != nil {
		return err
	}
	choice := &r.choices[delta.GetChoice()]
	choice.text.WriteString(delta.GetText())
	if r.request.Generate.TopLogprobs != nil {
		choice.tokens = append(choice.tokens, saidTokens(delta)...)
	}
	choice.finish = delta.GetFinish()
	return nil
}

type generationReply struct {
	ID                string           `json:"id"`
	Object            string           `json:"object"`
	Created           int64            `json:"created"` // Unix seconds
	Model             string           `json:"model"`
	Choices           []jsontext.Value `json:"choices"`
	Usage             jsontext.Value   `json:"usage"`
	SystemFingerprint string           `json:"system_fingerprint"` // the model's revision
}

// Render returns the reply's body. id is the request's.
func (r *GenerationReply) Render(done *inferencev1.GenerateDone, id string, created time.Time) ([]byte, error) {
	if err := r.progress.ended(); err != nil {
		return nil, err
	}
	reply := generationReply{
		ID: completionID + id, Object: "text_completion", Created: created.Unix(), Model: r.request.Generate.GetModel(),
		Choices: make([]jsontext.Value, len(r.choices)), Usage: appendGenerationUsage(nil, done),
		SystemFingerprint: done.GetRevision(),
	}
	if r.request.Chat {
		reply.ID, reply.Object = chatID+id, "chat.completion"
	}
	for i := range r.choices {
		var err error
		if reply.Choices[i], err = r.appendChoice(nil, i); err != nil {
			return nil, err
		}
	}
	return json.Marshal(reply)
}

func (r *GenerationReply) appendChoice(buffer []byte, index int) ([]byte, error) {
	choice := &r.choices[index]
	buffer = append(buffer, `{"index":`...)
	buffer = strconv.AppendInt(buffer, int64(index), 10)
	if r.request.Chat {
		buffer = append(buffer, `,"message":{"role":"assistant","content":`...)
	} else {
		buffer = append(buffer, `,"text":`...)
	}
	buffer, err := jsontext.AppendQuote(buffer, choice.text.String())
	if err != nil {
		return nil, err
	}
	if r.request.Chat {
		buffer = append(buffer, `,"refusal":null}`...)
	}
	buffer = append(buffer, `,"logprobs":`...)
	if buffer, _, err = appendLogprobs(buffer, r.request, choice.tokens, 0); err != nil {
		return nil, err
	}
	buffer = append(buffer, ',')
	if buffer, err = appendFinish(buffer, choice.finish); err != nil {
		return nil, err
	}
	return append(buffer, '}'), nil
}
