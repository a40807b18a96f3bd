package models

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"triptych.dev/gateway/cmd/operator/api/v1alpha1"
	"triptych.dev/gateway/cmd/operator/internal/live"
)

// Watched is how a change did beside the others, in the same time.
type Watched struct {
	// Since is the first reading, once it was ready.
	Since time.Time
	// Trial and Beside are what has been done since then. Beside is the sum of all others that can be read.
	Trial, Beside live.Figures
	// Unread is why the last reading of the trial failed; empty: it did not.
	Unread string
	// Ended: its process began again.
	Ended bool
}

type outcome int

const (
	waits outcome = iota
	passes
	fails
)

// verdict is on a trial. Again is for one that waits.
type verdict struct {
	is              outcome
	reason, message string
	again           time.Duration
}

// judge looks at a trial of the right revision, or of one that is not known yet.
func (d *decider) judge(trial *v1alpha1.Trial, tried Pod) verdict {
	rollout, watched := d.model.Spec.Rollout, d.observed.Watched
	deadline := time.Duration(rollout.DeadlineSeconds) * time.Second
	if watched == nil {
		return d.judgeUnready(trial, tried, deadline)
	}
	if begun := metav1.NewTime(watched.Since.Truncate(time.Second)); trial.ReadyAt == nil || !trial.ReadyAt.Equal(&begun) {
		trial.ReadyAt = &begun
		d.event("Normal", reasonWatching, fmt.Sprintf("the trial is ready, and watched for %d s", rollout.ObserveSeconds))
	}
	if watched.Ended {
		return verdict{is: fails, reason: reasonDied, message: "the trial's process ended while it was watched"}
	}
	since := trial.ReadyAt.Time
	end := since.Add(time.Duration(rollout.ObserveSeconds) * time.Second)
	left := end.Sub(d.now)
	answered := int64(watched.Trial.Requests)
	enough := answered >= rollout.MinRequests
	many := moreErrors(rollout, *watched)
	if enough && many != "" && (rollout.MinRequests > 0 || left <= 0) {
		return verdict{is: fails, reason: reasonErrors, message: many}
	}
	missing := whatIsMissing(tried, *watched, enough, rollout.MinRequests)
	if left > 0 {
		message := fmt.Sprintf("trial ready, watched for %d s more, %d of %d requests", seconds(left), answered, rollout.MinRequests)
		if !tried.Ready || watched.Unread != "" || tried.Revision == "" {
			message += "; " + missing.message
		}
		return verdict{reason: reasonWatching, message: message, again: min(left, betweenLooks(rollout))}
	}
	if missing.reason != "" {
		if left = end.Add(deadline).Sub(d.now); left > 0 {
			missing.again = min(left, betweenLooks(rollout))
			missing.message += fmt.Sprintf("; taken back in %d s", seconds(left))
			missing.reason = reasonWatching
			return missing
		}
		missing.is = fails
		missing.message += fmt.Sprintf(", %d s after it was ready", seconds(d.now.Sub(since)))
		return missing
	}
	if slow := slower(rollout, *watched); slow != "" {
		return verdict{is: fails, reason: reasonSlower, message: slow}
	}
	return verdict{is: passes, message: fmt.Sprintf("the trial answered %d requests, of which %.0f failed; beside it %.0f, of which %.0f failed",
		answered, watched.Trial.Failed, watched.Beside.Requests, watched.Beside.Failed)}
}

// judgeUnready is of one that is not watched yet.
func (d *decider) judgeUnready(trial *v1alpha1.Trial, tried Pod, deadline time.Duration) verdict {
	begun := trial.StartedAt.Time
	if trial.ReadyAt != nil { // another pod was watched, whose time this one has in its place
		begun = trial.ReadyAt.Add(time.Duration(d.model.Spec.Rollout.ObserveSeconds) * time.Second)
	}
	left := begun.Add(deadline).Sub(d.now)
	why := tried.Why
	if tried.Ready {
		why = "it is ready, and cannot be asked: " + tried.Why
	}
	if why == "" {
		why = "its golden cases have not all passed"
	}
	if left <= 0 {
		return verdict{is: fails, reason: reasonDeadline, message: fmt.Sprintf("the trial was not ready in %d s: %s", seconds(deadline), why)}
	}
	again := left
	if tried.Ready {
		again = min(left, askAgain)
	}
	return verdict{reason: reasonTrying, again: again, message: "the trial to be ready: " + why}
}

// whatIsMissing for a verdict once the time is over; without a reason: nothing.
func whatIsMissing(tried Pod, watched Watched, enough bool, least int64) verdict {
	switch {
	case !tried.Ready:
		return verdict{reason: reasonDeadline, message: "the trial is not ready any more: " + tried.Why}
	case watched.Unread != "":
		return verdict{reason: reasonNoFigures, message: "the trial's metrics cannot be read: " + watched.Unread}
	case tried.Revision == "":
		return verdict{reason: reasonNoFigures, message: "the trial does not tell its revision: " + tried.Why}
	case !enough:
		return verdict{reason: reasonFewRequests, message: fmt.Sprintf("the trial answered %.0f of %d requests", watched.Trial.Requests, least)}
	}
	return verdict{}
}

// moreErrors says how many more fail than may; empty: not more.
func moreErrors(rollout v1alpha1.Rollout, watched Watched) string {
	trial, beside := perThousand(watched.Trial), perThousand(watched.Beside)
	if trial <= beside+float64(rollout.MaxMoreErrorsPerThousand) {
		return ""
	}
	return fmt.Sprintf("%.0f of 1000 requests failed at the trial (%.0f of %.0f), %.0f beside it: %d more may",
		trial, watched.Trial.Failed, watched.Trial.Requests, beside, rollout.MaxMoreErrorsPerThousand)
}

func perThousand(f live.Figures) float64 {
	if f.Requests <= 0 {
		return 0
	}
	return f.Failed / f.Requests * 1000
}

// slower says what took longer than it may; empty: nothing. What was not done on both sides is not compared.
func slower(rollout v1alpha1.Rollout, watched Watched) string {
	trial, beside := watched.Trial, watched.Beside
	for _, what := range []struct {
		name          string
		trial, beside []live.Spent
	}{
		// The wait counts with the run: alone, it is next to nothing, and twice as long is as good.
		{"a request's wait and run", []live.Spent{trial.Wait, trial.Run}, []live.Spent{beside.Wait, beside.Run}},
		{"the first token", []live.Spent{trial.FirstToken}, []live.Spent{beside.FirstToken}},
		{"each next token", []live.Spent{trial.Token}, []live.Spent{beside.Token}},
	} {
		mine, ok := means(what.trial)
		theirs, also := means(what.beside)
		if ok && also && mine*100 > theirs*float64(rollout.MaxLatencyPercent) {
			return fmt.Sprintf("%s took %.2f ms at the trial and %.2f ms beside it: up to %d %% of that may be",
				what.name, mine*1e3, theirs*1e3, rollout.MaxLatencyPercent)
		}
	}
	return ""
}

// means is the sum of what parts take, if each was done.
func means(parts []live.Spent) (float64, bool) {
	var sum float64
	for _, part := range parts {
		mean, ok := part.Mean()
		if !ok {
			return 0, false
		}
		sum += mean
	}
	return sum, true
}

// betweenLooks is a part of the time of watching.
func betweenLooks(rollout v1alpha1.Rollout) time.Duration {
	return max(time.Second, min(mostBetweenLooks, time.Duration(rollout.ObserveSeconds)*time.Second/looksWhileWatching))
}
