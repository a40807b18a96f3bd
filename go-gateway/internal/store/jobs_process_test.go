package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"triptych.dev/gateway/internal/queue"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/testkit"
)

func init() { store.AsWorker = work }

// task is what a worker process is told, as JSON in its environment.
type task struct {
	Store store.Options
	Lease time.Duration
	Think time.Duration // how long work on a job takes on average; 0: for ever
	// Create is how many files it creates, each under a key, in place of working.
	Create int

	CopyTo string // a database: the process copies instead
	HangAt int64  // a number of rows that are copied; -1: all
}

// work is a worker process: four workers that think, and then write their effect. It ends when it is told to.
func work() {
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	var told task
	must(json.Unmarshal([]byte(os.Getenv("TEST_RUN_AS_WORKER")), &told))
	if told.CopyTo != "" {
		must(copyStore(told))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s, err := store.Open(ctx, told.Store, store.Gateway)
	must(err)
	s.FollowSkew()
	fmt.Println("open")
	if told.Create > 0 {
		must(createUnderKeys(ctx, s, told.Create))
		must(s.Close())
		return
	}
	must(queue.Run(ctx, queue.Options{
		Store: s, Queue: "q", Workers: 4, Lease: told.Lease, MaxDeaths: -1, Owner: fmt.Sprint(os.Getpid()),
		RetryBase: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond, MaxErrors: 1000,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Handler: func(ctx context.Context, job store.Job) error {
			pause := time.Duration(rand.ExpFloat64() * float64(told.Think))
			if told.Think == 0 {
				pause = time.Hour
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done(): // the work of a zombie is written regardless, and must be refused
			}
			err := queue.Persist(context.WithoutCancel(ctx), func(ctx context.Context) error { return s.FinishWithEffect(ctx, job) })
			if errors.Is(err, store.ErrLost) {
				fmt.Println("refused", job.ID)
			}
			return err
		},
	}))
	must(s.Close())
}

// process is a worker process that runs.
type process struct {
	t       *testing.T
	command *exec.Cmd
	said    *testkit.Log
}

// start starts a worker, and returns once it has opened the store.
func start(t *testing.T, told task) *process {
	t.Helper()
	encoded, err := json.Marshal(told)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t, exec.Command(os.Args[0]), &testkit.Log{}}
	p.command.Env = append(os.Environ(), "TEST_RUN_AS_WORKER="+string(encoded))
	p.command.Stdout, p.command.Stderr = p.said, p.said
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	eventually(t, "a worker opens the store", func() bool {
		if p.command.ProcessState == nil && strings.Contains(p.said.String(), "open\n") {
			return true
		}
		var status syscall.WaitStatus
		if pid, _ := syscall.Wait4(p.command.Process.Pid, &status, syscall.WNOHANG, nil); pid != 0 {
			t.Fatalf("a worker ended: %v\n%s", status, p.said)
		}
		return false
	})
	return p
}

// kill ends it as a crash of the system would, if it still runs.
func (p *process) kill() {
	_ = p.command.Process.Signal(syscall.SIGCONT)
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

func (p *process) signal(which syscall.Signal) {
	p.t.Helper()
	if err := p.command.Process.Signal(which); err != nil {
		p.t.Fatalf("%v\n%s", err, p.said)
	}
}

func (p *process) owner() string { return fmt.Sprint(p.command.Process.Pid) }

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain it was waited that %s", what)
		}
	}
}

// newJobs makes a store with so many jobs, which worker processes share with the test.
func newJobs(t *testing.T, options store.Options, n int) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), options, store.Command)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.PrepareEffects(t)
	var jobs []store.Job
	for i := range n {
		jobs = append(jobs, store.Job{ID: fmt.Sprintf("job%04d", i), Queue: "q", Tenant: fmt.Sprint("tenant", i%3)})
	}
	if err := s.AddJobs(t.Context(), jobs...); err != nil {
		t.Fatal(err)
	}
	return s
}

func effects(t *testing.T, s *store.Store) int {
	t.Helper()
	return s.Count(t, `SELECT count(*) FROM effect`)
}

// expectOnce waits until all jobs are done, and checks that each has had its effect once.
func expectOnce(t *testing.T, s *store.Store, n int) {
	t.Helper()
	eventually(t, "all jobs are done", func() bool { return s.Count(t, `SELECT count(*) FROM job WHERE state = 'done'`) == n })
	if all, distinct := effects(t, s), s.Count(t, `SELECT count(DISTINCT job) FROM effect`); all != n || distinct != n {
		t.Errorf("%d jobs had %d effects, %d of them distinct", n, all, distinct)
	}
	repeated := s.Count(t, `SELECT count(*) FROM job WHERE attempt > 1`)
	t.Logf("%d jobs, %d of them claimed more than once", n, repeated)
	if strange := s.Count(t, `SELECT count(*) FROM effect JOIN job ON job.id = effect.job WHERE job.attempt <> effect.attempt`); strange != 0 {
		t.Errorf("%d effects are of another claim than the last", strange)
	}
}
