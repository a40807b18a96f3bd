package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/server"
	"triptych.dev/gateway/internal/store"
	"triptych.dev/gateway/internal/telemetry"
)

const tenantsFileSetting = "tenants-file"

var keysSettings = append([]string{tenantsFileSetting}, storeSettings...)

// withKeys runs a command on the keys of the store, which is made where there is none.
func (t terminal) withKeys(ctx context.Context, settings *config.Settings, run func(keys *identity.Keys) error) error {
	return withStore(ctx, settings, store.Command, func(s *store.Store) error {
		return run(identity.NewKeys(s, commandLine(), time.Now, telemetry.NewLogger(t.stderr, slog.LevelInfo)))
	})
}

// createKey prints a new key on stdout, or writes it into a file: the only time that it can be seen.
func createKey(ctx context.Context, t terminal, arguments []string) error {
	flags := newFlags("keys create")
	name := flags.String("tenant", "", "whose key it is: a `name` of the tenants file")
	lifetime := flags.Duration("expires", 0, "after what `duration` it ends, as 720h; 0: never")
	path := flags.String("file", "", "write it into this new `file`, for one user's eyes, in place of printing it; if the file is there, make no key")
	var scopes []string
	flags.Func("scope", "what it is restricted to, a `scope` each time: endpoint:PATH, model:NAME or class:batch; none: nothing", func(scope string) error {
		scopes = append(scopes, scope)
		return nil
	})
	settings, err := t.parse(flags, arguments, keysSettings...)
	if err != nil {
		return err
	}
	if err := errors.Join(checkDuration("expires", *lifetime), server.CheckScopes(scopes)); err != nil {
		return usageError{err}
	}
	// Where the tenants file is at hand, a misspelt name is a mistake now and not a refused key later.
	_, err = identity.ReadTenant(settings.TenantsFile, *name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return usageError{err}
	}
	if err := identity.CheckTenantName(*name); err != nil {
		return usageError{err}
	}
	keep := func(key identity.Secret) error {
		_, err := fmt.Fprintln(t.stdout, key.Reveal())
		return err
	}
	if *path != "" {
		file, err := newKeyFile(*path)
		if errors.Is(err, fs.ErrExist) {
			_, err := fmt.Fprintf(t.stdout, "%s is there already: no key was made.\n", *path)
			return err
		}
		if err != nil {
			return usageError{err}
		}
		defer file.remove()
		keep = file.keep
	}
	return t.withKeys(ctx, settings, func(keys *identity.Keys) error {
		key, err := keys.Create(ctx, *name, *lifetime, scopes...)
		if err != nil {
			return err
		}
		return keep(key)
	})
}

// initKeys prints tenants and their first keys on stdout, for stacks that start from nothing.
func initKeys(ctx context.Context, t terminal, arguments []string) error {
	settings, err := t.parse(newFlags("keys init"), arguments, keysSettings...)
	if err != nil {
		return err
	}
	tenants, err := identity.ReadTenants(settings.TenantsFile)
	if err != nil {
		return usageError{err}
	}
	return t.withKeys(ctx, settings, func(keys *identity.Keys) error {
		first, err := keys.CreateFirst(ctx, tenants)
		if err != nil {
			return err
		}
		if len(first) == 0 {
			_, err := fmt.Fprintln(t.stdout, "Every tenant has a key. `gateway keys create --tenant NAME` makes another one.")
			return err
		}
		table := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "TENANT\tKEY, WHICH IS SHOWN ONCE")
		for _, tenant := range slices.Sorted(maps.Keys(first)) {
			fmt.Fprintf(table, "%s\t%s\n", tenant, first[tenant].Reveal())
		}
		return table.Flush()
	})
}

func listKeys(ctx context.Context, t terminal, arguments []string) error {
	flags := newFlags("keys list")
	tenant := flags.String("tenant", "", "only those of a tenant with this `name`")
	settings, err := t.parse(flags, arguments, storeSettings...)
	if err != nil {
		return err
	}
	return withStore(ctx, settings, store.Reader, func(s *store.Store) error {
		records, err := s.Keys(ctx, *tenant)
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ID\tTENANT\tCREATED\tEXPIRES\tREVOKED\tSCOPES")
		for _, record := range records {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", record.ID, record.Tenant,
				date(record.Created), date(record.Expires), date(record.Revoked), cmp.Or(record.Scopes, "-"))
		}
		return table.Flush()
	})
}

// rotateKey prints the key that takes another one's place.
func rotateKey(ctx context.Context, t terminal, arguments []string) error {
	flags := newFlags("keys rotate ID")
	overlap := flags.Duration("overlap", identity.DefaultOverlap, "for what `duration` the old key still works; 0: it ends at once")
	id, settings, err := t.parseKey("rotate", flags, arguments)
	if err != nil {
		return err
	}
	if err := checkDuration("overlap", *overlap); err != nil {
		return err
	}
	return t.withKeys(ctx, settings, func(keys *identity.Keys) error {
		key, err := keys.Rotate(ctx, id, *overlap)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(t.stdout, key.Reveal())
		return err
	})
}

func revokeKey(ctx context.Context, t terminal, arguments []string) error {
	id, settings, err := t.parseKey("revoke", newFlags("keys revoke ID"), arguments)
	if err != nil {
		return err
	}
	err = t.withKeys(ctx, settings, func(keys *identity.Keys) error { return keys.Revoke(ctx, id) })
	if err != nil {
		return err
	}
	// The key is revoked all the same; but whoever looks after keys is the one to hear that the tenants file is broken.
	if err := identity.CheckTenants(settings.TenantsFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(t.stderr,
			"gateway: warning: the key is revoked, but gateways keep the tenants and plans that they had: %v\n", err)
	}
	return nil
}

// parseKey reads an id and then flags. The id may be written as in a key, or be a whole one.
func (t terminal) parseKey(command string, flags *flag.FlagSet, arguments []string) (string, *config.Settings, error) {
	help := len(arguments) > 0 && slices.Contains([]string{"-h", "-help", "--help"}, arguments[0])
	if !help && (len(arguments) == 0 || arguments[0] == "" || strings.HasPrefix(arguments[0], "-")) {
		return "", nil, usageError{fmt.Errorf("usage: gateway keys %s ID [FLAGS]", command)}
	}
	if help {
		arguments = append([]string{""}, arguments...)
	}
	settings, err := t.parse(flags, arguments[1:], keysSettings...)
	return identity.KeyID(arguments[0]), settings, err
}

func checkDuration(flag string, value time.Duration) error {
	if value < 0 || value > identity.MaxLifetime {
		return usageError{fmt.Errorf("--%s: %v must be from 0s to %v", flag, value, identity.MaxLifetime)}
	}
	return nil
}

func date(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.RFC3339)
}
