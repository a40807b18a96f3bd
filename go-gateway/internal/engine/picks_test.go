package engine

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"triptych.dev/gateway/internal/testkit"
)

var update = flag.Bool("update", false, "write the cases of the rule by which a replica is picked, which the simulation is held to as well")

const picksPath = "tests/cases/routing/picks.json"

// pickCase is one entry of picks.json; the README of tests/cases says what its fields mean.
type pickCase struct {
	Name     string        `json:"name"`
	Replicas []pickReplica `json:"replicas"`
	Home     uint64        `json:"home,string"`
	Random   []int         `json:"random"`
	Want     []int         `json:"want"`
}

type pickReplica struct {
	Address string             `json:"address"`
	Rank    string             `json:"rank"`
	Ejected bool               `json:"ejected"`
	Full    bool               `json:"full"`
	Work    []map[string]int64 `json:"work"`
}

var rankNames = []string{"works", "serves", "may_serve", "does_not_serve", "is_lost", "lacks", "is_unreachable"}

func TestPicksAreThoseOfTheCases(t *testing.T) {
	if *update {
		writePicks(t)
	}
	var table struct{ Cases []pickCase }
	if err := json.Unmarshal(testkit.RepoFiles(t, picksPath)[0], &table); err != nil {
		t.Fatal(err)
	}
	if len(table.Cases) < 100 {
		t.Errorf("%d cases", len(table.Cases))
	}
	for _, c := range table.Cases {
		if got := pick(c); !slices.Equal(got, c.Want) {
			t.Errorf("%s: %v, want %v (go test ./internal/engine -run Picks -update writes what is picked now)", c.Name, got, c.Want)
		}
	}
}

// pick is what the rule says in a case.
func pick(c pickCase) (places []int) {
	e := &Engine{options: Options{Random: script(c.Random...)}}
	list := make([]candidate, len(c.Replicas))
	all := make([]*replica, len(c.Replicas))
	for i, of := range c.Replicas {
		r := &replica{address: of.Address}
		for _, change := range of.Work {
			for what, tokens := range change {
				switch what {
				case "begin":
					r.work.begin(tokens)
				case "end":
					r.work.end(tokens)
				case "tell":
					r.work.tell(tokens)
				case "forget":
					r.work.forget()
				}
			}
		}
		all[i], list[i] = r, candidate{r, tier{slices.Index(rankNames, of.Rank), of.Ejected, of.Full}}
	}
	for _, r := range e.order(list, c.Home) {
		places = append(places, slices.Index(all, r))
	}
	return places
}

// writePicks makes cases of all kinds, and takes note of what is picked.
func writePicks(t *testing.T) {
	t.Helper()
	const count = 240
	random := rand.New(rand.NewPCG(1, 2))
	var lines [][]byte
	for i := range count {
		c := pickCase{Name: fmt.Sprintf("case %d", i), Random: []int{}, Want: []int{}}
		if i%2 == 1 { // a call with a home
			c.Home = random.Uint64()
		}
		calm := i%4 < 2 // all are equally suitable
		least := 1 + random.Int64N(10_000)
		for j := range 1 + random.IntN(7) {
			r := pickReplica{Address: fmt.Sprintf("10.0.%d.%d:50051", random.IntN(3), j), Rank: rankNames[0], Work: []map[string]int64{}}
			if !calm {
				r.Rank = rankNames[min(random.IntN(2)*random.IntN(len(rankNames)), len(rankNames)-1)]
				r.Ejected, r.Full = random.IntN(4) == 0, random.IntN(4) == 0
			}
			outstanding := int64(0)
			for range random.IntN(5) {
				what := []string{"begin", "begin", "tell", "end", "forget"}[random.IntN(5)]
				tokens := random.Int64N([]int64{20, 3000, 30_000}[i%3])
				switch what {
				case "begin":
					outstanding += tokens
				case "end": // what has begun
					tokens = min(tokens, outstanding)
					outstanding -= tokens
				}
				r.Work = append(r.Work, map[string]int64{what: tokens})
			}
			if i%8 == 1 { // at the bound beyond which a home is overloaded
				bound := homeLoadFactor*least + homeLoadTokens
				begun := []int64{least, bound - 1, bound, bound + 1, bound + random.Int64N(least)}[random.IntN(5)]
				r.Work = []map[string]int64{{"begin": begun}}
			}
			c.Replicas = append(c.Replicas, r)
		}
		for range 8 {
			c.Random = append(c.Random, random.IntN(1000))
		}
		c.Want = append(c.Want, pick(c)...)
		line, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	content := fmt.Appendf(nil, "{\"cases\": [\n%s\n]}\n", bytes.Join(lines, []byte(",\n")))
	path := filepath.Join("../../..", picksPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
