//go:build linux

package blob

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAPutWaitsWhileASweepDeletes: without the lock its rename could come between the sweep's last look at the blob's age
// and its deletion, which would take the new blob.
func TestAPutWaitsWhileASweepDeletes(t *testing.T) {
	f := folderOf(t, t.TempDir())
	again := make(chan ID, 1)
	err := f.locked(syscall.LOCK_EX, func() error { // as a sweep has it
		go func() {
			id, _, err := f.Put(t.Context(), strings.NewReader("again"), limit)
			if err != nil {
				t.Error(err)
			}
			again <- id
		}()
		return waitForWaiter(t, f, again)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Size(<-again); err != nil {
		t.Error(err)
	}
}

// waitForWaiter returns once the system knows of one who waits for the lock.
func waitForWaiter(t *testing.T, f *Folder, done <-chan ID) error {
	info, err := os.Stat(f.path + "/" + lockFile)
	if err != nil {
		return err
	}
	inode := fmt.Sprintf(":%d ", info.Sys().(*syscall.Stat_t).Ino)
	for ticker := time.NewTicker(time.Millisecond); ; <-ticker.C {
		select {
		case <-done:
			return fmt.Errorf("a put did not wait for the sweep")
		case <-t.Context().Done():
			return t.Context().Err()
		default:
		}
		locks, err := os.ReadFile("/proc/locks")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(locks)) {
			if strings.Contains(line, "->") && strings.Contains(line, inode) {
				return nil
			}
		}
	}
}
