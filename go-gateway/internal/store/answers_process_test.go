package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/testkit"
)

// createUnderKeys creates so many files, each under a key of its own, and says which was created under it: now, or before.
func createUnderKeys(ctx context.Context, s *store.Store, count int) error {
	for n := range count {
		key := fmt.Sprint("key", n)
		id := fmt.Sprintf("file-%d-%d-%d", n, os.Getpid(), time.Now().UnixNano())
		file := store.File{ID: id, Purpose: "user_data", Name: "a", Bytes: 1, SHA256: strings.Repeat("0", 64), Created: time.Now()}
		err := s.AddFile(ctx, "acme", file, store.FileUsage{}, &store.Answer{Route: "/v1/files", Key: key, Request: "r", Resource: id, Status: 200, Body: []byte(id)})
		if answered, is := errors.AsType[store.ErrAnswered](err); is {
			id, err = string(answered.Answer.Body), nil
		}
		if err != nil {
			return err
		}
		fmt.Println("created", key, id)
	}
	fmt.Println("all created")
	return nil
}

// A process that creates is killed at any moment, and repeats what it did: there is one of each, and one answer.
func TestKilledProcessesCreateOnceUnderAKey(t *testing.T) {
	store.Everywhere(t, func(t *testing.T, options store.Options) {
		const count = 400
		random := testkit.Random(t)
		s, err := store.Open(t.Context(), options, store.Command)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.PrepareEffects(t) // with the clock that workers follow
		told := task{Store: options, Create: count}
		files := func() int { return s.Count(t, `SELECT count(*) FROM file`) }
		var all []*process
		for kill := range testkit.Kills(t, 5) {
			creating := start(t, told)
			all = append(all, creating)
			if options.Postgres() && kill%2 == 0 { // two at once, of which the other is killed later
				all = append(all, start(t, told))
			}
			before := files()
			eventually(t, "files are created", func() bool { return files() > before || before == count })
			time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
			creating.kill()
		}
		t.Logf("after the kills there are %d of %d", files(), count)
		expectCreated(t, s, told, all)
	})
}

// expectCreated has a last process create what is missing, and checks that there is one of each, whoever was answered.
func expectCreated(t *testing.T, s *store.Store, told task, all []*process) {
	t.Helper()
	last := start(t, told)
	eventually(t, "all are created", func() bool { return strings.Contains(last.said.String(), "all created\n") })
	answers := map[string]string{}
	for _, one := range append(all, last) {
		one.kill()
		for scanner := bufio.NewScanner(strings.NewReader(one.said.String())); scanner.Scan(); {
			var key, id string
			if n, _ := fmt.Sscanf(scanner.Text(), "created %s %s", &key, &id); n != 2 {
				continue
			}
			if before := answers[key]; before != "" && before != id {
				t.Errorf("under %s there are %s and %s", key, before, id)
			}
			answers[key] = id
		}
	}
	files := s.Count(t, `SELECT count(*) FROM file`)
	if len(answers) != told.Create || files != told.Create {
		t.Errorf("%d answers, %d files, want %d", len(answers), files, told.Create)
	}
}
