package telemetry

import (
	"cmp"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// Set by the linker where the build has no version control to ask, as in an image.
var version, revision string

// Build says what is running; "unknown" where nobody said.
func Build() (ofVersion, ofRevision string) {
	ofVersion, ofRevision = version, revision
	if info, ok := debug.ReadBuildInfo(); ok {
		ofVersion = cmp.Or(ofVersion, info.Main.Version)
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				ofRevision = cmp.Or(ofRevision, setting.Value)
			}
		}
	}
	return cmp.Or(ofVersion, "unknown"), cmp.Or(ofRevision, "unknown")
}

// buildInfo is always 1; its labels say what is running.
func buildInfo() prometheus.Collector {
	version, revision := Build()
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gateway_build_info", Help: "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "go_version": runtime.Version()},
	})
	gauge.Set(1)
	return gauge
}
