package server

import (
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/tracing"
)

// authenticate lets requests with a good key through.
func (s *Server) authenticate(next handler) handler {
	return func(ex *exchange) (err error) {
		_, span := tracing.Start(ex.request.Context(), "authenticate")
		ex.principal, err = s.Authenticator.Authenticate(ex.request.Header.Get("Authorization"))
		span.End(fault.Outcome(err))
		if err != nil {
			return err
		}
		return next(ex)
	}
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
