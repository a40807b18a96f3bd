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

// tenantLimits serves GET /admin/v1/limits: what GET /v1/limits tells a key or the owner of a token, of any; or of a tenant
// alone.
func (a *admin) tenantLimits(ex *exchange) (any, error) {
	asked, err := query(ex, "tenant", "key", "subject")
	if err != nil {
		return nil, err
	}
	tenant, known := a.Guest(asked["tenant"])
	if !known {
		if tenant, err = a.tenant(asked["tenant"]); err != nil {
			return nil, err
		}
	}
	of := identity.Principal{Tenant: tenant.Name, Plan: tenant.Plan}
	if of.KeyID, err = a.callerOf(ex.request.Context(), of.Tenant, asked["key"], asked["subject"]); err != nil {
		return nil, err
	}
	if of.KeyID == "" {
		of.Plan.Key = identity.ClassLimits{}
	}
	report, err := a.limitsOf(ex.request.Context(), of)
	return report.Reply(), err
}

// callerOf returns the id of a tenant's key, or of whoever has tokens of a subject; empty where neither is asked for. Who
// has tokens is written down nowhere: of a subject that never came, nothing is used.
func (a *admin) callerOf(ctx context.Context, tenant, key, subject string) (id string, err error) {
	ofSubject, taken := a.SubjectID(subject)
	switch {
	case key != "" && subject != "":
		return "", fault.InField(fault.InvalidValue, "subject", "key and subject are two callers: give one of them.")
	case subject != "" && !taken:
		return "", fault.InField(fault.InvalidValue, "subject", "No tokens are taken here: the setting jwt-issuer is empty.")
	case subject != "":
		return ofSubject, nil
	case key == "", taken && identity.IsSubjectID(key):
		return key, nil
	default:
		return key, a.isKeyOf(ctx, tenant, key)
	}
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
func (a *admin) auditLog(ex *exchange) (any, error) {
	asked, err := query(ex, "after", "limit")
	if err != nil {
		return nil, err
	}
	size, err := pageSize(asked["limit"])
	if err != nil {
		return nil, err
	}
	before, err := readBefore(asked)
	if err != nil {
		return nil, err
	}
	return pageOf(size, func(most int) ([]store.AuditEntry, error) {
		return a.Store.AuditLog(ex.request.Context(), before, most)
	}, func(entry store.AuditEntry) adminapi.AuditEntry {
		return adminapi.AuditEntry{
			Object: "audit_entry", ID: entry.ID, Created: unixSeconds(entry.At), By: entry.By, Act: entry.Act,
			Tenant: entry.Tenant, Key: entry.Key, Details: entry.Details,
		}
	})
}

// readBefore is the id of the entry of the audit log behind which a page begins; 0 for the first page.
func readBefore(asked map[string]string) (int64, error) {
	after := asked["after"]
	if after == "" {
		return 0, nil
	}
	before, err := strconv.ParseInt(after, 10, 64)
	if err != nil || before < 1 {
		return 0, fault.InField(fault.InvalidValue, "after", "after must be the id of an entry, not %.64q.", after)
	}
	return before, nil
}
