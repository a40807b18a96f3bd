package main

import (
	"runtime"
	"runtime/debug"

	"triptych.dev/gateway/internal/config"
)

const (
	// A request costs the gateway about a tenth of what inference costs, and each thread more is one more to wake: with
	// all processors a request takes 0.1 ms longer and a quarter more CPU time than with a quarter of them.
	processorsPerThread = 4
	// The live heap is a few MB, so Go's usual 100 collects garbage every few hundred requests. Four times as seldom
	// costs some tens of MB and saves an eighth of the CPU time. Large bodies are what the memory limit is for.
	gcPercent = 400
	// What a byte of a body becomes, at most, from when it arrives until it is collected: the body, its decoded text,
	// the message for the hot path, and what the collector has not got round to.
	memoryPerBodyByte = 5
	// Everything else: connections, replies, and Go itself.
	baseMemory = 256 << 20 // bytes
	// The collector needs room to work in below the limit at which the system kills.
	controlGroupShare = 0.9
)

// tuneRuntime leaves the processors to inference, unless Go's own variables say otherwise.
func tuneRuntime(lookup func(string) (string, bool)) {
	if _, chosen := lookup("GOMAXPROCS"); !chosen {
		// Only where it changes: otherwise Go follows a control group's limit by itself.
		if allowed := runtime.GOMAXPROCS(0); threads(allowed, runtime.NumCPU()) != allowed {
			runtime.GOMAXPROCS(threads(allowed, runtime.NumCPU()))
		}
	}
	if _, chosen := lookup("GOGC"); !chosen {
		debug.SetGCPercent(gcPercent)
	}
}

// threads is a quarter of the processors; or all that a control group allows, where that is less than there are: then
// somebody has shared them out already.
func threads(allowed, processors int) int {
	if allowed < processors {
		return allowed
	}
	return max(1, processors/processorsPerThread)
}

// memoryLimit is for Go's collector: what the gateway needs at most by its own bounds, or most of what its control
// group allows (0: no limit), if that is less.
func memoryLimit(settings *config.Settings, controlGroup int64) int64 {
	needed := int64(settings.MaxTotalBodyBytes)*memoryPerBodyByte + baseMemory
	if controlGroup > 0 {
		return min(needed, int64(float64(controlGroup)*controlGroupShare))
	}
	return needed
}
