package openai

import (
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// GenerationReply collects a stream of the hot path for a client that wants the whole. Its errors mean that the hot
// path broke its contract.
type GenerationReply struct {
	request  *GenerationRequest
	progress progress
	choices  []choiceBuilder
}

type choiceBuilder struct {
	text   strings.Builder
	tokens []*inferencev1.GeneratedToken // kept only where log-probabilities are asked for
	finish *inferencev1.Finish
}

// NewGenerationReply begins a reply.
func NewGenerationReply(request *GenerationRequest) *GenerationReply {
	choices := request.Choices()
	return &GenerationReply{request: request, progress: newProgress(choices), choices: make([]choiceBuilder, choices)}
}

// Add takes one step.
func (r *GenerationReply) Add(delta *inferencev1.GenerateDelta) error {
	if err := r.progress.check(delta); err != nil {
		return err
	}
	choice := &r.choices[delta.GetChoice()]
	choice.text.WriteString(delta.GetText())
	if r.request.Generate.TopLogprobs != nil {
		choice.tokens = append(choice.tokens, outputTokens(delta)...)
	}
	choice.finish = delta.GetFinish()
	return nil
}

type generationReply struct {
	ID                string          `json:"id"`
	Object            string          `json:"object"`
	Created           int64           `json:"created"` // Unix seconds
	Model             string          `json:"model"`
	Choices           []any           `json:"choices"`
	Usage             generationUsage `json:"usage"`
	SystemFingerprint string          `json:"system_fingerprint"` // the model's revision
}

// Render returns the reply's body. id is the reply's, without its prefix.
func (r *GenerationReply) Render(done *inferencev1.GenerateDone, id string, created time.Time) ([]byte, error) {
	if err := r.progress.ended(); err != nil {
		return nil, err
	}
	dialect := r.request.Dialect
	reply := generationReply{
		ID: dialect.idPrefix + id, Object: dialect.object, Created: created.Unix(), Model: r.request.Generate.GetModel(),
		Choices: make([]any, len(r.choices)), Usage: usageOf(done), SystemFingerprint: done.GetRevision(),
	}
	for i := range r.choices {
		choice := &r.choices[i]
		logprobs, _, err := r.request.appendLogprobs(nil, choice.tokens, 0)
		if err != nil {
			return nil, err
		}
		end, err := finishOf(choice.finish)
		if err != nil {
			return nil, err
		}
		reply.Choices[i] = dialect.choice(i, choice.text.String(), logprobs, end)
	}
	return json.Marshal(reply)
}
