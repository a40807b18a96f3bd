package server

import (
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"triptych.dev/gateway/internal/adminapi"
	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/files"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/strictjson"
)

// createKey serves POST /admin/v1/keys.
func (a *admin) createKey(ex *exchange) (any, error) {
	asked, err := readKeyAsked(ex.body)
	if err != nil {
		return nil, err
	}
	return nil, a.newKey(ex, func(keys *identity.Keys) error {
		tenant, err := a.tenant(asked.tenant)
		if err != nil {
			return err
		}
		_, err = keys.Create(ex.request.Context(), tenant.Name, asked.lifetime, asked.scopes...)
		return err
	})
}

// keyAsked is a key as it is asked for.
type keyAsked struct {
	tenant   string
	lifetime time.Duration // 0: for as long as there is nothing against it
	scopes   []string
}

func readKeyAsked(body []byte) (asked keyAsked, err error) {
	var tenant *string
	err = strictjson.Decode(body, strictjson.Fields{
		"tenant":           strictjson.String(&tenant),
		"lifetime_seconds": seconds(1, &asked.lifetime),
		"scopes":           scopesOf(&asked.scopes),
	}, nil)
	if err != nil {
		return keyAsked{}, err
	}
	if tenant == nil {
		return keyAsked{}, strictjson.Missing("tenant")
	}
	asked.tenant = *tenant
	return asked, nil
}

// rotateKey serves POST /admin/v1/keys/{id}/rotate.
func (a *admin) rotateKey(ex *exchange) (any, error) {
	asked, err := readRotation(ex.body)
	if err != nil {
		return nil, err
	}
	return nil, a.newKey(ex, func(keys *identity.Keys) error {
		_, err := keys.Rotate(ex.request.Context(), ex.request.PathValue("id"), asked.overlap, asked.scopes...)
		return err
	})
}

// rotation is what is asked of one.
type rotation struct {
	overlap time.Duration // for how long both keys are to be good
	scopes  []string      // of the new key; nil: those of the old one
}

// readRotation reads one. The body may be empty.
func readRotation(body []byte) (rotation, error) {
	asked := rotation{overlap: identity.DefaultOverlap}
	if len(body) == 0 {
		return asked, nil
	}
	err := strictjson.Decode(body, strictjson.Fields{
		"overlap_seconds": seconds(0, &asked.overlap),
		"scopes":          scopesOf(&asked.scopes),
	}, nil)
	return asked, err
}

// revokeKey serves POST /admin/v1/keys/{id}/revoke.
func (a *admin) revokeKey(ex *exchange) (any, error) {
	if err := a.actor(ex).Revoke(ex.request.Context(), ex.request.PathValue("id")); err != nil {
		return nil, keyFault(err)
	}
	return a.getKey(ex)
}

// getKey serves GET /admin/v1/keys/{id}.
func (a *admin) getKey(ex *exchange) (any, error) {
	id := ex.request.PathValue("id")
	if err := identity.CheckKeyID(id); err != nil {
		return nil, keyFault(err)
	}
	record, err := a.Store.FindKey(ex.request.Context(), id)
	if err != nil {
		return nil, keyFault(err)
	}
	return keyOf(record), nil
}

// listKeys serves GET /admin/v1/keys.
func (a *admin) listKeys(ex *exchange) (any, error) {
	asked, err := query(ex, "tenant", "prefix", "after", "limit")
	if err != nil {
		return nil, err
	}
	size, err := pageSize(asked["limit"])
	if err != nil {
		return nil, err
	}
	for name, check := range map[string]func(string) error{
		"tenant": identity.CheckTenantName, "prefix": identity.CheckKeyIDPart, "after": identity.CheckKeyIDPart,
	} {
		if err := check(asked[name]); err != nil && asked[name] != "" {
			return nil, fault.InField(fault.InvalidValue, name, "%s: %v.", name, err)
		}
	}
	return pageOf(size, func(most int) ([]store.Key, error) {
		return a.Store.KeysPage(ex.request.Context(), asked["tenant"], asked["prefix"], asked["after"], most)
	}, keyOf)
}

// actor makes and ends keys in the name of who asks.
func (a *admin) actor(ex *exchange) *identity.Keys { return a.Keys("admin, " + ex.request.RemoteAddr) }

// newSecret is a new key, with what is known of it.
type newSecret struct {
	key    identity.Secret
	record store.Key
}

// newKey answers with a key that add makes. Whoever repeats the request has the answer without the key, which is not kept.
func (a *admin) newKey(ex *exchange, add func(keys *identity.Keys) error) error {
	return createFromJSON(ex, http.StatusOK, renderedKey, func(answering store.Answering[newSecret]) (newSecret, error) {
		var made newSecret
		keys := a.actor(ex).Answered(func(key identity.Secret, record store.Key) (*store.Answer, error) {
			made = newSecret{key, record}
			return answering(made)
		})
		return made, keyFault(add(keys))
	})
}

func renderedKey(made newSecret) (created, error) {
	shown := keyOf(made.record)
	kept, err := json.Marshal(shown)
	shown.Key = made.key.Reveal()
	once, errOnce := json.Marshal(shown)
	return created{id: shown.ID, body: kept, once: once}, errors.Join(err, errOnce)
}

// keyFault says why there is no such key, or why what was asked cannot be done to it.
func keyFault(err error) error {
	if failure, ok := errors.AsType[*fault.Fault](err); ok {
		return failure
	}
	if said, ok := errors.AsType[identity.RefusedError](err); ok {
		return fault.InField(fault.InvalidValue, "id", "%s.", capitalised(said.Error()))
	}
	return files.Explain(err, fault.InField(fault.InvalidValue, "id", "There is no key with this id; GET %s lists them.", adminapi.KeysPath))
}

func capitalised(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + strings.TrimSuffix(text[size:], ".")
}

// seconds reads a time of so many seconds at least, and at most what a key may live.
func seconds(least int64, destination *time.Duration) strictjson.Field {
	return strictjson.Whole(least, int64(identity.MaxLifetime/time.Second), func(value int64) {
		*destination = time.Duration(value) * time.Second
	})
}

// scopesOf reads a list of scopes, which is not nil if it is empty.
func scopesOf(destination *[]string) strictjson.Field {
	return func(decoder *strictjson.Decoder, name string) error {
		*destination = []string{}
		err := strictjson.List(decoder, name, "a list of scopes", identity.MaxScopes, func(i int) error {
			scope, err := strictjson.ReadString(decoder, name, "a string", i)
			*destination = append(*destination, scope)
			return err
		})
		if err != nil {
			return err
		}
		if err := CheckScopes(*destination); err != nil {
			return fault.InField(fault.InvalidValue, name, "%s: %v.", name, err)
		}
		return nil
	}
}

func keyOf(record store.Key) adminapi.Key {
	return adminapi.Key{
		Object: "api_key", ID: record.ID, Tenant: record.Tenant, Created: record.Created.Unix(), Scopes: strings.Fields(record.Scopes),
		Expires: unixOf(record.Expires), Revoked: unixOf(record.Revoked), ReplacedBy: record.ReplacedBy,
	}
}

func unixOf(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	return new(t.Unix())
}
