package redisstore

import (
	"context"
	"crypto/sha1"
	_ "embed" // the scripts
	"encoding/hex"
	"errors"
	"strconv"

	"github.com/redis/rueidis"

	"triptych.dev/gateway/internal/quota"
)

var (
	//go:embed common.lua
	commonLua string
	//go:embed reserve.lua
	reserveLua string
	//go:embed settle.lua
	settleLua string
	//go:embed renew.lua
	renewLua string
	//go:embed hold.lua
	holdLua string
	//go:embed charge.lua
	chargeLua string

	reserveScript = newScript(reserveLua)
	settleScript  = newScript(settleLua)
	renewScript   = newScript(renewLua)
	holdScript    = newScript(holdLua)
	chargeScript  = newScript(chargeLua)
)

// script is called by its hash, and sent whole where Redis does not know it.
type script struct{ text, sha string }

func newScript(text string) *script {
	text = commonLua + text
	sum := sha1.Sum([]byte(text))
	return &script{text, hex.EncodeToString(sum[:])}
}

func (s *script) command(client rueidis.Client, keys, args []string) rueidis.Completed {
	return client.B().Evalsha().Sha1(s.sha).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
}

func (s *script) whole(client rueidis.Client, keys, args []string) rueidis.Completed {
	return client.B().Eval().Script(s.text).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
}

func isUnknown(err error) bool {
	refused, is := rueidis.IsRedisErr(err)
	return is && refused.IsNoScript()
}

// call calls it, after another one in the same round trip; nil if there is none.
func (s *script) call(ctx context.Context, client rueidis.Client, before *job, keys, args []string) rueidis.RedisResult {
	if before == nil {
		return s.wholeIfUnknown(ctx, client, client.Do(ctx, s.command(client, keys, args)), keys, args)
	}
	results := client.DoMulti(ctx, before.script.command(client, before.keys, before.args), s.command(client, keys, args))
	if !isUnknown(results[0].Error()) {
		if results[0].Error() != nil {
			return results[0]
		}
		return s.wholeIfUnknown(ctx, client, results[1], keys, args)
	}
	// Redis has started anew, and this one was called without the other: a refusal may have been for that alone.
	if err := client.Do(ctx, before.script.whole(client, before.keys, before.args)).Error(); err != nil {
		return rueidis.NewErrorResult(err)
	}
	if numbers, err := results[1].AsIntSlice(); err == nil && numbers[0] == 1 {
		return results[1]
	}
	return client.Do(ctx, s.whole(client, keys, args))
}

func (s *script) wholeIfUnknown(
	ctx context.Context, client rueidis.Client, result rueidis.RedisResult, keys, args []string,
) rueidis.RedisResult {
	if isUnknown(result.Error()) {
		return client.Do(ctx, s.whole(client, keys, args))
	}
	return result
}

// callAll calls jobs in one round trip, and returns those that are to be sent again.
func callAll(ctx context.Context, client rueidis.Client, jobs []job) (left []job) {
	commands := make(rueidis.Commands, len(jobs))
	for i, one := range jobs {
		commands[i] = one.script.command(client, one.keys, one.args)
	}
	for i, result := range client.DoMulti(ctx, commands...) {
		err := result.Error()
		if isUnknown(err) {
			err = client.Do(ctx, jobs[i].script.whole(client, jobs[i].keys, jobs[i].args)).Error()
		}
		if err == nil {
			continue
		}
		if refused, is := rueidis.IsRedisErr(err); is && !refused.IsLoading() {
			continue // it would be refused again
		}
		if !errors.Is(err, rueidis.ErrClosing) && jobs[i].script == settleScript {
			jobs[i].args[2] = "0" // it may have been applied
		}
		left = append(left, jobs[i])
	}
	return left
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func flag(is bool) string {
	if is {
		return "1"
	}
	return "0"
}

func (s *Store) now() string {
	if s.options.Now == nil {
		return ""
	}
	return number(s.options.Now().UnixMicro())
}

// keysOf are a request's in one scope. All of a tenant's share a hash tag.
func keysOf(request *quota.Request, scope quota.Scope) (hash, leases string) {
	name := "quota:{" + request.Tenant + "}:" + request.Class.String()
	if scope == quota.Key {
		name += ":" + request.Key
	}
	return name, name + ":leases"
}

// leaseOf is a lease's name, and how many of the day's tokens it holds.
func leaseOf(reservation *quota.Reservation, scope quota.Scope) (member string, tokens int64) {
	if !reservation.HasLease(scope) {
		return "", 0
	}
	tokens = reservation.OfDay(scope, reservation.Granted)
	return reservation.ID + "|" + flag(reservation.Stream) + "|" + number(reservation.Day) + "|" + number(tokens), tokens
}

func (s *Store) reserveArguments(request *quota.Request, look bool) (keys, args []string) {
	largest, _, _ := request.Largest()
	args = append(make([]string, 0, 9+7*quota.Scopes), s.now(), number(s.options.Lease.Microseconds()), flag(look), flag(request.Counted),
		flag(request.Runs), flag(request.Stream), number(request.MinTokens), number(min(request.MaxTokens, largest)), request.ID)
	for scope := range request.Limited() {
		hash, leases := keysOf(request, scope)
		keys = append(keys, hash, leases)
		limits := request.Limits[scope]
		args = append(args, number(limits.RequestsPerMinute), number(limits.Burst()), number(limits.TokensPerMinute),
			number(limits.TokensPerDay), number(limits.ConcurrentRequests), number(limits.ConcurrentStreams), flag(limits.NeedsLease()))
	}
	return keys, args
}

func (s *Store) settlement(reservation *quota.Reservation, used int64) job {
	one := job{script: settleScript, args: []string{s.now(), number(s.options.Lease.Microseconds()), "1", number(reservation.Day)}}
	for scope := range reservation.Limited() {
		hash, leases := keysOf(&reservation.Request, scope)
		one.keys = append(one.keys, hash, leases)
		member, held := leaseOf(reservation, scope)
		taken := reservation.Tokens[scope]
		one.args = append(one.args, number(reservation.Unused(scope, used)), number(taken.ArrivalTime), number(taken.Returned),
			member, flag(reservation.Stream), number(held), number(reservation.SpentOfDay(scope, used)))
	}
	return one
}

func (s *Store) charge(charge *quota.Charge) job {
	request, scope := quota.Request{Tenant: charge.Tenant, Key: charge.Key, Class: charge.Class}, quota.Tenant
	if charge.Key != "" {
		scope = quota.Key
	}
	hash, leases := keysOf(&request, scope)
	return job{chargeScript, []string{hash, leases, hash + ":charge:" + charge.ID}, []string{
		s.now(), number(s.options.Lease.Microseconds()),
		number(charge.Requests), number(charge.Tokens), number(charge.Day), number(charge.DayTokens), holdName(charge.ID),
	}}
}

// holdName is the lease of a hold, which no request's id begins like.
func holdName(charge string) string { return "hold|" + charge }

func (s *Store) hold(hold *quota.Hold, scope quota.Scope) job {
	hash, leases := keysOf(&hold.Request, scope)
	return job{holdScript, []string{hash, leases, hash + ":charge:" + hold.ID}, []string{
		s.now(), number(s.options.Lease.Microseconds()), holdName(hold.ID), flag(hold.Over), number(hold.Day), number(hold.Tokens),
	}}
}

func (s *Store) renewal(reservation *quota.Reservation) job {
	one := job{script: renewScript, args: []string{s.now(), number(s.options.Lease.Microseconds()), number(reservation.Day)}}
	for scope := range reservation.Limited() {
		member, held := leaseOf(reservation, scope)
		if member == "" {
			continue
		}
		hash, leases := keysOf(&reservation.Request, scope)
		one.keys = append(one.keys, hash, leases)
		one.args = append(one.args, member, flag(reservation.Stream), number(held))
	}
	return one
}
