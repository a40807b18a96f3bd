package moderation

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Material is what people are shown of a job: those of its texts that they are asked about, and no others.
type Material struct {
	Metadata jsontext.Value `json:"metadata"` // null: none
	Texts    []Text         `json:"texts"`
}

// Text is one of them.
type Text struct {
	Index  int            `json:"index"` // among all texts of the job
	Text   string         `json:"text"`
	Scores jsontext.Value `json:"category_scores"`
}

// MaterialOf collects the texts that people are asked about. Metadata is the job's, empty where it has none.
func MaterialOf(metadata string, texts []string, judgments []Judgment) Material {
	material := Material{Metadata: jsontext.Value("null")}
	if metadata != "" {
		material.Metadata = jsontext.Value(metadata)
	}
	for i, judgment := range judgments {
		if judgment.Verdict == Review {
			material.Texts = append(material.Texts, Text{i, texts[i], judgment.Scores})
		}
	}
	return material
}

// Bytes is how the material is kept.
func (m Material) Bytes() ([]byte, error) { return json.Marshal(m) }

// ParseMaterial reads what Bytes has made.
func ParseMaterial(kept []byte) (material Material, err error) {
	err = json.Unmarshal(kept, &material)
	return material, err
}

// Text returns the text with an index.
func (m Material) Text(index int) (Text, error) {
	for _, text := range m.Texts {
		if text.Index == index {
			return text, nil
		}
	}
	return Text{}, fmt.Errorf("text %d is not among the %d that are kept", index, len(m.Texts))
}
