package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/plans"
	"triptych.dev/gateway/internal/reread"
	"triptych.dev/gateway/internal/store"
)

// What a tenants file says.
type (
	Plan        = plans.Plan
	Tenant      = plans.Tenant
	ClassLimits = plans.ClassLimits
	Retention   = plans.Retention
)

// Directory knows all keys, as the store has them, and all tenants, as their file has them. Both fail on their own: what
// is wrong with one keeps no change of the other from counting.
type Directory struct {
	keys    *reread.Source[map[string]knownKey] // by id
	tenants *reread.Source[plans.File]
	now     func() time.Time

	tokens *tokenReader // nil: none are taken
	guests guests
}

// knownKey is a key, and what its scopes mean.
type knownKey struct {
	store.Key
	scopes Scopes
}

// KeyReader is what a directory needs of a store.
type KeyReader interface {
	// Place names the store in the log.
	Place() string
	// KeysVersion is another number after each change of a key.
	KeysVersion(ctx context.Context) (int64, error)
	// Keys returns all keys, where the tenant is empty.
	Keys(ctx context.Context, tenant string) ([]store.Key, error)
}

// keysTimeout is after how long a store that does not answer counts as unavailable.
const keysTimeout = 5 * time.Second

// Open reads both. Its error holds every fault of both.
func Open(ctx context.Context, keys KeyReader, tenantsPath string, now func() time.Time, logger *slog.Logger) (*Directory, error) {
	d := &Directory{
		keys: reread.New(reread.Options[map[string]knownKey]{
			Name: "keys", Place: keys.Place(), Logger: logger,
			Stamp: func(ctx context.Context) any { return keysStamp(ctx, keys) },
			Read:  func(ctx context.Context) (map[string]knownKey, error) { return readKeys(ctx, keys, logger) },
		}),
		tenants: reread.NewFile("tenants", tenantsPath, plans.Read, logger),
		now:     now,
	}
	return d, errors.Join(d.keys.Open(ctx), d.tenants.Open(ctx))
}

// AcceptTokens takes tokens in place of keys, too. It is to be called before anything else is.
func (d *Directory) AcceptTokens(tokens Tokens) { d.tokens = newTokenReader(tokens, d.now) }

// keysStamp is nil when the store does not say: then it is read, and tells why.
func keysStamp(ctx context.Context, keys KeyReader) any {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	version, err := keys.KeysVersion(ctx)
	if err != nil {
		return nil
	}
	return version
}

// readKeys leaves out a key whose scopes mean nothing here, as those that a newer gateway wrote may: it must not be good
// for more than it was made for.
func readKeys(ctx context.Context, keys KeyReader, logger *slog.Logger) (map[string]knownKey, error) {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	records, err := keys.Keys(ctx, "")
	if err != nil {
		return nil, err
	}
	byID := make(map[string]knownKey, len(records))
	for _, record := range records {
		scopes, err := splitScopes(record.Scopes)
		if err != nil {
			logger.Error("a key is refused for its scopes", "key", record.ID, "error", err)
			continue
		}
		byID[record.ID] = knownKey{record, scopes}
	}
	return byID, nil
}

// HasKeys reports whether there is any key, be it one that has ended.
func (d *Directory) HasKeys() bool { return len(d.keys.Content()) > 0 }

// Tenant returns the tenant of a name.
func (d *Directory) Tenant(name string) (tenant Tenant, known bool) {
	tenant, known = d.tenants.Content().Tenants[name]
	return tenant, known
}

// Guest returns a tenant that is not in the tenants file, with the plan that the latest of its tokens named here.
func (d *Directory) Guest(name string) (tenant Tenant, known bool) {
	file := d.tenants.Content()
	if _, isTenant := file.Tenants[name]; isTenant {
		return Tenant{}, false
	}
	named, admitted := d.guests.plan(name)
	plan, isPlan := file.Plans[named]
	return Tenant{Name: name, Plan: plan}, admitted && isPlan
}

// SubjectID returns the public id of whoever has tokens of a subject; false where no tokens are taken.
func (d *Directory) SubjectID(subject string) (id string, taken bool) {
	if d.tokens == nil {
		return "", false
	}
	return subjectID(d.tokens.Issuer, subject), true
}

// PlanOf returns a tenant's plan as it is now: the one of the tenants file; for a tenant that is not there, the one of a name.
func (d *Directory) PlanOf(tenant, otherwise string) (plan Plan, known bool) {
	file := d.tenants.Content()
	if found, known := file.Tenants[tenant]; known {
		return found.Plan, true
	}
	plan, known = file.Plans[otherwise]
	return plan, known
}

// CheckTenants returns every fault of a tenants file.
func CheckTenants(tenantsPath string) error {
	_, err := plans.Read(tenantsPath)
	return err
}

// ReadTenants returns the names of a tenants file, in order.
func ReadTenants(tenantsPath string) ([]string, error) {
	file, err := plans.Read(tenantsPath)
	return slices.Sorted(maps.Keys(file.Tenants)), err
}

// ReadTenant returns one tenant of a tenants file.
func ReadTenant(tenantsPath, name string) (Tenant, error) {
	file, err := plans.Read(tenantsPath)
	if err != nil {
		return Tenant{}, err
	}
	found, ok := file.Tenants[name]
	if !ok {
		return Tenant{}, fmt.Errorf("%s has no tenant %q", tenantsPath, name)
	}
	return found, nil
}

// Authenticate returns who an Authorization header's value is of. Errors are *fault.Fault.
func (d *Directory) Authenticate(authorization string) (Principal, error) {
	scheme, credentials, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return Principal{}, fault.New(fault.MissingAPIKey,
			"An API key is required, as in \"Authorization: Bearer %s…\".", keyPrefix)
	}
	secret := Secret(strings.TrimSpace(credentials))
	principal, err := d.authenticateKey(secret)
	if err != nil && d.tokens != nil && !strings.HasPrefix(secret.Reveal(), keyPrefix) {
		principal, err = d.authenticateToken(secret)
	}
	if err != nil {
		// The same for all, so that whoever guesses learns nothing; the cause, which quotes nothing, is for the log.
		return Principal{}, &fault.Fault{Reason: fault.InvalidAPIKey, Cause: err,
			Message: "The API key or token is unknown, malformed, expired or revoked."}
	}
	return principal, nil
}

var errKey = errors.New("the key is unknown, malformed, expired or revoked")

func (d *Directory) authenticateKey(key Secret) (Principal, error) {
	id, _ := keyID(key)
	// The zero record, for an unknown id, matches nothing; ids are public, so it may take less time.
	record := d.keys.Content()[id]
	tenant, known := d.tenants.Content().Tenants[record.Tenant]
	if !matches(record.Key, key, d.now()) || !known {
		return Principal{}, errKey
	}
	return Principal{Tenant: tenant.Name, KeyID: id, Plan: tenant.Plan, Scopes: record.scopes}, nil
}

// authenticateToken gives a tenant of the tenants file the plan that it has there, whatever the token says, and another
// one the plan that the token names.
func (d *Directory) authenticateToken(token Secret) (Principal, error) {
	said, err := d.tokens.read(token)
	if err != nil {
		return Principal{}, err
	}
	file := d.tenants.Content()
	plan, isPlan := file.Plans[said.plan]
	if tenant, isTenant := file.Tenants[said.tenant]; isTenant {
		plan = tenant.Plan
	} else if !isPlan {
		return Principal{}, errTokenTenant
	} else if !d.guests.admit(said.tenant, said.plan) {
		return Principal{}, errTokenGuests
	}
	return Principal{Tenant: said.tenant, KeyID: said.keyID, Plan: plan, Scopes: said.scopes}, nil
}

// Watch takes changes until ctx ends. What is slow to answer does not hold up the others.
func (d *Directory) Watch(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { d.keys.Watch(ctx) })
	all.Go(func() { d.tenants.Watch(ctx) })
	if d.tokens != nil {
		all.Go(func() { d.tokens.Keys.Watch(ctx) })
	}
	all.Wait()
}

// Staleness says of each source, by name, for how long its changes could not be taken.
func (d *Directory) Staleness(now time.Time) map[string]time.Duration {
	staleness := map[string]time.Duration{d.keys.Name: d.keys.Staleness(now), d.tenants.Name: d.tenants.Staleness(now)}
	if d.tokens != nil {
		staleness["jwks"] = d.tokens.Keys.Staleness(now)
	}
	return staleness
}
