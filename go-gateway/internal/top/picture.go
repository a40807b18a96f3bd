package top

import (
	"cmp"
	"math"
	"slices"
	"time"

	"triptych.dev/gateway/internal/adminapi"
)

// maxHistory is how many rates are remembered: more than a wide screen has columns for.
const maxHistory = 120

// Picture is all that is known of a gateway.
type Picture struct {
	Address string
	// Now is the latest overview, and Before the one before it; nil while there is none.
	Now, Before *adminapi.Overview
	// Requests, Tokens and Refused are the latest rates, the newest last.
	Requests, Tokens, Refused []float64
	// Fault is why there is no newer overview; empty if there is nothing wrong. Age is how old the latest is by then.
	Fault string
	Age   time.Duration
	// Limits are the selected tenant's; nil while they are not known.
	Limits *adminapi.Limits
	// LimitsFault is why they are not.
	LimitsFault string
}

// take makes an overview the latest one.
func (p *Picture) take(overview *adminapi.Overview) {
	p.Fault, p.Age = "", 0
	if p.Now != nil && overview.Time <= p.Now.Time && overview.Started == p.Now.Started {
		return // the same one
	}
	p.Before, p.Now = p.Now, overview
	of := p.rates()
	p.Requests, p.Tokens, p.Refused = remember(p.Requests, of.requests), remember(p.Tokens, of.tokens), remember(p.Refused, of.refused)
}

func remember(history []float64, latest float64) []float64 {
	if math.IsNaN(latest) {
		return nil // another process, or the first overview
	}
	history = append(history, latest)
	return history[max(len(history)-maxHistory, 0):]
}

// elapsed is the time between the two overviews, in seconds; 0 where nothing can be told from it.
func (p *Picture) elapsed() float64 {
	if p.Now == nil || p.Before == nil || p.Now.Started != p.Before.Started {
		return 0
	}
	return max(p.Now.Time-p.Before.Time, 0)
}

// rate is how much a total grew a second.
func (p *Picture) rate(now, before float64) float64 {
	elapsed := p.elapsed()
	if elapsed == 0 || now < before {
		return unknown
	}
	return (now - before) / elapsed
}

// rates are those of the gateway as a whole.
type rates struct {
	requests, tokens, refused float64
	// reasons are why requests are refused, the most frequent first.
	reasons []reason
}

type reason struct {
	name string
	rate float64
}

func (p *Picture) rates() rates {
	if p.elapsed() == 0 {
		return rates{requests: unknown, tokens: unknown, refused: unknown}
	}
	found := rates{requests: p.rate(p.Now.Requests, p.Before.Requests), tokens: p.rate(p.Now.Tokens, p.Before.Tokens)}
	for name, now := range p.Now.Refusals {
		if rate := p.rate(now, p.Before.Refusals[name]); rate > 0 {
			found.refused += rate
			found.reasons = append(found.reasons, reason{name, rate})
		}
	}
	slices.SortFunc(found.reasons, func(a, b reason) int {
		return cmp.Or(cmp.Compare(b.rate, a.rate), cmp.Compare(a.name, b.name))
	})
	return found
}

// tenant is one of the table, with its rates.
type tenant struct {
	adminapi.TenantUse
	requests, tokens, refused float64
}

// bound is which part of its nearest limit a tenant has used; 0 where none is known.
func (t tenant) bound() float64 {
	if t.Binding == nil {
		return 0
	}
	return part(t.Binding.Used, t.Binding.Max)
}

// tenants are those of the latest overview, in an order.
func (p *Picture) tenants(by column, reverse bool) []tenant {
	if p.Now == nil {
		return nil
	}
	before := map[string]adminapi.TenantUse{}
	if p.Before != nil {
		for _, use := range p.Before.Tenants {
			before[use.Tenant] = use
		}
	}
	found := make([]tenant, len(p.Now.Tenants))
	for i, use := range p.Now.Tenants {
		found[i] = tenant{TenantUse: use, requests: unknown, tokens: unknown, refused: unknown}
		was, known := before[use.Tenant]
		if !known && (p.Before == nil || p.Before.MoreTenants > 0) {
			continue // it may just not have been listed
		}
		found[i].requests, found[i].tokens = p.rate(use.Requests, was.Requests), p.rate(use.Tokens, was.Tokens)
		found[i].refused = p.rate(sum(use.Refusals), sum(was.Refusals))
	}
	slices.SortStableFunc(found, func(a, b tenant) int {
		order := by.compare(a, b)
		if reverse {
			order = -order
		}
		if order == 0 && p.elapsed() > 0 { // or else they are in the gateway's order, which is by what it knows
			order = cmp.Compare(a.Tenant, b.Tenant)
		}
		return order
	})
	return found
}

func sum(numbers map[string]float64) (total float64) {
	for _, number := range numbers {
		total += number
	}
	return total
}
