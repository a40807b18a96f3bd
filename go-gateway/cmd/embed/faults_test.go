package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"triptych.dev/gateway/cmd/embed/internal/vectors"
)

func TestATextThatIsRefusedFailsAlone(t *testing.T) {
	for name, param := range map[string]string{"named": "input[%]", "not named": "", "all": "input"} {
		t.Run(name, func(t *testing.T) {
			s, folder := startService(t), t.TempDir()
			s.answer = func(w http.ResponseWriter, texts []string) bool {
				place := slices.IndexFunc(texts, func(text string) bool { return strings.HasPrefix(text, "bad") })
				if place >= 0 {
					refuse(w, http.StatusBadRequest, "bad_text", strings.ReplaceAll(param, "%", string(rune('0'+place))), "it is bad")
				}
				return place >= 0
			}
			texts := numbered(35)
			texts[3], texts[19], texts[20], texts[22], texts[30] = "bad 1", "bad 2", "bad 1", "", "bad 3"
			command := s.command(folder, docs(t, folder, texts...))
			start(t, t.Context(), exitFailures, command...)
			good := slices.Clone(texts)
			good[3], good[19], good[20], good[30] = "", "", "", ""
			holds(t, folder, "r1", good...)
			told := failures(t, folder)
			for _, line := range []string{`{"id":"id-3","input":"`, `","line":4,"code":"bad_text","message":"it is bad"}`, `"line":21,"code":"bad_text"`, `"line":23,"code":"empty_text"`} {
				if !strings.Contains(told, line) || strings.Count(told, "\n") != 5 {
					t.Errorf("there is no %s in\n%s", line, told)
				}
			}
			if sent, twice := s.sent(); sent != 30 || twice != 0 {
				t.Errorf("%d texts were sent, %d of them twice", sent, twice)
			}
			requests := s.requests
			start(t, t.Context(), exitFailures, command...) // a refusal is known too
			if s.requests != requests {
				t.Error("what was refused was asked again")
			}
			s.answer = nil
			start(t, t.Context(), exitFailures, append(command, "--retry-refused")...)
			holds(t, folder, "r1", texts...)
			if sent, _ := s.sent(); sent != 3 {
				t.Errorf("%d texts were sent, and 3 had been refused", sent)
			}
		})
	}
}

func TestARefusalOfTheRequestIsNotOfItsTexts(t *testing.T) {
	for _, told := range []struct {
		status int
		param  string
	}{{400, "model"}, {400, "dimensions"}, {401, ""}, {403, ""}, {404, "model"}, {413, "model"}} {
		s, folder := startService(t), t.TempDir()
		s.answer = func(w http.ResponseWriter, _ []string) bool {
			refuse(w, told.status, "a_code", told.param, "this is not it")
			return true
		}
		said := start(t, t.Context(), exitNotDone, append(s.command(folder, docs(t, folder, numbered(5)...)), "--concurrency", "1")...)
		if !strings.Contains(said, "a_code: this is not it") || s.requests != 1 {
			t.Errorf("%v: %d requests, and it said %s", told, s.requests, said)
		}
	}
}

// TestWhatIsBusyIsWaitedFor however often, and what has failed is tried again.
func TestWhatIsBusyIsWaitedFor(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	var calls atomic.Int64
	s.answer = func(w http.ResponseWriter, _ []string) bool {
		switch call := calls.Add(1); {
		case call%5 != 0: // far more often than anything is retried
			w.Header().Set("Retry-After-Ms", "1")
			refuse(w, []int{429, 503}[call%2], "busy", "", "wait")
			return true
		case call == 50:
			refuse(w, http.StatusInternalServerError, "internal", "", "oh")
			return true
		case call == 100:
			panic(http.ErrAbortHandler)
		default:
			return false
		}
	}
	texts := numbered(300)
	start(t, t.Context(), exitDone, s.command(folder, docs(t, folder, texts...))...)
	holds(t, folder, "r1", texts...)
	if sent, twice := s.sent(); sent != 300 || twice != 0 {
		t.Errorf("%d texts were sent, %d of them twice", sent, twice)
	}
}

func TestPatienceEnds(t *testing.T) {
	for message, header := range map[string]string{"nothing was taken for 1ms": "true", "says 429 busy": "false"} {
		s, folder := startService(t), t.TempDir()
		s.answer = func(w http.ResponseWriter, _ []string) bool {
			w.Header().Set("Retry-After-Ms", "2")
			w.Header().Set("X-Should-Retry", header)
			refuse(w, http.StatusTooManyRequests, "busy", "", "wait")
			return true
		}
		said := start(t, t.Context(), exitNotDone, append(s.command(folder, docs(t, folder, "a")), "--patience", "1ms")...)
		if !strings.Contains(said, message) || !strings.Contains(said, "the same command goes on") {
			t.Errorf("it said %s", said)
		}
	}
}

// TestAnOutageKeepsWhatWasDone although the service is gone for good in this run.
func TestAnOutageKeepsWhatWasDone(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	var calls atomic.Int64
	s.answer = func(w http.ResponseWriter, _ []string) bool {
		if calls.Add(1) <= 20 {
			return false
		}
		refuse(w, http.StatusBadGateway, "", "", "gone")
		return true
	}
	texts := numbered(400)
	command := s.command(folder, docs(t, folder, texts...))
	if said := start(t, t.Context(), exitNotDone, command...); !strings.Contains(said, "502") {
		t.Errorf("it said %s", said)
	}
	first := len(s.embedded)
	s.answer = nil
	start(t, t.Context(), exitDone, command...)
	holds(t, folder, "r1", texts...)
	if sent, twice := s.sent(); first != 200 || sent != 400 || twice != 0 {
		t.Errorf("%d texts were sent, then %d in all, %d of them twice", first, sent, twice)
	}
}

func TestCtrlCFinishesWhatRuns(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	ctx, interrupt := context.WithCancelCause(t.Context())
	var calls atomic.Int64
	s.answer = func(http.ResponseWriter, []string) bool {
		if calls.Add(1) == 7 {
			interrupt(errInterrupted)
		}
		return false
	}
	texts := numbered(400)
	command := s.command(folder, docs(t, folder, texts...))
	if said := start(t, ctx, exitCtrlC, command...); !strings.Contains(said, "the same command goes on") {
		t.Errorf("it said %s", said)
	}
	start(t, t.Context(), exitDone, command...)
	holds(t, folder, "r1", texts...)
	if sent, twice := s.sent(); sent != 400 || twice != 0 {
		t.Errorf("%d texts were sent, %d of them twice", sent, twice)
	}
}

// TestRevisionsAreNeverMixed has another one take over in the middle, and what is listed lag behind.
func TestRevisionsAreNeverMixed(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	var calls atomic.Int64
	s.answer = func(http.ResponseWriter, []string) bool {
		switch calls.Add(1) {
		case 30:
			s.mutex.Lock()
			s.revision, s.listed = "r2", "r1"
			s.mutex.Unlock()
		case 40:
			s.mutex.Lock()
			s.listed = ""
			s.mutex.Unlock()
		}
		return false
	}
	texts := numbered(2000)
	said := start(t, t.Context(), exitDone, s.command(folder, docs(t, folder, texts...))...)
	holds(t, folder, "r2", texts...)
	if !strings.Contains(said, `has the revision "r2" now, and had "r1"`) {
		t.Errorf("it said %s", said)
	}
}

func TestAServiceThatDoesNotSayItsRevision(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	s.silent, s.revision = true, ""
	command := s.command(folder, docs(t, folder, "a", "b"))
	if said := start(t, t.Context(), exitNotDone, command...); !strings.Contains(said, "--revision") {
		t.Errorf("it said %s", said)
	}
	start(t, t.Context(), exitDone, append(command, "--revision", "mine")...)
	holds(t, folder, "", "a", "b")
	s.revision = "r1"
	if said := start(t, t.Context(), exitNotDone, append(command, "--revision", "mine")...); !strings.Contains(said, `"r1"`) {
		t.Errorf("it said %s", said)
	}
}

func TestARevisionOfRepliesAloneIsNotTaken(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	s.silent = true // it lists a revision, and replies may be of any
	if said := start(t, t.Context(), exitNotDone, s.command(folder, docs(t, folder, "a"))...); !strings.Contains(said, "--revision") {
		t.Errorf("it said %s", said)
	}
}

func TestARubbishReply(t *testing.T) {
	for _, body := range []string{`{}`, `[]`, `{"data":[{"index":1,"embedding":"AAAA"}]}`, `{"data":[{"index":0,"embedding":"AAA="}]}`, `{"data":[{"index":0,"embedding":[1.5]}]}`} {
		s, folder := startService(t), t.TempDir()
		s.answer = func(w http.ResponseWriter, _ []string) bool {
			w.Header().Set("X-Model-Revision", "r1")
			_, _ = w.Write([]byte(body))
			return true
		}
		if said := start(t, t.Context(), exitNotDone, s.command(folder, docs(t, folder, "a"))...); !strings.Contains(said, "makes no sense") {
			t.Errorf("%s: it said %s", body, said)
		}
	}
}

// TestPartsThatOthersHaveAreWaitedFor and taken over when those have ended without doing them.
func TestPartsThatOthersHaveAreWaitedFor(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	texts := numbered(2 * partRecords)
	command := s.command(folder, docs(t, folder, texts...))
	other, err := vectors.Open(filepath.Join(folder, "out/cache", modelName+"@r1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	var hashes []vectors.Hash
	for _, text := range texts[:partRecords] {
		hashes = append(hashes, hashOf(text))
	}
	claim, err := other.Claim(partHash(hashes))
	if err != nil || claim == nil {
		t.Fatal(claim, err)
	}
	var late sync.Once
	s.answer = func(_ http.ResponseWriter, sent []string) bool {
		if slices.Contains(sent, texts[len(texts)-1]) { // it is through with the rest
			late.Do(func() {
				if got, _ := other.Claim(partHash(hashes)); got != nil {
					t.Error("a part is had twice")
				}
				if s.embedded[texts[0]] > 0 {
					t.Error("what another one is at was sent")
				}
				if err := claim.Release(); err != nil {
					t.Error(err)
				}
			})
		}
		return false
	}
	start(t, t.Context(), exitDone, append(command, "--concurrency", "1")...)
	holds(t, folder, "r1", texts...)
	if sent, twice := s.sent(); sent != len(texts) || twice != 0 {
		t.Errorf("%d texts were sent, %d of them twice", sent, twice)
	}
}

func TestInputsThatChangeWhileTheyAreRead(t *testing.T) {
	s, folder := startService(t), t.TempDir()
	path := docs(t, folder, numbered(5)...)
	s.answer = func(http.ResponseWriter, []string) bool {
		if err := os.WriteFile(path, []byte(`{"id":"other","text":"other"}`), 0o600); err != nil {
			t.Error(err)
		}
		return false
	}
	if said := start(t, t.Context(), exitNotDone, s.command(folder, path)...); !strings.Contains(said, "have changed") {
		t.Errorf("it said %s", said)
	}
	if _, err := os.Stat(filepath.Join(folder, "out", doneFile)); err == nil {
		t.Error("there is a result")
	}
	start(t, t.Context(), exitDone, s.command(folder, path)...)
}
