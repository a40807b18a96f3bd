package store

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// fillJobs adds what must not slow a claim down: jobs that are done, and jobs that wait.
func fillJobs(t testing.TB, s *Store, done, later int) {
	t.Helper()
	series := `(WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < %d) SELECT n FROM series) AS series`
	for state, n := range map[string]int{JobDone: done, JobLater: later} {
		statement := fmt.Sprintf(`INSERT INTO job (id, queue, tenant, kind, args, priority, state, created_at, due_at, ended_at)
			SELECT '%s' || n, 'q', 'tenant' || n %% 7, 'test', '', 5, '%s', 0, %s + 86400000, %s FROM `+series, state, state, s.dialect.now, s.dialect.now, n)
		if _, err := s.w.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.w.Exec(`ANALYZE job`); err != nil {
		t.Fatal(err)
	}
}

// The plan of a claim reads nothing but the index of what is ready, however much else there is.
func TestAClaimReadsWhatIsReadyAlone(t *testing.T) {
	everywhere(t, func(t *testing.T, options Options) {
		s := open(t, options, Command)
		fillJobs(t, s, 20_000, 5_000)
		explain := map[string]string{"SQLite": "EXPLAIN QUERY PLAN ", "PostgreSQL": "EXPLAIN "}[s.dialect.name]
		rows, err := s.w.Query(explain+s.claimStatement(""), "q", "", "me", 1000)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var plan strings.Builder
		columns, _ := rows.Columns()
		for rows.Next() {
			line := make([]any, len(columns))
			for i := range line {
				line[i] = new(any)
			}
			if err := rows.Scan(line...); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&plan, *line[len(line)-1].(*any))
		}
		if plan := plan.String(); strings.Count(plan, "job_ready") != 3 || strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "SCAN job") {
			t.Errorf("the plan is\n%s", plan)
		}
	})
}

// BenchmarkJobs adds jobs, then claims and finishes them one by one: alone, and with 400,000 done and 50,000 that wait beside them.
func BenchmarkJobs(b *testing.B) {
	for name, place := range places {
		for beside, n := range map[string]int{"alone": 0, "deep": 50_000} {
			b.Run(name+"/"+beside, func(b *testing.B) {
				s, err := Open(b.Context(), place(b), Command)
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				if n > 0 {
					fillJobs(b, s, 8*n, n)
				}
				b.ResetTimer()
				for i := range b.N {
					if err := s.AddJobs(b.Context(), jobOf(fmt.Sprintf("%08d", i), fmt.Sprint("tenant", i%7))); err != nil {
						b.Fatal(err)
					}
				}
				added := b.Elapsed()
				b.ReportMetric(float64(b.N)/added.Seconds(), "added/s")
				for range b.N {
					claimed, err := s.ClaimJobs(b.Context(), "q", "me", 1, time.Minute)
					if err != nil || len(claimed) != 1 {
						b.Fatal(claimed, err)
					}
					if err := s.FinishJob(b.Context(), claimed[0]); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N)/(b.Elapsed()-added).Seconds(), "claimed+finished/s")
				ended := b.Elapsed()
				for range 50 {
					if _, err := s.SweepJobs(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64((b.Elapsed()-ended).Microseconds())/50, "µs/sweep")
			})
		}
	}
}
