package server

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"triptych.dev/gateway/internal/adminapi"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/store"
)

// Room of the admin API, beside the API's: it answers while that is full.
const (
	maxAdminBody     = 16 << 10 // bytes
	maxAdminInflight = 32
	// adminTimeout is what a store that does not answer keeps one of them for.
	adminTimeout = 10 * time.Second
)

// AdminStore keeps keys and the audit log.
type AdminStore interface {
	Answers
	FindKey(ctx context.Context, id string) (store.Key, error)
	KeysPage(ctx context.Context, tenant, prefix, after string, most int) ([]store.Key, error)
	AuditLog(ctx context.Context, before int64, most int) ([]store.AuditEntry, error)
}

// AdminOptions are what the admin API needs beside the API's options.
type AdminOptions struct {
	Token *identity.AdminToken
	Store AdminStore
	// Keys returns what makes and ends keys in somebody's name.
	Keys func(by string) *identity.Keys
	// Tenant returns the tenant of a name, and Guest one that only tokens name.
	Tenant, Guest func(name string) (tenant identity.Tenant, known bool)
	// SubjectID returns the id of whoever has tokens of a subject; false where no tokens are taken.
	SubjectID func(subject string) (id string, taken bool)

	// Started is when the gateway began, and Now the time.
	Started time.Time
	Now     func() time.Time
	// Stale says of each source for how long its changes could not be taken.
	Stale func(now time.Time) map[string]time.Duration
	// Connections are how many each listener has.
	Connections func() []adminapi.Connection
}

// admin serves the admin API, in room of its own.
type admin struct {
	*Server
	AdminOptions
	api       *Server // whose requests are not the admin API's
	overviews overviews
}

// Admin is the handler of the admin API's listener.
func (s *Server) Admin(options AdminOptions) http.Handler {
	own := s.Options
	own.MaxBodyBytes, own.MaxBodiesBytes, own.MaxInflight = maxAdminBody, maxAdminInflight*(maxAdminBody+requestBytes), maxAdminInflight
	own.IgnoreUnknownFields, own.Answers = false, options.Store
	a := &admin{Server: New(own), AdminOptions: options, api: s}
	const key = adminapi.KeysPath + "/{id}"
	return a.newRouter([]route{
		{method: http.MethodPost, pattern: adminapi.KeysPath, serve: a.asked(a.createKey, a.holdBytes, a.readBody, a.takeSlot)},
		{method: http.MethodGet, pattern: adminapi.KeysPath, serve: a.asked(a.listKeys, a.takeSlot)},
		{method: http.MethodGet, pattern: key, serve: a.asked(a.getKey, a.takeSlot)},
		{method: http.MethodPost, pattern: key + "/rotate", serve: a.asked(a.rotateKey, a.holdBytes, a.readBody, a.takeSlot)},
		{method: http.MethodPost, pattern: key + "/revoke", serve: a.asked(a.revokeKey, a.takeSlot)},
		{method: http.MethodGet, pattern: adminapi.LimitsPath, serve: a.asked(a.tenantLimits, a.takeSlot)},
		{method: http.MethodGet, pattern: adminapi.OverviewPath, serve: a.asked(a.overview, a.takeSlot)},
		{method: http.MethodGet, pattern: adminapi.AuditPath, serve: a.asked(a.auditLog, a.takeSlot)},
	})
}

// adminHandler serves one request within the time that its context has, and returns what the reply tells; nil where it has replied.
type adminHandler func(ex *exchange) (reply any, err error)

// asked lets requests with the token through, and what else there is before the handler.
func (a *admin) asked(answer adminHandler, through ...middleware) handler {
	serve := func(ex *exchange) error {
		request := ex.request
		ctx, cancel := context.WithTimeout(request.Context(), adminTimeout)
		defer cancel()
		ex.request = request.WithContext(ctx)
		defer func() { ex.request = request }()      // what follows has no such time
		ex.header().Set("Cache-Control", "no-store") // it may hold a key
		reply, err := answer(ex)
		if err != nil || reply == nil {
			return err
		}
		body, err := json.Marshal(reply)
		if err != nil {
			return fault.InternalError(err)
		}
		ex.reply(http.StatusOK, body)
		return nil
	}
	for _, wrap := range slices.Backward(through) {
		serve = wrap(serve)
	}
	return func(ex *exchange) error {
		if err := a.Token.Authenticate(ex.request.Header.Get("Authorization")); err != nil {
			return err
		}
		return serve(ex)
	}
}

// pageSize is how many entries a page is to have.
func pageSize(limit string) (int, error) {
	if limit == "" {
		return adminapi.DefaultPage, nil
	}
	return parseLimit(limit, adminapi.MaxPage)
}

// pageOf renders at most so many of a list.
func pageOf[Row, Entry any](size int, ask func(most int) ([]Row, error), render func(Row) Entry) (adminapi.Page[Entry], error) {
	rows, more, err := store.PageOf(size, ask)
	if err != nil {
		return adminapi.Page[Entry]{}, fault.InternalError(err)
	}
	page := adminapi.Page[Entry]{Object: "list", Data: []Entry{}, HasMore: more}
	for _, row := range rows {
		page.Data = append(page.Data, render(row))
	}
	return page, nil
}

// tenant returns the tenant of a name.
func (a *admin) tenant(name string) (identity.Tenant, error) {
	if name == "" {
		return identity.Tenant{}, fault.InField(fault.MissingField, "tenant", "tenant is required: the name of one.")
	}
	tenant, known := a.Tenant(name)
	if !known {
		return identity.Tenant{}, fault.InField(fault.InvalidValue, "tenant", "There is no tenant %.64q here.", name)
	}
	return tenant, nil
}
