// Package adminapi is the admin API as both of its ends see it: paths, JSON, and a client.
//
// It must not depend on the packages that serve it.
package adminapi

import "triptych.dev/gateway/internal/limitsjson"

// Paths.
const (
	KeysPath   = "/admin/v1/keys"
	LimitsPath = "/admin/v1/limits"
	AuditPath  = "/admin/v1/audit"
)

// Bounds of a page.
const (
	DefaultPage = 100
	MaxPage     = 1000
)

// Key is what there is to know of an API key. Times are in seconds since 1970.
type Key struct {
	Object  string `json:"object"` // "api_key"
	ID      string `json:"id"`
	Tenant  string `json:"tenant"`
	Created int64  `json:"created"`
	Expires *int64 `json:"expires"` // null: never
	Revoked *int64 `json:"revoked"` // null: it is not
	// Scopes are what it is restricted to; none: nothing.
	Scopes     []string `json:"scopes"`
	ReplacedBy string   `json:"replaced_by"` // the id of the key that it was rotated to; empty: it was not
	// Key is the key itself, in the reply that tells of its making alone.
	Key string `json:"key,omitzero"`
}

// AuditEntry is one administrative act.
type AuditEntry struct {
	Object  string   `json:"object"` // "audit_entry"
	ID      int64    `json:"id"`
	Created float64  `json:"created"`
	By      string   `json:"by"`
	Act     string   `json:"act"`
	Tenant  string   `json:"tenant"`
	Key     string   `json:"key"`
	Details []string `json:"details"` // more about it, as in "replaces=ID"
}

// Page is a part of a list. The next one is that after the last entry's id.
type Page[Entry any] struct {
	Object  string  `json:"object"` // "list"
	Data    []Entry `json:"data"`
	HasMore bool    `json:"has_more"`
}

// Limits are those of one tenant, or of one of its keys too, as GET /v1/limits tells a key its own.
type (
	Limits     = limitsjson.Reply
	LimitRow   = limitsjson.Row
	RefusalRow = limitsjson.Refusal
)
