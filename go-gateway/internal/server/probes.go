package server

import (
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"

	"triptych.dev/gateway/internal/fault"
)

// Routes of the probes: they need no key, and are logged at debug level.
const (
	livezRoute  = "/livez"
	readyzRoute = "/readyz"
)

type readiness struct {
	Ready    bool             `json:"ready"`
	Draining bool             `json:"draining"`
	Models   []modelReadiness `json:"models"`
}

type modelReadiness struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Proven bool   `json:"proven"` // an inference succeeded lately
}

// livez serves GET /livez: the process answers.
func (s *Server) livez(ex *exchange, _ *http.Request) error {
	ex.reply(http.StatusOK, []byte(`{"alive":true}`))
	return nil
}

// readyz serves GET /readyz: requests are likely to succeed, since real ones did lately.
func (s *Server) readyz(ex *exchange, _ *http.Request) error {
	ready, statuses := s.Engine.Ready()
	body := readiness{Draining: s.draining.Load(), Models: make([]modelReadiness, len(statuses))}
	body.Ready = ready && !body.Draining
	for i, status := range statuses {
		state := strings.ToLower(strings.TrimPrefix(status.State.String(), "MODEL_STATE_"))
		body.Models[i] = modelReadiness{ID: status.Name, State: state, Proven: status.Proven}
	}
	reply, err := json.Marshal(body)
	if err != nil {
		return fault.InternalError(err)
	}
	status := http.StatusOK
	if !body.Ready {
		status = http.StatusServiceUnavailable
	}
	ex.reply(status, reply)
	return nil
}
