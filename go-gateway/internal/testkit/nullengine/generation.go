package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

var tokenInterval = engineFlags.Duration("token-interval", 0, "time between two tokens of a stream")

func init() {
	models = append(models, testkit.ChatModel())
	handlers["POST /v1/chat/completions"] = chat
}

// wordDelta is what every token says.
var wordDelta = &inferencev1.GenerateResponse{Event: &inferencev1.GenerateResponse_Delta{Delta: &inferencev1.GenerateDelta{
	Text: " word", Tokens: []*inferencev1.GeneratedToken{{Id: 7, Bytes: []byte(" word")}},
}}}

// lastDelta ends a stream.
var lastDelta = &inferencev1.GenerateResponse{Event: &inferencev1.GenerateResponse_Delta{Delta: &inferencev1.GenerateDelta{
	Text: " word", Tokens: []*inferencev1.GeneratedToken{{Id: 7, Bytes: []byte(" word")}},
	Finish: &inferencev1.Finish{Reason: &inferencev1.Finish_Length{Length: &inferencev1.LengthReached{}}},
}}}

// Generate implements the contract: max_tokens words, one each token interval.
func (e *engine) Generate(request *inferencev1.GenerateRequest, stream testkit.GenerateStream) error {
	tokens := request.GetMaxTokens()
	if tokens == 0 {
		tokens = testkit.DefaultMaxTokens
	}
	if err := testkit.SendStarted(stream, tokensPerInput); err != nil {
		return err
	}
	pace := newPace()
	defer pace.stop()
	for i := range tokens {
		if err := pace.wait(stream.Context().Done()); err != nil {
			return err
		}
		delta := wordDelta
		if i+1 == tokens {
			delta = lastDelta
		}
		if err := stream.Send(delta); err != nil {
			return err
		}
	}
	return testkit.SendDone(stream, tokensPerInput, tokens)
}

// pace lets tokens through, one each token interval.
type pace struct{ ticker *time.Ticker }

func newPace() pace {
	if *tokenInterval == 0 {
		return pace{}
	}
	return pace{time.NewTicker(*tokenInterval)}
}

func (p pace) wait(done <-chan struct{}) error {
	if p.ticker == nil {
		return nil
	}
	select {
	case <-p.ticker.C:
		return nil
	case <-done:
		return io.ErrClosedPipe
	}
}

func (p pace) stop() {
	if p.ticker != nil {
		p.ticker.Stop()
	}
}

// chat answers a whole chat in OpenAI's form, or a stream of one.
func chat(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Stream    bool `json:"stream"`
		MaxTokens int  `json:"max_tokens"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxMessageBytes)).Decode(&request); err != nil {
		http.Error(w, "the body is no JSON", http.StatusBadRequest)
		return
	}
	if !request.Stream {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"id":"chatcmpl-0","object":"chat.completion","created":1,"model":"%s","choices":[{"index":0,`+
			`"message":{"role":"assistant","content":" word"},"finish_reason":"length"}],`+
			`"usage":{"prompt_tokens":%d,"completion_tokens":1,"total_tokens":%d}}`, testkit.ChatModelName, tokensPerInput, tokensPerInput+1)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	controller := http.NewResponseController(w)
	pace := newPace()
	defer pace.stop()
	for i := range request.MaxTokens {
		finish := "null"
		if i+1 == request.MaxTokens {
			finish = `"length"`
		}
		if pace.wait(r.Context().Done()) != nil {
			return
		}
		_, err := fmt.Fprintf(w, `data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":1,"model":"%s","choices":[{"index":0,`+
			`"delta":{"content":" word"},"finish_reason":%s}]}`+"\n\n", testkit.ChatModelName, finish)
		if err != nil || controller.Flush() != nil {
			return
		}
	}
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}
