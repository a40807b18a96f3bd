package openai

// Decoder reads requests.
type Decoder struct {
	// Aliases are other names of models, as those that clients of another service have: from what a request says to
	// what is served. Token ids are still those of the model itself.
	Aliases map[string]string
	// ModerationModel is for requests for moderation that name no model.
	ModerationModel string
	// MaxTokenizeBytes is how many bytes of text one request to tokenize may have.
	MaxTokenizeBytes int
}

// Resolve returns the name under which a model is served.
func (d *Decoder) Resolve(name string) string {
	if model, known := d.Aliases[name]; known {
		return model
	}
	return name
}
