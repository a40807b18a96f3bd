package top

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// unknown is a number that is not known, as a rate after the first overview.
var unknown = math.NaN()

// short is a number in at most five columns.
func short(number float64) string {
	switch {
	case math.IsNaN(number) || math.IsInf(number, 0):
		return "–"
	case number == 0:
		return "0"
	case number < 0.05:
		return "0.0"
	case number < 99.95:
		return fmt.Sprintf("%.1f", number)
	case number < 999.5:
		return fmt.Sprintf("%.0f", number)
	}
	for _, unit := range "kMGTP" {
		if number /= 1000; number < 99.95 {
			return fmt.Sprintf("%.1f%c", number, unit)
		}
		if number < 999.5 {
			return fmt.Sprintf("%.0f%c", number, unit)
		}
	}
	return "many"
}

// count is a whole number in at most five columns.
func count[Number int64 | uint64](number Number) string {
	if number < 10_000 {
		return fmt.Sprint(number)
	}
	return short(float64(number))
}

// size is a number of bytes in at most five columns.
func size(bytes int64) string {
	number := float64(bytes)
	for _, unit := range "BKMGT" {
		if number < 1000 {
			if number == math.Trunc(number) || number >= 100 {
				return fmt.Sprintf("%.0f%c", number, unit)
			}
			return fmt.Sprintf("%.1f%c", number, unit)
		}
		number /= 1024
	}
	return "many"
}

// length is a time in at most six columns.
func length(d time.Duration) string {
	switch {
	case d < 0:
		return "–"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", math.Floor(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	case d < 1000*time.Hour:
		return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
	default:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	}
}

// fromSeconds is a time as the admin API tells it.
func fromSeconds(seconds float64) time.Duration {
	return time.Duration(min(max(seconds, 0), 1e9) * float64(time.Second))
}

// part is which part of something is used.
func part(used, most int64) float64 {
	if most <= 0 {
		return 0
	}
	return min(max(float64(used)/float64(most), 0), 1)
}

// level is the colour of a part that is used: yellow when it gets close, red when little is left.
func level(part float64) style {
	switch {
	case part >= 0.95:
		return bad
	case part >= 0.75:
		return warn
	default:
		return good
	}
}

// bar is a part that is used, as a bar: full, and the rest.
func bar(part float64, width int) (full, rest string) {
	width = max(width, 0)
	filled := int(math.Round(part * float64(width)))
	if part > 0 {
		filled = max(filled, 1) // what is used shows
	}
	if part < 1 {
		filled = min(filled, width-1) // and what is left
	}
	filled = min(max(filled, 0), width)
	return strings.Repeat("█", filled), strings.Repeat("░", width-filled)
}

// steps are the heights of a curve's columns.
var steps = []rune("▁▂▃▄▅▆▇█")

// curve is the latest numbers, as columns as high as they are beside the largest one.
func curve(numbers []float64, width int) string {
	numbers = numbers[max(len(numbers)-width, 0):]
	largest := 0.0
	for _, number := range numbers {
		largest = max(largest, number)
	}
	columns := make([]rune, len(numbers))
	for i, number := range numbers {
		step := 0
		if largest > 0 && number > 0 {
			step = int(math.Round(number / largest * float64(len(steps)-1)))
		}
		columns[i] = steps[step]
	}
	return string(columns)
}
