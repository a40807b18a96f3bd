package app

import (
	"log/slog"
	"time"

	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/server"
	"triptych.dev/gateway/internal/telemetry"
)

// adminComponents are what watches the admin API's token, and its listener; nothing where there is no admin API.
func adminComponents(
	settings *config.Settings, opened Opened, gateway *server.Server, metrics *telemetry.Metrics, connections int, logger *slog.Logger,
) (token, api component) {
	if opened.AdminToken == nil {
		return component{}, component{}
	}
	metrics.ReportStaleness("admin token", func() time.Duration { return opened.AdminToken.Staleness(time.Now()) })
	listener := &listener{name: "admin", address: settings.AdminAddress, connections: connections, metrics: metrics, settings: settings, logger: logger,
		handler: gateway.Admin(server.AdminOptions{
			Token: opened.AdminToken, Store: opened.Store,
			Tenant: opened.Directory.Tenant, Guest: opened.Directory.Guest, SubjectID: opened.Directory.SubjectID,
			Keys: func(by string) *identity.Keys { return identity.NewKeys(opened.Store, by, time.Now, logger) },
		})}
	return background(opened.AdminToken.Watch), component{start: listener.start, stop: listener.stop}
}
