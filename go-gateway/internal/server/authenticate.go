package server

import (
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/tracing"
)

// authenticate lets requests with a good key through.
func (s *Server) authenticate(next handler) handler {
	return func(ex *exchange) error {
		if err := ex.authenticate(); err != nil {
			return err
		}
		return next(ex)
	}
}

// recognize lets all requests through, and makes known whose key they have where it is a good one.
func (s *Server) recognize(next handler) handler {
	return func(ex *exchange) error {
		_ = ex.authenticate() // the reply is the same
		return next(ex)
	}
}

func (ex *exchange) authenticate() (err error) {
	_, span := tracing.Start(ex.request.Context(), "authenticate")
	ex.principal, err = ex.server.Authenticator.Authenticate(ex.request.Header.Get("Authorization"))
	span.End(fault.Outcome(err))
	return err
}

// permit lets requests through whose key is restricted to no other endpoints.
func permit(endpoint string) middleware {
	return func(next handler) handler {
		return func(ex *exchange) error {
			if scopes := &ex.principal.Scopes; !scopes.MayAsk(endpoint) {
				return scopes.LacksEndpoint(endpoint)
			}
			return next(ex)
		}
	}
}
