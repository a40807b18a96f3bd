package openai

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/strictjson"
)

// categories are OpenAI's. SDKs want all of them present.
var categories = []string{
	"harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent",
	"self-harm", "self-harm/intent", "self-harm/instructions", "sexual", "sexual/minors", "violence", "violence/graphic",
}

// ModerationRequest is POST /v1/moderations.
type ModerationRequest struct {
	// Classify is the hot path's request; its scheduling is left to the caller.
	Classify *inferencev1.ClassifyRequest
	inputTerms
}

// DecodeModeration reads the body of POST /v1/moderations. model is the one for requests that name none. Errors are
// *fault.Fault.
func DecodeModeration(body []byte, model string) (*ModerationRequest, error) {
	named := &model
	var in moderationInput
	err := strictjson.Decode(body, strictjson.Fields{
		"input": in.read,
		"model": strictjson.String(&named),
	})
	if err != nil {
		return nil, err
	}
	if model, err = requiredModel(named); err != nil {
		return nil, err
	}
	if !in.present {
		return nil, strictjson.Missing("input")
	}
	return &ModerationRequest{
		Classify:   &inferencev1.ClassifyRequest{Model: model, Texts: in.texts},
		inputTerms: inputTerms{in.single},
	}, nil
}

// moderationInput is a text, a list of texts, or a list of the parts of one text.
type moderationInput struct {
	present bool
	single  bool
	texts   []string
}

func (in *moderationInput) read(decoder *jsontext.Decoder, name string) error {
	in.present = true
	if decoder.PeekKind() == jsontext.KindString {
		in.single = true
		return in.readText(decoder, name)
	}
	var parts []string
	one := newPartReader()
	err := strictjson.List(decoder, name, "a string, a list of strings or a list of text parts", math.MaxInt, func(i int) error {
		if i == mostInputs {
			return tooManyInputs(name)
		}
		if decoder.PeekKind() != jsontext.KindBeginObject && parts == nil {
			return in.readText(decoder, name, i)
		}
		if len(in.texts) > 0 {
			return strictjson.WrongType(strictjson.Element(name, i), "a string, as the one before it", decoder.PeekKind())
		}
		part, err := one.read(decoder, strictjson.Element(name, i))
		parts = append(parts, part)
		return err
	})
	if parts != nil {
		in.single, in.texts = true, []string{joinParts(parts)}
	}
	return err
}

func (in *moderationInput) readText(decoder *jsontext.Decoder, name string, index ...int) error {
	text, err := strictjson.ReadString(decoder, name, "a string or a text part", index...)
	in.texts = append(in.texts, text)
	return err
}

// RenderModeration returns the reply to POST /v1/moderations. An error means that the hot path broke its contract.
//
// A category that the model has no label for is false and 0, as SDKs want it, and named in "not_assessed", as honesty
// does. A label that is none of OpenAI's categories follows them.
func RenderModeration(request *ModerationRequest, reply *inferencev1.ClassifyResponse, id string) ([]byte, error) {
	if found, wanted := len(reply.GetClassifications()), len(request.Classify.GetTexts()); found != wanted {
		return nil, fmt.Errorf("the hot path classified %d of %d texts", found, wanted)
	}
	verdicts, err := newVerdicts(reply.GetLabels())
	if err != nil {
		return nil, err
	}
	buffer := append([]byte(`{"id":"modr-`), id...)
	buffer = append(buffer, `","model":`...)
	buffer, err = jsontext.AppendQuote(buffer, request.Classify.GetModel())
	if err != nil {
		return nil, err
	}
	buffer = append(buffer, `,"results":[`...)
	for i, one := range reply.GetClassifications() {
		if i > 0 {
			buffer = append(buffer, ',')
		}
		if buffer, err = verdicts.append(buffer, one.GetScores()); err != nil {
			return nil, fmt.Errorf("text %d: %w", i, err)
		}
	}
	return append(buffer, "]}"...), nil
}

// verdicts says which label judges which category, in the order of the reply.
type verdicts struct {
	labels []*inferencev1.Label
	names  []string // in JSON
	label  []int    // for each name; -1: none
}

func newVerdicts(labels []*inferencev1.Label) (*verdicts, error) {
	names := slices.Clone(categories)
	for _, label := range labels {
		if !slices.Contains(categories, label.GetName()) {
			names = append(names, label.GetName())
		}
	}
	v := &verdicts{labels: labels}
	for _, name := range names {
		quoted, err := jsontext.AppendQuote(nil, name)
		if err != nil {
			return nil, err
		}
		v.names = append(v.names, string(quoted))
		v.label = append(v.label, slices.IndexFunc(labels, func(label *inferencev1.Label) bool { return label.GetName() == name }))
	}
	return v, nil
}

// append writes one text's result.
func (v *verdicts) append(buffer []byte, scores []float32) ([]byte, error) {
	if len(scores) != len(v.labels) {
		return nil, fmt.Errorf("the hot path gave %d scores for %d labels", len(scores), len(v.labels))
	}
	for _, score := range scores {
		if !(score >= 0 && score <= 1) {
			return nil, fmt.Errorf("a score is %v, which is no probability", score)
		}
	}
	flagged := false
	for label, score := range scores {
		flagged = flagged || v.says(label, score)
	}
	buffer = append(buffer, `{"flagged":`...)
	buffer = strconv.AppendBool(buffer, flagged)
	buffer = v.appendObject(append(buffer, `,"categories":`...), func(buffer []byte, label int) []byte {
		return strconv.AppendBool(buffer, label >= 0 && v.says(label, scores[label]))
	})
	buffer = v.appendObject(append(buffer, `,"category_scores":`...), func(buffer []byte, label int) []byte {
		if label < 0 {
			return append(buffer, "0.0"...)
		}
		return strconv.AppendFloat(buffer, float64(scores[label]), 'g', -1, 32)
	})
	buffer = v.appendObject(append(buffer, `,"category_applied_input_types":`...), func(buffer []byte, label int) []byte {
		if label < 0 {
			return append(buffer, "[]"...)
		}
		return append(buffer, `["text"]`...)
	})
	buffer = append(buffer, `,"not_assessed":[`...)
	return append(v.appendNotAssessed(buffer), "]}"...), nil
}

// says reports whether a text is said to be what a label names.
func (v *verdicts) says(label int, score float32) bool {
	return score >= v.labels[label].GetThreshold()
}

func (v *verdicts) appendObject(buffer []byte, value func(buffer []byte, label int) []byte) []byte {
	for i, name := range v.names {
		separator := byte(',')
		if i == 0 {
			separator = '{'
		}
		buffer = append(buffer, separator)
		buffer = append(buffer, name...)
		buffer = append(buffer, ':')
		buffer = value(buffer, v.label[i])
	}
	return append(buffer, '}')
}

func (v *verdicts) appendNotAssessed(buffer []byte) []byte {
	separator := ""
	for i, name := range v.names {
		if v.label[i] < 0 {
			buffer = append(buffer, separator...)
			buffer = append(buffer, name...)
			separator = ","
		}
	}
	return buffer
}
