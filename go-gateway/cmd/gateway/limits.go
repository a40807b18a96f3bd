package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"triptych.dev/gateway/internal/adminapi"
	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/local"
)

// adminSettings say where the admin API is, and what opens it.
var adminSettings = []string{"admin-address", "admin-token-file"}

// askAdmin returns a client of a running gateway's admin API.
func askAdmin(settings *config.Settings) (*adminapi.Client, error) {
	if settings.AdminAddress == "" {
		return nil, usageError{errors.New("--admin-address: give the one of the running gateway, as 127.0.0.1:9466")}
	}
	address, err := local.Address(settings.AdminAddress)
	if err != nil {
		return nil, usageError{err}
	}
	token, err := identity.ReadAdminToken(settings.AdminTokenFile)
	if err != nil {
		return nil, usageError{err}
	}
	return adminapi.NewClient(address, token.Reveal()), nil
}

// explainLimits prints what a tenant may use, what it does use, and why it was refused lately.
func explainLimits(ctx context.Context, t terminal, arguments []string) error {
	flags := newFlags("limits explain")
	tenant := flags.String("tenant", "", "whose limits: a `name` of the tenants file, or one that tokens name")
	key := flags.String("key", "", "those of the key with this `id` too, or of the subject, as refusals have it")
	subject := flags.String("subject", "", "those of whoever has tokens of this `sub` too")
	asJSON := flags.Bool("json", false, "print the reply of the admin API, for programs")
	settings, err := t.parse(flags, arguments, adminSettings...)
	if err != nil {
		return err
	}
	switch {
	case *tenant == "":
		return usageError{errors.New("--tenant: whose limits? a name of the tenants file, or one that tokens name")}
	case *key != "" && *subject != "":
		return usageError{errors.New("--key and --subject are two callers: give one of them")}
	}
	client, err := askAdmin(settings)
	if err != nil {
		return err
	}
	defer client.Close()
	limits, reply, err := client.Limits(ctx, *tenant, identity.KeyID(*key), *subject)
	if err != nil {
		return err
	}
	if *asJSON {
		_, err := fmt.Fprintf(t.stdout, "%s\n", reply)
		return err
	}
	return printLimits(t.stdout, limits)
}

func printLimits(out io.Writer, limits adminapi.Limits) error {
	fmt.Fprintf(out, "tenant %s, plan %s\n", limits.Tenant, limits.Plan)
	if limits.Degraded {
		fmt.Fprintln(out, "Redis is away: this gateway has a local share of the limits.")
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nLIMIT\tOF\tCLASS\tUSED\tMAX\tLEFT\tALL LEFT AGAIN\t")
	for _, row := range limits.Data {
		binds := ""
		if row.Binding {
			binds = "<- binds"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n",
			row.Limit, row.Scope, row.Class, row.Used, row.Max, row.Remaining, whenFree(row), binds)
	}
	if len(limits.Refusals) == 0 {
		fmt.Fprintln(table, "\nThis gateway has refused nothing lately.")
		return table.Flush()
	}
	fmt.Fprintln(table, "\nREFUSED AT\tKEY\tBY\tOF\tCLASS\tMAX\tTOKENS\tRETRY AFTER")
	for _, row := range limits.Refusals {
		tokens, retry := "-", "never"
		if row.Tokens != nil {
			tokens = strconv.FormatInt(*row.Tokens, 10)
		}
		if row.RetryAfter != nil {
			retry = seconds(*row.RetryAfter)
		}
		at := time.UnixMilli(int64(row.Created * 1000)).UTC().Format(time.RFC3339)
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", at, row.Key, row.Limit, row.Scope, row.Class, row.Max, tokens, retry)
	}
	return table.Flush()
}

// whenFree says when all of a limit is left again.
func whenFree(row adminapi.LimitRow) string {
	switch {
	case row.Used == 0:
		return "-"
	case row.Reset == nil:
		return "when they end"
	default:
		return "in " + seconds(*row.Reset)
	}
}

func seconds(s float64) string {
	return (time.Duration(s*1000) * time.Millisecond).String()
}
