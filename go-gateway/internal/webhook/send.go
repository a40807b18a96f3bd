package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/tracing"
)

const (
	// maxReplyBytes of a reply's body are read, and of its headers too: what a receiver says is not kept.
	maxReplyBytes = 64 << 10
	// maxCauseBytes bounds what is told of a certificate.
	maxCauseBytes = 200
)

// Kinds of attempts, by what came of them.
const (
	KindDelivered  = "delivered"
	KindStatus     = "status"     // a reply that is no success
	KindRedirect   = "redirect"   // is not followed
	KindRefused    = "refused"    // by the guard
	KindTimeout    = "timeout"    // no reply in time
	KindConnection = "connection" // none at all, or the reply was not HTTP
	KindTLS        = "tls"
	KindName       = "name" // could not be resolved
)

// result is what came of an attempt.
type result struct {
	kind       string
	status     int    // 0: there was no reply
	message    string // for the tenant; empty: it was a success
	retryAfter time.Duration
}

// event is what a receiver gets.
type event struct {
	ID        string         `json:"id"`
	Object    string         `json:"object"`
	Type      string         `json:"type"`
	CreatedAt int64          `json:"created_at"` // Unix seconds
	Data      jsontext.Value `json:"data"`
}

// eventData is what is told of an object, where its event has no more to say.
type eventData struct {
	ID string `json:"id"`
}

// bodyOf is the same at each attempt.
func bodyOf(delivery store.Delivery) ([]byte, error) {
	data := jsontext.Value(delivery.Data)
	if len(data) == 0 {
		var err error
		if data, err = json.Marshal(eventData{delivery.Object}); err != nil {
			return nil, err
		}
	}
	return json.Marshal(event{delivery.Event, "event", delivery.Type, delivery.At.Unix(), data})
}

// sender makes attempts. It keeps no connection: each attempt's address is looked at.
type sender struct {
	timeout time.Duration
	now     func() time.Time
	// transports for http and https. Neither knows of a proxy, of cookies or of redirects.
	plain, secure *http.Transport
}

func newSender(guard Guard, resolver *net.Resolver, roots *x509.CertPool, timeout time.Duration, now func() time.Time) *sender {
	transport := func(plain bool) *http.Transport {
		dialer := guard.dialer(resolver, plain)
		dialer.Timeout = timeout
		return &http.Transport{
			DialContext: dialer.DialContext, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxReplyBytes,
			TLSHandshakeTimeout: timeout, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		}
	}
	return &sender{timeout, now, transport(true), transport(false)}
}

// send makes one attempt. An error is one of ours, or that ctx has ended.
func (s *sender) send(ctx context.Context, hook store.Webhook, delivery store.Delivery) (got result, err error) {
	ctx, span := tracing.StartDelivery(ctx)
	defer func() { span.EndDelivery(got.status, outcome(got.kind)) }()
	body, err := bodyOf(delivery)
	if err != nil {
		return result{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(bounded, http.MethodPost, hook.URL, bytes.NewReader(body))
	if err != nil {
		return result{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "Triptych-Webhooks/1")
	if err := setHeaders(request.Header, hook, delivery.ID, body, s.now()); err != nil {
		return result{}, err
	}
	transport := s.secure
	if request.URL.Scheme == "http" {
		transport = s.plain
	}
	reply, err := transport.RoundTrip(request)
	if ctx.Err() != nil {
		return result{}, context.Cause(ctx)
	}
	if err != nil {
		return s.failed(err), nil
	}
	// The status is the answer. What else the receiver says is taken for a while, and dropped.
	_, _ = io.CopyN(io.Discard, reply.Body, maxReplyBytes)
	reply.Body.Close()
	return answered(reply), nil
}

// outcome is what the trace has of an attempt.
func outcome(kind string) string {
	switch kind {
	case KindDelivered:
		return tracing.OK
	case "":
		return "interrupted"
	default:
		return kind
	}
}

func answered(reply *http.Response) result {
	status := reply.StatusCode
	switch {
	case status >= 200 && status < 300:
		return result{kind: KindDelivered, status: status}
	case status >= 300 && status < 400:
		return result{kind: KindRedirect, status: status, message: fmt.Sprintf("the receiver answered %d, a redirect, and those are not followed", status)}
	default:
		return result{kind: KindStatus, status: status, message: fmt.Sprintf("the receiver answered %d", status), retryAfter: retryAfter(reply.Header)}
	}
}

// retryAfter is how many seconds a receiver asks to be left alone for; 0: it does not. Dates are not read.
func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.ParseUint(header.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// failed says in words of ours why there was no reply. What the cause says may be of the inside: which address a name has here.
func (s *sender) failed(err error) result {
	var timeout net.Error
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, errInward):
		return result{kind: KindRefused, message: "the receiver's address is not public, and this gateway does not send there"}
	case errors.Is(err, errPlain):
		return result{kind: KindRefused, message: "http leads out of the networks that it is allowed for; use https"}
	case errors.As(err, &name) && !name.IsTimeout:
		return result{kind: KindName, message: "the receiver's name could not be resolved"}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return result{kind: KindTimeout, message: fmt.Sprintf("the receiver did not answer within %v", s.timeout)}
	case errors.As(err, &certificate):
		cause := certificate.Err.Error()
		return result{kind: KindTLS, message: "the receiver's certificate is not good: " + cause[:min(len(cause), maxCauseBytes)]}
	case errors.As(err, &alert), errors.As(err, &record):
		return result{kind: KindTLS, message: "TLS with the receiver failed"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return result{kind: KindConnection, message: "the receiver refused the connection"}
	default:
		return result{kind: KindConnection, message: "the connection to the receiver broke, or its reply was not HTTP"}
	}
}
