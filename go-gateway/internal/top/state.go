package top

import (
	"cmp"
	"slices"
)

// column is one that tenants can be sorted by.
type column int

const (
	byRequests column = iota
	byTokens
	byRunning
	byStreams
	byRefused
	byBound
	byName
	byPlan
)

// compare orders two tenants: names upwards, numbers downwards, and what is not known last.
func (c column) compare(a, b tenant) int {
	switch c {
	case byTokens:
		return cmp.Compare(b.tokens, a.tokens)
	case byRunning:
		return cmp.Compare(b.Running, a.Running)
	case byStreams:
		return cmp.Compare(b.Streams, a.Streams)
	case byRefused:
		return cmp.Compare(b.refused, a.refused)
	case byBound:
		return cmp.Compare(b.bound(), a.bound())
	case byName:
		return cmp.Compare(a.Tenant, b.Tenant)
	case byPlan:
		return cmp.Compare(a.Plan, b.Plan)
	default:
		return cmp.Compare(b.requests, a.requests)
	}
}

// shownColumns are in the order of the screen, which the arrow keys go along.
var shownColumns = []column{byName, byPlan, byRequests, byTokens, byRunning, byStreams, byRefused, byBound}

// State is what somebody chose to look at.
type State struct {
	Sort    column
	Reverse bool
	// Selected is a tenant's name; empty, or one that is gone: the first.
	Selected string
	// Detail shows the selected tenant's limits, Help the keys.
	Detail, Help bool
	Paused       bool
}

// action is what a key asks for beyond another look.
type action int

const (
	nothing action = iota
	quit
	suspend
	askLimits // of the selected tenant
)

// press changes the state as a key says, by what it is called.
func (s *State) press(key string, picture *Picture) action {
	switch key {
	case "q", "ctrl+c":
		return quit
	case "ctrl+z":
		return suspend
	}
	if s.Help {
		s.Help = false
		return nothing
	}
	switch key {
	case "?", "h":
		s.Help = true
	case "p", "space":
		s.Paused = !s.Paused
	case "r":
		s.Reverse = !s.Reverse
	case "left", "<":
		s.sortBy(-1)
	case "right", ">":
		s.sortBy(1)
	case "up", "k":
		return s.move(picture, -1)
	case "down", "j":
		return s.move(picture, 1)
	case "home", "g":
		return s.move(picture, -len(picture.tenants(s.Sort, s.Reverse)))
	case "end", "G":
		return s.move(picture, len(picture.tenants(s.Sort, s.Reverse)))
	case "esc", "backspace":
		s.Detail = false
	case "enter":
		s.Detail = !s.Detail
		if s.Detail {
			return s.move(picture, 0)
		}
	}
	return nothing
}

// sortBy takes the column to the left or right.
func (s *State) sortBy(step int) {
	at := slices.Index(shownColumns, s.Sort) + step
	s.Sort, s.Reverse = shownColumns[(at+len(shownColumns))%len(shownColumns)], false
}

// move selects a tenant further down, or up.
func (s *State) move(picture *Picture, step int) action {
	rows := picture.tenants(s.Sort, s.Reverse)
	if len(rows) == 0 {
		s.Detail = false
		return nothing
	}
	s.Selected = rows[min(max(s.index(rows)+step, 0), len(rows)-1)].Tenant
	if s.Detail {
		return askLimits
	}
	return nothing
}

// index is where the selected tenant is.
func (s *State) index(rows []tenant) int {
	return max(slices.IndexFunc(rows, func(row tenant) bool { return row.Tenant == s.Selected }), 0)
}
