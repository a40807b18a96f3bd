package server

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
)

// handler serves one request: it replies through the exchange once, or returns an error and does not reply.
type handler func(ex *exchange) error

// middleware does something before or after next, or refuses a request without it.
type middleware func(next handler) handler

// bodyPolicy is what becomes of a request's body.
type bodyPolicy int

const (
	noBody       bodyPolicy = iota // it is not read
	jsonBody                       // it is JSON; all of it is in memory before the handler runs
	resourceBody                   // it is JSON as well, about what is kept here: no model is called
	streamBody                     // the handler reads it, as it comes; it takes no slot meanwhile
	waitingBody                    // it is not read, and the handler may wait; it takes a slot itself
)

// counting is whether a request counts among those of its tenant's rate.
type counting bool

const (
	counted    counting = true
	notCounted counting = false
)

// access is who may ask for a route.
type access int

const (
	public access = iota // everybody, without a key. It takes no room
	keyed                // good keys that are restricted to no other endpoints
	anyKey               // every good key, since it is about the key itself
)

// route is one method of one path.
type route struct {
	method, pattern string
	access          access
	body            bodyPolicy
	counting        counting
	serve           handler
}

// endpoint is what a key's scope calls the route: its path as far as that is the same for all requests, so that a list and
// its entries have one name.
func (r route) endpoint() string {
	path, _, _ := strings.Cut(r.pattern, "/{")
	return path
}

// Endpoints are what a key can be restricted to.
func Endpoints() []string {
	var endpoints []string
	for _, r := range new(Server).routes() {
		if r.access == keyed {
			endpoints = append(endpoints, r.endpoint())
		}
	}
	slices.Sort(endpoints)
	return slices.Compact(endpoints)
}

// CheckScopes refuses a misspelt scope, and an endpoint that there is not: the key would be good for nothing. Which models
// there are is not known here.
func CheckScopes(scopes []string) error {
	parsed, err := identity.ParseScopes(scopes)
	if err != nil {
		return err
	}
	known := Endpoints()
	for _, endpoint := range parsed.Endpoints {
		if !slices.Contains(known, endpoint) {
			return fmt.Errorf("scope \"endpoint:%s\": there is no such endpoint; there is %s", endpoint, strings.Join(known, ", "))
		}
	}
	return nil
}

// API is the public listener's handler.
func (s *Server) API() http.Handler { return s.shareWithOrigins(s.newRouter(s.routes(), s.recognize)) }

// routes are the public listener's.
func (s *Server) routes() []route {
	return []route{
		{http.MethodPost, "/v1/embeddings", keyed, jsonBody, counted, s.embeddings()},
		{http.MethodPost, "/v1/chat/completions", keyed, jsonBody, counted, s.generation(s.Decoder.Chat)},
		{http.MethodPost, "/v1/completions", keyed, jsonBody, counted, s.generation(s.Decoder.Completion)},
		{http.MethodPost, moderationsRoute, keyed, jsonBody, counted, s.moderations()},
		{http.MethodPost, "/v1/tokenize", keyed, jsonBody, counted, s.tokenize()},
		{http.MethodGet, "/v1/models", keyed, noBody, counted, s.listModels},
		{http.MethodGet, "/v1/models/{id}", keyed, noBody, counted, s.getModel},
		{http.MethodPost, filesRoute, keyed, streamBody, counted, s.withFiles(s.uploadFile)},
		{http.MethodGet, filesRoute, keyed, noBody, counted, s.withFiles(s.listFiles)},
		{http.MethodGet, filesRoute + "/{id}", keyed, noBody, counted, s.withFiles(s.getFile)},
		{http.MethodDelete, filesRoute + "/{id}", keyed, noBody, counted, s.withFiles(s.deleteFile)},
		{http.MethodGet, filesRoute + "/{id}/content", keyed, noBody, counted, s.withFiles(s.getFileContent)},
		{http.MethodPost, batchesRoute, keyed, resourceBody, counted, s.withBatches(s.createBatch)},
		{http.MethodGet, batchesRoute, keyed, noBody, counted, s.withBatches(s.listBatches)},
		{http.MethodGet, batchesRoute + "/{id}", keyed, noBody, counted, s.withBatches(s.getBatch)},
		{http.MethodPost, batchesRoute + "/{id}/cancel", keyed, noBody, counted, s.withBatches(s.cancelBatch)},
		{http.MethodPost, jobsRoute, keyed, resourceBody, counted, s.withJobs(s.createJob)},
		{http.MethodGet, jobsRoute, keyed, noBody, counted, s.withJobs(s.listJobs)},
		{http.MethodGet, jobsRoute + "/{id}", keyed, waitingBody, counted, s.withJobs(s.getJob)},
		{http.MethodPost, jobsRoute + "/{id}/cancel", keyed, noBody, counted, s.withJobs(s.cancelJob)},
		{http.MethodGet, reviewsRoute, keyed, noBody, counted, s.withJobs(s.listReviews)},
		{http.MethodGet, reviewsRoute + "/{id}", keyed, noBody, counted, s.withJobs(s.getReview)},
		{http.MethodPost, reviewsRoute + "/{id}", keyed, resourceBody, counted, s.withJobs(s.decideReview)},
		{http.MethodPost, webhooksRoute, keyed, resourceBody, counted, s.createWebhook},
		{http.MethodGet, webhooksRoute, keyed, noBody, counted, s.listWebhooks},
		{http.MethodGet, webhooksRoute + "/{id}", keyed, noBody, counted, s.getWebhook},
		{http.MethodPost, webhooksRoute + "/{id}", keyed, resourceBody, counted, s.changeWebhook},
		{http.MethodDelete, webhooksRoute + "/{id}", keyed, noBody, counted, s.deleteWebhook},
		{http.MethodPost, webhooksRoute + "/{id}/rotate_secret", keyed, resourceBody, counted, s.rotateWebhook},
		{http.MethodPost, webhooksRoute + "/{id}/test", keyed, resourceBody, counted, s.testWebhook},
		{http.MethodGet, webhooksRoute + "/{id}/deliveries", keyed, noBody, counted, s.listDeliveries},
		{http.MethodPost, webhooksRoute + "/{id}/deliveries/{delivery}/replay", keyed, noBody, counted, s.replayDelivery},
		{http.MethodGet, eventTypesRoute, keyed, noBody, counted, s.listEventTypes},
		{http.MethodGet, "/v1/limits", anyKey, noBody, notCounted, s.getLimits},
		{http.MethodGet, livezRoute, public, noBody, notCounted, s.livez},
		{http.MethodGet, readyzRoute, public, noBody, notCounted, s.readyz},
	}
}

// Operations is the handler of the listener for operators.
func (s *Server) Operations() http.Handler {
	router := s.newRouter([]route{
		{http.MethodGet, livezRoute, public, noBody, notCounted, s.livez},
		{http.MethodGet, readyzRoute, public, noBody, notCounted, s.readyzDetailed},
	})
	router.mux.Handle("GET /metrics", s.Metrics.Handler())
	return router
}

// middlewares are what a request goes through before its handler, outermost first.
func (s *Server) middlewares(r route) []middleware {
	if r.access == public {
		return nil
	}
	through := []middleware{s.authenticate}
	if r.access == keyed {
		through = append(through, permit(r.endpoint()))
	}
	var counts []middleware
	if r.counting == counted {
		counts = []middleware{s.countRequest}
		if r.body == jsonBody {
			counts = []middleware{s.limitRate}
		}
	}
	switch r.body {
	case streamBody:
		return slices.Concat(through, counts)
	case waitingBody:
		return slices.Concat(through, counts, []middleware{s.setDeadline})
	case noBody:
		return slices.Concat(through, []middleware{s.takeSlot}, counts, []middleware{s.setDeadline})
	default:
		return slices.Concat(through, counts, []middleware{s.setDeadline, s.holdBytes, s.readBody, s.takeSlot})
	}
}

// unknownRoute is what metrics and log call the route of a path that there is not.
const unknownRoute = "unknown"

// router answers unknown paths and methods in our own shape too.
type router struct {
	mux      *http.ServeMux
	notFound http.Handler
}

// newRouter returns a router of routes. What finds none of them goes through middlewares of its own.
func (s *Server) newRouter(routes []route, through ...middleware) *router {
	otherwise := func(serve handler) handler {
		for _, wrap := range slices.Backward(through) {
			serve = wrap(serve)
		}
		return serve
	}
	router := &router{mux: http.NewServeMux(), notFound: s.observe(unknownRoute, otherwise(notFound))}
	router.mux.Handle("/", router.notFound)
	allowed := map[string][]string{} // methods by path
	for _, r := range routes {
		serve := r.serve
		for _, wrap := range slices.Backward(s.middlewares(r)) {
			serve = wrap(serve)
		}
		router.mux.Handle(r.method+" "+r.pattern, s.observe(r.pattern, serve))
		allowed[r.pattern] = append(allowed[r.pattern], r.method)
		if r.method == http.MethodGet {
			allowed[r.pattern] = append(allowed[r.pattern], http.MethodHead)
		}
	}
	for pattern, methods := range allowed {
		router.mux.Handle(pattern, s.observe(pattern, otherwise(notAllowed(strings.Join(methods, ", ")))))
	}
	return router
}

func notFound(ex *exchange) error {
	return fault.New(fault.RouteNotFound, "There is no path %.100q here.", ex.request.URL.Path)
}

// notAllowed refuses the methods that a path does not have.
func notAllowed(allowed string) handler {
	return func(ex *exchange) error {
		ex.header().Set("Allow", allowed)
		return fault.New(fault.MethodNotAllowed, "%.20q is not allowed here; use %s.", ex.request.Method, allowed)
	}
}

func (router *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The mux would redirect an unclean path, in HTML, and refuse "OPTIONS *" without a word.
	if escaped := r.URL.EscapedPath(); path.Clean(escaped) != escaped || r.RequestURI == "*" {
		router.notFound.ServeHTTP(w, r)
		return
	}
	router.mux.ServeHTTP(w, r)
}
