package tenants

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"triptych.dev/gateway/internal/adminapi"
)

// errCut stands for an answer that does not come.
var errCut = errors.New("the connection was cut")

// faults cuts one call of those that are made, before it has an effect or after.
type faults struct {
	calls  int
	cut    int // the number of the call; 0: none
	effect bool
}

// call makes one.
func (f *faults) call(do func() error) error {
	f.calls++
	if f.calls != f.cut {
		return do()
	}
	if f.effect {
		if err := do(); err != nil {
			return err
		}
	}
	return errCut
}

// gatewayFake keeps keys as gateways do, of one tenant.
type gatewayFake struct {
	*faults
	now     func() time.Time
	keys    []adminapi.Key
	answers map[string]adminapi.Key
	refuse  error // all is refused so
	made    int
}

func (g *gatewayFake) make(once, tenant string, scopes []string, replace func() error) (key adminapi.Key, err error) {
	err = g.call(func() error {
		if g.refuse != nil {
			return g.refuse
		}
		if before, is := g.answers[once]; is {
			key = before
			return nil
		}
		if err := replace(); err != nil {
			return err
		}
		g.made++
		key = adminapi.Key{ID: fmt.Sprintf("key%05d", g.made), Tenant: tenant, Created: g.now().Unix(), Scopes: scopes}
		g.keys = append(g.keys, key)
		g.answers[once] = key
		key.Key = "trip_" + key.ID + "_" + strings.Repeat("s", 43)
		return nil
	})
	if err != nil {
		key = adminapi.Key{}
	}
	return key, err
}

func (g *gatewayFake) CreateKey(_ context.Context, once, tenant string, scopes []string) (adminapi.Key, error) {
	return g.make("create "+once, tenant, scopes, func() error { return nil })
}

func (g *gatewayFake) RotateKey(_ context.Context, once, id string, overlap time.Duration, scopes []string) (adminapi.Key, error) {
	return g.make("rotate "+once, "acme", scopes, func() error {
		old, err := g.find(id)
		if err == nil && (ended(*old, g.now()) || old.ReplacedBy != "") {
			err = adminapi.RefusedError{Status: http.StatusBadRequest, Code: "invalid_value", Param: "id", Message: "It has ended."}
		}
		if err != nil {
			return err
		}
		old.ReplacedBy, old.Expires = fmt.Sprintf("key%05d", g.made+1), new(g.now().Add(overlap).Unix())
		return nil
	})
}

func (g *gatewayFake) RevokeKey(_ context.Context, id string) (key adminapi.Key, err error) {
	err = g.call(func() error {
		found, err := g.find(id)
		if err == nil {
			found.Revoked = new(g.now().Unix())
		}
		return err
	})
	return key, err
}

func (g *gatewayFake) FindKey(_ context.Context, id string) (key adminapi.Key, err error) {
	err = g.call(func() error {
		found, err := g.find(id)
		if err == nil {
			key = *found
		}
		return err
	})
	return key, err
}

func (g *gatewayFake) find(id string) (*adminapi.Key, error) {
	if g.refuse != nil {
		return nil, g.refuse
	}
	i := slices.IndexFunc(g.keys, func(key adminapi.Key) bool { return key.ID == id })
	if i < 0 {
		return nil, adminapi.RefusedError{Status: http.StatusBadRequest, Code: "invalid_value", Param: "id", Message: "There is no key with this id."}
	}
	return &g.keys[i], nil
}

// works lists the ids of the keys that work.
func (g *gatewayFake) works() (ids []string) {
	for _, key := range g.keys {
		if !ended(key, g.now()) {
			ids = append(ids, key.ID)
		}
	}
	slices.Sort(ids)
	return ids
}
