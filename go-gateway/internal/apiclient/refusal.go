// Package apiclient has what clients of the gateway's HTTP API share: where it is, and what a reply says that is an error.
//
// It depends on the standard library alone: cmd/embed and cmd/consumer use it, which are modules of their own.
package apiclient

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// mostError bounds what is read of a reply that is an error.
const mostError = 64 << 10 // bytes

// Endpoint is the URL of a path below /v1. The API may be named with or without that, as in http://127.0.0.1:8080.
func Endpoint(address, path string) string {
	return strings.TrimSuffix(strings.TrimSuffix(address, "/"), "/v1") + "/v1/" + path
}

// Refusal is what a reply says that is an error, in OpenAI's shape.
type Refusal struct {
	Status  int
	Code    string // empty: it may not be the API's own
	Param   string
	Message string
	Pause   time.Duration // that it asks for; 0: none
	Never   bool          // it says that repeating does not mend it
}

// ReadRefusal takes what it can get: what is between may answer in its own words. It asks for no longer pause than the longest.
func ReadRefusal(response *http.Response, longest time.Duration) *Refusal {
	told := &Refusal{
		Status: response.StatusCode, Message: http.StatusText(response.StatusCode),
		Pause: pause(response.Header, longest), Never: response.Header.Get("X-Should-Retry") == "false",
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, mostError))
	var envelope struct {
		Error struct {
			Message string `json:"message"`
			Code    string `json:"code"`
			Param   string `json:"param"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &envelope) == nil {
		told.Code, told.Param = envelope.Error.Code, envelope.Error.Param
		told.Message = cmp.Or(envelope.Error.Message, told.Message)
	}
	return told
}

// pause is what Retry-After asks for, by the millisecond where that is told. Dates are not understood.
func pause(header http.Header, longest time.Duration) time.Duration {
	for _, told := range []struct {
		name string
		unit time.Duration
	}{{"Retry-After-Ms", time.Millisecond}, {"Retry-After", time.Second}} {
		if count, err := strconv.ParseFloat(header.Get(told.name), 64); err == nil && count > 0 {
			return time.Duration(min(count*float64(told.unit), float64(longest)))
		}
	}
	return 0
}
