package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/store"
)

// bury puts dead jobs into the site's store, beside whoever has it open.
func (s *site) bury(jobs ...store.Job) {
	s.Helper()
	options := store.Options{Data: s.store[1]}
	if s.store[0] == "--database-url" {
		options = store.Options{DatabaseURL: s.store[1]}
	}
	open, err := store.Open(s.Context(), options, store.Command)
	if err != nil {
		s.Fatal(err)
	}
	defer open.Close()
	for _, job := range jobs {
		if err := open.AddJobs(s.Context(), job); err != nil {
			s.Fatal(err)
		}
		claimed, err := open.ClaimJobs(s.Context(), job.Queue, "worker 7", 1, time.Minute)
		if err != nil || len(claimed) != 1 {
			s.Fatal(claimed, err)
		}
		if err := open.BuryJob(s.Context(), claimed[0], "it \x1b[31mbroke\nfor good"); err != nil {
			s.Fatal(err)
		}
	}
}

// TestDeadJobsAreOperatedOn while a gateway runs.
func TestDeadJobsAreOperatedOn(t *testing.T) {
	for name, newSite := range map[string]func(*testing.T) *site{"sqlite": newSite, "postgres": inPostgres} {
		t.Run(name, func(t *testing.T) {
			site := newSite(t)
			site.createKey()
			g := site.serve()
			address(t, g.log, "http")
			job := func(id, queue, tenant string) store.Job {
				return store.Job{ID: id, Queue: queue, Tenant: tenant, Kind: "test", Args: "args of " + id}
			}
			site.bury(job("a", "mine", "acme"), job("b", "mine", "umbrella"), job("c", "other", "acme"), job("d", "other", "acme"))
			shows := func(want []string, arguments ...string) {
				t.Helper()
				stdout, _ := site.succeed(arguments...)
				var ids []string
				for line := range strings.Lines(stdout) {
					if id, _, _ := strings.Cut(line, " "); id != "ID" {
						ids = append(ids, id)
					}
				}
				if !slices.Equal(ids, want) {
					t.Errorf("%q shows\n%s", arguments, stdout)
				}
			}
			shows([]string{"d", "c", "b", "a"}, "dlq", "list")
			shows([]string{"c"}, "dlq", "list", "--tenant", "acme", "--queue", "other", "--after", "d", "--limit", "1")
			shows([]string{"b", "a"}, "jobs", "list", "--state", "dead", "--queue", "mine")
			shows(nil, "jobs", "list", "--state", "leased")
			if stdout, _ := site.succeed("jobs", "count"); !strings.Contains(strings.Join(strings.Fields(stdout), " "), "OLDEST mine dead 2 2") {
				t.Errorf("counted as\n%s", stdout)
			}
			for _, command := range []string{"dlq", "jobs"} {
				if stdout, _ := site.succeed(command, "show", "a"); !strings.Contains(stdout, "it  [31mbroke for good") || !strings.Contains(stdout, "args of a") {
					t.Errorf("%s shows\n%q", command, stdout)
				}
			}
			if _, stderr := site.succeed("dlq", "replay", "a"); !strings.Contains(stderr, `"act":"job replayed"`) || !strings.Contains(stderr, `"job":"a"`) {
				t.Errorf("the log has %s", stderr)
			}
			shows([]string{"a"}, "jobs", "list", "--state", "ready", "--queue", "mine")
			if _, stderr := site.succeed("dlq", "drop", "b", "c"); strings.Count(stderr, `"act":"job dropped"`) != 2 {
				t.Errorf("the log has %s", stderr)
			}
			shows([]string{"d"}, "dlq", "list")
			site.succeed("dlq", "replay", "--all", "--tenant", "umbrella") // which has none
			shows([]string{"d"}, "dlq", "list")
			site.succeed("dlq", "replay", "--all", "--tenant", "acme", "--queue", "other")
			shows(nil, "dlq", "list")
			for arguments, want := range map[string]int{
				"dlq show a": exitFailed, "dlq replay a": exitFailed, "dlq drop x": exitFailed, "jobs show x": exitFailed,
				"dlq drop": exitUsage, "dlq drop a --all": exitUsage, "dlq drop a --tenant acme": exitUsage, "dlq replay --tenant acme": exitUsage,
				"jobs show": exitUsage, "jobs show a b": exitUsage, "jobs list --state lost": exitUsage, "dlq list --limit 0": exitUsage,
			} {
				status, _, stderr := execute(t, append(strings.Fields(arguments), site.store...)...)
				if status != want || stderr == "" {
					t.Errorf("%s: %d %s", arguments, status, stderr)
				}
			}
			if said := fmt.Sprint(execute(t, append([]string{"dlq", "replay", "a"}, site.store...)...)); !strings.Contains(said, "is ready, not dead") {
				t.Errorf("it says %s", said)
			}
		})
	}
}
