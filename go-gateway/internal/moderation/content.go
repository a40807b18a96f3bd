package moderation

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Content is what people are shown of a job: those of its texts that they are asked about, and no others.
type Content struct {
	Metadata jsontext.Value `json:"metadata"` // null: none
	Texts    []Text         `json:"texts"`
}

// Text is one of them.
type Text struct {
	Index  int            `json:"index"` // among all texts of the job
	Text   string         `json:"text"`
	Scores jsontext.Value `json:"category_scores"`
}

// ContentOf collects the texts that people are asked about. Metadata is the job's, empty where it has none.
func ContentOf(metadata string, texts []string, judgments []Judgment) Content {
	content := Content{Metadata: jsontext.Value("null")}
	if metadata != "" {
		content.Metadata = jsontext.Value(metadata)
	}
	for i, judgment := range judgments {
		if judgment.Verdict == Review {
			content.Texts = append(content.Texts, Text{i, texts[i], judgment.Scores})
		}
	}
	return content
}

// Bytes is how the content is kept.
func (c Content) Bytes() ([]byte, error) { return json.Marshal(c) }

// ParseContent reads what Bytes has made.
func ParseContent(kept []byte) (content Content, err error) {
	err = json.Unmarshal(kept, &content)
	return content, err
}

// Text returns the text with an index.
func (c Content) Text(index int) (Text, error) {
	for _, text := range c.Texts {
		if text.Index == index {
			return text, nil
		}
	}
	return Text{}, fmt.Errorf("text %d is not among the %d that are kept", index, len(c.Texts))
}
