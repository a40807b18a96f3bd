package openai

import (
	"strings"

	"github.com/go-json-experiment/json"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

type modelList struct {
	Object string  `json:"object"`
	Data   []model `json:"data"`
}

// model is OpenAI's model object, followed by fields of ours.
type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"` // Unix seconds: when the served revision was made; 0 while none is
	OwnedBy string `json:"owned_by"`

	Task       string   `json:"task"`      // "embedding", "generation" or "classification"
	State      string   `json:"state"`     // "loading", "ready" or "failed"
	Revision   string   `json:"revision"`  // empty while none is served
	Precision  string   `json:"precision"` // as in "block_quantized"; empty while none is served
	Dimensions []uint32 `json:"dimensions"`
	Limits     limits   `json:"limits"`

	// Of models that generate.
	DefaultMaxTokens uint32 `json:"default_max_tokens,omitzero"`
	Chat             bool   `json:"chat,omitzero"` // takes conversations
}

type limits struct {
	MaxTokens      uint32 `json:"max_tokens,omitzero"`      // of one input, with what is generated; absent where any length is taken
	MaxInputs      uint32 `json:"max_inputs"`               // of one request
	VocabularySize uint32 `json:"vocabulary_size,omitzero"` // absent where no token ids are taken
	MaxChoices     uint32 `json:"max_choices,omitzero"`     // of one request to a model that generates
}

// RenderModels returns the reply to GET /v1/models.
func RenderModels(models []*inferencev1.Model) ([]byte, error) {
	list := modelList{Object: "list", Data: make([]model, len(models))}
	for i, m := range models {
		list.Data[i] = modelObject(m)
	}
	return json.Marshal(list)
}

// RenderModel returns the reply to GET /v1/models/{id}.
func RenderModel(m *inferencev1.Model) ([]byte, error) {
	return json.Marshal(modelObject(m))
}

// modelObject leaves status_message out: it is for operators and may name files.
func modelObject(m *inferencev1.Model) model {
	return model{
		ID:         m.GetName(),
		Object:     "model",
		Created:    m.GetCreateTime().GetSeconds(),
		OwnedBy:    m.GetOwner(),
		Task:       lowerName(m.GetTask().String(), "TASK_"),
		State:      lowerName(m.GetState().String(), "MODEL_STATE_"),
		Revision:   m.GetRevision(),
		Precision:  m.GetPrecision(),
		Dimensions: m.GetDimensions(),
		Limits: limits{
			MaxTokens:      m.GetLimits().GetMaxTokens(),
			MaxInputs:      m.GetLimits().GetMaxInputs(),
			VocabularySize: m.GetLimits().GetVocabularySize(),
			MaxChoices:     m.GetLimits().GetMaxChoices(),
		},
		DefaultMaxTokens: m.GetDefaultMaxTokens(),
		Chat:             m.GetChat(),
	}
}

func lowerName(enum, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(enum, prefix))
}
