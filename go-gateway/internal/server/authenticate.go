package server

// authenticate lets requests with a good key through, as those of its tenant.
func (s *Server) authenticate(next handler) handler {
	return func(ex *exchange) error {
		tenant, err := s.Directory.Authenticate(ex.request.Header.Get("Authorization"))
		if err != nil {
			return err
		}
		ex.tenant, ex.plan = tenant.Name, tenant.Plan
		return next(ex)
	}
}
