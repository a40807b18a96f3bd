package server

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/inference"
	"triptych.dev/gateway/internal/jobs"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/store"
)

const (
	jobsRoute = "/v1/jobs"
	// maxWait is for how many seconds a client may wait for a job's end in one request.
	maxWait = 60
	// maxWaits is how many requests wait so at once: each is a connection, and a look each second.
	maxWaits = 256
)

// jobID is what ids of jobs look like: no other text reaches the database.
var jobID = regexp.MustCompile(`^job_[0-9a-f]{32}$`)

// withJobs refuses requests where there are no jobs, for lack of files.
func (s *Server) withJobs(next handler) handler {
	return withBlobs(s.Jobs != nil, "runs no jobs, since it keeps no files", next)
}

// createJob serves POST /v1/jobs.
func (s *Server) createJob(ex *exchange) error {
	asked, err := decoded(ex, s.Decoder.Job)
	if err != nil {
		return err
	}
	if err := s.checkEndpoint(asked.Endpoint); err != nil {
		return err
	}
	if err := checkThresholds(asked); err != nil {
		return err
	}
	if err := s.check(ex, asked); err != nil {
		return err
	}
	return createFromJSON(ex, http.StatusAccepted, renderedJob, func(answering store.Answering[store.AsyncJob]) (store.AsyncJob, error) {
		return s.Jobs.Create(ex.request.Context(), ex.principal, asked, answering)
	})
}

// check refuses a request that its endpoint would refuse before it asks the model: the same code does. Its errors name fields
// as they are in the job.
func (s *Server) check(ex *exchange, asked jobs.Asked) error {
	checking := *ex
	checking.body, checking.route, checking.class, checking.detached, checking.checking = asked.Body, asked.Endpoint, quota.Batch, true, true
	err := s.call(asked.Endpoint)(&checking)
	if errors.Is(err, inference.ErrChecked) {
		return nil
	}
	if err == nil {
		return fault.InternalError(errors.New("a request was run that was to be checked"))
	}
	if found := fault.Of(err); found.Param != "" && found.Reason != fault.InsufficientScope {
		inside := *found
		inside.Param = "body." + found.Param
		return &inside
	}
	return err
}

func renderedJob(job store.AsyncJob) (created, error) {
	body, err := openai.RenderJob(&job, nil)
	return created{id: job.ID, body: body}, err
}

// listJobs serves GET /v1/jobs.
func (s *Server) listJobs(ex *exchange) error {
	after, most, err := ex.page(jobID, "job")
	if err != nil {
		return err
	}
	list, more, err := s.Jobs.Page(ex.request.Context(), ex.principal.Tenant, after, most)
	if err != nil {
		return err
	}
	return ex.replyWith(openai.RenderJobs(list, more))
}

// getJob serves GET /v1/jobs/{id}. A request that waits takes no slot meanwhile.
func (s *Server) getJob(ex *exchange) error {
	id, err := ex.jobID()
	if err != nil {
		return err
	}
	asked, err := query(ex, "wait")
	if err != nil {
		return err
	}
	wait, err := readWait(asked)
	if err != nil {
		return err
	}
	find := s.Jobs.Find
	if _, said := asked["wait"]; said {
		find = s.awaiting(wait)
	}
	found, err := find(ex.request.Context(), ex.principal.Tenant, id)
	if err != nil {
		return err
	}
	return s.takeSlot(func(ex *exchange) error { return s.replyJob(ex, http.StatusOK, &found) })(ex)
}

// readWait is for how long a client waits for a job's end; 0 if it does not.
func readWait(asked map[string]string) (time.Duration, error) {
	wait, said := asked["wait"]
	if !said {
		return 0, nil
	}
	seconds, err := strconv.Atoi(wait)
	if err != nil || seconds < 0 || seconds > maxWait {
		return 0, fault.InField(fault.InvalidValue, "wait", "wait must be a whole number of seconds from 0 to %d, not %.64q.", maxWait, wait)
	}
	return time.Duration(seconds) * time.Second, nil
}

// awaiting finds a job when it has ended, when so much time or the request's own is over, or when the gateway drains.
func (s *Server) awaiting(wait time.Duration) func(ctx context.Context, tenant, id string) (store.AsyncJob, error) {
	return func(ctx context.Context, tenant, id string) (store.AsyncJob, error) {
		if !s.waits.TryAcquire(tenant, 1) {
			return store.AsyncJob{}, noRoom("requests that wait at once", s.waits, 1)
		}
		start := s.Now()
		defer func() { s.waits.ReleaseAfter(tenant, 1, s.Now().Sub(start)) }()
		until, cancel := context.WithTimeout(s.drained, wait)
		defer cancel()
		return s.Jobs.Await(ctx, tenant, id, until.Done())
	}
}

// cancelJob serves POST /v1/jobs/{id}/cancel.
func (s *Server) cancelJob(ex *exchange) error {
	id, err := ex.jobID()
	if err != nil {
		return err
	}
	cancelled, err := s.Jobs.Cancel(ex.request.Context(), ex.principal.Tenant, id)
	if err != nil {
		return err
	}
	return s.replyJob(ex, http.StatusOK, &cancelled)
}

func (s *Server) replyJob(ex *exchange, status int, job *store.AsyncJob) error {
	reply, err := s.Jobs.Reply(job)
	if err != nil {
		return err
	}
	body, err := openai.RenderJob(job, reply)
	if err != nil {
		return fault.InternalError(err)
	}
	ex.reply(status, body)
	return nil
}

// jobID is the id in the path.
func (ex *exchange) jobID() (string, error) { return ex.pathID("id", jobID, jobs.NotFound) }
