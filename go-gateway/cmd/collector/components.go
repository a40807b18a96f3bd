package main

import (
	"runtime/debug"

	"github.com/open-telemetry/opentelemetry-collector-contrib/exporter/fileexporter"
	"github.com/open-telemetry/opentelemetry-collector-contrib/processor/tailsamplingprocessor"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/connector"
	"go.opentelemetry.io/collector/connector/forwardconnector"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/otlpexporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/batchprocessor"
	"go.opentelemetry.io/collector/processor/memorylimiterprocessor"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"

	"triptych.dev/gateway/cmd/collector/internal/redact"
	"triptych.dev/gateway/cmd/collector/internal/usage"
)

// factories are all that a configuration can name. To add a component is to import its factory and to name it here.
//
// Contrib's exporter for Prometheus is not among them: it brings the clients of three clouds along, a fifth of all packages.
// What there is to scrape are the collector's own metrics, those of our components included, and upstream's telemetry serves
// them itself.
func factories() (otelcol.Factories, error) {
	return otelcol.Factories{
		Receivers: byType[receiver.Factory](otlpreceiver.NewFactory()),
		Processors: byType[processor.Factory](
			memorylimiterprocessor.NewFactory(), redact.NewFactory(), tailsamplingprocessor.NewFactory(), batchprocessor.NewFactory(),
		),
		Connectors: byType[connector.Factory](usage.NewFactory(), forwardconnector.NewFactory()),
		Exporters:  byType[exporter.Factory](fileexporter.NewFactory(), otlpexporter.NewFactory()),
		Telemetry:  otelconftelemetry.NewFactory(),
	}, nil
}

func byType[Factory component.Factory](factories ...Factory) map[component.Type]Factory {
	found := map[component.Type]Factory{}
	for _, factory := range factories {
		found[factory.Type()] = factory
	}
	return found
}

func settings() otelcol.CollectorSettings {
	return otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "collector", Description: "Triptych's collector of traces", Version: version()},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			// Files, and `${env:NAME}` in them; nothing is fetched from anywhere.
			ProviderFactories: []confmap.ProviderFactory{fileprovider.NewFactory(), envprovider.NewFactory()},
		}},
	}
}

// version is that of the Collector which this one is made of.
func version() string {
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, module := range build.Deps {
			if module.Path == "go.opentelemetry.io/collector/otelcol" {
				return module.Version
			}
		}
	}
	return "unknown"
}
