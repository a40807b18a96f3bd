package store

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"
)

// bury adds a job and gives it up.
func bury(t *testing.T, s *Store, id, tenant string) {
	t.Helper()
	addJobs(t, s, jobOf(id, tenant))
	if err := s.BuryJob(t.Context(), claimOne(t, s), "hopeless"); err != nil {
		t.Fatal(err)
	}
}

func TestEndedJobsArePrunedByAge(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		bury(t, s, "dead", "acme")
		addJobs(t, s, jobOf("done", "acme"))
		if err := s.FinishJob(t.Context(), claimOne(t, s)); err != nil {
			t.Fatal(err)
		}
		addJobs(t, s, jobOf("ready", "acme"), jobOf("leased", "acme"))
		claimOne(t, s)
		prune := func(state string, want int) {
			t.Helper()
			if got, err := s.PruneJobs(t.Context(), state, time.Hour); err != nil || got != want {
				t.Errorf("%s: %d pruned, want %d: %v", state, got, want, err)
			}
		}
		prune(JobDone, 0)
		setClock(s, 2*time.Hour)
		prune(JobDone, 1)
		if left := count(t, s.r, `SELECT count(*) FROM job`); left != 3 {
			t.Errorf("%d are left", left)
		}
		prune(JobDead, 1)
		if _, err := s.PruneJobs(t.Context(), JobReady, 0); err == nil {
			t.Error("jobs that have not ended were pruned")
		}
		counts, err := s.CountJobs(t.Context(), "q")
		if want := map[string]int{JobReady: 1, JobLeased: 1, JobLater: 0, JobDead: 0}; err != nil || !maps.Equal(counts, want) {
			t.Errorf("got %v, %v", counts, err)
		}
	})
}

func TestAGatewayThatStartsAloneTakesOverAtOnce(t *testing.T) {
	options := places["sqlite"](t)
	s := open(t, options, Gateway)
	addJobs(t, s, jobOf("a", "acme"))
	first := claimOne(t, s)
	open(t, options, Command).Close()
	if job := findJob(t, s, "a"); job.State != JobLeased {
		t.Errorf("a command took it: %+v", job)
	}
	s.Close() // as its end does, whatever that is
	s = open(t, options, Gateway)
	if job := claimOne(t, s); job.Deaths != 1 || job.Attempt != first.Attempt+1 {
		t.Errorf("got %+v", job)
	}
}

func TestAReplicaTakesNothingOver(t *testing.T) {
	options := inPostgres(t)
	s := open(t, options, Gateway)
	addJobs(t, s, jobOf("a", "acme"))
	job := claimOne(t, s)
	open(t, options, Gateway)
	if err := s.FinishJob(t.Context(), job); err != nil {
		t.Errorf("the second gateway took it: %v", err)
	}
}

func TestWatchersAreWoken(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		adders := map[string]*Store{"this process": s}
		if options.Postgres() {
			adders["another"] = open(t, options, Command)
		}
		ctx, stop := context.WithCancel(t.Context())
		woken, ended := make(chan struct{}, 1), make(chan struct{})
		go func() {
			defer close(ended)
			s.WatchJobs(ctx, "q", func() {
				select {
				case woken <- struct{}{}:
				default:
				}
			})
		}()
		for name, adder := range adders {
			deadline := time.After(10 * time.Second)
			for i := 0; ; i++ { // the watcher may not be there yet
				addJobs(t, adder, jobOf(fmt.Sprint(name, i), "acme"))
				select {
				case <-woken:
				case <-time.After(20 * time.Millisecond):
					continue
				case <-deadline:
					t.Fatalf("%s: nobody was woken", name)
				}
				break
			}
		}
		stop()
		<-ended
	})
}
