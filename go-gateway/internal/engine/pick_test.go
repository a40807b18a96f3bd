package engine

import (
	"context"
	"slices"
	"testing"
	"time"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
	"triptych.dev/gateway/internal/testkit"
)

// script answers with the numbers of a test, in turn, and then with 0.
func script(numbers ...int) func(int) int {
	return func(n int) int {
		if len(numbers) == 0 {
			return 0
		}
		next := numbers[0]
		numbers = numbers[1:]
		return next % n
	}
}

// fleet is an engine with so many fakes that all have proved their model.
func fleet(t *testing.T, now func() time.Time, n int) (*Engine, []*testkit.Hotpath) {
	t.Helper()
	var hotpaths []*testkit.Hotpath
	var addresses []string
	for range n {
		hotpath := testkit.StartHotpath(t, "127.0.0.1:0")
		hotpaths, addresses = append(hotpaths, hotpath), append(addresses, hotpath.Address)
	}
	e := newEngine(t, patience, now, addresses...)
	eventually(t, "all connections", func() bool {
		return !slices.ContainsFunc(e.pool.replicas(), func(r *replica) bool { return !r.connected() })
	})
	e.check(t.Context())
	return e, hotpaths
}

// order is the candidates' places among all replicas.
func order(e *Engine) (places []int) {
	for _, r := range e.candidates(task{model: testkit.ModelName}) {
		places = append(places, slices.Index(e.pool.replicas(), r))
	}
	return places
}

func TestTheLessLoadedOfTwoTakenAtRandom(t *testing.T) {
	e, _ := fleet(t, time.Now, 4)
	for i, tokens := range []int64{10, 30, 20, 40} {
		e.pool.replicas()[i].work.begin(tokens)
	}
	for _, c := range []struct {
		random []int
		want   []int
	}{
		{[]int{3, 1}, []int{1, 0, 2}}, // 3 and 1; then 0 and 2; then 2 and 3
		{[]int{1, 2}, []int{1, 0, 2}}, // 1 and 3, for the second number leaves the first out
		{[]int{3, 2, 2, 1}, []int{2, 1, 0}},
		{[]int{0, 0}, []int{0, 2, 1}}, // 0 and 1
	} {
		e.options.Random = script(c.random...)
		if got := order(e); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.random, got, c.want)
		}
	}
}

// TestAnIdleReplicaIsNotFlooded: several gateways see the same numbers. If each took the very least loaded replica, it
// would get all that they send until its next word.
func TestAnIdleReplicaIsNotFlooded(t *testing.T) {
	e, _ := fleet(t, time.Now, 4)
	for _, r := range e.pool.replicas()[1:] {
		r.work.begin(1000)
	}
	first := map[int]int{}
	for range 1000 {
		first[order(e)[0]]++
	}
	if first[0] < 350 || first[0] > 650 { // half of all pairs have it
		t.Errorf("the idle one came first %d times of 1000", first[0])
	}
}

func TestAtMostThreeReplicasAreTried(t *testing.T) {
	e, hotpaths := fleet(t, time.Now, 5)
	unfit := testkit.RefusalWith(14, "MODEL_NOT_READY", "model", "inference fails", 0)
	for _, hotpath := range hotpaths {
		hotpath.SetEmbed(failing(unfit))
	}
	if _, err := e.Embed(t.Context(), request()); reasonOf(err) != "MODEL_NOT_READY" {
		t.Errorf("got %v", err)
	}
	if calls := callsTo(hotpaths...); calls != maxAttempts {
		t.Errorf("%d calls for one request", calls)
	}
}

func TestTheRankOfAReplica(t *testing.T) {
	tiers := []tier{
		{works, false, false}, {serves, false, false}, {mayServe, false, false}, {works, false, true}, {serves, false, true},
		{works, true, false}, {mayServe, true, false}, {serves, true, true},
		{doesNotServe, false, true}, {isLost, true, false}, {lacks, false, false}, {isUnreachable, false, true},
	}
	shuffled := slices.Clone(tiers)
	slices.Reverse(shuffled)
	slices.SortFunc(shuffled, compareTiers)
	if !slices.Equal(shuffled, tiers) {
		t.Errorf("got %v", shuffled)
	}
}

func callsTo(hotpaths ...*testkit.Hotpath) (calls int) {
	for _, hotpath := range hotpaths {
		calls += len(hotpath.Calls())
	}
	return calls
}

// failing answers Embed with an error, canaries aside.
func failing(err error) testkit.EmbedFunc {
	return answering(func() error { return err })
}

// answering asks how to answer Embed, canaries aside; nil is the usual answer.
func answering(how func() error) testkit.EmbedFunc {
	return func(ctx context.Context, request *inferencev1.EmbedRequest) (*inferencev1.EmbedResponse, error) {
		if !testkit.IsCanary(request) {
			if err := how(); err != nil {
				return nil, err
			}
		}
		return testkit.Embed(ctx, request)
	}
}
