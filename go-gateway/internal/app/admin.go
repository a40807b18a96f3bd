package app

import (
	"log/slog"
	"time"

	"triptych.dev/gateway/internal/adminapi"
	"triptych.dev/gateway/internal/certificate"
	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/server"
	"triptych.dev/gateway/internal/telemetry"
)

// adminComponents are what watches the admin API's token, and its listener, which tells of the others; nothing where
// there is no admin API.
func adminComponents(
	settings *config.Settings, opened Opened, gateway *server.Server, metrics *telemetry.Metrics, connections int,
	others []*listener, logger *slog.Logger,
) (token, api component) {
	if opened.AdminToken == nil {
		return component{}, component{}
	}
	metrics.ReportStaleness("admin token", func() time.Duration { return opened.AdminToken.Staleness(time.Now()) })
	own := &listener{name: "admin", address: settings.AdminAddress, connections: connectionPool(connections), metrics: metrics,
		settings: settings, logger: logger}
	listeners := append(others, own)
	own.handler = gateway.Admin(server.AdminOptions{
		Token: opened.AdminToken, Store: opened.Store,
		Tenant: opened.Directory.Tenant, Guest: opened.Directory.Guest, SubjectID: opened.Directory.SubjectID,
		Keys:    func(by string) *identity.Keys { return identity.NewKeys(opened.Store, by, time.Now, logger) },
		Started: time.Now(), Now: time.Now,
		Stale: func(now time.Time) map[string]time.Duration {
			stale := opened.Directory.Staleness(now)
			stale["admin token"] = opened.AdminToken.Staleness(now)
			if opened.Certificate != nil {
				stale[certificate.Name] = opened.Certificate.Staleness(now)
			}
			return stale
		},
		Connections: func() []adminapi.Connection {
			known := make([]adminapi.Connection, len(listeners))
			for i, one := range listeners {
				known[i] = adminapi.Connection{
					Listener: one.name, Share: adminapi.Share{Used: one.connections.Used(), Max: one.connections.Total()},
				}
			}
			return known
		},
	})
	return background(opened.AdminToken.Watch), component{start: own.start, stop: own.stop}
}
