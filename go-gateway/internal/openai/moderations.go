package openai

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/go-json-experiment/json"
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

// Moderation reads the body of POST /v1/moderations. Errors are *fault.Fault.
func (d *Decoder) Moderation(body []byte, ignored *strictjson.Names) (*ModerationRequest, error) {
	named := &d.ModerationModel
	var in moderationInput
	err := strictjson.Decode(body, strictjson.Fields{
		"input": in.read,
		"model": strictjson.String(&named),
	}, ignored)
	if err != nil {
		return nil, err
	}
	model, err := d.requiredModel(named)
	if err != nil {
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

// ModerationTexts returns the texts of a request that Moderation has taken, whether it has fields that are not known or not.
func (d *Decoder) ModerationTexts(body []byte) ([]string, error) {
	request, err := d.Moderation(body, &strictjson.Names{})
	if err != nil {
		return nil, err
	}
	return request.Classify.GetTexts(), nil
}

// moderationInput is a text, a list of texts, or a list of the parts of one text.
type moderationInput struct {
	present bool
	single  bool
	texts   []string
}

func (in *moderationInput) read(decoder *strictjson.Decoder, name string) error {
	in.present = true
	if decoder.PeekKind() == jsontext.KindString {
		in.single = true
		return in.readText(decoder, name)
	}
	var parts []string
	part := newPartReader()
	err := strictjson.List(decoder, name, "a string, a list of strings or a list of text parts", math.MaxInt, func(i int) error {
		if i == maxInputs {
			return tooManyInputs(name)
		}
		if decoder.PeekKind() != jsontext.KindBeginObject && parts == nil {
			return in.readText(decoder, name, i)
		}
		if len(in.texts) > 0 {
			return strictjson.WrongType(strictjson.Element(name, i), "a string, as the one before it", decoder.PeekKind())
		}
		text, err := part.read(decoder, strictjson.Element(name, i))
		parts = append(parts, text)
		return err
	})
	if parts != nil {
		in.single, in.texts = true, []string{joinParts(parts)}
	}
	return err
}

func (in *moderationInput) readText(decoder *strictjson.Decoder, name string, index ...int) error {
	text, err := strictjson.ReadString(decoder, name, "a string or a text part", index...)
	in.texts = append(in.texts, text)
	return err
}

// moderationReply is the reply to POST /v1/moderations.
type moderationReply struct {
	ID      string    `json:"id"`
	Model   string    `json:"model"`
	Results []verdict `json:"results"`
}

// verdict is one text's result; its objects have all categories.
type verdict struct {
	Flagged    bool   `json:"flagged"`
	Categories object `json:"categories"`
	Scores     object `json:"category_scores"`
	InputTypes object `json:"category_applied_input_types"`
	// Beside OpenAI's fields.
	Advisory    object   `json:"advisory_categories"`
	NotAssessed []string `json:"not_assessed"`
}

// object is a JSON object whose members keep their order.
type object []member

type member struct {
	name  string
	value any
}

// MarshalJSONTo implements json.MarshalerTo.
func (o object) MarshalJSONTo(encoder *jsontext.Encoder) error {
	err := encoder.WriteToken(jsontext.BeginObject)
	for _, m := range o {
		err = errors.Join(err, encoder.WriteToken(jsontext.String(m.name)), json.MarshalEncode(encoder, m.value))
	}
	return errors.Join(err, encoder.WriteToken(jsontext.EndObject))
}

// RenderModeration returns the reply to POST /v1/moderations. An error means that the hot path broke its contract.
func RenderModeration(request *ModerationRequest, reply *inferencev1.ClassifyResponse, id string) ([]byte, error) {
	if found, wanted := len(reply.GetClassifications()), len(request.Classify.GetTexts()); found != wanted {
		return nil, fmt.Errorf("the hot path classified %d of %d texts", found, wanted)
	}
	results := make([]verdict, len(reply.GetClassifications()))
	for i, classification := range reply.GetClassifications() {
		var err error
		if results[i], err = judge(reply.GetLabels(), classification.GetScores()); err != nil {
			return nil, fmt.Errorf("text %d: %w", i, err)
		}
	}
	return json.Marshal(moderationReply{ID: "modr-" + id, Model: request.Classify.GetModel(), Results: results})
}

// judge makes one text's result of its scores.
//
// A category that the model has no label for is false and 0, as SDKs want it, and named in "not_assessed", as honesty
// does. What an advisory label says stands in "advisory_categories" alone: whoever acts on "flagged" or on a category must
// not act on a hint, and "flagged" is true if and only if a category is. A label that is none of OpenAI's categories
// follows them.
func judge(labels []*inferencev1.Label, scores []float32) (verdict, error) {
	if len(scores) != len(labels) {
		return verdict{}, fmt.Errorf("the hot path gave %d scores for %d labels", len(scores), len(labels))
	}
	v := verdict{NotAssessed: []string{}}
	add := func(name string, says bool, score any, types ...string) {
		v.Flagged = v.Flagged || says
		v.Categories = append(v.Categories, member{name, says})
		v.Scores = append(v.Scores, member{name, score})
		v.InputTypes = append(v.InputTypes, member{name, types})
	}
	assessed := make(map[string]int, len(labels))
	for i, label := range labels {
		assessed[label.GetName()] = i
		if score := scores[i]; !(score >= 0 && score <= 1) {
			return verdict{}, fmt.Errorf("a score is %v, which is no probability", score)
		}
	}
	addLabel := func(i int) {
		name, says, advisory := labels[i].GetName(), scores[i] >= labels[i].GetThreshold(), labels[i].GetAdvisory()
		add(name, says && !advisory, scores[i], "text")
		if advisory {
			v.Advisory = append(v.Advisory, member{name, says})
		}
	}
	for _, name := range categories {
		if i, found := assessed[name]; found {
			addLabel(i)
			continue
		}
		add(name, false, jsontext.Value("0.0")) // which SDKs in other languages read as a float too
		v.NotAssessed = append(v.NotAssessed, name)
	}
	for i, label := range labels {
		if !slices.Contains(categories, label.GetName()) {
			addLabel(i)
		}
	}
	return v, nil
}
