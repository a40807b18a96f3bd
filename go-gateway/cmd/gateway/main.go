// Command gateway is where people and policy come in: HTTP, keys, tenants, limits. It wires the packages of internal/
// together; what they do is theirs.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal drains. It also restores the signals' own effect, so the second one ends the process at once.
	context.AfterFunc(ctx, restore)
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}
