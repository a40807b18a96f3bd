package tracing

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Names are OpenTelemetry's, of version 1.43.0 of its conventions, where they have one for it; else they begin with our own
// name. Of those that they want for HTTP there is no `url.path`, `url.query`, `user_agent.original` nor `server.address`:
// these are what a client chose to send. `http.route` says what was asked for.
const (
	scope = "triptych.dev/gateway"

	requestIDKey  = attribute.Key("triptych.request.id")
	tenantKey     = attribute.Key("triptych.tenant")
	outcomeKey    = attribute.Key("triptych.outcome")
	jobKindKey    = attribute.Key("triptych.job.kind")
	jobAttemptKey = attribute.Key("triptych.job.attempt")
)

// Request is what is known of a request when it begins.
type Request struct {
	// Method and Route are as in the table of routes; a Route is empty where there is none for what was asked for.
	Method, Route string
	TLS           bool
	// ProtocolMajor and ProtocolMinor are HTTP's version.
	ProtocolMajor, ProtocolMinor int
}

// methods are those that a span may be named by; others are what a client chose to send.
var methods = map[string]attribute.KeyValue{
	"GET": semconv.HTTPRequestMethodGet, "HEAD": semconv.HTTPRequestMethodHead, "POST": semconv.HTTPRequestMethodPost,
	"PUT": semconv.HTTPRequestMethodPut, "PATCH": semconv.HTTPRequestMethodPatch, "DELETE": semconv.HTTPRequestMethodDelete,
	"OPTIONS": semconv.HTTPRequestMethodOptions, "CONNECT": semconv.HTTPRequestMethodConnect, "TRACE": semconv.HTTPRequestMethodTrace,
}

func (r *Request) name() string {
	name := r.Method
	if _, known := methods[r.Method]; !known {
		name = "HTTP"
	}
	if r.Route != "" {
		name += " " + r.Route
	}
	return name
}

func (r *Request) attributes() []attribute.KeyValue {
	method, known := methods[r.Method]
	if !known {
		method = semconv.HTTPRequestMethodOther
	}
	scheme, version := "http", strconv.Itoa(r.ProtocolMajor)
	if r.TLS {
		scheme = "https"
	}
	if r.ProtocolMajor == 1 {
		version += "." + strconv.Itoa(r.ProtocolMinor)
	}
	attributes := []attribute.KeyValue{method, semconv.URLScheme(scheme), semconv.NetworkProtocolVersion(version)}
	if r.Route != "" {
		attributes = append(attributes, semconv.HTTPRoute(r.Route))
	}
	return attributes
}

// Reply is what became of a request.
type Reply struct {
	Status  int
	Outcome string
	// RequestID is what the log has it by. Tenant is empty where it is not known whose it is.
	RequestID, Tenant string
}

// EndRequest ends the span of a request. What a client did wrong is no error of its server.
func (s *Span) EndRequest(reply Reply) {
	if s == nil {
		return
	}
	s.set(semconv.HTTPResponseStatusCode(reply.Status), outcomeKey.String(reply.Outcome), requestIDKey.String(reply.RequestID))
	if reply.Tenant != "" {
		s.set(tenantKey.String(reply.Tenant))
	}
	if reply.Status >= http.StatusInternalServerError {
		s.failed(reply.Outcome)
	}
	s.otel.End()
}

// StartCall begins the span of a call to a hot path: service and method as gRPC has them, and where it is.
func StartCall(ctx context.Context, service, method, address string) (context.Context, *Span) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, nil
	}
	full := service + "/" + method
	ctx, span := start(ctx, full, trace.SpanKindClient)
	if span != nil { // every request comes by here
		span.set(semconv.RPCSystemNameGRPC, semconv.RPCMethod(full))
		span.set(place(address)...)
	}
	return ctx, span
}

// place says where a hot path is: "host:port", or "unix:path".
func place(address string) []attribute.KeyValue {
	if path, isSocket := strings.CutPrefix(address, "unix:"); isSocket {
		return []attribute.KeyValue{semconv.NetworkTransportUnix, semconv.ServerAddress(path)}
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return []attribute.KeyValue{semconv.ServerAddress(address)}
	}
	number, _ := strconv.Atoi(port) // it is one: the settings say so
	return []attribute.KeyValue{semconv.ServerAddress(host), semconv.ServerPort(number)}
}

// EndCall ends the span of a call. status is gRPC's name for how it ended, outcome is what that means.
func (s *Span) EndCall(status, outcome string) {
	if s == nil {
		return
	}
	s.set(semconv.RPCResponseStatusCode(status))
	s.End(outcome)
}

// StartWrite begins the span of one transaction of a database.
func StartWrite(ctx context.Context, system string) (context.Context, *Span) {
	ctx, span := start(ctx, "store write", trace.SpanKindClient)
	if span != nil {
		span.set(semconv.DBSystemNameKey.String(strings.ToLower(system)))
	}
	return ctx, span
}

// EndWrite ends the span of a transaction. One that was undone is an error where that is a fault of the database, and not the
// answer to who asked for what cannot be.
func (s *Span) EndWrite(committed, isFault bool) {
	if s == nil {
		return
	}
	if !committed {
		s.set(outcomeKey.String(rolledBack))
	}
	if isFault {
		s.failed(rolledBack)
	}
	s.otel.End()
}

const rolledBack = "rolled_back"

// StartDelivery begins the span of an event's way to its receiver. Where that is, a tenant chose: it is not told.
func StartDelivery(ctx context.Context) (context.Context, *Span) {
	ctx, span := start(ctx, "deliver", trace.SpanKindClient)
	if span != nil {
		span.set(semconv.HTTPRequestMethodPost)
	}
	return ctx, span
}

// EndDelivery ends the span of an event's way, with the status of the receiver's reply; 0: there was none.
func (s *Span) EndDelivery(status int, outcome string) {
	if s == nil {
		return
	}
	if status != 0 {
		s.set(semconv.HTTPResponseStatusCode(status))
	}
	s.End(outcome)
}

// Job is what is known of a job when its work begins.
type Job struct {
	Queue, Kind, ID, Tenant string
	Attempt                 int
	// Cause is the Traceparent of the span that had it done; empty if that was not recorded.
	Cause string
}

func (j *Job) name() string { return "process " + j.Queue }

func (j *Job) attributes() []attribute.KeyValue {
	return []attribute.KeyValue{
		semconv.MessagingSystemKey.String("triptych"), semconv.MessagingDestinationName(j.Queue), semconv.MessagingMessageID(j.ID),
		semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess,
		tenantKey.String(j.Tenant), jobKindKey.String(j.Kind), jobAttemptKey.Int(j.Attempt),
	}
}

// EndJob ends the span of a job with what became of it, which need not be an error if the job was not done.
func (s *Span) EndJob(outcome string, failed bool) {
	if s == nil {
		return
	}
	s.set(outcomeKey.String(outcome))
	if failed {
		s.failed(outcome)
	}
	s.otel.End()
}

func errorType(reason string) attribute.KeyValue { return semconv.ErrorTypeKey.String(reason) }
