package moderation

import (
	"fmt"
	"strings"
	"testing"
)

// replyOf has a result for each object of scores; "advice" is advisory, and "none" is not assessed.
func replyOf(scores ...string) []byte {
	var results []string
	for _, one := range scores {
		results = append(results, `{"flagged":true,"category_scores":`+one+`,"advisory_categories":{"advice":true},"not_assessed":["none"]}`)
	}
	return []byte(`{"id":"modr-1","model":"m","results":[` + strings.Join(results, ",") + `]}`)
}

func TestATextIsJudgedByItsHighestScore(t *testing.T) {
	usual := Thresholds{Review: 0.4, Flagged: 0.8}
	for _, c := range []struct {
		thresholds Thresholds
		scores     string
		want       string
	}{
		{usual, `{"hate":0.39999,"violence":0.1}`, "passed hate 0.39999"},
		{usual, `{"hate":0.4}`, "review hate 0.4"},
		{usual, `{"violence":0.1,"hate":0.79999}`, "review hate 0.79999"},
		{usual, `{"hate":0.8,"violence":0.5}`, "flagged hate 0.8"},
		{usual, `{"hate":0.9,"violence":0.95,"sexual":0.81}`, "flagged violence 0.95"}, // several, by the highest
		{usual, `{"hate":0.5,"violence":0.5}`, "review hate 0.5"},                      // or the first of those
		{usual, `{"advice":0.99,"hate":0.1}`, "review advice 0.99"},                    // which people look at, at most
		{usual, `{"advice":0.99,"hate":0.81}`, "flagged hate 0.81"},
		{usual, `{"advice":0.3,"hate":0.1}`, "passed advice 0.3"},
		{usual, `{"none":0.0,"hate":0.0}`, "passed hate 0"},
		{Thresholds{0.5, 0.5}, `{"hate":0.5}`, "flagged hate 0.5"}, // nothing between
		{Thresholds{0.5, 0.5}, `{"advice":0.5}`, "review advice 0.5"},
		{Thresholds{0, 1}, `{"hate":0.0}`, "review hate 0"},
		{Thresholds{0, 0}, `{"hate":0.0}`, "flagged hate 0"},
		{Thresholds{1, 1}, `{"hate":0.99999}`, "passed hate 0.99999"},
	} {
		got, err := Judge(replyOf(c.scores), 1, c.thresholds)
		if err != nil || fmt.Sprintf("%s %s %v", got[0].Verdict, got[0].Category, got[0].Score) != c.want || string(got[0].Scores) != c.scores {
			t.Errorf("%v of %s: %+v, %v; want %s", c.thresholds, c.scores, got, err, c.want)
		}
	}
}

func TestTheWorstVerdictIsThatOfAll(t *testing.T) {
	got, err := Judge(replyOf(`{"hate":0.5}`, `{"hate":0.1}`, `{"hate":0.9}`, `{"hate":0.6}`), 4, Thresholds{0.4, 0.8})
	if err != nil || Worst(got) != Flagged || Worst(got[:2]) != Review || Worst(got[1:2]) != Passed || Worst(nil) != Passed {
		t.Errorf("%+v, %v", got, err)
	}
	content := ContentOf(`{"a":"b"}`, []string{"zero", "one", "two", "three"}, got)
	kept, err := content.Bytes()
	if want := `{"metadata":{"a":"b"},"texts":[{"index":0,"text":"zero","category_scores":{"hate":0.5}},{"index":3,"text":"three","category_scores":{"hate":0.6}}]}`; err != nil || string(kept) != want {
		t.Errorf("%s, %v", kept, err)
	}
	read, err := ParseContent(kept)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := read.Text(3); err != nil || text.Text != "three" {
		t.Errorf("%+v, %v", text, err)
	}
	if _, err := read.Text(1); err == nil {
		t.Error("a text that has passed is kept")
	}
}

func TestAReplyThatIsNoneIsNotJudged(t *testing.T) {
	for _, body := range []string{
		``, `null`, `[]`, `{}`, `{"results":null}`, `{"results":[]}`, `{"results":[{}]}`, `{"results":[null]}`, `{"results":[7]}`, `{"error":{"message":"no"}}`,
		string(replyOf(`{"hate":0.1}`, `{"hate":0.1}`)), string(replyOf(`{}`)), string(replyOf(`null`)), string(replyOf(`[0.5]`)), string(replyOf(`{"none":0}`)),
		string(replyOf(`{"hate":"0.5"}`)), string(replyOf(`{"hate":null}`)), string(replyOf(`{"hate":true}`)), string(replyOf(`{"hate":{}}`)), string(replyOf(`{"":0.5}`)),
		string(replyOf(`{"hate":1.0001}`)), string(replyOf(`{"hate":-0.1}`)), string(replyOf(`{"hate":1e999}`)), string(replyOf(`{"hate":NaN}`)), string(replyOf(`{"hate":0.1,"hate":0.2}`)),
		string(replyOf(`{"hate":0.5}`))[:60],
	} {
		if got, err := Judge([]byte(body), 1, Thresholds{0.4, 0.8}); err == nil {
			t.Errorf("%s: %+v", body, got)
		}
	}
}

func TestThresholdsAreReadAsTheyWereKept(t *testing.T) {
	for _, thresholds := range []Thresholds{{0.4, 0.8}, {0, 1}, {1e-7, 0.33333334}} {
		if read, err := ParseThresholds(thresholds.String()); err != nil || read != thresholds {
			t.Errorf("%s: %+v, %v", thresholds, read, err)
		}
	}
	if kept := (Thresholds{0.4, 0.8}).String(); kept != `{"review":0.4,"flagged":0.8}` {
		t.Error(kept)
	}
}

func FuzzJudge(f *testing.F) {
	f.Add(replyOf(`{"hate":0.5,"none":0.0,"advice":1}`))
	f.Add([]byte(`{"results":[{"category_scores":{"a":0.1}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := Judge(body, 1, Thresholds{0.4, 0.8})
		if err == nil && (len(got) != 1 || got[0].Verdict.severity() < 0 || got[0].Score < 0 || got[0].Score > 1 || got[0].Category == "") {
			t.Errorf("%+v", got)
		}
	})
}
