package main

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"triptych.dev/gateway/cmd/embed/internal/vectors"
)

func TestProgressIsOfWhatIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		p := newProgress(&said, 1000)
		tell := func() string {
			said.Reset()
			time.Sleep(everyLine)
			p.tick()
			return said.String()
		}
		done := func() {
			p.done(&batch{weight: 2, tokens: 300, entries: []vectors.Entry{{}, {}, {}, {}, {Refusal: &vectors.Refusal{}}}})
		}
		p.counted(100)
		p.finished(100) // known before
		if got := tell(); got != " 10.0 %  100 records\n" {
			t.Errorf("got %q", got)
		}
		done() // the clock starts
		for range 9 {
			done()
		}
		if got := tell(); !strings.HasPrefix(got, " 20.0 %  100 records  40 texts embedded, 8/s, 600 tokens/s  10 refused  40s left") {
			t.Errorf("got %q", got)
		}
		p.tick()
		if got := strings.Count(said.String(), "\n"); got != 1 {
			t.Errorf("%d lines at once", got)
		}
		p.phase("writing the result")
		p.finished(1000)
		if got := tell(); got != "100.0 %  0 records  writing the result\n" {
			t.Errorf("got %q", got)
		}
	})
}
