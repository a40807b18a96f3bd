package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// owned makes one of each thing that belongs to a tenant, by the path of its list, and returns its id. A route with the id of
// something else has no place here: the test below fails until it has.
var owned = map[string]func(g *gateway, tenant string) (id string){
	filesRoute: func(g *gateway, tenant string) string {
		return g.uploaded(tenant, field{"purpose", "", "user_data"}, field{"file", "a", "of " + tenant}).ID
	},
	batchesRoute: func(g *gateway, tenant string) string { return g.batch(tenant).ID },
	"/v1/jobs": func(g *gateway, tenant string) string {
		return g.created(tenant, "/v1/jobs", `{"endpoint":"/v1/embeddings","body":`+oneText+`}`)
	},
	reviewsRoute: func(g *gateway, tenant string) string { return g.reviewed(tenant).Verdicts[0].ReviewID },
	"/v1/webhook_endpoints": func(g *gateway, tenant string) string {
		return g.created(tenant, "/v1/webhook_endpoints", `{"name":"n","url":"https://receiver.example/hook","event_types":["batch.completed"]}`)
	},
}

// everybodys are things with ids that belong to no tenant.
var everybodys = map[string]bool{"/v1/models": true}

// parameters that are read before the id is looked for.
var parameters = map[string]string{
	http.MethodPost + " /v1/webhook_endpoints/{id}":      `{"name":"mine"}`,
	http.MethodPost + " /v1/moderation_reviews/{id}":     `{"decision":"passed"}`,
	http.MethodPost + " /v1/webhook_endpoints/{id}/test": `{"event_type":"batch.failed"}`,
}

// created makes something by a request whose reply has its id.
func (g *gateway) created(tenant, path, body string) string {
	g.Helper()
	got := g.postAs(tenant, path, body)
	var reply struct{ ID string }
	if err := json.Unmarshal(got.body, &reply); err != nil || reply.ID == "" || got.status/100 != 2 {
		g.Fatalf("%s: %d %s", path, got.status, got.body)
	}
	return reply.ID
}

var wildcard = regexp.MustCompile(`\{[a-z_]+\}`)

// TestNoRouteLetsATenantAtAnothersThings: each answers 404 to the ids of somebody else, as to those that there are not, and
// changes nothing.
func TestNoRouteLetsATenantAtAnothersThings(t *testing.T) {
	g := startGateway(t)
	things := map[string]string{} // acme's, by the paths of their lists
	for _, route := range g.routes() {
		if list := route.endpoint(); list != route.pattern && !everybodys[list] {
			create, known := owned[list]
			if !known {
				t.Errorf("%s %s: this test does not know how to make what its id is of", route.method, route.pattern)
			} else if things[list] == "" {
				things[list] = create(g, "acme")
			}
		}
	}
	seen := func(list, id string) string { // by their owner
		return fmt.Sprintf("%s\n%s", g.get(list+"/"+id).body, g.get(list).body)
	}
	before := map[string]string{}
	for list, id := range things {
		before[list] = seen(list, id)
	}
	for _, route := range g.routes() {
		list := route.endpoint()
		id := things[list]
		if list == route.pattern || id == "" {
			continue
		}
		none := id[:len(id)-1] + map[bool]string{true: "1", false: "0"}[strings.HasSuffix(id, "0")]
		answer := func(id string) reply {
			t.Helper()
			path := wildcard.ReplaceAllString(route.pattern, id)
			got := g.do(route.method, path, parameters[route.method+" "+route.pattern], "Authorization", "Bearer "+g.keys["other"])
			if got.status != http.StatusNotFound {
				t.Errorf("%s %s: %d %s", route.method, path, got.status, got.body)
			}
			return got
		}
		others, nobodys := answer(id), answer(none)
		if strings.ReplaceAll(string(others.body), id, "") != strings.ReplaceAll(string(nobodys.body), none, "") {
			t.Errorf("%s %s tells that it is there: %s, of none: %s", route.method, route.pattern, others.body, nobodys.body)
		}
	}
	for list, id := range things {
		if after := seen(list, id); after != before[list] {
			t.Errorf("%s was changed:\n%s\nbefore:\n%s", list, after, before[list])
		}
		if others := g.ask("other", http.MethodGet, list); others.status != http.StatusOK || strings.Contains(string(others.body), id) {
			t.Errorf("%s of another tenant: %d %s", list, others.status, others.body)
		}
	}
}
