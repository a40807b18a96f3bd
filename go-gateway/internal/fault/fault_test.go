package fault

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	inferencev1 "triptych.dev/gateway/internal/pb/triptych/inference/v1"
)

func TestOf(t *testing.T) {
	refused := InField(EmptyInput, "input[1]", "input[%d] is empty", 1)
	if got := Of(fmt.Errorf("while serving: %w", refused)); got != refused {
		t.Errorf("a wrapped fault became %v", got)
	}
	cause := errors.New("disk on fire")
	got := Of(cause)
	if got.Reason != Internal || strings.Contains(got.Message, "fire") || !errors.Is(got, cause) || !strings.Contains(got.Error(), "fire") {
		t.Errorf("a stranger became %+v", got)
	}
}

func TestNamesAndReasonsAreOneToOne(t *testing.T) {
	for number := range inferencev1.ErrorReason_name {
		reason := Reason(number)
		got, ok := ReasonNamed(Name(reason))
		if ok != (number != 0) || (ok && got != reason) {
			t.Errorf("%v: got %v, %v", reason, got, ok)
		}
	}
	for _, name := range []string{"", "UNSPECIFIED", "ERROR_REASON_INTERNAL", "NO_SUCH"} {
		if got, ok := ReasonNamed(name); ok {
			t.Errorf("%q is %v", name, got)
		}
	}
}
