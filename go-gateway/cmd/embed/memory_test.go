//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestMemoryDoesNotGrowWithTheTexts that go in: what is kept of one is its hash.
func TestMemoryDoesNotGrowWithTheTexts(t *testing.T) {
	s := startService(t)
	highest := func(size int) (kilobytes int) {
		folder := t.TempDir()
		texts := numbered(2000)
		for i := range texts {
			texts[i] += strings.Repeat(" word", size/5)
		}
		process, said := child(t, s.command(folder, docs(t, folder, texts...))...)
		ended := make(chan error, 1)
		go func() { ended <- process.Wait() }()
		for {
			select {
			case err := <-ended:
				if err != nil {
					t.Fatalf("%v: %s", err, said)
				}
				holds(t, folder, "r1", texts...)
				return kilobytes
			case <-time.After(5 * time.Millisecond):
				// What a process has had at most counts from its beginning, so the last look is as good as all.
				status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", process.Process.Pid))
				if _, line, found := strings.Cut(string(status), "VmHWM:"); found {
					_, _ = fmt.Sscan(line, &kilobytes)
				}
			}
		}
	}
	small, large := highest(1000), highest(20_000)
	t.Logf("%d MiB for 2 MB of texts, and %d MiB for 40 MB", small>>10, large>>10)
	if large-small > 24<<10 {
		t.Errorf("%d MiB for 2 MB of texts, and %d MiB for 40 MB", small>>10, large>>10)
	}
}
