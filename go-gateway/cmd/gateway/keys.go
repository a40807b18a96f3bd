package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"triptych.dev/gateway/internal/identity"
)

const (
	keysFileSetting    = "keys-file"
	tenantsFileSetting = "tenants-file"
)

// createKey prints a new key on stdout: the only time that it can be seen.
func createKey(_ context.Context, t terminal, arguments []string) error {
	flags := newFlags("keys create")
	name := flags.String("tenant", "", "whose key it is: a `name` of the tenants file")
	settings, err := t.parse(flags, arguments, keysFileSetting, tenantsFileSetting)
	if err != nil {
		return err
	}
	// Where the tenants file is at hand, a misspelt name is a mistake now and not a refused key later.
	_, err = identity.ReadTenant(settings.TenantsFile, *name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return usageError{err}
	}
	key, err := identity.NewKeysFile(settings.KeysFile, time.Now).Create(*name)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(t.stdout, key.Reveal())
	return err
}

// initKeys prints tenants and their first keys on stdout, for stacks that start from nothing.
func initKeys(_ context.Context, t terminal, arguments []string) error {
	settings, err := t.parse(newFlags("keys init"), arguments, keysFileSetting, tenantsFileSetting)
	if err != nil {
		return err
	}
	tenants, err := identity.ReadTenants(settings.TenantsFile)
	if err != nil {
		return usageError{err}
	}
	keys, err := identity.NewKeysFile(settings.KeysFile, time.Now).CreateFirst(tenants)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		_, err := fmt.Fprintln(t.stdout, "Every tenant has a key. `gateway keys create --tenant NAME` makes another one.")
		return err
	}
	table := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TENANT\tKEY, WHICH IS SHOWN ONCE")
	for _, tenant := range slices.Sorted(maps.Keys(keys)) {
		fmt.Fprintf(table, "%s\t%s\n", tenant, keys[tenant].Reveal())
	}
	return table.Flush()
}

func listKeys(_ context.Context, t terminal, arguments []string) error {
	settings, err := t.parse(newFlags("keys list"), arguments, keysFileSetting)
	if err != nil {
		return err
	}
	records, err := identity.NewKeysFile(settings.KeysFile, time.Now).List()
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tTENANT\tCREATED\tREVOKED")
	for _, record := range records {
		revoked := "-"
		if !record.Revoked.IsZero() {
			revoked = record.Revoked.Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", record.ID, record.Tenant, record.Created.Format(time.RFC3339), revoked)
	}
	return table.Flush()
}

func revokeKey(_ context.Context, t terminal, arguments []string) error {
	if len(arguments) == 0 || arguments[0] == "" || arguments[0][0] == '-' {
		return usageError{errors.New("usage: gateway keys revoke ID [FLAGS]")}
	}
	settings, err := t.parse(newFlags("keys revoke ID"), arguments[1:], keysFileSetting, tenantsFileSetting)
	if err != nil {
		return err
	}
	if _, err := os.Stat(settings.KeysFile); err != nil {
		return err
	}
	if err := identity.NewKeysFile(settings.KeysFile, time.Now).Revoke(arguments[0]); err != nil {
		return err
	}
	// The key is revoked all the same; but whoever looks after keys is the one to hear that the other file is broken.
	if err := identity.CheckTenants(settings.TenantsFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(t.stderr,
			"gateway: warning: the key is revoked, but gateways keep the tenants and plans that they had: %v\n", err)
	}
	return nil
}
