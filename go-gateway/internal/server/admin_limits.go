package server

import (
	"context"
	"errors"
	"strconv"

	"triptych.dev/gateway/internal/adminapi"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/store"
)

// tenantLimits serves GET /admin/v1/limits: what GET /v1/limits tells a key, of any; or of a tenant alone.
func (a *admin) tenantLimits(ctx context.Context, ex *exchange) (any, error) {
	asked, err := query(ex, "tenant", "key")
	if err != nil {
		return nil, err
	}
	tenant, err := a.tenant(asked["tenant"])
	if err != nil {
		return nil, err
	}
	of := identity.Principal{Tenant: tenant.Name, KeyID: asked["key"], Plan: tenant.Plan}
	if of.KeyID == "" {
		of.Plan.Key = identity.ClassLimits{}
	} else if err := a.isKeyOf(ctx, of.Tenant, of.KeyID); err != nil {
		return nil, err
	}
	report, err := a.limitsOf(ctx, of)
	return report.Reply(), err
}

// isKeyOf refuses a key that is not a tenant's.
func (a *admin) isKeyOf(ctx context.Context, tenant, id string) error {
	record, err := store.Key{}, identity.CheckKeyID(id)
	if err == nil {
		record, err = a.Store.FindKey(ctx, id)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.As(err, new(identity.RefusedError)) {
		return fault.InternalError(err)
	}
	if err != nil || record.Tenant != tenant {
		return fault.InField(fault.InvalidValue, "key", "The tenant %q has no key with this id.", tenant)
	}
	return nil
}

// auditLog serves GET /admin/v1/audit.
func (a *admin) auditLog(ctx context.Context, ex *exchange) (any, error) {
	asked, err := query(ex, "after", "limit")
	if err != nil {
		return nil, err
	}
	size, err := pageSize(asked["limit"])
	if err != nil {
		return nil, err
	}
	before := int64(0)
	if after := asked["after"]; after != "" {
		if before, err = strconv.ParseInt(after, 10, 64); err != nil || before < 1 {
			return nil, fault.InField(fault.InvalidValue, "after", "after must be the id of an entry, not %.64q.", after)
		}
	}
	entries, err := a.Store.AuditLog(ctx, before, size+1)
	if err != nil {
		return nil, fault.InternalError(err)
	}
	return pageOf(entries, size, func(entry store.AuditEntry) adminapi.AuditEntry {
		return adminapi.AuditEntry{
			Object: "audit_entry", ID: entry.ID, Created: float64(entry.At.UnixMilli()) / 1000, By: entry.By, Act: entry.Act,
			Tenant: entry.Tenant, Key: entry.Key, Details: entry.Details,
		}
	}), nil
}
