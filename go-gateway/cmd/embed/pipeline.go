package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"triptych.dev/gateway/cmd/embed/internal/api"
	"triptych.dev/gateway/cmd/embed/internal/vectors"
	"triptych.dev/gateway/internal/workpool"
)

// pipeline embeds a corpus with one revision of a model.
type pipeline struct {
	*settings
	client   *api.Client
	corpus   *corpus
	store    *vectors.Store
	progress *progress
	retry    workpool.Retry
	stderr   io.Writer
}

// mostPromotions is how often another revision is begun with, in one run.
const mostPromotions = 20

// embed runs until the result is whole. Vectors of two revisions are never mixed: when the service has another one, all is
// begun again with that, but for what is known of it.
func embed(ctx context.Context, s *settings, stderr io.Writer, retry workpool.Retry) (done, error) {
	corpus, err := openCorpus(s)
	if err != nil {
		return done{}, usageError{err}
	}
	leave, err := enter(ctx, s)
	if err != nil {
		return done{}, err
	}
	defer leave()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost, transport.MaxIdleConns = s.concurrency, s.concurrency
	defer transport.CloseIdleConnections()
	client := &api.Client{
		URL: s.url, Key: s.key, Model: s.model, Dimensions: s.dimensions, Truncate: s.truncate, Timeout: s.timeout,
		Assumed: s.revision != "", HTTP: &http.Client{Transport: transport},
	}
	p := &pipeline{settings: s, client: client, corpus: corpus, progress: newProgress(stderr, corpus.size), retry: retry, stderr: stderr}
	defer p.progress.close()
	forget := s.retryRefused
	for promotions := 1; ; promotions++ {
		result, err := p.embedAll(ctx, forget)
		if err != nil && ctx.Err() != nil {
			return result, context.Cause(ctx)
		}
		var promoted *api.RevisionError
		if !errors.As(err, &promoted) || s.revision != "" || promotions == mostPromotions {
			return result, err
		}
		forget = false
		p.progress.say("%v: beginning again with that; what is known of it is not embedded twice", promoted)
		if !workpool.Sleep(ctx, time.Duration(promotions)*250*time.Millisecond) { // several hot paths may not agree at once
			return result, context.Cause(ctx)
		}
	}
}

// describe asks for the revision, and fits requests to what the service takes.
func (p *pipeline) describe(ctx context.Context) (string, error) {
	var described api.Described
	options := workpool.Options{Workers: 1, Retry: p.retry}
	ask := workpool.Each(func(yield func(struct{}) bool) { yield(struct{}{}) })
	_, err := workpool.Run(ctx, options, ask,
		func(ctx context.Context, _ struct{}) (api.Described, error) { return p.client.Describe(ctx) },
		func(result workpool.Result[struct{}, api.Described]) error {
			described = result.Value
			return result.Err
		})
	if err != nil {
		var told *api.Error
		if p.revision != "" && errors.As(err, &told) && told.Status == http.StatusNotFound && told.Code != "model_not_found" {
			return p.revision, nil // it does not tell of models
		}
		return "", err
	}
	if described.MaxInputs > 0 {
		p.batchTexts = min(p.batchTexts, described.MaxInputs)
	}
	switch {
	case described.Revision == "" && p.revision == "":
		return "", api.ErrNoRevision
	case described.Revision == "":
		return p.revision, nil
	case p.revision != "" && p.revision != described.Revision:
		return "", &api.RevisionError{Wanted: p.revision, Got: described.Revision}
	default:
		return described.Revision, nil
	}
}

func (p *pipeline) embedAll(ctx context.Context, forget bool) (result done, err error) {
	if p.client.Revision, err = p.describe(ctx); err != nil {
		return done{}, err
	}
	name := url.PathEscape(p.model) + "@" + url.PathEscape(p.client.Revision)
	if p.dimensions > 0 {
		name += fmt.Sprintf("@%d", p.dimensions)
	}
	if p.truncate {
		name += "@truncated"
	}
	if p.store, err = vectors.Open(filepath.Join(p.cache, name)); err != nil {
		return done{}, &saveError{err}
	}
	defer func() { err = errors.Join(err, p.store.Close()) }()
	if forget {
		if err := p.store.Forget(); err != nil {
			return done{}, err
		}
	}
	begun, err := p.readDone()
	if err != nil {
		return done{}, err
	}
	worker := worker{client: p.client, gate: newGate(p.patience)}
	first := true
	for {
		pass := &pass{pipeline: p, worker: worker}
		if first && p.corpus.ownIDs && !p.allowDuplicates {
			pass.seen = p.corpus.newSeenIDs()
		}
		first = false
		p.progress.begin()
		if err := pass.run(ctx); err != nil {
			return done{}, err
		}
		if pass.found.elsewhere == 0 {
			return p.conclude(ctx, pass.found, begun)
		}
		if err := p.await(ctx, pass.found); err != nil {
			return done{}, err
		}
	}
}

// await waits until somebody has ended, in whatever way, what this process has left to it.
func (p *pipeline) await(ctx context.Context, found found) error {
	p.progress.say("%d parts are embedded by others", found.elsewhere)
	for {
		claimed, err := p.store.Claimed(found.first)
		if err != nil {
			return err
		}
		if !claimed {
			return p.store.Refresh()
		}
		if !workpool.Sleep(ctx, 4*lookAgain) {
			return context.Cause(ctx)
		}
	}
}
