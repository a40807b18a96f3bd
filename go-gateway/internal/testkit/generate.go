package testkit

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// The fake's generation model. Its tokens are words, and it always says the same.
const (
	ChatModelName    = "smollm2-135m-instruct"
	ContextTokens    = 2048
	ChatVocabulary   = 49152
	MaxChoices       = 8
	DefaultMaxTokens = 256
	EndToken         = 2
)

// Words are what the fake says before it stops by itself.
var Words = []string{"Hello", " from", " the", " fake", "."}

type (
	// GenerateStream is what Generate answers into.
	GenerateStream = grpc.ServerStreamingServer[inferencev1.GenerateResponse]
	// GenerateFunc answers Generate.
	GenerateFunc func(*inferencev1.GenerateRequest, GenerateStream) error
)

// SetGenerate replaces the answer to Generate; nil brings the usual one back.
func (h *Hotpath) SetGenerate(generate GenerateFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.generate = generate
}

// Generate implements the contract.
func (h *Hotpath) Generate(request *inferencev1.GenerateRequest, stream GenerateStream) error {
	carried, _ := metadata.FromIncomingContext(stream.Context())
	h.mu.Lock()
	h.calls = append(h.calls, Call{Metadata: carried, Generate: request})
	generate := h.generate
	h.mu.Unlock()
	if generate == nil {
		generate = Generate
	}
	return generate(request, stream)
}

// Generate is the usual answer to Generate: each choice says Words, token by token and in turn, until they or
// max_tokens end.
func Generate(request *inferencev1.GenerateRequest, stream GenerateStream) error {
	prompt, err := checkGenerate(request)
	if err != nil {
		return err
	}
	choices, limit := max(1, request.GetChoices()), request.GetMaxTokens()
	if limit == 0 {
		limit = DefaultMaxTokens
	}
	if err := SendStarted(stream, uint32(prompt)); err != nil {
		return err
	}
	steps := min(limit, uint32(len(Words)+1))
	for step := range steps {
		for choice := range choices {
			if err := SendDelta(stream, stepOf(choice, step, limit, request)); err != nil {
				return err
			}
		}
	}
	return SendDone(stream, uint32(prompt), steps*choices)
}

// stepOf is one token of a choice.
func stepOf(choice, step, limit uint32, request *inferencev1.GenerateRequest) *inferencev1.GenerateDelta {
	delta := &inferencev1.GenerateDelta{Choice: choice}
	if int(step) == len(Words) {
		delta.Tokens = []*inferencev1.GeneratedToken{{Id: EndToken}}
		delta.Finish = &inferencev1.Finish{Reason: &inferencev1.Finish_StopTokenId{StopTokenId: EndToken}}
		return delta
	}
	token := &inferencev1.GeneratedToken{Id: 100 + step, Bytes: []byte(Words[step])}
	if request.TopLogprobs != nil {
		token.Logprob = -0.5
		for i := range request.GetTopLogprobs() {
			token.TopLogprobs = append(token.TopLogprobs, &inferencev1.TokenLogprob{
				Id: 100 + step + i, Bytes: fmt.Appendf(nil, "%s%s", Words[step], strings.Repeat("!", int(i))), Logprob: -0.5 - float32(i),
			})
		}
	}
	delta.Text, delta.Tokens = Words[step], []*inferencev1.GeneratedToken{token}
	if step+1 == limit {
		delta.Finish = &inferencev1.Finish{Reason: &inferencev1.Finish_Length{Length: &inferencev1.LengthReached{}}}
	}
	return delta
}

// SendStarted sends the first message.
func SendStarted(stream GenerateStream, prompt uint32) error {
	return stream.Send(&inferencev1.GenerateResponse{Event: &inferencev1.GenerateResponse_Started{Started: &inferencev1.GenerateStarted{
		Revision: ModelRevision, PromptTokens: prompt, CachedTokens: prompt / 2,
	}}})
}

// SendDelta sends one step of a choice.
func SendDelta(stream GenerateStream, delta *inferencev1.GenerateDelta) error {
	return stream.Send(&inferencev1.GenerateResponse{Event: &inferencev1.GenerateResponse_Delta{Delta: delta}})
}

// SendDone sends the last message.
func SendDone(stream GenerateStream, prompt, completion uint32) error {
	return stream.Send(&inferencev1.GenerateResponse{Event: &inferencev1.GenerateResponse_Done{Done: &inferencev1.GenerateDone{
		Revision: ModelRevision, PromptTokens: prompt, CachedTokens: prompt / 2, CompletionTokens: completion,
		Timings: &inferencev1.GenerateTimings{
			Tokenize: durationpb.New(100 * time.Microsecond),
			Queue:    durationpb.New(200 * time.Microsecond),
			Prefill:  durationpb.New(3 * time.Millisecond),
			Decode:   durationpb.New(40 * time.Millisecond),
		},
	}}})
}

// checkGenerate returns the prompt's number of tokens.
func checkGenerate(request *inferencev1.GenerateRequest) (int, error) {
	if err := checkModel(request.GetModel(), ChatModelName); err != nil {
		return 0, err
	}
	if request.GetScheduling().GetPriority() == inferencev1.Priority_PRIORITY_UNSPECIFIED {
		return 0, refuse(fault.MissingField, "scheduling", "is required")
	}
	if most := uint32(MaxChoices); request.GetChoices() > most {
		return 0, refuse(fault.InvalidValue,
			"choices", fmt.Sprintf("is %d; at most %d are made", request.GetChoices(), most))
	}
	field, prompt, err := countPrompt(request)
	if total := prompt + int(request.GetMaxTokens()); err == nil && total > ContextTokens {
		return 0, refuse(fault.InputTooLong, field,
			fmt.Sprintf("has %d tokens and `max_tokens` is %d; together they may be at most %d",
				prompt, request.GetMaxTokens(), ContextTokens), ContextTokens, total)
	}
	return prompt, err
}

// countPrompt returns the prompt's field and number of tokens.
func countPrompt(request *inferencev1.GenerateRequest) (field string, tokens int, err error) {
	switch prompt := request.GetPrompt().(type) {
	case *inferencev1.GenerateRequest_Text:
		field, tokens = "text", len(strings.Fields(prompt.Text))
	case *inferencev1.GenerateRequest_TokenIds:
		field, tokens = "token_ids", len(prompt.TokenIds.GetIds())
		for i, id := range prompt.TokenIds.GetIds() {
			if id >= ChatVocabulary {
				return "", 0, Refusal(fault.TokenIDOutOfRange, field,
					fmt.Sprintf("`%s`: the id at place %d is %d, the vocabulary's ids are below %d", field, i, id, ChatVocabulary))
			}
		}
	case *inferencev1.GenerateRequest_Conversation:
		field = "conversation"
		for _, message := range prompt.Conversation.GetMessages() {
			tokens += 2 + len(strings.Fields(message.GetContent()))
		}
	default:
		field = "prompt"
	}
	if tokens == 0 {
		return "", 0, refuse(fault.EmptyInput, field, "is empty")
	}
	return field, tokens, nil
}

// ChatModel is the fake's generation model as it is listed.
func ChatModel() *inferencev1.Model {
	return &inferencev1.Model{
		Name: ChatModelName, Task: inferencev1.Task_TASK_GENERATION, State: inferencev1.ModelState_MODEL_STATE_READY,
		Revision: ModelRevision, Precision: "block_quantized", Owner: "HuggingFaceTB", DefaultMaxTokens: DefaultMaxTokens, Chat: true,
		CreateTime: timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
		Limits:     &inferencev1.Limits{MaxTokens: ContextTokens, MaxInputs: 1, VocabularySize: ChatVocabulary, MaxChoices: MaxChoices},
	}
}
