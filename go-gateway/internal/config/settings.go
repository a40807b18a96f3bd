// Package config holds the gateway's settings: their names, defaults and checks, and the text of docs/config.md.
//
// Everything is parsed before anything is opened, and all faults are reported together. It must not depend on other
// packages of the gateway.
package config

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Defaults, each with the reason for its number.
const (
	// Loopback: whoever wants the gateway reachable from outside says so.
	defaultHTTPAddress    = "localhost:8080"
	defaultMetricsAddress = "127.0.0.1:9464" // the port of Prometheus exporters of OpenTelemetry
	defaultHotpathAddress = "127.0.0.1:50051"
	// With some 20 series each of the gateway's: a few thousand, which any Prometheus bears.
	defaultMetricsTenants = 200

	// As long as the name servers of clusters let an answer live.
	defaultHotpathDNSInterval = 5 * time.Second

	defaultData = "data"
	// OpenAI's bound.
	defaultMaxFileBytes = 512 << 20
	// As the store's journal may grow to a quarter of it, and what runs must still be written down.
	defaultMinFreeBytes = 256 << 20
	// So many keep a hot path busy, while one segment ends and another one begins.
	defaultBatchSegments = 2
	defaultBatchLines    = 32
	// As many as the lines of a segment.
	defaultJobWorkers = 16
	// Each is a row of the database and a file; OpenAI's window of batches.
	defaultMaxOpenJobs = 10_000
	defaultJobWindow   = 24 * time.Hour
	defaultJobKept     = 24 * time.Hour
	// Texts of a tenant that wait for people: rows of some 300 bytes, beside the texts themselves. It is more than people read.
	defaultMaxPendingReviews = 100_000
	defaultMaxReviewBytes    = 1 << 30 // as long as 100,000 texts of ten pages
	defaultReviewKept        = 30 * 24 * time.Hour
	// A quarter of them, a tenant's share, is what one has that sends to a few receivers at once.
	defaultWebhookWorkers = 64
	// What a receiver needs that only takes note; OpenAI's own wait is of this kind.
	defaultWebhookTimeout = 10 * time.Second
	// 22 hours: over a night, and over most outages.
	defaultWebhookRetries = "5s,30s,2m,10m,1h,3h,6h,12h"
	// Each has a file open, and a buffer and a line in memory.
	defaultMaxUploads = 32
	// As proxies have it; and what a poor mobile connection has.
	defaultTransferStall   = 30 * time.Second
	defaultMinTransferRate = 8 << 10
	defaultTenantsFile     = "tenants.yaml"

	// How long a key that its issuer removed is good at most.
	defaultJWKSRefresh = 5 * time.Minute
	// Clocks that are kept by NTP differ by far less.
	defaultJWTClockSkew   = 30 * time.Second
	defaultJWTTenantClaim = "tenant"

	// What a gateway that died held is free again after this; and every third of it, all that runs is renewed.
	defaultQuotaLease = 30 * time.Second
	// The fewest that have something to share.
	defaultRedisGateways = 2

	// Half of what the official SDKs' users wait before they give up, and a hundred times a normal request.
	defaultRequestTimeout = 30 * time.Second
	// Some 10 000 tokens of a small model alone, and more than what its context holds with 8 others beside it.
	defaultGenerationTimeout = 5 * time.Minute
	// A quarter of the idle limit that proxies commonly have, and longer than a request waits for its turn by the hot
	// path's default: a refusal for a full queue is then an ordinary reply, which clients repeat.
	defaultStreamHeartbeat = 15 * time.Second

	defaultModerationModel = "moderation-minilm"

	// 2048 texts of 256 tokens are 2 to 3 MB; escapes can double that.
	defaultMaxBodyBytes = 8 << 20
	// A dozen of the largest bodies of one tenant, or thousands of usual ones; the gateway then fits 1 GiB.
	defaultMaxTotalBodyBytes = 128 << 20
	// As many calls as the hot path takes at a time on one connection.
	defaultMaxInflight = 1024
	// Eight for each request in flight: most connections of SDKs are idle.
	defaultMaxConnections = 8192
	// What most servers allow, and more than one client of ours has at once.
	defaultMaxStreams = 250
	// Headers fit one or two packets.
	defaultHeaderTimeout = 5 * time.Second
	// 8 MiB at 5 Mbit/s.
	defaultBodyTimeout = 15 * time.Second
	// 3 MB of vectors at 2 Mbit/s.
	defaultWriteTimeout = 15 * time.Second
	// Longer than the 60 s after which common balancers drop an idle connection, so that they do it and not we.
	defaultIdleTimeout = 75 * time.Second
	// An API key, a trace and some cookies are 2 KiB.
	defaultMaxHeaderBytes = 64 << 10

	// Long enough for a keep-alive client in a loop to be told to reconnect elsewhere, and for one probe a second.
	defaultDrainDelay = time.Second
	// What a request may take: an accepted one is never cut off.
	defaultDrainTimeout = defaultGenerationTimeout

	// Small beside the ready window, and one short text in 5 s is no load.
	defaultCanaryInterval = 5 * time.Second
	// Three canaries in a row.
	defaultReadyWindow = 15 * time.Second

	// Of a hundred requests a second one is to be seen, and recording costs no more than the noise of a benchmark.
	defaultTraceRatio = 0.01
	// A minute of what that ratio records of a thousand requests a second; some MB.
	defaultTraceQueue = 4096
	// A collector is near, and takes a batch within milliseconds; at the end it is waited for as long.
	defaultOTLPTimeout = 5 * time.Second
)

// RefuseUnknownFields is a value of [Settings].UnknownFields; the other one is to ignore them.
const RefuseUnknownFields = "refuse"

// BlobsOff is a value of [Settings].Blobs.
const BlobsOff = "off"

// Settings are all of the gateway's.
type Settings struct {
	HTTPAddress      string
	CertificateFile  string // empty: plain HTTP
	KeyFile          string
	MetricsAddress   string
	MetricsTenants   int
	AdminAddress     string // empty: there is no admin API
	AdminTokenFile   string
	HotpathAddresses []string
	// HotpathDNSInterval is how often names among them are looked up.
	HotpathDNSInterval time.Duration

	Data            string
	DatabaseURL     string // may hold a password
	DatabaseURLFile string
	TenantsFile     string

	// Blobs is the folder of files' contents; empty: the default place, if there is one; BlobsOff: there are no files.
	Blobs           string
	MaxFileBytes    int
	MinFreeBytes    int
	MaxUploads      int
	TransferStall   time.Duration
	MinTransferRate int
	BatchSegments   int
	BatchLines      int
	JobWorkers      int
	MaxOpenJobs     int
	JobWindow       time.Duration
	JobKept         time.Duration

	MaxPendingReviews int
	MaxReviewBytes    int
	ReviewKept        time.Duration

	WebhookWorkers       int
	WebhookTimeout       time.Duration
	WebhookRetries       []string // durations
	WebhookAllowNetworks []string

	// JWTIssuer is whose tokens are taken in place of API keys; empty: nobody's.
	JWTIssuer      string
	JWTAudience    string
	JWKSFile       string
	JWKSURL        string
	JWKSRefresh    time.Duration
	JWTClockSkew   time.Duration
	JWTTenantClaim string
	JWTPlanClaim   string
	JWTScopesClaim string

	// RedisURL is where gateways share what is used; empty: this one is alone.
	RedisURL string
	// RedisURLFile holds it, for a URL with a password; empty: none.
	RedisURLFile  string
	RedisGateways int
	QuotaLease    time.Duration

	RequestTimeout    time.Duration
	GenerationTimeout time.Duration
	StreamHeartbeat   time.Duration
	ModerationModel   string
	ModelAliases      map[string]string
	CORSOrigins       []string
	UnknownFields     string

	MaxBodyBytes      int
	MaxTotalBodyBytes int
	MaxInflight       int
	MaxConnections    int
	MaxStreams        int
	HeaderTimeout     time.Duration
	BodyTimeout       time.Duration
	WriteTimeout      time.Duration
	IdleTimeout       time.Duration
	MaxHeaderBytes    int

	DrainDelay     time.Duration
	DrainTimeout   time.Duration
	CanaryInterval time.Duration
	ReadyWindow    time.Duration

	OTLPEndpoint string  // empty: nothing is traced
	TraceRatio   float64 // from 0 to 1
	TraceQueue   int     // spans
	OTLPTimeout  time.Duration

	LogLevel slog.Level
}

// settings is the one table: everything about a setting is in its row.
func (s *Settings) settings() []setting {
	const second, day = time.Second, 24 * time.Hour
	return []setting{
		address("http-address", &s.HTTPAddress, defaultHTTPAddress,
			"Where the API listens.", "`0.0.0.0:8080` makes it reachable from outside: give it a certificate, or put TLS in front. Port 0 takes a free one."),
		optionalPath("tls-certificate-file", &s.CertificateFile,
			"The certificate of the API's listener in PEM, followed by those between it and its root; with `tls-key-file` the API is served by TLS 1.2 or newer, as HTTP/2 where the client can.", "Read again when it changes; while the pair is broken, does not match or has ended, the last good one stays, as the log and `gateway_source_stale_seconds` tell. Empty: plain HTTP."),
		optionalPath("tls-key-file", &s.KeyFile,
			"The private key of that certificate, in PEM.", "Read again likewise."),
		address("metrics-address", &s.MetricsAddress, defaultMetricsAddress,
			"Where `/metrics`, `/livez` and `/readyz` listen.", "It has no keys: keep it off the outside."),
		number("metrics-tenants", &s.MetricsTenants, defaultMetricsTenants, 1, 10_000, "tenants",
			"Tenants that have series of their own in metrics, of some 20 numbers each.", "All others have one together, `tenant=\"(other)\"`. Once a minute who was more than twice as busy takes the place of another."),
		optionalAddress("admin-address", &s.AdminAddress,
			"Where the [admin API](store.md#the-admin-api) listens, as `127.0.0.1:9466`.", "Who has its token makes keys for every tenant, and the token is sent as it is: keep it off the outside. Empty: nowhere."),
		optionalPath("admin-token-file", &s.AdminTokenFile,
			"A file that holds the admin API's credential: at least 32 letters, as `openssl rand -hex 32` makes them.", "Read again when it changes. Nobody but its owner may read it, or its group. Required with `admin-address`, and not used without."),
		list("hotpath-addresses", "host:port, unix:path or dns:///name:port,…", &s.HotpathAddresses, defaultHotpathAddress, checkHotpathAddress,
			"The hot paths, separated by commas: each one process, at a port or at a Unix socket (`--grpc-socket`), or with `dns:///` a name of which each address is one.", "A socket takes less time. They need not serve the same models: a request goes to one with little to do of those that serve its model, and one that no replica has begun to work on goes to the next."),
		duration("hotpath-dns-interval", &s.HotpathDNSInterval, defaultHotpathDNSInterval, 10*time.Millisecond, day,
			"How often the names of `dns:///` are looked up again; they are also when a connection is lost.", "New addresses get requests from then on; those that are gone get no new ones, and end what they have. While the lookup fails, the last addresses hold."),
		path("data", &s.Data, defaultData,
			"The folder of the embedded database (SQLite), which holds the hashes of API keys.", "Made with mode 0700 where it is missing. On a local file system; one gateway serves from it. Not used with `database-url`."),
		secret("database-url", "URL", &s.DatabaseURL,
			"A PostgreSQL database (15 or newer) in place of the embedded one, as `postgres://user:password@host/database`.", "Several gateways share it; its tables are in the schema `triptych`. Other users of the machine see a flag: set the variable, or `database-url-file`. Empty: none."),
		optionalPath("database-url-file", &s.DatabaseURLFile,
			"A file that holds what `database-url` would.", "Read when the gateway starts. Empty: none."),
		optionalPath("blobs", &s.Blobs,
			"The folder of the contents of files (`/v1/files`); `"+BlobsOff+"`: there are no files.", "Empty: the folder `blobs` inside of `data`; with `database-url` there are then no files, since all gateways must have one folder: name one that all of them mount. See [files](files.md)."),
		number("max-file-bytes", &s.MaxFileBytes, defaultMaxFileBytes, 1<<10, 1<<40, "bytes",
			"Largest file that is uploaded.", "A larger one is answered with 413. Files are never whole in memory."),
		number("min-free-bytes", &s.MinFreeBytes, defaultMinFreeBytes, 0, 1<<50, "bytes",
			"What uploads leave free on the file system of `blobs`.", "Beyond, they are answered with 507, and all else goes on."),
		number("max-uploads", &s.MaxUploads, defaultMaxUploads, 1, 1<<16, "uploads",
			"Uploads at once.", "Beyond, and beyond a tenant's share (four times what is left), they are answered with 503."),
		duration("transfer-stall-timeout", &s.TransferStall, defaultTransferStall, time.Millisecond, day,
			"How long an upload or a download of a file may stand still.", "Then the upload is answered with 408, and nothing of it is kept; a download is cut off."),
		number("min-transfer-rate", &s.MinTransferRate, defaultMinTransferRate, 1, 1<<30, "bytes/s",
			"What an upload or a download of a file has at least, on average, beyond `transfer-stall-timeout`.", "A slower one ends as one that stands still."),
		number("batch-segments", &s.BatchSegments, defaultBatchSegments, 1, 256, "segments",
			"Segments of all batches (`/v1/batches`) that this gateway runs at once.", "Each has up to 1 MiB of lines in memory. See [jobs](jobs.md)."),
		number("batch-lines", &s.BatchLines, defaultBatchLines, 1, 1024, "requests",
			"Lines of a segment that are served at once.", "They run behind what is interactive, and count as no HTTP requests. The replies of twice as many are in memory."),
		number("job-workers", &s.JobWorkers, defaultJobWorkers, 1, 1024, "requests",
			"Jobs (`/v1/jobs`) that this gateway runs at once.", "They run behind what is interactive, and count as no HTTP requests. Each has its request and its reply in memory."),
		number("max-open-jobs", &s.MaxOpenJobs, defaultMaxOpenJobs, 1, 10_000_000, "jobs",
			"Jobs of a tenant that have not ended.", "Beyond, creating one is answered with 429."),
		duration("job-window", &s.JobWindow, defaultJobWindow, time.Second, 30*day,
			"How long a job may wait to be run.", "Then it ends as `expired`."),
		duration("job-kept", &s.JobKept, defaultJobKept, time.Second, 30*day,
			"For how long a job can be looked at after its end.", "Then it is forgotten, with its reply."),
		number("max-pending-reviews", &s.MaxPendingReviews, defaultMaxPendingReviews, 1, 10_000_000, "texts",
			"Texts of a tenant that wait for a [review](jobs.md#moderation-with-review), or may come to that, since their job has not ended.",
			"Beyond, creating a job with `thresholds` is answered with 429."),
		number("max-review-bytes", &s.MaxReviewBytes, defaultMaxReviewBytes, 1<<10, 1<<40, "bytes",
			"Bytes of these texts: of the bodies of jobs that have not ended, and after that of what people are shown of a job, until all of it is decided.",
			"Beyond, creating a job with `thresholds` is answered with 429."),
		duration("review-kept", &s.ReviewKept, defaultReviewKept, time.Second, 365*day,
			"How long a text waits for a review.", "Then it is removed undecided. One that was decided is kept after that as a job is."),
		number("webhook-workers", &s.WebhookWorkers, defaultWebhookWorkers, 1, 256, "deliveries",
			"Deliveries of all [webhooks](webhooks.md) that this gateway makes at once.", "A tenant has a quarter of them at most, and a webhook a sixteenth: a receiver that does not answer holds up nobody else's."),
		duration("webhook-timeout", &s.WebhookTimeout, defaultWebhookTimeout, time.Millisecond, time.Minute,
			"Time for one attempt: to resolve, to connect, and to have the reply.", "Then it has failed, and is repeated later."),
		list("webhook-retries", "durations", &s.WebhookRetries, defaultWebhookRetries, checkPause,
			"The pauses between the attempts of a delivery, separated by commas: each is a quarter longer or shorter by chance.", "After the last one the delivery is dead, until it is replayed. So there is one attempt more than pauses."),
		list("webhook-allow-networks", "networks", &s.WebhookAllowNetworks, "", checkNetwork,
			"Networks of your own that webhooks may lead to, as `10.1.0.0/16,fd00:1::/32`; into them by http too.", "Every tenant can have the gateway send requests there. All other addresses that are not public are refused, whatever name they have. Empty: none."),
		path("tenants-file", &s.TenantsFile, defaultTenantsFile,
			"Where tenants and plans are.", "Read again when it changes. Without it the gateway does not start."),
		optionalText("jwt-issuer", "issuer", &s.JWTIssuer,
			"Whose JSON Web Tokens are taken in place of API keys: what their `iss` says, letter by letter.", "See [identity](identity.md). Empty: API keys alone are taken."),
		optionalText("jwt-audience", "audience", &s.JWTAudience,
			"What must be among the `aud` of a token.", "Without it a token that was made for another service would be good here: it is required beside `jwt-issuer`."),
		optionalPath("jwks-file", &s.JWKSFile,
			"A file with the issuer's public keys, as a JSON Web Key Set.", "Read again when it changes. One of this and `jwks-url` is required beside `jwt-issuer`."),
		httpsURL("jwks-url", &s.JWKSURL,
			"Where the issuer publishes that set.", "Certificates are checked by the system's authorities (`SSL_CERT_FILE` names others). While it cannot be fetched, the last good set stays in force. Empty: none."),
		duration("jwks-refresh", &s.JWKSRefresh, defaultJWKSRefresh, time.Second, day,
			"How often `jwks-url` is fetched.", "A key that its issuer removed is good for as long. A key id that is not known has it fetched too, once in 30 s at most."),
		duration("jwt-clock-skew", &s.JWTClockSkew, defaultJWTClockSkew, 0, 5*time.Minute,
			"By how much the issuer's clock may differ.", "A token is taken for so long after its end."),
		text("jwt-tenant-claim", "claim", &s.JWTTenantClaim, defaultJWTTenantClaim,
			"The claim with the tenant's name.", "The tenant must be in the tenants file, unless the token names a plan."),
		optionalText("jwt-plan-claim", "claim", &s.JWTPlanClaim,
			"The claim with the plan of a tenant that is not in the tenants file, of which up to 4,096 are taken.", "A tenant that is there has the plan that it has there. Empty: tenants must be there."),
		optionalText("jwt-scopes-claim", "claim", &s.JWTScopesClaim,
			"The claim with what a token is restricted to, as `endpoint:/v1/embeddings class:batch`, or a list of those.", "A token without this claim is refused. Empty: tokens are not restricted."),
		redisURL("redis-url", &s.RedisURL,
			"The Redis in which gateways share what tenants use, as `redis://host:6379/0`, `rediss://…` or `unix://path`.", "Empty: this gateway counts alone, and several let through several times as much. It needs `maxmemory-policy noeviction`; Redis Cluster is not supported. See [limits](limits.md)."),
		optionalPath("redis-url-file", &s.RedisURLFile,
			"A file with the `redis-url`, for one with a password.", "Read at the start. Not both."),
		number("redis-gateways", &s.RedisGateways, defaultRedisGateways, 1, 1000, "gateways",
			"How many gateways share the Redis.", "While it is away, each has this part of every limit (at least one of each). Too few let through more then, too many less."),
		duration("quota-lease", &s.QuotaLease, defaultQuotaLease, time.Second, time.Hour,
			"For how long a request that runs holds its place among those that run at once, and its part of the day's tokens, unless its gateway renews that, as it does each third of it.", "What a gateway that died held is free after this. Shorter makes more renewals."),
		duration("request-timeout", &s.RequestTimeout, defaultRequestTimeout, time.Millisecond, day,
			"Time that a request has in the hot path, unless it generates text; one of the class batch has twelve times as long.", "Then it is answered with 504, and its work is dropped."),
		duration("generation-timeout", &s.GenerationTimeout, defaultGenerationTimeout, time.Millisecond, day,
			"Time that a request which generates text has in the hot path; one of the class batch has twelve times as long.", "Then it is answered with 504, or its stream ends with that error, and its work is dropped."),
		duration("stream-heartbeat", &s.StreamHeartbeat, defaultStreamHeartbeat, time.Millisecond, day,
			"How long a stream may be silent before it gets a comment.", "Longer than the idle limit of a proxy in front, it makes the proxy drop requests that wait for their turn. After the first comment an error is an event of the stream, not a status."),
		text("moderation-model", "name", &s.ModerationModel, defaultModerationModel,
			"The model of requests for moderation that name none.", "It must be among the hot path's, else they are answered with 404."),
		aliases("model-aliases", &s.ModelAliases,
			"Other names of models, as `omni-moderation-latest=moderation-minilm`, separated by commas.", "Clients of another service need not be changed; replies say which model it was. Token ids are still the model's own. Empty: none."),
		choice("unknown-fields", &s.UnknownFields, []string{RefuseUnknownFields, "ignore"},
			"What is done about fields of a request that are not known.", "Ignored ones are named in the header `Warning`. Fields that are known, and ask for what is not done here, are refused all the same."),
		list("cors-origins", "scheme://host,…", &s.CORSOrigins, "", checkOrigin,
			"Origins whose pages may call the API from a browser, separated by commas; `*` for all.", "A page has its user's key, or yours: whoever opens it can read that. Empty: none."),
		number("max-body-bytes", &s.MaxBodyBytes, defaultMaxBodyBytes, 1<<10, 1<<30, "bytes",
			"Largest request body.", "A larger one is answered with 413. Bodies are held in memory."),
		number("max-total-body-bytes", &s.MaxTotalBodyBytes, defaultMaxTotalBodyBytes, 1<<20, 1<<40, "bytes",
			"Bytes of the bodies of all requests at once, each with 16 KiB for the request itself.", "Beyond, and beyond a tenant's share (four times what is left), requests are answered with 503. Decoded, encoded and not yet collected, a byte takes up to five: that and 256 MiB is what Go's memory limit is set to, or nine tenths of the control group's if that is less, unless `GOMEMLIMIT` says otherwise. At least twice `max-body-bytes`."),
		number("max-inflight-requests", &s.MaxInflight, defaultMaxInflight, 1, 1<<20, "requests",
			"API requests that are served at once, those aside whose body is still to come.", "Beyond, and beyond a tenant's share (four times what is left), requests are answered with 503. An eighth is kept for tenants that have none."),
		number("max-connections", &s.MaxConnections, defaultMaxConnections, 1, 1<<20, "connections",
			"Open connections to the API.", "Beyond, and beyond an address's share (four times what is left; of IPv6 each /64 is one address), new ones are closed at once, as `gateway_refused_connections_total` counts. So one proxy in front gets 70 % of them. Lowered to what the process may open (`RLIMIT_NOFILE` less 512, or three quarters of it); a line at the start tells."),
		number("max-connection-requests", &s.MaxStreams, defaultMaxStreams, 1, 1<<16, "requests",
			"Requests at once on one connection of HTTP/2.", "Clients keep more to themselves until one ends. A proxy that sends everybody's requests over few connections wants more."),
		duration("header-timeout", &s.HeaderTimeout, defaultHeaderTimeout, time.Millisecond, day,
			"Time for a request's headers to arrive.", "Then the connection is closed."),
		duration("body-timeout", &s.BodyTimeout, defaultBodyTimeout, time.Millisecond, day,
			"Time for a request's body to arrive.", "Then the request is answered with 408. The hot path hears of a request only when all of it is here."),
		duration("write-timeout", &s.WriteTimeout, defaultWriteTimeout, time.Millisecond, day,
			"Time for a client to take its reply, or one event of a stream.", "Then the connection is closed, and a stream's work is dropped."),
		duration("idle-timeout", &s.IdleTimeout, defaultIdleTimeout, time.Millisecond, day,
			"Time that a connection may wait for its next request.", "Shorter than a balancer's own limit, it makes the balancer lose requests."),
		number("max-header-bytes", &s.MaxHeaderBytes, defaultMaxHeaderBytes, 1<<10, 1<<20, "bytes",
			"Largest request line and headers together.", "Larger ones are answered with 431. Every connection may hold so many before its key is known: with 64 KiB and 8,192 connections, 512 MiB."),
		duration("drain-delay", &s.DrainDelay, defaultDrainDelay, 0, day,
			"Time between \"not ready\" and the end of listening, at SIGTERM.", "Longer than a balancer's probe takes to notice, no request is sent to a closed port; Kubernetes wants about 5s."),
		duration("drain-timeout", &s.DrainTimeout, defaultDrainTimeout, 0, day,
			"Time for accepted requests to end, after that.", "Then they are cut off, and the exit status is 1. Below `generation-timeout`, long streams may be lost."),
		duration("canary-interval", &s.CanaryInterval, defaultCanaryInterval, 10*time.Millisecond, day,
			"How long a model may be without a successful request before the gateway tries one of its own.", "Shorter notices a fault sooner and costs one tiny inference each time."),
		duration("ready-window", &s.ReadyWindow, defaultReadyWindow, 10*time.Millisecond, day,
			"How long one successful inference proves that a model works.", "Must be longer than `canary-interval`."),
		collectorURL("otlp-endpoint", &s.OTLPEndpoint,
			"A collector that takes [traces](operations.md#traces) by OTLP over gRPC, as `http://127.0.0.1:4317`; by TLS with `https://`, whose certificate is checked by the system's authorities (`SSL_CERT_FILE` names others).",
			"Empty: nothing is recorded, and trace contexts that come with requests are handed on as they came."),
		share("trace-ratio", &s.TraceRatio, defaultTraceRatio,
			"Which part of the traces that begin here is recorded, from 0 to 1.", "A request with a `traceparent` is recorded if that says `sampled`, whatever this says."),
		number("trace-queue", &s.TraceQueue, defaultTraceQueue, 1, 1<<20, "spans",
			"Spans that wait to be sent at most, of about 1 KiB each.", "Beyond, they are dropped, as `gateway_trace_spans_dropped_total` counts. No request waits for them."),
		duration("otlp-timeout", &s.OTLPTimeout, defaultOTLPTimeout, time.Millisecond, time.Minute,
			"Time for the collector to take a batch of spans; when the gateway ends, for all that wait.", "Then they are dropped. After its drain the gateway takes so much longer to end while its collector hangs."),
		logLevel("log-level", &s.LogLevel, slog.LevelInfo,
			"Least severe lines that are logged: `debug`, `info`, `warn` or `error`.", "`warn` drops the line per request."),
	}
}

// check finds settings that do not fit each other.
func (s *Settings) check() error {
	if s.ReadyWindow <= s.CanaryInterval {
		return fmt.Errorf("ready-window (%v) must be longer than canary-interval (%v)", s.ReadyWindow, s.CanaryInterval)
	}
	if s.MaxTotalBodyBytes < 2*s.MaxBodyBytes {
		return fmt.Errorf("max-total-body-bytes (%d) must be at least twice max-body-bytes (%d)", s.MaxTotalBodyBytes, s.MaxBodyBytes)
	}
	if (s.CertificateFile == "") != (s.KeyFile == "") {
		return errors.New("tls-certificate-file and tls-key-file belong together: give both, or none")
	}
	if s.AdminAddress != "" && s.AdminTokenFile == "" {
		return errors.New("admin-address needs admin-token-file: the admin API is never without a credential")
	}
	return errors.Join(
		s.checkTokens(), checkOnePlace("redis-url", s.RedisURL, s.RedisURLFile), checkOnePlace("database-url", s.DatabaseURL, s.DatabaseURLFile),
	)
}

// checkTokens finds what an issuer lacks, and what there is without one.
func (s *Settings) checkTokens() error {
	switch {
	case s.JWTIssuer == "" && (s.JWTAudience != "" || s.JWKSFile != "" || s.JWKSURL != ""):
		return errors.New("jwt-audience, jwks-file and jwks-url mean nothing without jwt-issuer")
	case s.JWTIssuer != "" && s.JWTAudience == "":
		return errors.New("jwt-issuer needs jwt-audience beside it: a token that was made for another service must not be good here")
	case s.JWTIssuer != "" && (s.JWKSFile == "") == (s.JWKSURL == ""):
		return errors.New("jwt-issuer needs one of jwks-file and jwks-url beside it")
	default:
		return nil
	}
}

// LookupEnv reads one variable of the environment, as os.LookupEnv does.
type LookupEnv func(name string) (string, bool)

// Parse reads settings into flags: from arguments first, then the environment, then defaults. flags may have further
// ones of the command. names are the settings that the command has; none means all. The error holds every fault;
// flag.ErrHelp means that help was asked for.
func Parse(flags *flag.FlagSet, arguments []string, lookup LookupEnv, names ...string) (*Settings, error) {
	var parsed Settings
	var faults []error
	for _, row := range parsed.settings() {
		if err := row.parse(row.defaultValue); err != nil {
			panic(fmt.Sprintf("the default of %s: %v", row.name, err))
		}
		if len(names) > 0 && !slices.Contains(names, row.name) {
			continue
		}
		// Unknown GATEWAY_ variables are not refused: Kubernetes sets some for every service of that name.
		if value, ok := lookup(row.env()); ok {
			if err := row.parse(value); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", row.env(), err))
			}
		}
		flags.Func(row.name, row.usage(), func(value string) error {
			if err := row.parse(value); err != nil {
				faults = append(faults, fmt.Errorf("--%s: %w", row.name, err))
			}
			return nil // so that the flags after it are parsed too
		})
	}
	if err := flags.Parse(arguments); errors.Is(err, flag.ErrHelp) {
		return nil, err
	} else if err != nil {
		faults = append(faults, err)
	} else if flags.NArg() > 0 {
		faults = append(faults, fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	}
	if len(faults) == 0 {
		faults = append(faults, parsed.check())
	}
	return &parsed, errors.Join(faults...)
}

// Values returns every setting as it is in force, by name, for the log.
func (s *Settings) Values() map[string]string {
	values := map[string]string{}
	for _, row := range s.settings() {
		values[strings.ReplaceAll(row.name, "-", "_")] = row.show()
	}
	return values
}
