// Package tenant says who a caller is: API keys, tenants and their plans.
//
// It must not depend on HTTP, and it does not decide whether a tenant may do something now: that is package quota.
package tenant
