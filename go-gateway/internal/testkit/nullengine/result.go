package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// result is what a run prints.
type result struct {
	Seconds float64                    `json:"seconds"` // that count
	Targets []map[string]*statusResult `json:"targets"` // each one's replies by status
	Failed  int                        `json:"failed"`  // requests without a whole reply
	Failure string                     `json:"failure"` // why one of them was
}

// statusResult is about the replies of one status.
type statusResult struct {
	Count  int     `json:"count"`   // of requests that were sent in the time that counts
	OnTime int     `json:"on_time"` // of replies that came in it
	Events int     `json:"events"`  // of streams, the last one ("[DONE]") aside
	P50    float64 `json:"p50_ms"`
	P90    float64 `json:"p90_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`
}

// summarize adds up what the clients saw.
func summarize(p *plan, clients []*client) *result {
	found := &result{Seconds: (p.duration - p.warmup).Seconds()}
	for _, c := range clients {
		found.Failed += c.failed
		if c.failure != "" {
			found.Failure = c.failure
		}
	}
	for at := range p.targets {
		found.Targets = append(found.Targets, byStatus(at, clients))
	}
	return found
}

func byStatus(at int, clients []*client) map[string]*statusResult {
	all := map[int]*replies{}
	for _, c := range clients {
		for status, of := range c.seen[at] {
			if all[status] == nil {
				all[status] = &replies{}
			}
			sum := all[status]
			sum.onTime, sum.events, sum.latencies = sum.onTime+of.onTime, sum.events+of.events, append(sum.latencies, of.latencies...)
		}
	}
	told := map[string]*statusResult{}
	for status, of := range all {
		slices.Sort(of.latencies)
		told[strconv.Itoa(status)] = &statusResult{
			Count: len(of.latencies), OnTime: of.onTime, Events: of.events,
			P50: percentile(of.latencies, 50), P90: percentile(of.latencies, 90),
			P99: percentile(of.latencies, 99), Max: percentile(of.latencies, 100),
		}
	}
	return told
}

// percentile is the least latency in milliseconds that is not below so many of a hundred; 0 of none.
func percentile(sorted []time.Duration, percent int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := min(len(sorted)-1, len(sorted)*percent/100)
	return float64(sorted[at]) / float64(time.Millisecond)
}

var (
	eventPrefix = []byte("data: ")
	lastEvent   = []byte("data: [DONE]")
)

// countEvents reads a reply to its end, and counts the events of a stream.
func countEvents(reply *http.Response) (events int, err error) {
	defer func() { err = errors.Join(err, reply.Body.Close()) }()
	if !strings.HasPrefix(reply.Header.Get("Content-Type"), "text/event-stream") {
		_, err := io.Copy(io.Discard, reply.Body)
		return 0, err
	}
	lines := bufio.NewScanner(reply.Body)
	for lines.Scan() {
		if bytes.HasPrefix(lines.Bytes(), eventPrefix) && !bytes.Equal(lines.Bytes(), lastEvent) {
			events++
		}
	}
	return events, lines.Err()
}
