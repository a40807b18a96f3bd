package store

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

func answerOf(key, request, resource string) *Answer {
	return &Answer{Route: "/v1/files", Key: key, Request: request, Resource: resource, Status: 200, Body: []byte(`{"id":"` + resource + `"}`)}
}

// keyed adds a file under a key.
func keyed(t *testing.T, s *Store, tenant, key, id string, most FileUsage) error {
	t.Helper()
	file := fileOf(1)
	file.ID = id
	return s.AddFile(t.Context(), tenant, file, most, answerOf(key, "r", id))
}

// Of many at once with one key, one creates, and all have its answer.
func TestOneOfManyWithAKeyCreates(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		handles := []*Store{open(t, options, Command)}
		if options.Postgres() {
			handles = append(handles, open(t, options, Command))
		}
		s := handles[0]
		for round := range 5 {
			var group sync.WaitGroup
			var mu sync.Mutex
			answers := map[string]int{}
			for n := range 8 {
				group.Go(func() {
					id := fmt.Sprintf("file-%d-%d", round, n)
					err := keyed(t, handles[n%len(handles)], "acme", fmt.Sprint("key", round), id, FileUsage{})
					answered, is := errors.AsType[ErrAnswered](err)
					if is {
						id = answered.Answer.Resource
					} else if err != nil {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					answers[id]++
				})
			}
			group.Wait()
			if len(answers) != 1 {
				t.Errorf("the answers are of %v", answers)
			}
		}
		checkUsage(t, s, "acme", FileUsage{5, 50})
		found, err := s.FindAnswer(t.Context(), "acme", "/v1/files", "key3")
		if err != nil || found.Request != "r" || found.Status != 200 || string(found.Body) != `{"id":"`+found.Resource+`"}` || time.Since(found.Created).Abs() > time.Minute {
			t.Errorf("%+v, %v", found, err)
		}
	})
}

func TestAnswersAreOfATenantARouteAndAKey(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		for i, of := range []struct{ tenant, key string }{{"acme", "a"}, {"acme", "b"}, {"globex", "a"}} {
			if err := keyed(t, s, of.tenant, of.key, fmt.Sprint("file-", i), FileUsage{}); err != nil {
				t.Error(err)
			}
		}
		addInput(t, s, "acme")
		batch, list := batchOf("batch_1", "acme", 1)
		answer := answerOf("a", "r", "batch_1")
		answer.Route = "/v1/batches"
		if err := s.AddBatch(t.Context(), "acme", batch, list, BatchLimits{}, answer); err != nil {
			t.Error(err)
		}
		batch.ID = "batch_2"
		if answered, is := errors.AsType[ErrAnswered](s.AddBatch(t.Context(), "acme", batch, list, BatchLimits{}, answer)); !is || answered.Answer.Resource != "batch_1" {
			t.Errorf("%+v", answered)
		}
		for _, of := range [][3]string{{"globex", "/v1/files", "b"}, {"globex", "/v1/batches", "a"}, {"acme", "/v1/batches", "b"}, {"", "/v1/files", "a"}} {
			if found, err := s.FindAnswer(t.Context(), of[0], of[1], of[2]); !errors.Is(err, ErrNotFound) {
				t.Errorf("%v: %+v, %v", of, found, err)
			}
		}
		if jobs := claimBatch(t, s, 10); len(jobs) != 1 {
			t.Errorf("%+v", jobs)
		}
	})
}

// Keys and secrets are made once for a key, on whatever resource it is sent.
func TestWhatWasMadeUnderAKeyIsNotMadeAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		create(t, s, keyOf("aaaaaaaa", "acme"), keyOf("bbbbbbbb", "acme"))
		addHook(t, s, "acme", hookOf(1))
		addHook(t, s, "acme", hookOf(2))
		fresh := 0
		replace := func(id string) error {
			return s.ReplaceKey(t.Context(), id, created, func(found Key) (Replacement, error) {
				fresh++
				return Replacement{Key: keyOf(fmt.Sprintf("fresh%03d", fresh), "acme"), Answer: answerOf("replace", "r", found.ID)}, nil
			})
		}
		rotate := func(n int) error {
			_, err := s.ChangeWebhook(t.Context(), "acme", hookOf(n).ID, func(hook *Webhook) error {
				fresh++
				hook.Secret = fmt.Sprint("whsec_", fresh)
				return nil
			}, func(hook Webhook) (*Answer, error) { return answerOf("rotate", "r", hook.ID), nil })
			return err
		}
		for name, twice := range map[string][2]func() error{
			"create": {
				func() error {
					return s.CreateKey(t.Context(), keyOf("cccccccc", "acme"), AuditEntry{}, answerOf("create", "r", "cccccccc"))
				},
				func() error {
					return s.CreateKey(t.Context(), keyOf("dddddddd", "acme"), AuditEntry{}, answerOf("create", "r", "dddddddd"))
				},
			},
			"replace": {func() error { return replace("aaaaaaaa") }, func() error { return replace("bbbbbbbb") }},
			"rotate":  {func() error { return rotate(1) }, func() error { return rotate(2) }},
		} {
			if err := twice[0](); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if _, is := errors.AsType[ErrAnswered](twice[1]()); !is {
				t.Errorf("%s again: no answer", name)
			}
		}
		if keys := list(t, s, "acme"); len(keys) != 4 {
			t.Errorf("got %+v", keys)
		}
		if hook, err := s.FindWebhook(t.Context(), "acme", hookOf(2).ID); err != nil || hook.Secret != hookOf(2).Secret {
			t.Errorf("%+v, %v", hook, err)
		}
	})
}

// What is refused leaves no answer: the same request may succeed later.
func TestARefusalIsNoAnswer(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		if _, full := errors.AsType[ErrShare](keyed(t, s, "acme", "a", "file-1", FileUsage{Bytes: 1})); !full {
			t.Error("it was not refused")
		}
		if err := keyed(t, s, "acme", "a", "file-2", FileUsage{}); err != nil {
			t.Error(err)
		}
		if _, answered := errors.AsType[ErrAnswered](keyed(t, s, "acme", "a", "file-3", FileUsage{Files: 1})); !answered {
			t.Error("a limit comes before the answer")
		}
	})
}

func TestAnswersAreKeptForADay(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		for _, key := range []string{"a", "b"} {
			if err := keyed(t, s, "acme", key, "file-"+key, FileUsage{}); err != nil {
				t.Fatal(err)
			}
		}
		prune := func(want int) {
			t.Helper()
			if pruned, err := s.PruneAnswers(t.Context()); pruned != want || err != nil {
				t.Errorf("%d pruned, want %d, %v", pruned, want, err)
			}
		}
		setClock(s, AnswersKept-time.Minute)
		prune(0)
		if _, answered := errors.AsType[ErrAnswered](keyed(t, s, "acme", "a", "file-2", FileUsage{})); !answered {
			t.Error("it was forgotten too early")
		}
		setClock(s, AnswersKept+time.Second)
		if _, err := s.FindAnswer(t.Context(), "acme", "/v1/files", "a"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if err := keyed(t, s, "acme", "a", "file-2", FileUsage{}); err != nil { // not swept yet, and free
			t.Error(err)
		}
		prune(1)
		if found, err := s.FindAnswer(t.Context(), "acme", "/v1/files", "a"); err != nil || found.Resource != "file-2" {
			t.Errorf("%+v, %v", found, err)
		}
	})
}
