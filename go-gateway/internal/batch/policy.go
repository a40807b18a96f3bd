package batch

import (
	"fmt"
	"strings"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
)

// What follows is the same for whatever is run when there is nothing else to do: lines of batches, and jobs.

// MaxDeaths is how many processes may end while something is run, be it a gateway or a hot path, before that is given up, or
// divided. The last time it is run alone: those that ran beside it, and died with it, are not given up for its sake.
const MaxDeaths = 3

// NotSurvived is the code of what is given up, and why says it to whom it belongs.
const NotSurvived = "not_survived"

// WhyNotSurvived tells the tenant.
func WhyNotSurvived(deaths int) string {
	return fmt.Sprintf("The service has ended %d times while it ran this request, which is not tried again.", deaths)
}

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
