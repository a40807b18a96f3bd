// Package identity says who a caller is and what it may do: API keys, tenants and their plans.
//
// It must not depend on HTTP, and it does not decide whether a caller may do something now: that is package quota.
package identity

import (
	"slices"

	"triptych.dev/gateway/internal/quota"
)

// Principal is who a call is for.
type Principal struct {
	// Tenant is who is charged, and whose turn it is in every queue.
	Tenant string
	// KeyID names the API key; it is public.
	KeyID string
	Plan  Plan
	// Scopes are what the principal may do at all.
	Scopes []Scope
	// Priority is the highest class that its calls may have.
	Priority quota.Class
}

// Scope is a kind of thing to do.
type Scope string

// All scopes.
const (
	ScopeInference Scope = "inference" // run models
	ScopeModels    Scope = "models"    // see which there are
)

// Has reports whether the principal may do a kind of thing.
func (p Principal) Has(scope Scope) bool { return slices.Contains(p.Scopes, scope) }
