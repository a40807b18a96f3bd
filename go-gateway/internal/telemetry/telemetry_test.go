package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestLoggerWritesTheCommonFields(t *testing.T) {
	var out bytes.Buffer
	logger := NewLogger(&out, slog.LevelInfo)
	logger.Info("listening", "listener", "http", "address", "127.0.0.1:1", slog.Group("inner", "msg", "kept"))
	logger.Debug("not seen")
	var line struct {
		Timestamp                         time.Time
		Level, Message, Listener, Address string
		Inner                             map[string]string
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if line.Timestamp.IsZero() || line.Level != "INFO" || line.Message != "listening" || line.Listener != "http" ||
		line.Address != "127.0.0.1:1" || line.Inner["msg"] != "kept" {
		t.Errorf("got %s", out.String())
	}
}

func TestMetricsAreServedUnderTheirNames(t *testing.T) {
	metrics := NewMetrics(100, time.Now)
	ready := false
	metrics.ReportReady(func() bool { return ready })
	metrics.Requests.WithLabelValues("/v1/embeddings", "200", "OK").Inc()
	metrics.RequestSeconds.WithLabelValues("/v1/embeddings").Observe(.01)
	metrics.HotpathSeconds.WithLabelValues("Embed", "OK").Observe(.01)
	metrics.Tenants.Charged("acme", "m", 5)
	metrics.Tenants.Limited("acme", "requests_per_minute")
	jobs := metrics.ReportJobs()
	jobs.Counted("batches", map[string]int{"ready": 3, "dead": 0})
	jobs.Ended("batches", "done", time.Second)
	scrape := func() string {
		reply := httptest.NewRecorder()
		metrics.Handler().ServeHTTP(reply, httptest.NewRequest("GET", "/metrics", nil))
		return reply.Body.String()
	}
	text := scrape()
	for _, line := range []string{
		`gateway_requests_total{reason="OK",route="/v1/embeddings",status="200"} 1`,
		`gateway_request_seconds_count{route="/v1/embeddings"} 1`,
		`gateway_inflight_requests 0`,
		`gateway_hotpath_seconds_count{method="Embed",outcome="OK"} 1`,
		`gateway_tokens_total{model="m",tenant="acme"} 5`,
		`gateway_rate_limited_total{limit="requests_per_minute",tenant="acme"} 1`,
		`gateway_jobs{queue="batches",state="ready"} 3`,
		`gateway_ended_jobs_total{outcome="done",queue="batches"} 1`,
		`gateway_job_seconds_count{queue="batches"} 1`,
		`gateway_ready 0`,
		`gateway_build_info{go_version=`,
		`go_goroutines`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("%s is missing from:\n%s", line, text)
		}
	}
	ready = true
	if !strings.Contains(scrape(), "gateway_ready 1") {
		t.Error("gateway_ready does not follow")
	}
}
