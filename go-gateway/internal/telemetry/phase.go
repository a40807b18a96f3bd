package telemetry

import "time"

// Phase is one part of the time that something took.
type Phase struct {
	Name string
	Took time.Duration
}

// Milliseconds is a duration as logs and headers tell it.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
