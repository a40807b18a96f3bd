// Package identity says who a caller is and what it may do: API keys, tenants and their plans.
//
// It must not depend on HTTP, and it does not decide whether a caller may do something now: that is package quota.
package identity

// Principal is who a call is for.
type Principal struct {
	// Tenant is who is charged, and whose turn it is in every queue.
	Tenant string
	// KeyID names the API key; it is public.
	KeyID string
	Plan  Plan
	// Scopes are what the key is restricted to.
	Scopes Scopes
}
