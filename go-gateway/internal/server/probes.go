package server

import (
	"fmt"
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

// readiness is what operators are told; the API's clients get the first field alone.
type readiness struct {
	Ready    bool               `json:"ready"`
	Draining bool               `json:"draining"`
	Replicas []replicaReadiness `json:"replicas"`
}

type replicaReadiness struct {
	Address        string           `json:"address"`
	Connected      bool             `json:"connected"`
	ListAgeSeconds float64          `json:"list_age_seconds"`
	ListError      string           `json:"list_error,omitzero"`
	Ejected        bool             `json:"ejected"`            // it failed, and gets no requests that others can take
	Calls          int64            `json:"outstanding_calls"`  // of this gateway
	Tokens         int64            `json:"outstanding_tokens"` // of this gateway
	Load           int64            `json:"load_tokens"`        // of all gateways, as far as is known
	Models         []modelReadiness `json:"models"`
}

type modelReadiness struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Proven bool   `json:"proven"` // an inference succeeded lately
	Cause  string `json:"cause,omitzero"`
}

// livez serves GET /livez: the process answers.
func (s *Server) livez(ex *exchange) error {
	ex.reply(http.StatusOK, []byte(`{"alive":true}`))
	return nil
}

// readyz serves GET /readyz to anybody: requests are likely to succeed, since real ones did lately.
func (s *Server) readyz(ex *exchange) error {
	ready := s.Ready()
	ex.reply(readyStatus(ready), fmt.Appendf(nil, `{"ready":%t}`, ready))
	return nil
}

// readyzDetailed serves GET /readyz to operators, with the reason.
func (s *Server) readyzDetailed(ex *exchange) error {
	ready, statuses := s.Engine.Ready()
	body := readiness{Draining: s.draining.Load(), Replicas: make([]replicaReadiness, len(statuses))}
	body.Ready = ready && !body.Draining
	for i, status := range statuses {
		replica := replicaReadiness{
			Address: status.Address, Connected: status.Connected, ListAgeSeconds: status.ListAge.Seconds(),
			Ejected: status.Ejected, Calls: status.Calls, Tokens: status.Tokens, Load: status.Load,
			Models: make([]modelReadiness, len(status.Models)),
		}
		if status.ListError != nil {
			replica.ListError = status.ListError.Error()
		}
		for j, model := range status.Models {
			state := strings.ToLower(strings.TrimPrefix(model.State.String(), "MODEL_STATE_"))
			replica.Models[j] = modelReadiness{ID: model.Name, State: state, Proven: model.Proven, Cause: model.Cause}
		}
		body.Replicas[i] = replica
	}
	reply, err := json.Marshal(body)
	if err != nil {
		return fault.InternalError(err)
	}
	ex.reply(readyStatus(body.Ready), reply)
	return nil
}

func readyStatus(ready bool) int {
	if ready {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}
