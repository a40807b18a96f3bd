package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"triptych.dev/gateway/internal/store"
)

const (
	jobsShown, maxJobsShown = 100, 10_000
	// shownError is what a list has of an error; `show` has all that is kept.
	shownError = 80
	// jobsAtOnce is how many dead jobs are read on the way to replaying or dropping all.
	jobsAtOnce = 500
)

var jobStates = []string{store.JobReady, store.JobLeased, store.JobLater, store.JobDone, store.JobDead}

// countJobs prints how many jobs of each queue are in each state.
func countJobs(ctx context.Context, t terminal, arguments []string) error {
	settings, err := t.parse(newFlags("jobs count"), arguments, storeSettings...)
	if err != nil {
		return err
	}
	return withStore(ctx, settings, store.Reader, func(s *store.Store) error {
		counts, err := s.JobCounts(ctx)
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "QUEUE\tSTATE\tJOBS\tOLDEST")
		for _, count := range counts {
			fmt.Fprintf(table, "%s\t%s\t%d\t%s\n", plain(count.Queue), count.State, count.Jobs, date(count.Oldest))
		}
		return table.Flush()
	})
}

// pageFlags have a list filtered.
func pageFlags(flags *flag.FlagSet, page *store.JobsPage) {
	filterFlags(flags, page)
	flags.StringVar(&page.Before, "after", "", "only those that follow the job with this `id`, as the last one of the list before")
	flags.IntVar(&page.Most, "limit", jobsShown, fmt.Sprintf("how `many` at most, up to %d", maxJobsShown))
}

func filterFlags(flags *flag.FlagSet, page *store.JobsPage) {
	flags.StringVar(&page.Tenant, "tenant", "", "only those of a tenant with this `name`")
	flags.StringVar(&page.Queue, "queue", "", "only those of a queue with this `name`")
}

func listJobs(ctx context.Context, t terminal, arguments []string) error {
	flags := newFlags("jobs list")
	var page store.JobsPage
	flags.StringVar(&page.State, "state", "", "only those in this `state`: "+strings.Join(jobStates, ", "))
	return t.listPage(ctx, flags, &page, arguments)
}

func listDead(ctx context.Context, t terminal, arguments []string) error {
	return t.listPage(ctx, newFlags("dlq list"), &store.JobsPage{State: store.JobDead}, arguments)
}

func (t terminal) listPage(ctx context.Context, flags *flag.FlagSet, page *store.JobsPage, arguments []string) error {
	pageFlags(flags, page)
	settings, err := t.parse(flags, arguments, storeSettings...)
	if err != nil {
		return err
	}
	if page.Most < 1 || page.Most > maxJobsShown {
		return usageError{fmt.Errorf("--limit: %d must be from 1 to %d", page.Most, maxJobsShown)}
	}
	if page.State != "" && !slices.Contains(jobStates, page.State) {
		return usageError{fmt.Errorf("--state: %q must be one of %s", page.State, strings.Join(jobStates, ", "))}
	}
	return withStore(ctx, settings, store.Reader, func(s *store.Store) error {
		jobs, err := s.JobsPage(ctx, *page)
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ID\tQUEUE\tKIND\tTENANT\tSTATE\tADDED\tDUE\tATTEMPTS\tERRORS\tDEATHS\tOWNER\tERROR")
		for _, job := range jobs {
			said := []rune(plain(job.Error))
			if len(said) > shownError {
				said = append(said[:shownError], '…')
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", plain(job.ID), plain(job.Queue), plain(job.Kind), plain(job.Tenant),
				job.State, date(job.Created), dueOf(job), job.Attempt, job.Errors, job.Deaths, cmp.Or(plain(job.Owner), "-"), cmp.Or(string(said), "-"))
		}
		return table.Flush()
	})
}

// dueOf is when a lease ends, or a wait.
func dueOf(job store.HeldJob) string {
	if job.State == store.JobLeased || job.State == store.JobLater {
		return date(job.Due)
	}
	return "-"
}

func showJob(ctx context.Context, t terminal, arguments []string) error {
	return t.show(ctx, "jobs show", arguments, func(store.HeldJob) error { return nil })
}

func showDead(ctx context.Context, t terminal, arguments []string) error {
	return t.show(ctx, "dlq show", arguments, func(job store.HeldJob) error {
		if job.State != store.JobDead {
			return fmt.Errorf("the job %s is %s, not dead; `gateway jobs show` shows it", plain(job.ID), job.State)
		}
		return nil
	})
}

// show prints all that is known of a job.
func (t terminal) show(ctx context.Context, command string, arguments []string, check func(store.HeldJob) error) error {
	ids, flags := splitIDs(arguments)
	settings, err := t.parse(newFlags(command+" ID"), flags, storeSettings...)
	if err != nil {
		return err
	}
	if len(ids) != 1 {
		return usageError{fmt.Errorf("usage: gateway %s ID [FLAGS]", command)}
	}
	return withStore(ctx, settings, store.Reader, func(s *store.Store) error {
		job, err := s.FindHeldJob(ctx, ids[0])
		if err := cmp.Or(err, check(job)); err != nil {
			return err
		}
		table := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
		for _, line := range [][2]string{
			{"id", job.ID}, {"queue", job.Queue}, {"kind", job.Kind}, {"tenant", job.Tenant}, {"args", job.Args}, {"state", job.State},
			{"priority", fmt.Sprint(job.Priority)}, {"added", date(job.Created)}, {"due", dueOf(job)}, {"ended", date(job.Ended)},
			{"attempts", fmt.Sprint(job.Attempt)}, {"errors", fmt.Sprint(job.Errors)}, {"deaths", fmt.Sprint(job.Deaths)},
			{"owner", cmp.Or(job.Owner, "-")}, {"error", cmp.Or(job.Error, "-")},
		} {
			fmt.Fprintf(table, "%s\t%s\n", line[0], plain(line[1]))
		}
		return table.Flush()
	})
}

func replayDead(ctx context.Context, t terminal, arguments []string) error {
	return t.actOnDead(ctx, "replay", "job replayed", arguments, (*store.Store).ReplayDead)
}

func dropDead(ctx context.Context, t terminal, arguments []string) error {
	return t.actOnDead(ctx, "drop", "job dropped", arguments, (*store.Store).DropDead)
}

type deadAct func(s *store.Store, ctx context.Context, id string, actOf func(store.Job) store.AuditEntry) (store.Job, error)

// actOnDead does something to dead jobs, those with ids or all, each in a transaction of its own with its line in the audit log.
func (t terminal) actOnDead(ctx context.Context, name, act string, arguments []string, do deadAct) error {
	ids, rest := splitIDs(arguments)
	flags := newFlags("dlq " + name + " ID…")
	page := store.JobsPage{State: store.JobDead, Most: jobsAtOnce}
	all := flags.Bool("all", false, "all dead jobs, of --tenant and --queue where they are given, instead of those with ids")
	filterFlags(flags, &page)
	settings, err := t.parse(flags, rest, storeSettings...)
	if err != nil {
		return err
	}
	if *all == (len(ids) > 0) || (!*all && page.Tenant+page.Queue != "") {
		return usageError{fmt.Errorf("usage: gateway dlq %s ID… [FLAGS], or gateway dlq %s --all [--tenant NAME] [--queue NAME] [FLAGS]", name, name)}
	}
	audit := t.auditLog()
	return withStore(ctx, settings, store.Command, func(s *store.Store) error {
		one := func(id string) error {
			job, err := do(s, ctx, id, func(job store.Job) store.AuditEntry {
				return store.AuditEntry{At: time.Now(), By: commandLine(), Act: act, Tenant: job.Tenant,
					Details: []string{"job=" + job.ID, "queue=" + job.Queue, "kind=" + job.Kind}}
			})
			if err == nil {
				audit.Info("audit", "act", act, "job", job.ID, "queue", job.Queue, "kind", job.Kind, "tenant", job.Tenant)
			}
			return err
		}
		if !*all {
			var failed error
			for _, id := range ids {
				failed = errors.Join(failed, one(id))
			}
			return failed
		}
		return eachDead(ctx, s, page, one)
	})
}

// eachDead does something to all dead jobs of a page and of those after it. It goes on after one that is refused, but not
// after a failure of the store.
func eachDead(ctx context.Context, s *store.Store, page store.JobsPage, do func(id string) error) error {
	var refused error
	for {
		jobs, err := s.JobsPage(ctx, page)
		if err != nil || len(jobs) == 0 {
			return errors.Join(refused, err)
		}
		for _, job := range jobs {
			err := do(job.ID)
			switch {
			case errors.Is(err, store.ErrNeeded):
				refused = errors.Join(refused, err)
			case err != nil && !errors.Is(err, store.ErrNotFound): // the latter: another command was faster
				return errors.Join(refused, err)
			}
			page.Before = job.ID
		}
	}
}

// splitIDs divides arguments into ids and the flags behind them.
func splitIDs(arguments []string) (ids, flags []string) {
	for i, argument := range arguments {
		if strings.HasPrefix(argument, "-") {
			return arguments[:i], arguments[i:]
		}
	}
	return arguments, nil
}

// plain is a text without what would move a terminal's cursor: part of it comes from users.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}
