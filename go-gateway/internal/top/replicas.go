package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"triptych.dev/gateway/internal/adminapi"
)

// Columns of the table of hot paths, at whose ends numbers stand, counted from its right edge.
const (
	drainsEnd  = 1
	speedEnd   = drainsEnd + 8
	loadEnd    = speedEnd + 8
	runningEnd = loadEnd + 8
	queuedEnd  = runningEnd + 9
	rowsEnd    = queuedEnd + 8
	callsEnd   = rowsEnd + 8
	stateWidth = 10
	// widest is the table: beyond that, numbers would be far from what they are of.
	widest = 110
	// narrow is without calls: names need the room.
	narrow = 92
)

// modelsShown is which models of each hot path there is room for.
type modelsShown int

const (
	noModels modelsShown = iota
	troubled             // those that do not work
	allModels
)

func (m modelsShown) shows(model adminapi.Model) bool {
	_, of := modelState(model)
	return m == allModels || m == troubled && of != good
}

// drawReplicas has each hot path with as many of its models as there is room for before a row, those in trouble first; it
// returns the row after that.
func drawReplicas(g *grid, replicas []adminapi.Replica, y, end int) int {
	right := min(g.width, widest)
	first := callsEnd
	if right < narrow {
		first = rowsEnd
	}
	state := right - first - 6 - stateWidth
	g.put(1, y, plain, "HOT PATH")
	g.put(state, y, plain, "STATE")
	for _, heading := range []struct {
		end  int
		name string
	}{{callsEnd, "CALLS"}, {rowsEnd, "ROWS"}, {queuedEnd, "QUEUED"}, {runningEnd, "RUNNING"}, {loadEnd, "LOAD"}, {speedEnd, "TOK/S"}, {drainsEnd, "DRAINS"}} {
		if heading.end <= first {
			g.putRight(right-heading.end, y, plain, heading.name)
		}
	}
	drawHeading(g, y)
	y++
	if len(replicas) == 0 {
		g.put(1, y, bad, "there is none")
		return y + 1
	}
	replicas = slices.Clone(replicas)
	slices.SortStableFunc(replicas, func(a, b adminapi.Replica) int {
		_, ofA := replicaState(a)
		_, ofB := replicaState(b)
		return cmp.Compare(trouble(ofB), trouble(ofA))
	})
	shown := modelsFor(replicas, end-y)
	end = max(end, y+2)
	for i, replica := range replicas {
		if left := len(replicas) - i; shown == noModels && left > 1 && y == end-1 {
			g.put(1, y, dim, fmt.Sprintf("and %d more", left))
			return y + 1
		}
		drawReplica(g, replica, y, state, right)
		y++
		for _, model := range replica.Models {
			if shown.shows(model) {
				drawModel(g, model, y, state, right)
				y++
			}
		}
	}
	return y
}

// modelsFor is which models there is room for in so many rows.
func modelsFor(replicas []adminapi.Replica, room int) modelsShown {
	for _, shown := range []modelsShown{allModels, troubled} {
		rows := len(replicas)
		for _, replica := range replicas {
			for _, model := range replica.Models {
				if shown.shows(model) {
					rows++
				}
			}
		}
		if rows <= room {
			return shown
		}
	}
	return noModels
}

func drawReplica(g *grid, replica adminapi.Replica, y, state, right int) {
	word, of := replicaState(replica)
	g.put(1, y, bold, clip(clean(replica.Address), state-2))
	g.put(state, y, of|bold, clip(word, stateWidth))
	if replica.ListError != "" && len(replica.Models) == 0 { // there is room for why
		x := state + stateWidth + 1
		g.put(x, y, dim, clip(clean(replica.ListError), g.width-x-1))
		return
	}
	var queued, running uint64
	for _, model := range replica.Models {
		queued, running = queued+model.Queued, running+model.Running
	}
	numbers := map[int]string{rowsEnd: fullest(replica.Models), queuedEnd: count(queued), runningEnd: count(running), loadEnd: count(replica.Load)}
	if right >= narrow {
		numbers[callsEnd] = count(replica.Calls)
	}
	drawNumbers(g, y, right, bold, numbers)
}

func drawModel(g *grid, model adminapi.Model, y, state, right int) {
	word, of := modelState(model)
	g.put(3, y, plain, clip(clean(model.ID), state-4))
	g.put(state, y, of, clip(clean(word), stateWidth))
	if of != good && model.Cause != "" {
		x := state + stateWidth + 1
		g.put(x, y, dim, clip(clean(model.Cause), g.width-x-1))
		return
	}
	speed, drains, has := "–", "–", float64(model.Queued)+float64(model.Running)
	if model.TokensPerSecond > 0 {
		speed = short(model.TokensPerSecond)
		if has > 0 {
			drains = length(fromSeconds(has / model.TokensPerSecond))
		}
	}
	drawNumbers(g, y, right, plain, map[int]string{
		rowsEnd: rowsOf(model, "–"), queuedEnd: count(model.Queued), runningEnd: count(model.Running), speedEnd: speed, drainsEnd: drains,
	})
}

// rowsOf is how many of a model's rows are in use; none where they are not told.
func rowsOf(model adminapi.Model, none string) string {
	if model.MaxRows == 0 {
		return none
	}
	return fmt.Sprintf("%d/%d", model.Rows, model.MaxRows)
}

// fullest is what the model with the fewest rows left, in proportion, has; nothing where none tells.
func fullest(models []adminapi.Model) string {
	var most adminapi.Model
	for _, model := range models {
		if model.MaxRows > 0 && part(int64(model.Rows), int64(model.MaxRows)) >= part(int64(most.Rows), int64(most.MaxRows)) {
			most = model
		}
	}
	return rowsOf(most, "–")
}

// drawNumbers has numbers by where they end; what is nothing is not worth a look.
func drawNumbers(g *grid, y, right int, of style, numbers map[int]string) {
	for end, number := range numbers {
		look := of
		if number == "0" || number == "–" || strings.HasPrefix(number, "0/") {
			look = dim
		}
		g.putRight(right-end, y, look, number)
	}
}

// replicaState is a hot path's state in a word.
func replicaState(replica adminapi.Replica) (word string, of style) {
	switch {
	case !replica.Connected:
		return "away", bad
	case replica.Ejected:
		return "ejected", bad
	case replica.Draining:
		return "draining", warn
	case replica.ListError != "":
		return "silent", warn
	}
	for _, model := range replica.Models {
		if _, of := modelState(model); of != good {
			return "in part", warn
		}
	}
	if len(replica.Models) == 0 {
		return "no models", warn
	}
	return "ready", good
}

// modelState is a model's state in a word.
func modelState(model adminapi.Model) (word string, of style) {
	switch {
	case model.State == "failed":
		return model.State, bad
	case model.State != "ready":
		return model.State, warn
	case !model.Proven:
		return "unproven", warn
	default:
		return model.State, good
	}
}

// trouble orders colours by how much they matter.
func trouble(of style) int { return slices.Index([]style{good, warn, bad}, of) }
