package config

import (
	"strings"
	"testing"
)

func TestTheCollectorsURLIsChecked(t *testing.T) {
	for _, bad := range []string{
		"127.0.0.1:4317", "grpc://a:4317", "http://a", "http://:4317", "http://a:4317/v1/traces", "https://user:secret@a:4317", "http://a:4317?x", "http://a:x", "://",
	} {
		if got, err := parse(nil, "--otlp-endpoint="+bad); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q gave %q, %v", bad, got.OTLPEndpoint, err)
		}
	}
	for _, good := range []string{"", "http://127.0.0.1:4317", "https://collector.example:443/", "http://[::1]:4317"} {
		if got, err := parse(nil, "--otlp-endpoint="+good); err != nil || got.OTLPEndpoint != good || got.Values()["otlp_endpoint"] != good {
			t.Errorf("%q gave %q, %v", good, got.OTLPEndpoint, err)
		}
	}
}

func TestTheRatioIsAShare(t *testing.T) {
	for _, bad := range []string{"", "1%", "-0.1", "1.01", "NaN", "Inf"} {
		if got, err := parse(nil, "--trace-ratio="+bad); err == nil {
			t.Errorf("%q gave %v", bad, got.TraceRatio)
		}
	}
	for written, want := range map[string]float64{"0": 0, "1": 1, "0.25": 0.25} {
		if got, err := parse(nil, "--trace-ratio="+written); err != nil || got.TraceRatio != want || got.Values()["trace_ratio"] != written {
			t.Errorf("%q gave %v, %v", written, got.TraceRatio, err)
		}
	}
}
