package testkit

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

// ModerationModelName is the fake's classification model. It knows two labels: a text is as hateful as it says "hate",
// and as violent as it says "kill".
const ModerationModelName = "moderation-minilm"

// ClassifyFunc answers Classify.
type ClassifyFunc func(context.Context, *inferencev1.ClassifyRequest) (*inferencev1.ClassifyResponse, error)

// SetClassify replaces the answer to Classify; nil brings the usual one back.
func (h *Hotpath) SetClassify(classify ClassifyFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.classify = classify
}

// Classify implements the contract.
func (h *Hotpath) Classify(ctx context.Context, request *inferencev1.ClassifyRequest) (*inferencev1.ClassifyResponse, error) {
	carried, _ := metadata.FromIncomingContext(ctx)
	h.mu.Lock()
	h.calls = append(h.calls, Call{Metadata: carried, Classify: request})
	classify := h.classify
	h.mu.Unlock()
	if classify == nil {
		classify = Classify
	}
	return classify(ctx, request)
}

// Classify is the usual answer to Classify.
func Classify(_ context.Context, request *inferencev1.ClassifyRequest) (*inferencev1.ClassifyResponse, error) {
	if err := checkCommon(request.GetModel(), ModerationModelName, "texts", len(request.GetTexts())); err != nil {
		return nil, err
	}
	if request.GetScheduling().GetPriority() == inferencev1.Priority_PRIORITY_UNSPECIFIED {
		return nil, refuse(fault.MissingField, "scheduling", "is required")
	}
	reply := &inferencev1.ClassifyResponse{
		Revision: ModelRevision,
		Labels:   []*inferencev1.Label{{Name: "hate", Threshold: 0.5}, {Name: "violence", Threshold: 0.75}},
		Timings: &inferencev1.Timings{
			Tokenize:  durationpb.New(100 * time.Microsecond),
			Queue:     durationpb.New(200 * time.Microsecond),
			Inference: durationpb.New(3 * time.Millisecond),
		},
	}
	for i, text := range request.GetTexts() {
		if text == "" {
			field := fmt.Sprintf("texts[%d]", i)
			return nil, refuse(fault.EmptyInput, field, "is empty")
		}
		scores := []float32{score(text, "hate"), score(text, "kill")}
		reply.Classifications = append(reply.Classifications, &inferencev1.Classification{Scores: scores})
		reply.TokenCounts = append(reply.TokenCounts, uint32(len(strings.Fields(text)))+2)
	}
	return reply, nil
}

// score is 0 without the word, and nearer to 1 with every time that it is said.
func score(text, word string) float32 {
	said := float32(strings.Count(text, word))
	return said / (said + 1)
}

// ModerationModel is the fake's classification model as it is listed.
func ModerationModel() *inferencev1.Model {
	return &inferencev1.Model{
		Name: ModerationModelName, Task: inferencev1.Task_TASK_CLASSIFICATION, State: inferencev1.ModelState_MODEL_STATE_READY,
		Revision: ModelRevision, Precision: "block_quantized", Owner: "triptych",
		CreateTime: timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
		Limits:     &inferencev1.Limits{MaxTokens: MaxTokens, MaxInputs: MaxInputs, VocabularySize: VocabularySize},
	}
}
