//go:build linux

package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"triptych.dev/gateway/internal/store"
)

// An idle queue costs next to nothing, and writes nothing.
func TestAnIdleQueueRests(t *testing.T) {
	store.Everywhere(t, func(t *testing.T, options store.Options) {
		const watched = 2 * time.Second
		newJobs(t, options, 0)
		worker := start(t, task{Store: options, Lease: time.Second, Think: time.Millisecond})
		time.Sleep(300 * time.Millisecond) // its start is no rest
		journal := filepath.Join(options.Data, "gateway.db-wal")
		written := func() (time.Time, int64) {
			info, err := os.Stat(journal)
			if err != nil {
				return time.Time{}, 0 // of PostgreSQL
			}
			return info.ModTime(), info.Size()
		}
		at, size := written()
		before := cpuTime(t, worker)
		time.Sleep(watched)
		used := cpuTime(t, worker) - before
		t.Logf("%.2f %% of a core", 100*used.Seconds()/watched.Seconds())
		if used > watched/20 { // ten times of what is promised: machines of tests are busy
			t.Errorf("%v of CPU time in %v", used, watched)
		}
		if at2, size2 := written(); !at2.Equal(at) || size2 != size {
			t.Errorf("the journal was written: %v, %d bytes, and %v, %d bytes", at, size, at2, size2)
		}
	})
}

// cpuTime is what the threads of a process have used.
func cpuTime(t *testing.T, p *process) (total time.Duration) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.command.Process.Pid))
	if err != nil || len(threads) == 0 {
		t.Fatal("it has no threads", err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		var nanoseconds time.Duration
		if _, err := fmt.Sscan(string(text), &nanoseconds); err != nil {
			t.Fatal(err)
		}
		total += nanoseconds
	}
	return total
}
