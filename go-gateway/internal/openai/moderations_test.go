package openai

import (
	stdjson "encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/fault"
	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

func TestDecodeModeration(t *testing.T) {
	for _, c := range []struct {
		body, model string
		texts       []string
		single      bool
	}{
		{`{"input":"a"}`, "preset", []string{"a"}, true},
		{`{"input":"a","model":null}`, "preset", []string{"a"}, true},
		{`{"input":["a"],"model":"m"}`, "m", []string{"a"}, false},
		{`{"input":["a","b"]}`, "preset", []string{"a", "b"}, false},
		{`{"input":[]}`, "preset", nil, false},
		{`{"input":["a",""]}`, "preset", []string{"a", ""}, false},
		{`{"input":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}`, "preset", []string{"a\nb"}, true},
		{`{"input":[{"type":"text","text":""}]}`, "preset", []string{""}, true},
	} {
		got, err := plain.Moderation([]byte(c.body), nil)
		if err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		if got.Classify.GetModel() != c.model || !slices.Equal(got.Classify.GetTexts(), c.texts) || got.SingleInput != c.single {
			t.Errorf("%s: got %+v", c.body, got)
		}
	}
	for _, c := range []refusal{
		{`{}`, fault.MissingField, "input", ""},
		{`{"input":null}`, fault.MissingField, "input", ""},
		{`{"input":"a","model":""}`, fault.MissingField, "model", ""},
		{`{"input":1}`, fault.InvalidValue, "input", "list of text parts"},
		{`{"input":[1]}`, fault.InvalidValue, "input[0]", "a number"},
		{`{"input":["a",{"type":"text","text":"b"}]}`, fault.InvalidValue, "input[1]", "an object"},
		{`{"input":[{"type":"text","text":"b"},"a"]}`, fault.InvalidValue, "input[1]", "an object, not a string"},
		{`{"input":[{"type":"image_url","image_url":{"url":"u"}}]}`, fault.InvalidValue, "input[0]", "only text"},
		{`{"input":"a","user":"u"}`, fault.UnsupportedParameter, "user", ""},
	} {
		_, err := plain.Moderation([]byte(c.body), nil)
		checkRefusal(t, c, err)
	}
}

func TestRenderModeration(t *testing.T) {
	request := &ModerationRequest{Classify: &inferencev1.ClassifyRequest{Model: "m", Texts: []string{"a", "b"}}}
	reply := &inferencev1.ClassifyResponse{
		Labels: []*inferencev1.Label{
			{Name: "violence", Threshold: 0.75}, {Name: "hate", Threshold: 0.5}, {Name: "spam\"", Threshold: 1},
			{Name: "sexual", Threshold: 0.25, Advisory: true}, {Name: "rude", Threshold: 0.5, Advisory: true},
		},
		Classifications: []*inferencev1.Classification{{Scores: []float32{0.74, 0.5, 0.1, 0.2, 0}}, {Scores: []float32{0.1, 0, 0.99, 0.25, 1}}},
	}
	body, err := RenderModeration(request, reply, "req_1")
	if err != nil {
		t.Fatal(err)
	}
	const results = `{"id":"modr-req_1","model":"m","results":[{"flagged":true,"categories":{"harassment":false,"harassment/threatening":false,"hate":true,` +
		`"hate/threatening":false,"illicit":false,"illicit/violent":false,"self-harm":false,"self-harm/intent":false,"self-harm/instructions":false,` +
		`"sexual":false,"sexual/minors":false,"violence":false,"violence/graphic":false,"spam\"":false,"rude":false},"category_scores":{"harassment":0.0,` +
		`"harassment/threatening":0.0,"hate":0.5,`
	if !strings.HasPrefix(string(body), results) {
		t.Errorf("got\n%s\nwant\n%s", body, results)
	}
	var decoded struct {
		Results []struct {
			Flagged     bool
			Categories  map[string]bool
			Scores      map[string]float64  `json:"category_scores"`
			Types       map[string][]string `json:"category_applied_input_types"`
			Advisory    map[string]bool     `json:"advisory_categories"`
			NotAssessed []string            `json:"not_assessed"`
		}
	}
	if err := stdjson.Unmarshal(body, &decoded); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	for i, result := range decoded.Results {
		if len(result.Categories) != 15 || len(result.Scores) != 15 || len(result.Types) != 15 || len(result.NotAssessed) != 10 {
			t.Errorf("result %d: %+v", i, result)
		}
		for _, name := range result.NotAssessed {
			if result.Categories[name] || result.Scores[name] != 0 || len(result.Types[name]) != 0 {
				t.Errorf("%s was judged after all", name)
			}
		}
		if slices.Contains(result.NotAssessed, "hate") || !slices.Equal(result.Types["hate"], []string{"text"}) {
			t.Errorf("result %d: %+v", i, result)
		}
	}
	first, second := decoded.Results[0], decoded.Results[1]
	if second.Flagged || second.Scores["spam\""] != 0.99 {
		t.Errorf("got %+v", second)
	}
	// What is advisory has its score and is listed, and counts for nothing else.
	if !maps.Equal(first.Advisory, map[string]bool{"sexual": false, "rude": false}) || !maps.Equal(second.Advisory, map[string]bool{"sexual": true, "rude": true}) {
		t.Errorf("got %v and %v", first.Advisory, second.Advisory)
	}
	if second.Categories["sexual"] || second.Categories["rude"] || second.Scores["sexual"] != 0.25 || !slices.Equal(second.Types["sexual"], []string{"text"}) {
		t.Errorf("got %+v", second)
	}
}

func TestRenderModerationRefusesABrokenReply(t *testing.T) {
	request := &ModerationRequest{Classify: &inferencev1.ClassifyRequest{Model: "m", Texts: []string{"a"}}}
	hate := []*inferencev1.Label{{Name: "hate", Threshold: 0.5}}
	scored := func(scores ...float32) []*inferencev1.Classification {
		return []*inferencev1.Classification{{Scores: scores}}
	}
	for name, reply := range map[string]*inferencev1.ClassifyResponse{
		"nothing":        {},
		"too many texts": {Labels: hate, Classifications: append(scored(0), scored(0)...)},
		"no score":       {Labels: hate, Classifications: scored()},
		"two scores":     {Labels: hate, Classifications: scored(0, 1)},
		"not a number":   {Labels: hate, Classifications: scored(float32(math.NaN()))},
		"above 1":        {Labels: hate, Classifications: scored(1.5)},
	} {
		if body, err := RenderModeration(request, reply, "req_1"); err == nil {
			t.Errorf("%s: got %s", name, body)
		}
	}
}
