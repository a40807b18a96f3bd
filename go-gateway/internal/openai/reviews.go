package openai

import (
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/jobs"
	"triptych.dev/gateway/internal/moderation"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/strictjson"
)

const maxNote = 500 // characters

// thresholds reads both of a moderation's thresholds.
func thresholds(destination **moderation.Thresholds) strictjson.Field {
	return func(decoder *strictjson.Decoder, name string) error {
		review, flagged := float32(-1), float32(-1)
		err := strictjson.Object(strictjson.Fields{
			"review":  strictjson.Number(0, 1, func(value float32) { review = value }),
			"flagged": strictjson.Number(0, 1, func(value float32) { flagged = value }),
		})(decoder, name)
		switch {
		case err != nil:
			return err
		case review < 0:
			return strictjson.Missing(name + ".review")
		case flagged < 0:
			return strictjson.Missing(name + ".flagged")
		case review > flagged:
			return fault.InField(fault.InvalidValue, name+".review", "%s.review must be at most %s.flagged, which is %v, not %v.", name, name, flagged, review)
		}
		*destination = &moderation.Thresholds{Review: review, Flagged: flagged}
		return nil
	}
}

// textVerdict is what came of one text of a job.
type textVerdict struct {
	Index    int                `json:"index"`
	Verdict  moderation.Verdict `json:"verdict"`
	Category string             `json:"category"`
	Score    float32            `json:"score"`
	ReviewID *string            `json:"review_id"` // null: nobody is asked
}

// verdictsOf is what came of each of a job's texts, which follows from the thresholds and the reply; null where there is no verdict.
func verdictsOf(stored *store.AsyncJob, reply []byte) (jsontext.Value, error) {
	if stored.Verdict == "" {
		return jsontext.Value("null"), nil
	}
	thresholds, err := moderation.ParseThresholds(stored.Thresholds)
	if err != nil {
		return nil, err
	}
	judgments, err := moderation.Judge(reply, int(stored.Inputs), thresholds)
	if err != nil {
		return nil, err
	}
	verdicts := make([]textVerdict, len(judgments))
	for i, judgment := range judgments {
		verdicts[i] = textVerdict{Index: i, Verdict: judgment.Verdict, Category: judgment.Category, Score: judgment.Score}
		if judgment.Verdict == moderation.Review {
			id := store.ReviewID(stored.ID, i)
			verdicts[i].ReviewID = &id
		}
	}
	return json.Marshal(verdicts)
}

// ReviewDecision reads the body of POST /v1/moderation_reviews/{id}. Errors are *fault.Fault.
func (d *Decoder) ReviewDecision(body []byte, ignored *strictjson.Names) (jobs.Decision, error) {
	var decision, note *string
	err := strictjson.Decode(body, strictjson.Fields{"decision": strictjson.String(&decision), "note": strictjson.String(&note)}, ignored)
	switch {
	case err != nil:
		return jobs.Decision{}, err
	case decision == nil:
		return jobs.Decision{}, strictjson.Missing("decision")
	case *decision != string(moderation.Passed) && *decision != string(moderation.Flagged):
		return jobs.Decision{}, fault.InField(fault.InvalidValue, "decision", "decision must be %q or %q, not %.64q.", moderation.Passed, moderation.Flagged, *decision)
	}
	decided := jobs.Decision{Verdict: moderation.Verdict(*decision)}
	if note != nil {
		decided.Note = *note
	}
	if strings.ContainsRune(decided.Note, 0) { // which no database takes
		return jobs.Decision{}, fault.InField(fault.InvalidValue, "note", "note must not have the character U+0000.")
	}
	if length := utf8.RuneCountInString(decided.Note); length > maxNote {
		return jobs.Decision{}, fault.InField(fault.InvalidValue, "note", "note has %d characters, and may have %d.", length, maxNote)
	}
	return decided, nil
}

// reviewObject is ours: OpenAI has no such API.
type reviewObject struct {
	ID         string         `json:"id"`
	Object     string         `json:"object"` // "moderation_review"
	JobID      string         `json:"job_id"`
	Index      int            `json:"index"` // of the text among the job's
	Status     string         `json:"status"`
	Category   string         `json:"category"` // with the highest score
	Score      jsontext.Value `json:"score"`
	Thresholds jsontext.Value `json:"thresholds"`
	CreatedAt  int64          `json:"created_at"` // Unix seconds, as all of these: when the job ended
	KeptUntil  int64          `json:"kept_until"` // it is not found after that
	Decision   *string        `json:"decision"`   // these are null until somebody has decided
	Note       *string        `json:"note"`
	DecidedBy  *string        `json:"decided_by"` // the id of a key
	DecidedAt  *int64         `json:"decided_at"`
	// These are absent in lists: texts may be long.
	Text     *string        `json:"text,omitzero"`
	Scores   jsontext.Value `json:"category_scores,omitzero"`
	Metadata jsontext.Value `json:"metadata,omitzero"` // the job's
}

// RenderReview returns the reply about one review.
func RenderReview(review jobs.Review) ([]byte, error) { return json.Marshal(reviewOf(review)) }

// RenderReviews returns the reply to GET /v1/moderation_reviews.
func RenderReviews(reviews []jobs.Review, more bool) ([]byte, error) {
	return renderPage(reviews, more, func(one jobs.Review) (string, reviewObject) { return one.ID, reviewOf(one) })
}

func reviewOf(review jobs.Review) reviewObject {
	object := reviewObject{
		ID: review.ID, Object: "moderation_review", JobID: review.Job, Index: review.Input, Status: "pending", Category: review.Category,
		Score: jsontext.Value(review.Score), Thresholds: jsontext.Value(review.Thresholds), CreatedAt: review.Created.Unix(), KeptUntil: review.Forgotten.Unix(),
		Metadata: review.Metadata,
	}
	if review.Review.Decision != "" {
		object.Status = "decided"
		object.Decision, object.Note, object.DecidedBy, object.DecidedAt = &review.Review.Decision, orNull(review.Note), orNull(review.DecidedBy), unixSeconds(review.Decided)
	}
	if review.Text != nil {
		object.Text, object.Scores = &review.Text.Text, review.Text.Scores
	}
	return object
}
