package live

import (
	"fmt"
	"strings"
	"testing"
)

// As a hot path writes it.
const text = `# HELP hotpath_build_info What runs
# TYPE hotpath_build_info gauge
hotpath_build_info{version="0.1.0",onnxruntime="1.23.2"} 1
# TYPE hotpath_inputs_total counter
hotpath_inputs_total{model="m",outcome="completed"} 90
hotpath_inputs_total{model="m",outcome="failed"} 1
hotpath_inputs_total{model="m",outcome="expired"} 2
hotpath_inputs_total{model="m",outcome="refused"} 3
hotpath_inputs_total{model="m",outcome="cancelled"} 50
hotpath_inputs_total{model="other",outcome="failed"} 1000
# TYPE hotpath_generations_total counter
hotpath_generations_total{model="m",outcome="completed"} 4
hotpath_generations_total{model="m",outcome="slow_reader"} 60
# TYPE hotpath_queue_seconds histogram
hotpath_queue_seconds_sum{model="m",method="Embed"} 1.5
hotpath_queue_seconds_count{model="m",method="Embed"} 10
hotpath_queue_seconds_bucket{le="+Inf",model="m",method="Embed"} 10
hotpath_queue_seconds_sum{model="m",method="Classify"} 0.5
hotpath_queue_seconds_count{model="m",method="Classify"} 10
hotpath_queue_seconds_bucket{le="+Inf",model="m",method="Classify"} 10
# TYPE hotpath_inference_seconds histogram
hotpath_inference_seconds_sum{model="m"} 6
hotpath_inference_seconds_count{model="m"} 3
hotpath_inference_seconds_bucket{le="+Inf",model="m"} 3
`

func TestFiguresAreOfOneModel(t *testing.T) {
	got, err := parse(strings.NewReader(text), "m")
	want := Figures{Requests: 100, Failed: 6, Wait: Spent{2, 20}, Run: Spent{6, 3}}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if mean, ok := got.Run.Mean(); mean != 2 || !ok {
		t.Errorf("a run takes %v, %t", mean, ok)
	}
	if _, ok := got.Token.Mean(); ok {
		t.Error("nothing has a mean")
	}
}

func TestWhatIsNoHotPathTellsNoFigures(t *testing.T) {
	for _, other := range []string{"", "<html>", "up 1\n", text + "hotpath_inputs_total{mod", text + countOf("NaN"), text + countOf("-1000"), text + countOf("+Inf")} {
		if got, err := parse(strings.NewReader(other), "m"); err == nil {
			t.Errorf("%.20q gives %+v", other, got)
		}
	}
}

// The parser compares each label of a line with all others: a mebibyte of them takes it hours.
func TestLongTextsAreRefusedBeforeTheyAreParsed(t *testing.T) {
	var labels strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&labels, `l%d="",`, i)
	}
	comment := func(bytes int) string { return "#" + strings.Repeat("x", bytes-2) + "\n" }
	full := text + strings.Repeat(comment(maxLine), maxMetrics/maxLine)
	for _, c := range []struct{ text, says string }{
		{text + comment(maxLine), ""},
		{text + comment(maxLine+1), "line 25 has 1025 bytes, and may have 1024"},
		{text + "a{" + labels.String() + "} 1\n", "and may have 1024"},
		{full[:maxMetrics-1] + "\n", ""},
		{full[:maxMetrics] + "\n", "more than 262144 bytes"},
	} {
		_, err := parse(strings.NewReader(c.text), "m")
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%d bytes: %v, and not %q", len(c.text), err, c.says)
		}
	}
}

func TestCountersThatBeginAgainAreNew(t *testing.T) {
	earlier := Figures{Requests: 10, Failed: 1, Run: Spent{5, 10}}
	for _, c := range []struct{ now, want Figures }{
		{Figures{Requests: 15, Failed: 1, Run: Spent{6, 12}}, Figures{Requests: 5, Run: Spent{1, 2}}},
		{earlier, Figures{}},
		{Figures{Requests: 3, Run: Spent{1, 3}}, Figures{Requests: 3, Run: Spent{1, 3}}},
		{Figures{Requests: 30, Failed: 0, Run: Spent{9, 30}}, Figures{Requests: 30, Run: Spent{9, 30}}},
	} {
		if got := c.now.Since(earlier); got != c.want {
			t.Errorf("%+v since then is %+v", c.now, got)
		}
	}
	if got := earlier.Plus(earlier); got != (Figures{Requests: 20, Failed: 2, Run: Spent{10, 20}}) {
		t.Errorf("twice is %+v", got)
	}
}

func countOf(value string) string {
	return "# TYPE hotpath_first_token_seconds histogram\nhotpath_first_token_seconds_sum{model=\"m\"} " + value + "\n"
}

func FuzzMetrics(f *testing.F) {
	f.Add(text, "m")
	f.Add(text+countOf("NaN"), "m")
	f.Add("# TYPE hotpath_build_info gauge\nhotpath_build_info 1\n# TYPE hotpath_inputs_total histogram\n", "")
	f.Fuzz(func(t *testing.T, text, model string) {
		figures, err := parse(strings.NewReader(text), model)
		if err != nil {
			return
		}
		if figures.Since(figures) != (Figures{}) {
			t.Errorf("%+v since itself is %+v", figures, figures.Since(figures))
		}
		for _, counter := range figures.counters() {
			if !(*counter >= 0) {
				t.Errorf("%+v", figures)
			}
		}
	})
}
