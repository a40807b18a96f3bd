package server

import (
	"strings"

	"triptych.dev/gateway/internal/strictjson"
)

// decoded is the body as a request. Where unknown fields are ignored, a header names them.
func decoded[Request any](
	ex *exchange, decode func(body []byte, ignored *strictjson.Names) (Request, error),
) (Request, error) {
	if !ex.server.IgnoreUnknownFields {
		return decode(ex.body, nil)
	}
	var ignored strictjson.Names
	request, err := decode(ex.body, &ignored)
	if len(ignored.List) > 0 {
		// As RFC 7234 writes it: 299 is any warning, "-" does not say who warns.
		ex.header().Set("Warning", `299 - "Ignored: `+headerText(ignored.String())+`"`)
	}
	return request, err
}

// headerText makes names, which are the client's, fit for a header's quoted text.
func headerText(names string) string {
	return strings.Map(func(char rune) rune {
		switch {
		case char == '"':
			return '\''
		case char == '\\' || char < ' ' || char > '~':
			return '?'
		default:
			return char
		}
	}, names)
}
