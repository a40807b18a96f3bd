package top

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Once writes the gateway as plain tables, with rates of one interval.
func Once(ctx context.Context, source Source, address string, interval time.Duration, out io.Writer) error {
	picture := Picture{Address: address}
	for i := range 2 {
		if i > 0 {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(interval):
			}
		}
		overview, err := ask(ctx, source)
		if err != nil {
			return err
		}
		picture.take(&overview)
	}
	return write(out, &picture)
}

// write writes what a picture has, in words and columns alone.
func write(out io.Writer, p *Picture) error {
	now, of := p.Now, p.rates()
	state, _ := stateOf(now)
	fmt.Fprintf(out, "gateway %s, %s, version %s, up %s\n",
		clean(p.Address), state, clean(now.Version), length(fromSeconds(now.Time-now.Started)))
	fmt.Fprintf(out, "%s requests/s, %s tokens/s, %s refused/s; running %d of %d, bodies %s of %s",
		short(of.requests), short(of.tokens), short(of.refused),
		now.Inflight.Used, now.Inflight.Max, size(now.BodyBytes.Used), size(now.BodyBytes.Max))
	for _, listener := range now.Connections {
		fmt.Fprintf(out, ", connections of %s %d of %d", clean(listener.Listener), listener.Used, listener.Max)
	}
	fmt.Fprintln(out)
	if len(of.reasons) > 0 {
		words := make([]string, len(of.reasons))
		for i, reason := range of.reasons {
			words[i] = clean(reason.name) + " " + short(reason.rate)
		}
		fmt.Fprintf(out, "refused a second: %s\n", strings.Join(words, ", "))
	}
	if now.Degraded {
		fmt.Fprintln(out, "Redis is away: this gateway has a local share of the limits.")
	}
	for _, source := range sorted(now.Stale) {
		fmt.Fprintf(out, "Changes of %s cannot be taken for %s.\n", clean(source), length(fromSeconds(now.Stale[source])))
	}

	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nHOT PATH\tSTATE\tCALLS\tLOAD\tMODEL\tSTATE\tROWS\tWAITING\tQUEUED\tRUNNING\tTOK/S")
	for _, replica := range now.Replicas {
		word, _ := replicaState(replica)
		line := fmt.Sprintf("%s\t%s\t%d\t%d\t", clean(replica.Address), word, replica.Calls, replica.Load)
		if len(replica.Models) == 0 {
			fmt.Fprintf(table, "%s-\t-\t-\t-\t-\t-\t-\n", line)
		}
		for _, model := range replica.Models {
			word, _ := modelState(model)
			fmt.Fprintf(table, "%s%s\t%s\t%s\t%d\t%d\t%d\t%s\n", line, clean(model.ID), clean(word), rowsOf(model, "-"), model.Waiting, model.Queued, model.Running, short(model.TokensPerSecond))
		}
	}
	fmt.Fprintln(table, "\nTENANT\tPLAN\tREQ/S\tTOK/S\tRUNNING\tSTREAMS\tREFUSED/S\tNEAREST LIMIT\tUSED\tMAX")
	for _, row := range p.tenants(byRequests, false) {
		limit, used, most := "-", "-", "-"
		if row.Binding != nil {
			limit = clean(row.Binding.Limit)
			if row.Binding.Class == "batch" {
				limit += " (batch)"
			}
			used, most = fmt.Sprint(row.Binding.Used), fmt.Sprint(row.Binding.Max)
		}
		plan := clean(row.Plan)
		if plan == "" {
			plan = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", clean(row.Tenant), plan,
			short(row.requests), short(row.tokens), row.Running, row.Streams, short(row.refused), limit, used, most)
	}
	if now.MoreTenants > 0 {
		fmt.Fprintf(table, "and %d more\n", now.MoreTenants)
	}
	return table.Flush()
}
