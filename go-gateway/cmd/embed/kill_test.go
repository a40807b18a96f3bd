package main

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"triptych.dev/gateway/cmd/embed/internal/vectors"
)

func hashOf(text string) vectors.Hash { return sha256.Sum256([]byte(text)) }

// child is the program as a process of its own.
func child(t *testing.T, arguments ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	command := exec.Command(os.Args[0], arguments...)
	command.Env = append(os.Environ(), asChild+"=1", "OPENAI_API_KEY=secret")
	var said bytes.Buffer
	command.Stderr = &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill() })
	return command, &said
}

// mostAgain is how many texts a process that is killed may leave to be sent again: those that it was about to save, with the
// last request's, and those of two requests for each worker, which ran or waited for that.
func mostAgain(concurrency, batch int) int { return saveTexts + (1+2*concurrency)*batch }

// slow has requests take a while, so that there is a middle.
func (s *service) slow(pause time.Duration) {
	s.answer = func(http.ResponseWriter, []string) bool {
		time.Sleep(pause)
		return false
	}
}

// TestAKillAtAnyMomentChangesNothing of the result: seeds say when.
func TestAKillAtAnyMomentChangesNothing(t *testing.T) {
	for seed := range uint64(3) {
		s, folder := startService(t), t.TempDir()
		s.slow(2 * time.Millisecond)
		random := rand.New(rand.NewPCG(seed, 0))
		texts := numbered(2500)
		for range 500 { // some are there twice
			texts = append(texts, texts[random.IntN(len(texts))])
		}
		command := s.command(folder, docs(t, folder, texts...))
		kills := 0
		for ; kills < 6; kills++ {
			process, said := child(t, command...)
			ended := make(chan error, 1)
			go func() { ended <- process.Wait() }()
			select {
			case <-time.After(time.Duration(random.IntN(400)) * time.Millisecond):
				_ = process.Process.Kill()
				<-ended
			case err := <-ended:
				if err != nil {
					t.Fatalf("%v: %s", err, said)
				}
			}
		}
		start(t, t.Context(), exitDone, command...)
		holds(t, folder, "r1", texts...)
		sent, twice := s.sent() // again: what ran, and what had come since it was saved last
		if sent-twice != 2500 || twice > kills*mostAgain(4, 10) {
			t.Errorf("seed %d: %d texts were sent, %d of them again", seed, sent, twice)
		}
	}
}

// TestThreeShareTheWork and one is killed.
func TestThreeShareTheWork(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	s.slow(5 * time.Millisecond)
	texts := numbered(8 * partRecords)
	command := append(s.command(folder, docs(t, folder, texts...)), "--concurrency", "2")
	victim, _ := child(t, command...)
	var others []*exec.Cmd
	var told []*bytes.Buffer
	for range 2 {
		process, said := child(t, command...)
		others, told = append(others, process), append(told, said)
	}
	for { // until there is something to lose
		s.mutex.Lock()
		sent := len(s.embedded)
		s.mutex.Unlock()
		if sent > len(texts)/4 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait()
	for i, process := range others {
		if err := process.Wait(); err != nil {
			t.Errorf("%v: %s", err, told[i])
		}
	}
	holds(t, folder, "r1", texts...)
	if logs, _ := filepath.Glob(filepath.Join(folder, "out/cache/*/*.keys")); len(logs) < 2 {
		t.Errorf("%d have done all the work", len(logs))
	}
	sent, twice := s.sent()
	if sent-twice != len(texts) || twice > mostAgain(2, 10) {
		t.Errorf("%d texts were sent, %d of them again", sent, twice)
	}
}

func TestSignals(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	s.slow(20 * time.Millisecond)
	texts := numbered(1000)
	command := s.command(folder, docs(t, folder, texts...))
	process, said := child(t, command...)
	for begun := false; !begun; time.Sleep(time.Millisecond) {
		s.mutex.Lock()
		begun = len(s.embedded) > 0
		s.mutex.Unlock()
	}
	if err := process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(); process.ProcessState.ExitCode() != exitCtrlC {
		t.Errorf("%v: %s", err, said)
	}
	s.answer = nil
	start(t, t.Context(), exitDone, command...)
	holds(t, folder, "r1", texts...)
	if sent, twice := s.sent(); sent != 1000 || twice != 0 {
		t.Errorf("%d texts were sent, %d of them again", sent, twice)
	}
}
