package identity

import (
	"fmt"
	"strings"
	"testing"

	"triptych.dev/gateway/internal/fault"
	"triptych.dev/gateway/internal/quota"
	"triptych.dev/gateway/internal/store"
)

func same(name string) string { return name }

func TestScopesAreWrittenInOneWay(t *testing.T) {
	got, err := ParseScopes([]string{"model:b", "class:batch", "endpoint:/v1/models", "model:a", "endpoint:/v1/embeddings", "model:b"})
	const want = "endpoint:/v1/embeddings endpoint:/v1/models model:a model:b class:batch"
	if err != nil || got.String() != want || got.Class != quota.Batch {
		t.Errorf("got %q, %v", got, err)
	}
	if again, err := splitScopes(want); err != nil || again.String() != want {
		t.Errorf("read again: %q, %v", again, err)
	}
	if none, err := splitScopes(""); err != nil || none.String() != "" || !none.MayAsk("/v1/any") || !none.MayUse("any", same) || none.Class != quota.Interactive {
		t.Errorf("of nothing: %+v, %v", none, err)
	}
}

func TestEachKindRestrictsByItself(t *testing.T) {
	for scope, want := range map[string][2]bool{
		"endpoint:/v1/embeddings": {true, true}, "endpoint:/v1/models": {false, true}, "endpoint:/v1/embeddingsx": {false, true},
		"model:m": {true, true}, "model:alias": {true, true}, "model:another": {true, false}, "model:M": {true, false}, "class:batch": {true, true},
	} {
		scopes, err := ParseScopes([]string{scope})
		resolve := func(name string) string {
			return map[string]string{"alias": "m"}[name] + map[bool]string{true: name}[name != "alias"]
		}
		if got := [2]bool{scopes.MayAsk("/v1/embeddings"), scopes.MayUse("m", resolve)}; err != nil || got != want {
			t.Errorf("%s: got %v, %v", scope, got, err)
		}
	}
}

func TestMisspeltScopesAreRefusedTogether(t *testing.T) {
	bad := []string{"", "model", "model:", "models:a", "endpoint:v1/embeddings", "class:interactive", "class:Batch", "model:a b", "model:\"", "model:ä", "model:a\n",
		"model:" + strings.Repeat("a", maxScopeBytes)}
	_, err := ParseScopes(bad)
	if err == nil || len(strings.Split(err.Error(), "\n")) != len(bad) {
		t.Errorf("got %v", err)
	}
	if _, err := ParseScopes(make([]string, MaxScopes+1)); err == nil || !strings.Contains(err.Error(), "at most 64") {
		t.Errorf("got %v", err)
	}
}

func TestARefusalNamesWhatIsLackingAndWhatThereIs(t *testing.T) {
	scopes := Scopes{Models: []string{"a"}}
	refusal := fault.Of(scopes.LacksModel("b"))
	if refusal.Reason != fault.InsufficientScope || refusal.Param != "model" || !strings.Contains(refusal.Message, `"model:b"; it has "model:a".`) {
		t.Errorf("got %+v", refusal)
	}
	for i := range MaxScopes {
		scopes.Models = append(scopes.Models, fmt.Sprint(i))
	}
	if refusal := fault.Of(scopes.LacksEndpoint("/v1/x")); !strings.Contains(refusal.Message, "and 49 more") || refusal.Param != "" {
		t.Errorf("got %+v", refusal)
	}
}

func TestAKeyKeepsItsScopes(t *testing.T) {
	f, _ := openFixture(t)
	key, err := f.keys.Create(t.Context(), "acme", 0, "model:m", "endpoint:/v1/models", "class:batch")
	if err != nil {
		t.Fatal(err)
	}
	id, _ := keyID(key)
	rotated, err := f.keys.Rotate(t.Context(), id, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.refresh()
	principal, err := f.directory.Authenticate("Bearer " + rotated.Reveal())
	const want = "endpoint:/v1/models model:m class:batch"
	if err != nil || principal.Scopes.String() != want || f.record(rotated).Scopes != want {
		t.Errorf("got %+v, %v", principal, err)
	}
	if lines := f.lines(key, rotated); !strings.Contains(lines[len(lines)-1], `scopes="`+want+`"`) {
		t.Errorf("the audit log is %q", lines)
	}
	if _, err := f.keys.Create(t.Context(), "acme", 0, "models:m"); err == nil {
		t.Error("a misspelt scope made a key")
	}
	id, _ = keyID(rotated)
	if _, err := f.keys.Rotate(t.Context(), id, 0, "models:m"); err == nil || f.record(rotated).ReplacedBy != "" {
		t.Errorf("a misspelt scope rotated a key: %v", err)
	}
	for _, given := range [][]string{{"model:n"}, {}} {
		next, err := f.keys.Rotate(t.Context(), id, 0, given...)
		if err != nil || f.record(next).Scopes != strings.Join(given, " ") {
			t.Fatalf("of %q: got %+v, %v", given, f.record(next), err)
		}
		id, _ = keyID(next)
	}
}

// A newer gateway on the same database may write what this one does not know.
func TestAKeyWhoseScopesMeanNothingIsRefused(t *testing.T) {
	f, good := openFixture(t)
	key, record := newKey("acme", now, 0, "model:m colour:blue")
	if err := f.store.CreateKey(t.Context(), record, store.AuditEntry{}, nil); err != nil {
		t.Fatal(err)
	}
	f.refresh()
	if got := f.outcome("Bearer " + key.Reveal()); got != "INVALID_API_KEY" {
		t.Errorf("got %s", got)
	}
	if got := f.outcome("Bearer " + good.Reveal()); got != "acme" {
		t.Errorf("another key: got %s", got)
	}
	if log := f.log.String(); !strings.Contains(log, "colour:blue") || !strings.Contains(log, record.ID) {
		t.Errorf("the log is %s", log)
	}
}

func FuzzScopes(f *testing.F) {
	f.Add("endpoint:/v1/embeddings model:a class:batch")
	f.Add("model:a:b endpoint:/ class:")
	f.Fuzz(func(t *testing.T, stored string) {
		scopes, err := splitScopes(stored)
		if err != nil {
			return
		}
		written := scopes.String()
		if again, err := splitScopes(written); err != nil || again.String() != written {
			t.Errorf("%q was written as %q, which is read as %q, %v", stored, written, again, err)
		}
		if (written == "") != (strings.TrimSpace(stored) == "") {
			t.Errorf("%q is %q", stored, written)
		}
	})
}
