package tracing

import (
	"net"
	"testing"
	"time"

	"triptych.dev/gateway/internal/testkit"
)

// patience bounds waits that end long before on any machine.
const patience = 10 * time.Second

func open(t *testing.T, endpoint string, timeout time.Duration) (*Tracer, *counts) {
	t.Helper()
	seen := &counts{}
	tracer, err := Open(Options{Endpoint: endpoint, Ratio: 1, Queue: 100, Timeout: timeout, Version: "v1", Observer: seen})
	if err != nil {
		t.Fatal(err)
	}
	return tracer, seen
}

func record(t *testing.T, tracer *Tracer) {
	t.Helper()
	_, span := tracer.Request(t.Context(), "", embeddings)
	span.EndRequest(Reply{Status: 200, Outcome: OK})
}

func TestACollectorTakesWhatWasRecorded(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-other=1")
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	c := testkit.StartCollector(t)
	tracer, seen := open(t, c.Endpoint, patience)
	record(t, tracer)
	if err := tracer.Close(); err != nil {
		t.Fatal(err)
	}
	seen.check(t, 1, 0, 0, 0)
	c.Named(t, "POST /v1/embeddings")
	of := testkit.Attributes(c.Received()[0].GetResource())
	if of["service.name"] != "triptych-gateway" || of["service.version"] != "v1" || of["service.instance.id"] == "" {
		t.Errorf("of %v", of)
	}
	if len(c.Headers().Get("x-other")) != 0 {
		t.Error("a variable that is none of the gateway's settings was obeyed")
	}
}

// A collector may be there and not answer, be there and not even speak HTTP/2, or be away.
func TestTheEndIsInTimeWhateverTheCollectorDoes(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the system accepts, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	away, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away.Close()
	hanging := testkit.StartCollector(t)
	hanging.Hang()
	for name, endpoint := range map[string]string{
		"hangs":  hanging.Endpoint,
		"silent": "http://" + silent.Addr().String(),
		"away":   "http://" + away.Addr().String(),
		"by TLS": "https" + testkit.StartCollector(t).Endpoint[len("http"):],
	} {
		t.Run(name, func(t *testing.T) {
			const timeout = 200 * time.Millisecond
			tracer, seen := open(t, endpoint, timeout)
			record(t, tracer)
			began := time.Now()
			if err := tracer.Close(); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > timeout+patience/2 {
				t.Errorf("the end took %v", took)
			}
			seen.check(t, 0, 0, 1, 0)
		})
	}
}

func TestWithoutAnEndpointThereIsNoTracer(t *testing.T) {
	tracer, err := Open(Options{})
	if tracer != nil || err != nil {
		t.Errorf("got %v, %v", tracer, err)
	}
	if err := tracer.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(Options{Endpoint: "://"}); err == nil {
		t.Error("a broken endpoint was taken")
	}
}
