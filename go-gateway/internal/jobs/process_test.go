package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"triptych.dev/gateway/internal/batch"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/testkit"
)

// asWorker is the variable that has the test binary run jobs in place of tests.
const asWorker = "TEST_RUN_AS_WORKER"

var postgres testkit.SharedPostgres

// places make an empty store's options, on each database.
var places = map[string]func(t *testing.T) store.Options{
	"sqlite":   func(t *testing.T) store.Options { return store.Options{Data: filepath.Join(t.TempDir(), "data")} },
	"postgres": func(t *testing.T) store.Options { return store.Options{DatabaseURL: postgres.Get(t).NewDatabase(t)} },
}

// task is what a worker process is told, as JSON in its environment.
type task struct {
	Store store.Options
	Blobs string
	Fatal bool // a request ends the process
}

// work is a process that runs jobs, until it is killed.
func work() {
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	var told task
	must(json.Unmarshal([]byte(os.Getenv(asWorker)), &told))
	kept, err := store.Open(context.Background(), told.Store, store.Gateway)
	must(err)
	jobs, err := jobsOf(kept, told.Blobs, time.Now)
	must(err)
	jobs.lease = 800 * time.Millisecond
	go jobs.Turns.Watch(context.Background())
	fmt.Println("open")
	jobs.Watch(context.Background(), func(ctx context.Context, request batch.Request) batch.Reply {
		fmt.Println("run", request.ID)
		if told.Fatal {
			os.Exit(3)
		}
		time.Sleep(time.Duration(rand.ExpFloat64() * float64(20*time.Millisecond))) // the work
		reply := good(ctx, request)
		reply.Body = []byte(fmt.Sprintf(`{"by":%d}`, os.Getpid()))
		return reply
	})
}

// start starts a worker process, which is killed with the test.
func start(t *testing.T, told task) (*exec.Cmd, *testkit.Log) {
	t.Helper()
	encoded, err := json.Marshal(told)
	if err != nil {
		t.Fatal(err)
	}
	command, said := exec.Command(os.Args[0]), &testkit.Log{}
	command.Env = append(os.Environ(), asWorker+"="+string(encoded))
	command.Stdout, command.Stderr = said, said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(command) })
	return command, said
}

func kill(command *exec.Cmd) {
	_ = command.Process.Kill()
	_ = command.Wait()
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain it was waited that %s", what)
		}
	}
}

// everywhere runs a test on each database, with jobs that other processes run.
func everywhere(t *testing.T, test func(f *fixture, told task)) {
	for _, name := range slices.Sorted(maps.Keys(places)) {
		t.Run(name, func(t *testing.T) {
			told := task{Store: places[name](t), Blobs: filepath.Join(t.TempDir(), "blobs")}
			test(open(t, told.Store, store.Command, told.Blobs), told)
		})
	}
}

// Processes that run jobs are killed at any moment: each job has one result and one charge, and its tenant is told of it once.
func TestKilledGatewaysLoseAndRepeatNothing(t *testing.T) {
	everywhere(t, func(f *fixture, told task) {
		kills, random := testkit.Kills(f, 5), testkit.Random(f)
		count := 30 * kills
		f.MaxOpen = count
		hook := store.Webhook{ID: "wh_1", URL: "https://receiver.example", Events: []string{store.EventJobCompleted}, Enabled: true, Secret: "s", Created: time.Now()}
		if err := f.Store.AddWebhook(f.Context(), "acme", hook, 1, nil); err != nil {
			f.Fatal(err)
		}
		limit := acme
		limit.Plan.EnqueuedTokens = 0
		var ids []string
		for range count {
			job, err := f.Create(f.Context(), limit, Asked{Endpoint: "/v1/embeddings", Body: []byte(body)}, func(store.AsyncJob) (*store.Answer, error) { return nil, nil })
			if err != nil {
				f.Fatal(err)
			}
			ids = append(ids, job.ID)
		}
		ended := func() (ended int) {
			page, err := f.Store.AsyncJobsPage(f.Context(), "acme", "", count, time.Now())
			if err != nil {
				f.Fatal(err)
			}
			for _, job := range page {
				if !job.Ended.IsZero() {
					ended++
				}
			}
			return ended
		}
		running, _ := start(f.T, told)
		if told.Store.Postgres() {
			start(f.T, told)
		}
		for range kills {
			// So many that each job is run through that an earlier kill hit: none is hit often.
			before := ended()
			eventually(f.T, "jobs end", func() bool { return ended() >= min(count, before+10) })
			time.Sleep(time.Duration(random.IntN(50)) * time.Millisecond)
			kill(running)
			running, _ = start(f.T, told)
		}
		f.Logf("after the kills %d of %d have ended", ended(), count)
		eventually(f.T, "all end", func() bool { return ended() == count })
		for _, id := range ids {
			job, reply := f.ended(id)
			if job.State != store.AsyncCompleted || job.Result.Status != 200 || !strings.HasPrefix(reply, `{"by":`) || job.Result.Tokens.Input != 3 {
				f.Errorf("%+v, %s", job, reply)
			}
		}
		charges, err := f.Store.TodaysCharges(f.Context(), "", 2*count)
		if err != nil || len(charges) != count {
			f.Errorf("%d charges, want %d, %v", len(charges), count, err)
		}
		for _, charge := range charges {
			if charge.Tokens != 3 || charge.Tenant != "acme" || charge.Key != "key" || !slices.Contains(ids, charge.ID) {
				f.Errorf("%+v", charge)
			}
		}
		states, err := f.Store.CountJobs(f.Context(), store.WebhookQueue)
		if err != nil || states[store.JobReady] != count {
			f.Errorf("%v events, want %d, %v", states, count, err)
		}
	})
}

// A request that ends its gateway each time is given up, and says so.
func TestARequestThatKillsIsGivenUp(t *testing.T) {
	everywhere(t, func(f *fixture, told task) {
		told.Fatal = true
		id := f.mustCreate()
		for death := range batch.MaxDeaths {
			running, said := start(f.T, told)
			eventually(f.T, "it runs", func() bool { return strings.Contains(said.String(), "run "+id) })
			_ = running.Wait()
			if job := f.find(id); !job.Ended.IsZero() {
				f.Fatalf("after %d deaths: %+v", death+1, job)
			}
		}
		start(f.T, told)
		if job, _ := f.ended(id); job.State != store.AsyncFailed || job.Result.ErrorCode != "not_survived" {
			f.Errorf("%+v", job)
		}
	})
}

// Who waits in one gateway is told of what ends in another, where the database can tell; else it looks.
func TestWhoWaitsIsToldByAnotherGateway(t *testing.T) {
	everywhere(t, func(f *fixture, told task) {
		if told.Store.Postgres() {
			f.lookAgain = time.Hour
		}
		ctx, cancel := context.WithCancel(f.Context())
		listening := make(chan struct{})
		go func() {
			defer close(listening)
			f.Store.WatchEnded(ctx, f.waiters.wake)
		}()
		defer func() { cancel(); <-listening }()
		if told.Store.Postgres() { // until it listens nobody is told: as the database says itself
			eventually(f.T, "it is told", func() bool {
				id := f.mustCreate()
				woken, done := f.waiters.wait(id)
				defer done()
				if _, err := f.Store.CancelAsyncJob(f.Context(), "acme", id, time.Now(), time.Now().Add(time.Hour)); err != nil {
					f.Fatal(err)
				}
				select {
				case <-woken:
					return true
				case <-time.After(100 * time.Millisecond):
					return false
				}
			})
		}
		id := f.mustCreate()
		waiting := make(chan store.AsyncJob, 1)
		go func() {
			job, _ := f.ended(id)
			waiting <- job
		}()
		start(f.T, told)
		if job := <-waiting; job.State != store.AsyncCompleted {
			f.Errorf("%+v", job)
		}
	})
}
