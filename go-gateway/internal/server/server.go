// Package server is HTTP in and HTTP out: routes, what every request goes through, and the handlers.
//
// A handler reads the whole request before it calls the hot path, and has the whole reply before it writes, unless the
// client asked for a stream: a slow client costs a connection, never a worker. What JSON looks like is package openai's; who may do what is tenant's and
// quota's.
package server

import (
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"triptych.dev/gateway/internal/admission"
	"triptych.dev/gateway/internal/engine"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/openai"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/telemetry"
	"triptych.dev/gateway/internal/tenant"
)

// Options are what a Server needs.
type Options struct {
	Engine    *engine.Engine
	Directory *tenant.Directory
	Requests  *quota.Requests
	Metrics   *telemetry.Metrics
	Logger    *slog.Logger
	// Now is the clock of rate limits.
	Now func() time.Time

	// MaxBodyBytes is the largest request body.
	MaxBodyBytes int
	// MaxInflight is how many API requests are served at once, those aside whose body is still to come.
	MaxInflight int
	// MaxBodiesBytes is how many bytes of request bodies there are at once.
	MaxBodiesBytes int
	// BodyTimeout is the time for a body to arrive.
	BodyTimeout time.Duration
	// WriteTimeout is the time for a client to take its reply, or one event of a stream.
	WriteTimeout time.Duration
	// StreamHeartbeat is how long a stream may be silent.
	StreamHeartbeat time.Duration
	// ModerationModel is for requests for moderation that name no model.
	ModerationModel string
}

// Server answers HTTP requests. It is safe for concurrent use.
type Server struct {
	Options
	draining atomic.Bool
	places   *admission.Pool // of API requests that are being served
	bodies   *admission.Pool // bytes of request bodies
	drains   *admission.Pool // of refused bodies that are read to their end
	buffers  bufferPool
}

// New returns a Server that is ready as soon as the engine is.
func New(options Options) *Server {
	return &Server{
		Options: options,
		places:  admission.NewPool(int64(options.MaxInflight), onePlace),
		bodies:  admission.NewPool(int64(options.MaxBodiesBytes), guaranteedBytes),
		drains:  admission.NewPool(mostDrains, onePlace),
	}
}

// Drain makes /readyz say no and asks clients to close their connections; requests are still served.
func (s *Server) Drain() { s.draining.Store(true) }

// Ready reports what /readyz says.
func (s *Server) Ready() bool {
	ready, _ := s.Engine.Ready()
	return ready && !s.draining.Load()
}

// API is the public listener's handler.
func (s *Server) API() http.Handler {
	router := s.newRouter()
	router.add(http.MethodPost, "/v1/embeddings", s.admittedBody(s.embeddings))
	router.add(http.MethodPost, "/v1/chat/completions", s.admittedBody(s.generation(openai.DecodeChat)))
	router.add(http.MethodPost, "/v1/completions", s.admittedBody(s.generation(openai.DecodeCompletion)))
	router.add(http.MethodPost, "/v1/moderations", s.admittedBody(s.moderations))
	router.add(http.MethodPost, "/v1/tokenize", s.admittedBody(s.tokenize))
	router.add(http.MethodGet, "/v1/models", s.admitted(s.listModels))
	router.add(http.MethodGet, "/v1/models/{id}", s.admitted(s.getModel))
	router.add(http.MethodGet, livezRoute, s.livez)
	router.add(http.MethodGet, readyzRoute, s.readyz)
	return router
}

// Operations is the handler of the listener for operators.
func (s *Server) Operations() http.Handler {
	router := s.newRouter()
	router.add(http.MethodGet, livezRoute, s.livez)
	router.add(http.MethodGet, readyzRoute, s.readyzInFull)
	router.mux.Handle("GET /metrics", s.Metrics.Handler())
	return router
}

// router answers unknown paths and methods in our own shape too.
type router struct {
	server   *Server
	mux      *http.ServeMux
	notFound http.Handler
	allowed  map[string][]string // methods by path
}

func (s *Server) newRouter() *router {
	notFound := s.route("unknown", func(_ *exchange, r *http.Request) error {
		return fault.New(fault.RouteNotFound, "There is no path %.100q here.", r.URL.Path)
	})
	mux := http.NewServeMux()
	mux.Handle("/", notFound)
	return &router{server: s, mux: mux, notFound: notFound, allowed: map[string][]string{}}
}

// add serves one method of a path. Those that are not added are refused.
func (router *router) add(method, pattern string, serve handler) {
	router.mux.Handle(method+" "+pattern, router.server.route(pattern, serve))
	if router.allowed[pattern] == nil {
		router.mux.Handle(pattern, router.server.route(pattern, func(ex *exchange, r *http.Request) error {
			allowed := strings.Join(router.allowed[pattern], ", ")
			ex.header().Set("Allow", allowed)
			return fault.New(fault.MethodNotAllowed, "%.20q is not allowed here; use %s.", r.Method, allowed)
		}))
	}
	router.allowed[pattern] = append(router.allowed[pattern], method)
	if method == http.MethodGet {
		router.allowed[pattern] = append(router.allowed[pattern], http.MethodHead)
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
