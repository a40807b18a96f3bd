// Package redact is a processor of the collector that takes what looks like a key out of spans, before anything else sees
// them. The spans of this stack have none: it is for what others send, and for a mistake of ours.
//
// It knows nothing of the stack but how its keys look.
package redact

import (
	"context"
	"fmt"
	"regexp"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processorhelper"
	"go.opentelemetry.io/otel/metric"
)

// Config is what a configuration says of it.
type Config struct {
	// Patterns are expressions (RE2) of what else is a secret.
	Patterns []string `mapstructure:"patterns"`
	// MaxValueBytes is what is left of a longer text.
	MaxValueBytes int `mapstructure:"max_value_bytes"`
}

// Validate refuses what cannot be.
func (c *Config) Validate() error {
	if c.MaxValueBytes < 64 {
		return fmt.Errorf("max_value_bytes: %d is less than 64", c.MaxValueBytes)
	}
	for _, pattern := range c.Patterns {
		if _, err := regexp.Compile(pattern); err != nil {
			return fmt.Errorf("patterns: %w", err)
		}
	}
	return nil
}

// maxDepth is how deep a value within a value is looked at. What is deeper is taken out whole.
const maxDepth = 8

// NewFactory returns the factory of `redact`.
func NewFactory() processor.Factory {
	return processor.NewFactory(component.MustNewType("redact"),
		func() component.Config { return &Config{MaxValueBytes: 4096} }, // ours have 1024 at most
		processor.WithTraces(newTraces, component.StabilityLevelStable),
	)
}

func newTraces(ctx context.Context, settings processor.Settings, config component.Config, next consumer.Traces) (processor.Traces, error) {
	of := config.(*Config)
	r := &redactor{cleaner: cleaner{shapes: shapes, maxBytes: of.MaxValueBytes}}
	for _, pattern := range of.Patterns {
		expression, err := regexp.Compile(pattern)
		if err != nil {
			return nil, err
		}
		r.cleaner.shapes = append(r.cleaner.shapes[:len(r.cleaner.shapes):len(r.cleaner.shapes)], shape{expression: expression})
	}
	var err error
	r.redacted, err = settings.MeterProvider.Meter("triptych.dev/collector/redact").Int64Counter("collector_redacted",
		metric.WithDescription("Texts that a key was taken out of."))
	if err != nil {
		return nil, err
	}
	return processorhelper.NewTraces(ctx, settings, config, next, r.traces,
		processorhelper.WithCapabilities(consumer.Capabilities{MutatesData: true}))
}

type redactor struct {
	cleaner  cleaner
	redacted metric.Int64Counter
}

// pass is one look at what has come at once.
type pass struct {
	*cleaner
	found int64
}

func (r *redactor) traces(ctx context.Context, traces ptrace.Traces) (ptrace.Traces, error) {
	p := &pass{cleaner: &r.cleaner}
	for _, resource := range traces.ResourceSpans().All() {
		p.attributes(resource.Resource().Attributes())
		for _, scope := range resource.ScopeSpans().All() {
			of := scope.Scope()
			of.SetName(p.clean(of.Name()))
			of.SetVersion(p.clean(of.Version()))
			p.attributes(of.Attributes())
			for _, span := range scope.Spans().All() {
				p.span(span)
			}
		}
	}
	if p.found > 0 {
		r.redacted.Add(ctx, p.found)
	}
	return traces, nil
}

func (p *pass) span(span ptrace.Span) {
	span.SetName(p.clean(span.Name()))
	span.Status().SetMessage(p.clean(span.Status().Message()))
	span.TraceState().FromRaw(p.clean(span.TraceState().AsRaw()))
	p.attributes(span.Attributes())
	for _, event := range span.Events().All() {
		event.SetName(p.clean(event.Name()))
		p.attributes(event.Attributes())
	}
	for _, link := range span.Links().All() {
		link.TraceState().FromRaw(p.clean(link.TraceState().AsRaw()))
		p.attributes(link.Attributes())
	}
}

func (p *pass) attributes(attributes pcommon.Map) { p.fields(attributes, 0) }

func (p *pass) fields(fields pcommon.Map, depth int) {
	fields.RemoveIf(func(name string, value pcommon.Value) bool {
		if namesSecret(name) {
			p.found++
			value.SetStr(placeholder)
			return false
		}
		p.value(value, depth)
		return p.clean(name) != name // no name of an attribute has a key in it, nor bytes that are no text
	})
}

func (p *pass) value(value pcommon.Value, depth int) {
	switch value.Type() {
	case pcommon.ValueTypeStr:
		if clean := p.clean(value.Str()); clean != value.Str() {
			value.SetStr(clean)
		}
	case pcommon.ValueTypeBytes:
		bytes := string(value.Bytes().AsRaw())
		if clean, found := p.text(bytes); found {
			p.found++
			value.SetStr(clean)
		} else if len(bytes) > p.maxBytes {
			value.SetEmptyBytes().FromRaw([]byte(bytes[:p.maxBytes]))
		}
	case pcommon.ValueTypeMap:
		if !p.tooDeep(value, depth) {
			p.fields(value.Map(), depth+1)
		}
	case pcommon.ValueTypeSlice:
		if !p.tooDeep(value, depth) {
			for _, each := range value.Slice().All() {
				p.value(each, depth+1)
			}
		}
	}
}

func (p *pass) tooDeep(value pcommon.Value, depth int) bool {
	if depth < maxDepth {
		return false
	}
	p.found++
	value.SetStr(placeholder)
	return true
}

func (p *pass) clean(text string) string {
	clean, found := p.text(text)
	if found {
		p.found++
	}
	return clean
}
