package server

import (
	"net/http"
	"time"

	"github.com/rs/cors"
)

// preflightAge is how long a browser may remember what it was told. Most remember for less than a day.
const preflightAge = time.Hour

// shareWithOrigins lets pages of CORSOrigins call the API from a browser: their preflights are answered, which bring no
// key, and their replies, errors and streams too, are marked as theirs to read.
func (s *Server) shareWithOrigins(api http.Handler) http.Handler {
	if len(s.CORSOrigins) == 0 {
		return api
	}
	return cors.New(cors.Options{
		AllowedOrigins: s.CORSOrigins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete},
		AllowedHeaders: []string{"*"}, // those of SDKs are many, and none is of use without a key
		ExposedHeaders: append([]string{
			"X-Request-Id", "Retry-After", "Retry-After-Ms", "X-Should-Retry", "Server-Timing", "Openai-Processing-Ms", "Warning", "Location", replayedHeader, revisionHeader,
		}, rateLimitHeaders...),
		MaxAge: int(preflightAge.Seconds()),
	}).Handler(api)
}
