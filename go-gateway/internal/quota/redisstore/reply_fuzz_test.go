package redisstore

import (
	"encoding/binary"
	"testing"

	"triptych.dev/gateway/internal/quota"
)

// FuzzScriptReplies holds that a reply of another shape, or one that makes no sense, is an error, and none of them ends the
// gateway.
func FuzzScriptReplies(f *testing.F) {
	request := quota.Request{Tenant: "acme", Key: "key", Counted: true, Runs: true, MinTokens: 1, MaxTokens: 10, Limits: [quota.Scopes]quota.Limits{
		quota.Tenant: {RequestsPerMinute: 60, TokensPerMinute: 100, TokensPerDay: 1000, ConcurrentRequests: 2},
		quota.Key:    {RequestsPerMinute: 60},
	}}
	const whole = 3 + 2*numbersOfSubject
	f.Add(make([]byte, 8*whole))
	f.Add(append([]byte{1}, make([]byte, 8*whole-1)...))
	f.Add([]byte{})
	f.Add(make([]byte, 8*(whole+1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var numbers []int64
		for ; len(data) >= 8; data = data[8:] {
			numbers = append(numbers, int64(binary.LittleEndian.Uint64(data)))
		}
		decision, err := decisionOf(&request, numbers)
		if err != nil {
			return
		}
		if len(numbers) != whole {
			t.Fatalf("%d numbers were taken", len(numbers))
		}
		if allowed := numbers[0] == 1; allowed == (decision.Refusal != nil) {
			t.Fatalf("%v became %+v", numbers, decision)
		}
	})
}
