package config

import (
	"cmp"
	"errors"
	"flag"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func parse(env map[string]string, arguments ...string) (*Settings, error) {
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return Parse(flags, arguments, func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	})
}

func TestDefaults(t *testing.T) {
	got, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.HTTPAddress != "localhost:8080" || got.RequestTimeout != 30*time.Second || got.GenerationTimeout != 5*time.Minute ||
		got.StreamHeartbeat != 15*time.Second || got.ModerationModel != "moderation-minilm" || got.LogLevel != slog.LevelInfo ||
		!slices.Equal(got.HotpathAddresses, []string{"127.0.0.1:50051"}) {
		t.Errorf("got %+v", got)
	}
}

func TestEveryFieldHasASetting(t *testing.T) {
	got, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	fields := reflect.ValueOf(*got)
	if fields.NumField() != len(got.settings()) {
		t.Errorf("%d fields and %d settings", fields.NumField(), len(got.settings()))
	}
	empty := []string{"LogLevel", "CORSOrigins", "RedisURL", "RedisURLFile", "DatabaseURL", "DatabaseURLFile", "CertificateFile", "KeyFile",
		"AdminAddress", "AdminTokenFile", "JWTIssuer", "JWTAudience", "JWKSFile", "JWKSURL", "JWTPlanClaim", "JWTScopesClaim", "Blobs", "WebhookAllowNetworks", "OTLPEndpoint"} // info is slog's zero
	for i := range fields.NumField() {
		if name := fields.Type().Field(i).Name; fields.Field(i).IsZero() && !slices.Contains(empty, name) {
			t.Errorf("%s has no default", name)
		}
	}
}

func TestFlagsWinOverTheEnvironment(t *testing.T) {
	env := map[string]string{
		"GATEWAY_HTTP_ADDRESS": "127.0.0.1:1", "GATEWAY_REQUEST_TIMEOUT": "2s", "GATEWAY_LOG_LEVEL": "debug",
		"GATEWAY_HOTPATH_ADDRESSES": "a:1,[::1]:2,dns:///b.example:3,dns:c:4", "GATEWAY_PORT": "tcp://10.0.0.1:80",
	}
	got, err := parse(env, "--http-address", "127.0.0.1:2", "-max-body-bytes=2048")
	if err != nil {
		t.Fatal(err)
	}
	if got.HTTPAddress != "127.0.0.1:2" || got.RequestTimeout != 2*time.Second || got.MaxBodyBytes != 2048 ||
		got.LogLevel != slog.LevelDebug || !slices.Equal(got.HotpathAddresses, []string{"a:1", "[::1]:2", "dns:///b.example:3", "dns:c:4"}) {
		t.Errorf("got %+v", got)
	}
	values := got.Values()
	if values["hotpath_addresses"] != "a:1,[::1]:2,dns:///b.example:3,dns:c:4" || values["request_timeout"] != "2s" || len(values) != len(got.settings()) {
		t.Errorf("shown as %v", values)
	}
}

func TestAllFaultsAreReportedTogether(t *testing.T) {
	env := map[string]string{
		"GATEWAY_REQUEST_TIMEOUT": "soon", "GATEWAY_MAX_BODY_BYTES": "8MiB", "GATEWAY_DATA": "", "GATEWAY_IDLE_TIMEOUT": "0s",
		"GATEWAY_MODERATION_MODEL": "",
	}
	_, err := parse(env, "--http-address", "8080", "--hotpath-addresses", "a:1,b,unix:,dns:///c,dns::1", "--log-level", "loud",
		"--max-inflight-requests", "0", "--unknown-fields", "maybe", "--model-aliases", "a=b,a=c,=d,e=,f",
		"--cors-origins", "https://a.example,app.example,https://b.example/,https://*.*.example,ftp://c.example,", "--metrics-address", "a:65536", "--unknown", "x")
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{
		`GATEWAY_REQUEST_TIMEOUT: "soon"`, "GATEWAY_MAX_BODY_BYTES", "GATEWAY_DATA: must not be empty",
		`"app.example" must be * or as`, `"https://b.example/" must be`, `"https://*.*.example" must be`, `"ftp://c.example" must be`, `"" must be`,
		`"a=c" must be alias=model`, `"=d" must be`, `"e=" must be`, `"f" must be`,
		`--unknown-fields: "maybe" must be refuse or ignore`, "GATEWAY_MODERATION_MODEL: must not be empty", "GATEWAY_IDLE_TIMEOUT: 0s must be from 1ms",
		`--http-address: "8080" must be host:port`, `--hotpath-addresses: "b"`, `"unix:" must name a path`, `"dns:///c" must be dns:///name:port`, `"dns::1" must be`, "--log-level", "--max-inflight-requests", "0 to 65535", "-unknown",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing from:\n%v", part, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, arguments := range [][]string{
		{"extra"},
		{"--ready-window", "5s", "--canary-interval", "5s"},
		{"--http-address"},
		{"--max-total-body-bytes", "16777215"}, // one less than two bodies
		{"--database-url", "postgres://a/b", "--database-url-file", "f"},
		{"--jwt-issuer", "i", "--jwks-file", "f"},
		{"--jwt-issuer", "i", "--jwt-audience", "a"},
		{"--jwt-issuer", "i", "--jwt-audience", "a", "--jwks-file", "f", "--jwks-url", "https://a/b"},
		{"--jwt-audience", "a"},
		{"--jwks-file", "f"},
		{"--jwt-issuer", "i", "--jwt-audience", "a", "--jwks-url", "http://a/b"},
		{"--jwt-issuer", "i", "--jwt-audience", "a", "--jwks-url", "https://user:password@a/b"},
		{"--jwt-tenant-claim", ""},
		{"--admin-address", "127.0.0.1:0"},
		{"--admin-address", "here", "--admin-token-file", "f"},
	} {
		if got, err := parse(nil, arguments...); err == nil {
			t.Errorf("%q gave %+v", arguments, got)
		}
	}
	if _, err := parse(nil, "-help"); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-help: %v", err)
	}
}

func TestASecretIsNotShown(t *testing.T) {
	got, err := parse(map[string]string{"GATEWAY_DATABASE_URL": "postgres://user:hunter2@host/db"})
	if err != nil || got.DatabaseURL != "postgres://user:hunter2@host/db" || got.Values()["database_url"] != "[redacted]" {
		t.Errorf("got %v, %v", got.Values(), err)
	}
	_, err = parse(map[string]string{"GATEWAY_DATABASE_URL": "postgres://user:hunter2@host/db"}, "--request-timeout", "soon", "--database-url-file", "f")
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestSettingsThatACommandLacksAreUnknown(t *testing.T) {
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	lookup := func(name string) (string, bool) { return "broken", name == "GATEWAY_REQUEST_TIMEOUT" }
	if _, err := Parse(flags, []string{"--data", "k"}, lookup, "data"); err != nil {
		t.Errorf("a variable of another command: %v", err)
	}
	flags = flag.NewFlagSet("test", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	if _, err := Parse(flags, []string{"--request-timeout", "1s"}, lookup, "data"); err == nil {
		t.Error("a flag of another command was accepted")
	}
}

func TestMarkdownHasARowForEverySetting(t *testing.T) {
	var out strings.Builder
	if err := WriteMarkdown(&out); err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSpace(out.String()), "\n")[2:]
	for i, setting := range new(Settings).settings() {
		row := rows[i]
		for _, part := range []string{"--" + setting.name, setting.env(), cmp.Or(setting.defaultValue, "(empty)"), setting.unit, setting.meaning, setting.consequence} {
			if part == "" || !strings.Contains(row, part) {
				t.Errorf("%q is missing from %s", part, row)
			}
		}
		if strings.Count(row, "|") != 6 {
			t.Errorf("a bar inside a cell breaks the table: %s", row)
		}
	}
}

func TestTheRedisURLIsCheckedAndItsPasswordNotShown(t *testing.T) {
	for _, bad := range [][]string{
		{"--redis-url=http://:secret@host"}, {"--redis-url=secret"}, {"--redis-url=redis://:secret@a", "--redis-url-file=b"},
		{"--redis-gateways=0"}, {"--quota-lease=1ms"},
	} {
		if _, err := parse(nil, bad...); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
	got, err := parse(nil, "--redis-url=redis://user:secret@host:6379/1")
	if err != nil || got.RedisURL != "redis://user:secret@host:6379/1" || got.Values()["redis_url"] != "redis://user:xxxxx@host:6379/1" {
		t.Errorf("got %q, shown as %q, %v", got.RedisURL, got.Values()["redis_url"], err)
	}
}
