package testkit

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Random is randomness of a seed that is logged; TEST_SEED repeats it.
func Random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if wanted := os.Getenv("TEST_SEED"); wanted != "" {
		var err error
		if seed, err = strconv.ParseUint(wanted, 10, 64); err != nil {
			t.Fatalf("TEST_SEED: %v", err)
		}
	}
	t.Logf("TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Kills is how many processes a test kills: a few, or as many as TEST_KILLS says, for a long form.
func Kills(t testing.TB, few int) int {
	t.Helper()
	wanted := os.Getenv("TEST_KILLS")
	if wanted == "" {
		return few
	}
	kills, err := strconv.Atoi(wanted)
	if err != nil {
		t.Fatalf("TEST_KILLS: %v", err)
	}
	return kills
}
