package server

import (
	"fmt"
	"math"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"

	"triptych.dev/gateway/internal/adminapi"
	"triptych.dev/gateway/internal/engine"
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
	Replicas []adminapi.Replica `json:"replicas"`
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
	body := readiness{Draining: s.draining.Load(), Replicas: renderReplicas(statuses)}
	body.Ready = ready && !body.Draining
	reply, err := json.Marshal(body)
	if err != nil {
		return fault.InternalError(err)
	}
	ex.reply(readyStatus(body.Ready), reply)
	return nil
}

// renderReplicas is what operators are told of hot paths.
func renderReplicas(statuses []engine.ReplicaStatus) []adminapi.Replica {
	replicas := make([]adminapi.Replica, len(statuses))
	for i, status := range statuses {
		replica := adminapi.Replica{
			Address: status.Address, Connected: status.Connected, ListAgeSeconds: status.ListAge.Seconds(),
			Ejected: status.Ejected, Draining: status.Draining, Calls: status.Calls, Tokens: status.Tokens, Load: status.Load,
			Models: make([]adminapi.Model, len(status.Models)),
		}
		if status.ListError != nil {
			replica.ListError = status.ListError.Error()
		}
		for j, model := range status.Models {
			replica.Models[j] = adminapi.Model{
				ID: model.Name, State: strings.ToLower(strings.TrimPrefix(model.State.String(), "MODEL_STATE_")),
				Proven: model.Proven, Cause: model.Cause,
				Queued: model.Load.QueuedTokens, Running: model.Load.RunningTokens, TokensPerSecond: finite(model.Load.TokensPerSecond),
				Rows: model.Load.Rows, MaxRows: model.Load.MaxRows, Waiting: model.Load.WaitingRequests,
			}
		}
		replicas[i] = replica
	}
	return replicas
}

// finite is a number that JSON has.
func finite(number float64) float64 {
	if math.IsNaN(number) || math.IsInf(number, 0) {
		return 0
	}
	return number
}

func readyStatus(ready bool) int {
	if ready {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}
