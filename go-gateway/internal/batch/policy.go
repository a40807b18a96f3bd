package batch

import (
	"fmt"
	"strings"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
)

// What follows is the same for whatever is run when there is nothing else to do: lines of batches, and jobs.

// PutOff is for how long something waits in the queue that was refused for lack of room, or for another reason that is not
// its own, which is nil then.
func PutOff(refused *fault.Fault) time.Duration {
	if refused == nil {
		return putOff
	}
	return min(max(putOff, refused.RetryAfter), longestPutOff)
}

// Owner is whom a request is served for: its tenant by its plan of now, and what the key was restricted to.
func Owner(planOf func(tenant, was string) (identity.Plan, bool), tenant, key, was, scopes string) (identity.Principal, error) {
	plan, known := planOf(tenant, was)
	if !known {
		return identity.Principal{}, fmt.Errorf("there is no tenant %q any more, nor the plan %q", tenant, was)
	}
	parsed, err := identity.ParseScopes(strings.Fields(scopes))
	return identity.Principal{Tenant: tenant, KeyID: key, Plan: plan, Scopes: parsed}, err
}
