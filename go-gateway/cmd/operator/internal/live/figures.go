// Package live reads from hot paths what they have done, and which revision they serve.
//
// It must not depend on Kubernetes: an address goes in, figures come out. All that is read is bounded.
package live

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Figures are a model's counters since its process began, or how far they went in some time.
type Figures struct {
	// Requests are inputs of encoders, and generations. Those whose callers went away, or did not read, are not among them.
	Requests float64
	// Failed are those of them that had no result, for a fault, their deadline or a full queue.
	Failed float64

	Wait, Run         Spent // of encoders: until the first input of a request ran, and a run
	FirstToken, Token Spent // of generation models: until the first token, and a run for the next ones
}

// Spent is time, and on how many.
type Spent struct {
	Seconds, Count float64
}

// Mean is in seconds; false if there was nothing.
func (s Spent) Mean() (float64, bool) {
	if s.Count <= 0 {
		return 0, false
	}
	return s.Seconds / s.Count, true
}

func (f *Figures) counters() []*float64 {
	return []*float64{
		&f.Requests, &f.Failed, &f.Wait.Seconds, &f.Wait.Count, &f.Run.Seconds, &f.Run.Count,
		&f.FirstToken.Seconds, &f.FirstToken.Count, &f.Token.Seconds, &f.Token.Count,
	}
}

// Since is how far counters went from an earlier reading. Any that went down tells of a process that began again: all it has counted
// is then new.
func (f Figures) Since(earlier Figures) Figures {
	now, then := f.counters(), earlier.counters()
	for i := range now {
		if *now[i] < *then[i] {
			return f
		}
	}
	for i := range now {
		*now[i] -= *then[i]
	}
	return f
}

// Plus adds.
func (f Figures) Plus(other Figures) Figures {
	into, from := f.counters(), other.counters()
	for i := range into {
		*into[i] += *from[i]
	}
	return f
}

// Of what became of a request, what counts as answered and what as failed. The rest is its caller's doing.
var failed = map[string]bool{"completed": false, "failed": true, "expired": true, "refused": true}

const (
	// A hot path with one model has some 20 KB of metrics.
	maxMetrics = 256 << 10
	// Its lines have some 100 bytes, and a model's name 128 at most. What the parser takes for a line grows with the square of its labels.
	maxLine = 1 << 10
)

// bounded reads what costs little to parse.
func bounded(text io.Reader) ([]byte, error) {
	read, err := io.ReadAll(io.LimitReader(text, maxMetrics+1))
	if err != nil {
		return nil, err
	}
	if len(read) > maxMetrics {
		return nil, fmt.Errorf("they have more than %d bytes", maxMetrics)
	}
	number := 0
	for line := range bytes.Lines(read) {
		number++
		if len(line) > maxLine {
			return nil, fmt.Errorf("line %d has %d bytes, and may have %d", number, len(line), maxLine)
		}
	}
	return read, nil
}

// parse takes a model's figures out of Prometheus' text.
func parse(text io.Reader, name string) (Figures, error) {
	read, err := bounded(text)
	if err != nil {
		return Figures{}, fmt.Errorf("reading metrics: %w", err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(read))
	if err != nil {
		return Figures{}, fmt.Errorf("reading metrics: %w", err)
	}
	if _, ok := families["hotpath_build_info"]; !ok {
		return Figures{}, errors.New("reading metrics: these are not a hot path's: there is no hotpath_build_info")
	}
	var f Figures
	of := func(family string, take func(labels map[string]string, metric *dto.Metric)) {
		for _, metric := range families[family].GetMetric() {
			labels := map[string]string{}
			for _, pair := range metric.GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			if labels["model"] == name {
				take(labels, metric)
			}
		}
	}
	for _, family := range []string{"hotpath_inputs_total", "hotpath_generations_total"} {
		of(family, func(labels map[string]string, metric *dto.Metric) {
			isFailed, counts := failed[labels["outcome"]]
			if counts {
				f.Requests += metric.GetCounter().GetValue()
			}
			if isFailed {
				f.Failed += metric.GetCounter().GetValue()
			}
		})
	}
	for family, spent := range map[string]*Spent{
		"hotpath_queue_seconds": &f.Wait, "hotpath_inference_seconds": &f.Run,
		"hotpath_first_token_seconds": &f.FirstToken, "hotpath_decode_seconds": &f.Token,
	} {
		of(family, func(_ map[string]string, metric *dto.Metric) {
			spent.Seconds += metric.GetHistogram().GetSampleSum()
			spent.Count += float64(metric.GetHistogram().GetSampleCount())
		})
	}
	for _, counter := range f.counters() {
		if !(*counter >= 0) || math.IsInf(*counter, 1) { // which NaN is not
			return Figures{}, fmt.Errorf("reading metrics: %v is no count", *counter)
		}
	}
	return f, nil
}
