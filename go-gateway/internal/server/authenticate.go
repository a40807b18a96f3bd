package server

import (
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
)

// authenticate lets requests with a good key of some scope through.
func (s *Server) authenticate(scope identity.Scope) middleware {
	return func(next handler) handler {
		return func(ex *exchange) (err error) {
			if ex.principal, err = s.Authenticator.Authenticate(ex.request.Header.Get("Authorization")); err != nil {
				return err
			}
			if !ex.principal.Has(scope) {
				return fault.New(fault.InvalidAPIKey, "The API key is not good for this: it lacks the scope %q.", scope)
			}
			return next(ex)
		}
	}
}
