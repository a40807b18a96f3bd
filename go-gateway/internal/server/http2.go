package server

import (
	"net/http"
	"time"
)

// multiplexed reports whether the connection is other requests' too, as in HTTP/2.
func (ex *exchange) multiplexed() bool { return ex.request.ProtoMajor >= 2 }

// hangUp ends the connection after the reply, for the rest of the body may still come. In HTTP/2 that ends with the
// request's own stream.
func (ex *exchange) hangUp() {
	if !ex.multiplexed() {
		ex.header().Set("Connection", "close")
	}
}

// liftWriteDeadline lets a request take its time between two writes. In HTTP/1 a deadline is that of a write, and harmless
// when it passes in between; in HTTP/2 it ends the stream.
func (ex *exchange) liftWriteDeadline() {
	if ex.multiplexed() {
		_ = http.NewResponseController(ex.writer).SetWriteDeadline(time.Time{})
	}
}
