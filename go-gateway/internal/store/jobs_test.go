package store

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const aLease = time.Minute

func addJobs(t *testing.T, s *Store, jobs ...Job) {
	t.Helper()
	if err := s.AddJobs(t.Context(), jobs...); err != nil {
		t.Fatal(err)
	}
}

func jobOf(id, tenant string) Job {
	return Job{ID: id, Queue: "q", Tenant: tenant, Kind: "test", Args: `{"id": "` + id + `"}`, Priority: 5}
}

func claim(t *testing.T, s *Store, most int) []Job {
	t.Helper()
	jobs, err := s.ClaimJobs(t.Context(), "q", "me", most, aLease)
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

func claimOne(t *testing.T, s *Store) Job {
	t.Helper()
	jobs := claim(t, s, 1)
	if len(jobs) != 1 {
		t.Fatalf("claimed %v", jobs)
	}
	return jobs[0]
}

func findJob(t *testing.T, s *Store, id string) Job {
	t.Helper()
	job, err := s.FindHeldJob(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return job.Job
}

func sweep(t *testing.T, s *Store, want int) {
	t.Helper()
	if swept, err := s.SweepJobs(t.Context()); err != nil || swept != want {
		t.Errorf("swept %d, want %d: %v", swept, want, err)
	}
}

func ids(jobs []Job) string {
	var all []string
	for _, job := range jobs {
		all = append(all, job.ID)
	}
	return strings.Join(all, " ")
}

// setClock sets the database's clock, as far as this handle sees it, forward or back.
func setClock(s *Store, by time.Duration) {
	s.dialect.now = fmt.Sprintf("(%s + %d)", map[string]string{"SQLite": sqliteDialect.now, "PostgreSQL": postgresDialect.now}[s.dialect.name], by.Milliseconds())
}

func TestTheLifeOfAJob(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		added := jobOf("a", "acme")
		addJobs(t, s, added)
		addJobs(t, s, Job{ID: "a", Queue: "q", Args: "another"}) // is there already
		found := findJob(t, s, "a")
		added.State, added.Created, added.Due = JobReady, found.Created, found.Created
		if found != added || time.Since(found.Created).Abs() > time.Minute {
			t.Errorf("added: %+v, want %+v", found, added)
		}
		job := claimOne(t, s)
		if job.State != JobLeased || job.Attempt != 1 || job.Args != added.Args || time.Until(job.Due) < aLease/2 {
			t.Errorf("claimed: %+v", job)
		}
		if again := claim(t, s, 1); len(again) != 0 {
			t.Errorf("claimed twice: %v", again)
		}
		job.Errors++
		if err := s.RetryJob(t.Context(), job, 0, "went\x00 wrong \xff"+strings.Repeat("é", 3000)); err != nil {
			t.Fatal(err)
		}
		sweep(t, s, 1)
		job = claimOne(t, s)
		if job.Errors != 1 || job.Deaths != 0 || job.Attempt != 2 || !strings.HasPrefix(job.Error, "went wrong é") || len(job.Error) > maxJobError {
			t.Errorf("after an error: %+v", job)
		}
		if err := s.ReleaseJobs(t.Context(), []Job{job}); err != nil {
			t.Fatal(err)
		}
		job = claimOne(t, s)
		if job.Errors != 1 || job.Deaths != 0 || job.Attempt != 3 {
			t.Errorf("after a release: %+v", job)
		}
		if err := s.FinishJob(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		if done := findJob(t, s, "a"); done.State != JobDone || len(claim(t, s, 1)) != 0 {
			t.Errorf("in the end: %+v", done)
		}
	})
}

func TestAJobWaitsForItsTime(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		later := jobOf("later", "acme")
		later.Due = time.Now().Add(30 * time.Minute)
		addJobs(t, s, later)
		sweep(t, s, 0)
		if jobs := claim(t, s, 1); len(jobs) != 0 || findJob(t, s, "later").State != JobLater {
			t.Errorf("claimed before its time: %v", jobs)
		}
		setClock(s, time.Hour)
		sweep(t, s, 1)
		if job := claimOne(t, s); job.Deaths != 0 {
			t.Errorf("waiting counts as a death: %+v", job)
		}
	})
}

// Whoever lost a job can change nothing of it.
func TestTheFence(t *testing.T) {
	changes := map[string]func(s *Store, t *testing.T, job Job) error{
		"finish": func(s *Store, t *testing.T, job Job) error { return s.FinishJob(t.Context(), job) },
		"retry":  func(s *Store, t *testing.T, job Job) error { return s.RetryJob(t.Context(), job, 0, "no") },
		"bury":   func(s *Store, t *testing.T, job Job) error { return s.BuryJob(t.Context(), job, "no") },
		"deaths": func(s *Store, t *testing.T, job Job) error { return s.SetDeaths(t.Context(), job, 1) },
		"renew": func(s *Store, t *testing.T, job Job) error {
			lost, err := s.RenewJobs(t.Context(), []Job{job}, aLease)
			if err == nil && slices.Equal(lost, []string{job.ID}) {
				err = ErrLost
			}
			return err
		},
		"release": func(s *Store, t *testing.T, job Job) error {
			if err := s.ReleaseJobs(t.Context(), []Job{job}); err != nil {
				return err
			}
			return ErrLost // it says nothing; what follows looks
		},
	}
	losses := map[string]func(s *Store, t *testing.T, job Job){
		"claimed again": func(s *Store, t *testing.T, _ Job) {
			setClock(s, 2*aLease)
			sweep(t, s, 1)
			claimOne(t, s)
		},
		"swept": func(s *Store, t *testing.T, _ Job) {
			setClock(s, 2*aLease)
			sweep(t, s, 1)
		},
		"finished": func(s *Store, t *testing.T, job Job) {
			if err := s.FinishJob(t.Context(), job); err != nil {
				t.Fatal(err)
			}
		},
	}
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		for change, by := range changes {
			for loss, lose := range losses {
				id := change + " after " + loss
				setClock(s, 0)
				addJobs(t, s, jobOf(id, "acme"))
				job := claimOne(t, s)
				lose(s, t, job)
				before := findJob(t, s, id)
				if err := by(s, t, job); !errors.Is(err, ErrLost) {
					t.Errorf("%s: got %v", id, err)
				}
				if after := findJob(t, s, id); after != before {
					t.Errorf("%s: %+v became %+v", id, before, after)
				}
				execute(t, s, `DELETE FROM job`)
			}
		}
	})
}

func TestWhatIsWrittenWithAFinishGoesWithIt(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		execute(t, s, `CREATE TABLE effect (id TEXT)`)
		addJobs(t, s, jobOf("a", "acme"))
		job := claimOne(t, s)
		finish := func() error {
			return s.write(t.Context(), func(tx *sql.Tx) error {
				if _, err := tx.Exec(`INSERT INTO effect VALUES ($1)`, job.ID); err != nil {
					return err
				}
				if err := s.addJobs(t.Context(), tx, jobOf("next", "acme")); err != nil {
					return err
				}
				return s.finishJob(t.Context(), tx, job)
			})
		}
		if err := finish(); err != nil {
			t.Fatal(err)
		}
		execute(t, s, `DELETE FROM job WHERE id = 'next'`)
		if err := finish(); !errors.Is(err, ErrLost) {
			t.Errorf("a second time: %v", err)
		}
		if effects, jobs := count(t, s.r, `SELECT count(*) FROM effect`), count(t, s.r, `SELECT count(*) FROM job`); effects != 1 || jobs != 1 {
			t.Errorf("%d effects, %d jobs", effects, jobs)
		}
	})
}

func TestRenewedLeasesLast(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		addJobs(t, s, jobOf("a", "acme"), jobOf("b", "acme"))
		jobs := claim(t, s, 2)
		setClock(s, aLease/2)
		if lost, err := s.RenewJobs(t.Context(), jobs[:1], aLease); err != nil || len(lost) != 0 {
			t.Errorf("lost %v, %v", lost, err)
		}
		setClock(s, aLease+aLease/4)
		sweep(t, s, 1)
		if job := claimOne(t, s); job.ID != jobs[1].ID || job.Deaths != 1 || job.Errors != 0 {
			t.Errorf("got %+v", job)
		}
	})
}

// A clock that jumps costs repeated work and waiting for a lease, and nothing else.
func TestTheClockJumpsByAnHour(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		for name, by := range map[string]time.Duration{"forward": time.Hour, "back": -time.Hour} {
			t.Run(name, func(t *testing.T) {
				s := open(t, options, Command)
				execute(t, s, `DELETE FROM job`)
				addJobs(t, s, jobOf("a", "acme"))
				first := claimOne(t, s)
				setClock(s, by)
				sweep(t, s, 1)
				second := claimOne(t, s)
				if err := s.FinishJob(t.Context(), first); !errors.Is(err, ErrLost) {
					t.Errorf("the first claim: %v", err)
				}
				if lost, err := s.RenewJobs(t.Context(), []Job{second}, aLease); err != nil || len(lost) != 0 {
					t.Errorf("lost %v, %v", lost, err)
				}
				sweep(t, s, 0)
				if err := s.FinishJob(t.Context(), second); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

func TestNoTenantWaitsForAnothersBacklog(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		var backlog []Job
		for i := range 1000 {
			backlog = append(backlog, jobOf(fmt.Sprintf("a%04d", i), "acme"))
		}
		addJobs(t, s, backlog...)
		addJobs(t, s, jobOf("b1", "beta"), jobOf("b2", "beta"), jobOf("c1", "corp"))
		urgent := jobOf("z", "zulu")
		urgent.Priority = 1
		if got := ids(claim(t, s, 4)); got != "a0000 b1 c1 a0001" {
			t.Errorf("at once: %s", got)
		}
		addJobs(t, s, urgent)
		var got []string // from claim to claim
		for range 4 {
			got = append(got, claimOne(t, s).ID)
		}
		if got := strings.Join(got, " "); got != "z a0002 b2 a0003" && got != "z b2 a0002 a0003" {
			t.Errorf("one by one: %s", got)
		}
	})
}

func TestManyClaimEachJobOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		const jobs, claimers = 120, 6
		var all []Job
		for i := range jobs {
			all = append(all, jobOf(fmt.Sprintf("%03d", i), fmt.Sprintf("tenant%d", i%3)))
		}
		addJobs(t, open(t, options, Command), all...)
		var mu sync.Mutex
		times := map[string]int{}
		var group sync.WaitGroup
		for range claimers {
			s := open(t, options, Command) // with handles of its own, as a process has
			group.Go(func() {
				for misses := 0; misses < 50; misses++ {
					claimed, err := s.ClaimJobs(t.Context(), "q", "me", 2, aLease)
					if err != nil {
						t.Error(err)
						return
					}
					if len(claimed) > 0 { // else there is nothing, or what others are just about to claim
						misses = 0
					}
					mu.Lock()
					for _, job := range claimed {
						times[job.ID] += job.Attempt
					}
					mu.Unlock()
				}
			})
		}
		group.Wait()
		for id, n := range times {
			if n != 1 {
				t.Errorf("%s was claimed %d times", id, n)
			}
		}
		if len(times) != jobs {
			t.Errorf("%d of %d were claimed", len(times), jobs)
		}
	})
}

func TestLeasesAndJobsAreChecked(t *testing.T) {
	s := open(t, places["sqlite"](t), Command)
	for _, lease := range []time.Duration{0, -time.Second, maxLease + 1} {
		if _, err := s.ClaimJobs(t.Context(), "q", "me", 1, lease); err == nil {
			t.Errorf("a lease of %v was given", lease)
		}
	}
	for _, job := range []Job{{ID: "a"}, {Queue: "q"}} {
		if err := s.AddJobs(t.Context(), jobOf("good", "acme"), job); err == nil {
			t.Errorf("%+v was added", job)
		}
	}
	if _, err := s.FindHeldJob(t.Context(), "good"); !errors.Is(err, ErrNotFound) {
		t.Errorf("half of them were added: %v", err)
	}
}
