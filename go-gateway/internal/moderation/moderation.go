// Package moderation judges texts by what a moderation model has replied and two thresholds: what is clear is decided here, and
// what is between them is for people.
//
// It must not depend on HTTP, the store or the contract: it reads the reply as a client of POST /v1/moderations does.
package moderation

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Verdict is what comes of a text, or of all texts of a job.
type Verdict string

// All verdicts, the worst last.
const (
	Passed  Verdict = "passed"
	Review  Verdict = "review" // people are asked
	Flagged Verdict = "flagged"
)

func (v Verdict) severity() int { return slices.Index([]Verdict{Passed, Review, Flagged}, v) }

// Thresholds are the least scores of verdicts: below both a text has passed. Flagged is not below Review.
type Thresholds struct {
	Review  float32 `json:"review"`
	Flagged float32 `json:"flagged"`
}

// String is how the thresholds are kept.
func (t Thresholds) String() string {
	text, err := json.Marshal(t)
	if err != nil {
		panic(err) // both are numbers, which always encode
	}
	return string(text)
}

// ParseThresholds reads what String has written.
func ParseThresholds(text string) (t Thresholds, err error) {
	err = json.Unmarshal([]byte(text), &t, json.RejectUnknownMembers(true))
	return t, err
}

func (t Thresholds) verdict(score float32) Verdict {
	switch {
	case score >= t.Flagged:
		return Flagged
	case score >= t.Review:
		return Review
	default:
		return Passed
	}
}

// Judgment is what came of one text.
type Judgment struct {
	Verdict  Verdict
	Category string // the one that the verdict is by: with the highest score, if several are
	Score    float32
	Scores   jsontext.Value // of all categories, as they were replied
}

// reply is as much of a reply as a verdict is by. Names of categories are the model's.
type reply struct {
	Results []struct {
		Scores      jsontext.Value  `json:"category_scores"`
		Advisory    map[string]bool `json:"advisory_categories"`
		NotAssessed []string        `json:"not_assessed"`
	} `json:"results"`
}

// Judge returns what came of each of so many texts, by the body of a successful reply. An error means that the body is none.
//
// A category that is advisory, since no threshold makes its scores good enough to act on, has a text looked at by people at most;
// it flags none.
func Judge(body []byte, texts int, thresholds Thresholds) ([]Judgment, error) {
	var replied reply
	if err := json.Unmarshal(body, &replied); err != nil {
		return nil, fmt.Errorf("the reply of the moderation: %w", err)
	}
	if len(replied.Results) != texts {
		return nil, fmt.Errorf("the reply of the moderation has %d results for %d texts", len(replied.Results), texts)
	}
	judgments := make([]Judgment, texts)
	for i, result := range replied.Results {
		scores, err := readScores(result.Scores)
		if err != nil {
			return nil, fmt.Errorf("result %d of the moderation: %w", i, err)
		}
		for _, one := range scores {
			if slices.Contains(result.NotAssessed, one.Category) {
				continue
			}
			one.Verdict = thresholds.verdict(one.Score)
			if _, advisory := result.Advisory[one.Category]; advisory && one.Verdict == Flagged {
				one.Verdict = Review
			}
			if judgments[i].Category == "" || one.worseThan(judgments[i]) {
				judgments[i] = one
			}
		}
		if judgments[i].Category == "" {
			return nil, fmt.Errorf("result %d of the moderation has no score", i)
		}
		judgments[i].Scores = result.Scores
	}
	return judgments, nil
}

func (j Judgment) worseThan(other Judgment) bool {
	return cmp.Or(cmp.Compare(j.Verdict.severity(), other.Verdict.severity()), cmp.Compare(j.Score, other.Score)) > 0
}

// readScores reads an object of categories, each with a probability, in its order.
func readScores(object jsontext.Value) (scores []Judgment, err error) {
	if object.Kind() != jsontext.KindBeginObject {
		return nil, errors.New("category_scores is no object")
	}
	decoder := jsontext.NewDecoder(bytes.NewReader(object))
	if _, err := decoder.ReadToken(); err != nil { // {
		return nil, err
	}
	for decoder.PeekKind() == jsontext.KindString {
		name, err := decoder.ReadToken()
		if err != nil {
			return nil, err
		}
		one := Judgment{Category: name.String(), Score: -1}
		if decoder.PeekKind() == jsontext.KindNumber {
			err = json.UnmarshalDecode(decoder, &one.Score)
		}
		if err != nil || one.Category == "" || strings.ContainsRune(one.Category, 0) || one.Score < 0 || one.Score > 1 {
			return nil, fmt.Errorf("the score of the category %.64q is no probability", one.Category)
		}
		scores = append(scores, one)
	}
	return scores, nil
}

// Worst is the verdict of all texts.
func Worst(judgments []Judgment) Verdict {
	worst := Passed
	for _, judgment := range judgments {
		if judgment.Verdict.severity() > worst.severity() {
			worst = judgment.Verdict
		}
	}
	return worst
}
