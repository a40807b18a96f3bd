package fault

import (
	"errors"
	"fmt"
	"strings"
	"testing"
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
