package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"

	"triptych.dev/gateway/internal/testkit"
)

// handlers are the engine's routes in OpenAI's form.
var handlers = map[string]http.HandlerFunc{"POST /v1/embeddings": fixed(embedded())}

func routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, handler := range handlers {
		mux.HandleFunc(pattern, handler)
	}
	return mux
}

// fixed always replies the same, once the request is here.
func fixed(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxMessageBytes)); err != nil {
			http.Error(w, "the body did not come", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}
}

// embedded is the reply for one text, its vector as OpenAI's own clients ask for it.
func embedded() string {
	return fmt.Sprintf(`{"object":"list","data":[{"object":"embedding","index":0,"embedding":"%s"}],"model":"%s",`+
		`"usage":{"prompt_tokens":%d,"total_tokens":%d}}`,
		base64.StdEncoding.EncodeToString(vector), testkit.ModelName, tokensPerInput, tokensPerInput)
}
