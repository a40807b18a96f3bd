package store_test

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"triptych.dev/gateway/internal/queue"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/testkit"
)

// processes is how many may serve from a store.
func processes(options store.Options) int {
	if options.Postgres() {
		return 2
	}
	return 1
}

// Workers are killed at any moment, and each job has its effect exactly once.
func TestKilledWorkersLoseAndRepeatNothing(t *testing.T) {
	store.Everywhere(t, func(t *testing.T, options store.Options) {
		kills := testkit.Kills(t, 5)
		jobs := 60 * kills
		random := testkit.Random(t)
		s := newJobs(t, options, jobs)
		told := task{Store: options, Lease: 800 * time.Millisecond, Think: 20 * time.Millisecond}
		var running []*process
		for range processes(options) {
			running = append(running, start(t, told))
		}
		for range kills {
			before := effects(t, s) // so that a slow start is no kill of somebody who has nothing
			eventually(t, "jobs are done", func() bool { return effects(t, s) > before })
			time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond)
			i := random.IntN(len(running))
			running[i].kill()
			running[i] = start(t, told)
		}
		t.Logf("after %d kills %d of %d are done", kills, effects(t, s), jobs)
		expectOnce(t, s, jobs)
	})
}

// A process that stands still for longer than a lease has lost its jobs when it goes on.
func TestZombiesAreRefused(t *testing.T) {
	store.Everywhere(t, func(t *testing.T, options store.Options) {
		const jobs, lease = 40, 300 * time.Millisecond
		s := newJobs(t, options, jobs)
		zombie := start(t, task{Store: options, Lease: lease, Think: 150 * time.Millisecond})
		held := func() int {
			return s.Count(t, `SELECT count(*) FROM job WHERE state = 'leased' AND owner = $1`, zombie.owner())
		}
		eventually(t, "it has jobs", func() bool { return held() >= 3 })
		zombie.signal(syscall.SIGSTOP)
		if options.Postgres() { // another takes over
			start(t, task{Store: options, Lease: lease, Think: 10 * time.Millisecond})
			eventually(t, "the zombie has none", func() bool { return held() == 0 })
			zombie.signal(syscall.SIGCONT)
			eventually(t, "it is refused", func() bool { return strings.Contains(zombie.said.String(), "refused") })
		} else { // nobody may: what it holds is its own until it finds out itself
			time.Sleep(2 * lease)
			zombie.signal(syscall.SIGCONT)
		}
		expectOnce(t, s, jobs)
	})
}

// recoveryOf kills a process that has jobs, and returns how long after a moment all of them are claimed again.
func recoveryOf(t *testing.T, s *store.Store, options store.Options, lease time.Duration) time.Duration {
	t.Helper()
	told := task{Store: options, Lease: lease}
	first := start(t, told)
	eventually(t, "it has all jobs", func() bool { return s.Count(t, `SELECT count(*) FROM job WHERE state = 'leased'`) == 4 })
	var since time.Time
	if options.Postgres() {
		start(t, told)
		first.kill()
		since = time.Now()
	} else {
		first.kill()
		since = time.Now()
		start(t, told)
	}
	eventually(t, "they are claimed again", func() bool {
		return s.Count(t, `SELECT count(*) FROM job WHERE state = 'leased' AND attempt = 2 AND deaths = 1`) == 4
	})
	return time.Since(since)
}

func TestWorkOfTheDeadIsTakenUpSoon(t *testing.T) {
	store.Everywhere(t, func(t *testing.T, options store.Options) {
		const lease = time.Second
		bound := time.Second // a gateway that starts alone does not wait for leases
		if options.Postgres() {
			bound += lease
		}
		took := recoveryOf(t, newJobs(t, options, 4), options, lease)
		t.Logf("%v after kill -9 the jobs are worked on again", took.Round(time.Millisecond))
		if took > bound {
			t.Errorf("it took %v, more than %v", took, bound)
		}
	})
}

// The server stops as in a crash, twice, and starts again.
func TestAServerThatCrashesLosesAndRepeatsNothing(t *testing.T) {
	const jobs = 200
	server := testkit.StartPostgres(t)
	options := store.Options{DatabaseURL: server.NewDatabase(t)}
	s := newJobs(t, options, jobs)
	told := task{Store: options, Lease: 800 * time.Millisecond, Think: 20 * time.Millisecond}
	start(t, told)
	start(t, told)
	for range 2 {
		before := effects(t, s)
		eventually(t, "jobs are done", func() bool { return effects(t, s) > before+20 })
		server.Stop(t)
		server.Start(t)
		eventually(t, "the server answers", func() bool {
			_, err := s.CountJobs(t.Context(), "q")
			return err == nil
		})
	}
	expectOnce(t, s, jobs)
}

// The clock jumps to and fro while jobs are worked on.
func TestAClockThatJumpsLosesAndRepeatsNothing(t *testing.T) {
	store.Everywhere(t, func(t *testing.T, options store.Options) {
		const jobs = 80
		s := newJobs(t, options, jobs)
		start(t, task{Store: options, Lease: 500 * time.Millisecond, Think: 100 * time.Millisecond})
		for _, hours := range []int64{1, 0, -1} {
			before := effects(t, s)
			eventually(t, "jobs are done", func() bool { return effects(t, s) > before+10 })
			if err := s.SetSkew(t.Context(), hours*time.Hour.Milliseconds()); err != nil {
				t.Fatal(err)
			}
		}
		expectOnce(t, s, jobs)
	})
}

func TestAWorkerThatIsToldToStopGivesItsJobsBack(t *testing.T) {
	store.Everywhere(t, func(t *testing.T, options store.Options) {
		s := newJobs(t, options, 4)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- queue.Run(ctx, queue.Options{Store: s, Queue: "q", Workers: 3, Handler: func(ctx context.Context, job store.Job) error {
				<-ctx.Done()
				return context.Cause(ctx)
			}})
		}()
		eventually(t, "it has jobs", func() bool { return s.Count(t, `SELECT count(*) FROM job WHERE state = 'leased'`) == 3 })
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if ready := s.Count(t, `SELECT count(*) FROM job WHERE state = 'ready' AND deaths = 0 AND errors = 0`); ready != 4 {
			t.Errorf("%d of 4 are ready", ready)
		}
	})
}
