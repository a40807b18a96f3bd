package identity

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/quota"
)

// A scope is written KIND:VALUE, in the letters of an OAuth scope-token (RFC 6749, section 3.3), so that a space separates
// two: "endpoint:/v1/embeddings", "model:all-minilm-l6-v2", "class:batch".
const (
	endpointKind = "endpoint"
	modelKind    = "model"
	classKind    = "class"
)

const (
	// MaxScopes of one key or token.
	MaxScopes = 64
	// maxScopeBytes is more than any endpoint or model of ours has.
	maxScopeBytes = 128
)

var scopeShape = regexp.MustCompile(fmt.Sprintf(`^(%s|%s|%s):[!#-\[\]-~]+$`, endpointKind, modelKind, classKind))

// Scopes are what a principal is restricted to, each kind by itself: one of which nothing is written is not restricted.
type Scopes struct {
	// Endpoints are the paths that may be asked.
	Endpoints []string
	// Models are the names, or aliases, of the models that may be used and seen.
	Models []string
	// Class is the highest priority class that calls may have.
	Class quota.Class
}

// ParseScopes reads scopes. Its error holds every fault.
func ParseScopes(written []string) (Scopes, error) {
	var scopes Scopes
	var faults []error
	if len(written) > MaxScopes {
		return Scopes{}, fmt.Errorf("there are %d scopes; at most %d are taken", len(written), MaxScopes)
	}
	for _, scope := range written {
		if err := scopes.add(scope); err != nil {
			faults = append(faults, err)
		}
	}
	for _, names := range []*[]string{&scopes.Endpoints, &scopes.Models} {
		slices.Sort(*names)
		*names = slices.Compact(*names)
	}
	return scopes, errors.Join(faults...)
}

func (s *Scopes) add(scope string) error {
	if len(scope) > maxScopeBytes {
		return fmt.Errorf("scope %.20q…: it has %d bytes; at most %d are taken", scope, len(scope), maxScopeBytes)
	}
	if !scopeShape.MatchString(scope) {
		return fmt.Errorf("scope %q: it must be as endpoint:/v1/embeddings, model:NAME or class:batch", scope)
	}
	kind, value, _ := strings.Cut(scope, ":")
	switch {
	case kind == modelKind:
		s.Models = append(s.Models, value)
	case kind == endpointKind && value[0] == '/':
		s.Endpoints = append(s.Endpoints, value)
	case kind == classKind && value == quota.Batch.String():
		s.Class = quota.Batch
	case kind == endpointKind:
		return fmt.Errorf("scope %q: an endpoint is a path, as in endpoint:/v1/embeddings", scope)
	default:
		return fmt.Errorf("scope %q: %s:%v is the only class that restricts", scope, classKind, quota.Batch)
	}
	return nil
}

// splitScopes reads scopes as they are stored.
func splitScopes(stored string) (Scopes, error) { return ParseScopes(strings.Fields(stored)) }

// List is each scope as it is written, in one order.
func (s Scopes) List() []string {
	var list []string
	for _, endpoint := range s.Endpoints {
		list = append(list, endpointKind+":"+endpoint)
	}
	for _, model := range s.Models {
		list = append(list, modelKind+":"+model)
	}
	if s.Class != quota.Interactive {
		list = append(list, classKind+":"+s.Class.String())
	}
	return list
}

// String is as scopes are stored: empty where nothing is restricted.
func (s Scopes) String() string { return strings.Join(s.List(), " ") }

// MayAsk reports whether requests to an endpoint are allowed.
func (s Scopes) MayAsk(endpoint string) bool {
	return len(s.Endpoints) == 0 || slices.Contains(s.Endpoints, endpoint)
}

// MayUse reports whether a model is allowed, by the name under which it is served. resolve makes that of an alias.
func (s Scopes) MayUse(model string, resolve func(string) string) bool {
	return len(s.Models) == 0 || slices.ContainsFunc(s.Models, func(name string) bool { return resolve(name) == model })
}

// LacksEndpoint says that an endpoint is not allowed.
func (s Scopes) LacksEndpoint(endpoint string) error { return s.lacks(endpointKind, endpoint, "") }

// LacksModel says that a model is not allowed, which says nothing of whether there is one of this name.
func (s Scopes) LacksModel(model string) error { return s.lacks(modelKind, model, "model") }

func (s Scopes) lacks(kind, value, param string) error {
	const most = 16
	has := s.List()
	return fault.InField(fault.InsufficientScope, param, "The key or token lacks the scope %q; it has %s.",
		kind+":"+value, fault.Listed(has[:min(len(has), most)], max(0, len(has)-most)))
}
