package batch

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/strictjson"
)

// maxCustomID is more than any id needs.
const maxCustomID = 512 // bytes

// line is one request of a batch.
type line struct {
	CustomID string
	Body     jsontext.Value // an object
}

// parseLine reads a line of a batch of an endpoint. Of one that is wrong it returns what could be read of its custom_id, and
// a sentence that says what is wrong.
func parseLine(text []byte, endpoint string) (found line, wrong string) {
	var members map[string]jsontext.Value
	if err := json.Unmarshal(text, &members); err != nil || members == nil {
		return line{}, "It is not one JSON object that names each field once."
	}
	custom, isString := stringOf(members["custom_id"])
	found.CustomID = custom
	method, _ := stringOf(members["method"])
	url, _ := stringOf(members["url"])
	found.Body = members["body"]
	for _, name := range []string{"custom_id", "method", "url", "body"} {
		if members[name] == nil {
			return found, fmt.Sprintf("The field %q is required.", name)
		}
		delete(members, name)
	}
	switch {
	case !isString || custom == "":
		return found, "custom_id must be a string, and not empty."
	case len(custom) > maxCustomID:
		found.CustomID = ""
		return found, fmt.Sprintf("custom_id has %d bytes; at most %d are taken.", len(custom), maxCustomID)
	case method != "POST":
		return found, `method must be "POST".`
	case url != endpoint:
		return found, fmt.Sprintf("url must be the batch's endpoint, %q.", endpoint)
	case found.Body.Kind() != jsontext.KindBeginObject:
		return found, "body must be an object."
	case len(members) > 0:
		return found, fmt.Sprintf("The field %q is not known.", strictjson.Clip(slices.Sorted(maps.Keys(members))[0]))
	default:
		return found, ""
	}
}

func stringOf(value jsontext.Value) (text string, isString bool) {
	if value.Kind() != jsontext.KindString {
		return "", false
	}
	return text, json.Unmarshal(value, &text) == nil
}

// ModelOf is the model that a request names; empty if it names none.
func ModelOf(body jsontext.Value) string {
	var named struct {
		Model string `json:"model"`
	}
	_ = json.Unmarshal(body, &named) // what is wrong with it, its endpoint says when it is run
	return named.Model
}

// cutLine returns the first line of text, without its end, and how many bytes it takes.
func cutLine(text []byte) (first []byte, taken int) {
	if end := bytes.IndexByte(text, '\n'); end >= 0 {
		return text[:end], end + 1
	}
	return text, len(text)
}
