package batch

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/testkit"
)

// everywhere runs a test with a store and limits of one process, and with those that several share.
func everywhere(t *testing.T, test func(f *fixture, told task, random *rand.Rand)) {
	for name, place := range map[string]func(f *fixture) task{
		"SQLite and memory": func(f *fixture) task {
			return task{Store: store.Options{Data: filepath.Join(f.folder, "data")}}
		},
		"PostgreSQL and Redis": func(f *fixture) task {
			return task{Store: store.Options{DatabaseURL: postgres.Get(f.T).NewDatabase(f.T)}, Redis: startRedis(f.T)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			f := &fixture{T: t, folder: t.TempDir()}
			told := place(f)
			random := f.begin(&told)
			test(f, told, random)
		})
	}
}

// begin opens a store that worker processes share with the test.
func (f *fixture) begin(told *task) *rand.Rand {
	f.Helper()
	told.Blobs, told.Lease, told.Think = filepath.Join(f.folder, "blobs"), 800*time.Millisecond, 2*time.Millisecond
	f.shared = told.Store.Postgres()
	f.open(told.Store, store.Command)
	return testkit.Random(f)
}

// workers are as many as may serve from a store.
func (t task) workers(f *fixture) (running []*process) {
	running = append(running, start(f.T, t))
	if t.Store.Postgres() {
		running = append(running, start(f.T, t))
	}
	return running
}

// chargedOnce holds that a batch, which has ended, was charged what came out of it: to tenant and key, and by all gateways.
func (f *fixture) chargedOnce(batch store.Batch, running []*process) {
	f.Helper()
	used := batch.Tokens.Input + batch.Tokens.Output
	var expected int64
	for range batch.Done {
		expected += costOf([]byte(`{"model":"m","input":"x"}`))
	}
	if used != expected {
		f.Errorf("the batch says %d tokens, and its lines %d", used, expected)
	}
	for _, p := range running {
		var tenant, key int64
		eventually(f.T, fmt.Sprintf("%d tokens are charged", used), func() bool {
			tenant, key = p.charged()
			return tenant == used && key == used
		})
		time.Sleep(quotaLease) // whatever was told late is here by then
		if tenant, key = p.charged(); tenant != used || key != used {
			f.Errorf("%d and %d were charged for %d tokens", tenant, key, used)
		}
	}
}

// Gateways are killed at any moment: each line comes out once, and is charged once.
func TestKilledGatewaysLoseNothingAndChargeOnce(t *testing.T) {
	everywhere(t, func(f *fixture, told task, random *rand.Rand) {
		kills := testkit.Kills(f, 5)
		lines := 320 * kills
		f.enqueued = 1 << 30
		batch := f.mustSubmit(lines)
		running := told.workers(f)
		for range kills {
			before := f.done(batch.ID) // so that a slow start is no kill of somebody who has nothing
			eventually(f.T, "lines are done", func() bool { return f.done(batch.ID) > before })
			time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond)
			i := random.IntN(len(running))
			running[i].kill()
			running[i] = start(f.T, told)
		}
		f.Logf("after %d kills %d of %d lines are done", kills, f.done(batch.ID), lines)
		batch = f.endedWithin(batch.ID, time.Duration(kills)*patience/5)
		f.once(lines, batch)
		f.chargedOnce(batch, running)
	})
}

func (f *fixture) mustSubmit(lines int) store.Batch {
	f.Helper()
	batch, err := f.submit(lines)
	if err != nil {
		f.Fatal(err)
	}
	return batch
}

func (f *fixture) done(id string) int64 {
	f.Helper()
	batch, err := f.Find(f.Context(), "acme", id)
	if err != nil {
		f.Fatal(err)
	}
	return batch.Done
}

// transactions counts those under way in PostgreSQL, but for those that are turns: see store.RunBeside.
func transactions(t *testing.T, options store.Options) (count int) {
	t.Helper()
	if !options.Postgres() {
		return 0
	}
	db, err := sql.Open("pgx", options.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.QueryRow(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
		AND xact_start IS NOT NULL AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')`).Scan(&count)
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// A gateway that stands still for longer than a lease, while another one does its work, is refused when it goes on.
func TestAZombiesSegmentsAreRefused(t *testing.T) {
	everywhere(t, func(f *fixture, told task, _ *rand.Rand) {
		const lines = 1000
		batch := f.mustSubmit(lines)
		told.Lease = 300 * time.Millisecond
		zombie := start(f.T, told)
		running := []*process{zombie}
		eventually(f.T, "lines are done", func() bool { return f.done(batch.ID) > 0 })
		time.Sleep(25 * time.Millisecond) // a segment takes twice as long: one that was just being claimed would be nobody's
		eventually(f.T, "it stands still with segments, and in no transaction, for which others would wait longer", func() bool {
			zombie.signal(syscall.SIGSTOP)
			states, err := f.Store.CountJobs(f.Context(), store.BatchQueue)
			if err == nil && states[store.JobLeased] > 0 && transactions(f.T, told.Store) == 0 {
				return true
			}
			zombie.signal(syscall.SIGCONT)
			return false
		})
		time.Sleep(2 * told.Lease)
		if told.Store.Postgres() {
			running = append(running, start(f.T, told))
			batch = f.ended(batch.ID)
		}
		zombie.signal(syscall.SIGCONT)
		batch = f.ended(batch.ID)
		f.once(lines, batch)
		f.chargedOnce(batch, running)
		if told.Store.Postgres() {
			eventually(f.T, "the zombie is refused", func() bool { return strings.Contains(zombie.said.String(), "refused") })
		}
	})
}

// PostgreSQL crashes while gateways work: what was committed is there, and what was not is done again.
func TestADatabaseThatCrashesLosesNothing(t *testing.T) {
	t.Parallel()
	const lines = 1200
	server := testkit.StartPostgres(t)
	f := &fixture{T: t, folder: t.TempDir()}
	told := task{Store: store.Options{DatabaseURL: server.NewDatabase(t)}, Redis: startRedis(t)}
	random := f.begin(&told)
	batch := f.mustSubmit(lines)
	running := told.workers(f)
	for range 2 {
		before := f.done(batch.ID)
		eventually(t, "lines are done", func() bool { return f.done(batch.ID) > before })
		time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
		server.Stop(t)
		server.Start(t)
		eventually(t, "the test has a connection again", func() bool {
			_, err := f.Find(t.Context(), "acme", batch.ID)
			return err == nil
		})
	}
	batch = f.ended(batch.ID)
	f.once(lines, batch)
	f.chargedOnce(batch, running)
}

// Whoever finishes a segment twice, or without having it, is refused, and nothing is written or charged again.
func TestASegmentIsFinishedOnce(t *testing.T) {
	everywhere(t, func(f *fixture, _ task, _ *rand.Rand) {
		batch := f.mustSubmit(20)
		jobs, err := f.Store.ClaimJobs(f.Context(), store.BatchQueue, "a gateway", 1, time.Minute)
		if err != nil || len(jobs) != 1 {
			f.Fatal(jobs, err)
		}
		early := jobs[0]
		early.Attempt++
		w := &worker{f.Batches, func(ctx context.Context, request Request) Reply { return good(ctx, request) }}
		segment, err := f.Store.FindSegment(f.Context(), "acme", batch.ID, 0)
		if err != nil {
			f.Fatal(err)
		}
		if err := w.handle(f.Context(), early); !errors.Is(err, store.ErrLost) {
			f.Errorf("without having it: %v", err)
		}
		if err := w.handle(f.Context(), jobs[0]); err != nil {
			f.Fatal(err)
		}
		segment.Result.Tokens.Input = 1000
		if err := f.Store.FinishSegment(f.Context(), jobs[0], "acme", batch.ID, segment, true, nil, time.Now()); !errors.Is(err, store.ErrLost) {
			f.Errorf("twice: %v", err)
		}
		charges, err := f.Store.UnsettledCharges(f.Context(), 10)
		if err != nil || len(charges) != 1 || charges[0].Tokens != 60 {
			f.Errorf("%+v, %v", charges, err)
		}
		if batch, err = f.Find(f.Context(), "acme", batch.ID); err != nil || batch.Tokens.Input != 60 || batch.Done != 20 || batch.State != store.BatchFinalizing {
			f.Errorf("%+v, %v", batch, err)
		}
	})
}
