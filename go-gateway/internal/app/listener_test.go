package app

import (
	"math"
	"testing"

	"triptych.dev/gateway/internal/config"
)

func TestConnectionLimits(t *testing.T) {
	for _, c := range []struct{ setting, files, api, operators int }{
		{8192, 20000, 8192, 128},
		{8192, math.MaxInt, 8192, 128},
		{8192, 4096, 3584, 128},
		{8192, 256, 192, 16},
		{8192, 1, 1, 1},
		{10, 256, 10, 16},
	} {
		api, operators := connectionLimits(&config.Settings{MaxConnections: c.setting}, c.files)
		if api != c.api || operators != c.operators {
			t.Errorf("%+v: got %d and %d", c, api, operators)
		}
	}
	if openFiles() < 1 {
		t.Errorf("%d files may be open", openFiles())
	}
}
