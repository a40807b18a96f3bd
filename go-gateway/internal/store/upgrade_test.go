package store

import (
	"fmt"
	"testing"
	"time"
)

// written is what a gateway of each version has left: statements of that version's tables, which never change. A later version
// has those of earlier ones, too.
var written = map[int][]string{
	1: {
		`UPDATE change_counter SET version = 4 WHERE topic = 'keys'`,
		`INSERT INTO api_key (id, tenant, sha256, created_at, expires_at, revoked_at, replaced_by) VALUES ('aaaaaaaa', 'acme', 'h', 1764345600000, NULL, NULL, NULL)`,
		`INSERT INTO api_key (id, tenant, sha256, created_at, expires_at, revoked_at, replaced_by) VALUES ('bbbbbbbb', 'acme', 'i', 1764345600001, 1764345700000, 1764345600002, 'aaaaaaaa')`,
	},
	2: {`INSERT INTO api_key (id, tenant, sha256, created_at, scopes) VALUES ('cccccccc', 'acme', 'j', 1764345600003, 'class:batch')`},
	3: {`INSERT INTO audit_entry VALUES (7, 1764345600000, 'command line, user 0', 'key created', 'acme', 'aaaaaaaa', 'a=b')`},
	4: {
		`INSERT INTO file VALUES ('file-acme', 'acme', 'batch', 'in.jsonl', 200, '` + hashOf("input") + `', 1764345600000, NULL)`,
		`INSERT INTO file_usage VALUES ('acme', 1, 200)`,
	},
	5: {
		`INSERT INTO job (id, queue, tenant, kind, args, priority, state, created_at, due_at) VALUES ('r', 'q', 'acme', 'test', 'x', 0, 'ready', 1, 1)`,
		`INSERT INTO job (id, queue, tenant, kind, args, priority, state, owner, attempt, created_at, due_at) VALUES ('l', 'q', 'acme', 'test', 'x', 0, 'leased', 'host/1', 1, 1, 1)`,
		`INSERT INTO job (id, queue, tenant, kind, args, priority, state, errors, error, created_at, due_at, ended_at) VALUES ('d', 'q', 'acme', 'test', 'x', 0, 'dead', 5, 'why', 1, 1, 1764345600000)`,
	},
	6: {
		`INSERT INTO batch_limit (tenant, created) VALUES ('acme', 1)`,
		`INSERT INTO batch (id, tenant, key_id, scopes, plan, file, sha256, bytes, endpoint, model, metadata, state, lines, pending, enqueued, done, failed, input_tokens, created_at, expires_at)
			VALUES ('batch_1', 'acme', 'aaaaaaaa', '', 'p', 'file-acme', '` + hashOf("input") + `', 200, '/v1/embeddings', 'm', '{"a":"b"}', 'in_progress', 20, 1, 100, 9, 1, 7, 1764345600000, 9764345600000)`,
		`INSERT INTO segment (batch, n, lines, at, length, duplicates, state, output, output_bytes, errors, errors_bytes, failed, tokens, attempt)
			VALUES ('batch_1', 0, 10, 0, 100, '3', 'done', '` + hashOf("out") + `', 50, '` + hashOf("error") + `', 5, 1, 7, 2)`,
		`INSERT INTO segment (batch, n, lines, at, length, duplicates, state) VALUES ('batch_1', 10, 10, 100, 100, '', 'pending')`,
		`INSERT INTO job (id, queue, tenant, kind, args, priority, state, owner, attempt, created_at, due_at)
			VALUES ('batch_1/00010+10', 'batch', 'acme', 'segment', 'batch_1 10', 0, 'leased', 'host/1', 1, 1, 1)`,
		`INSERT INTO batch (id, tenant, key_id, scopes, plan, file, sha256, bytes, endpoint, model, metadata, state, lines, pending, enqueued, done, output, created_at, expires_at, ended_at)
			VALUES ('batch_0', 'acme', 'aaaaaaaa', '', 'p', 'file-acme', '` + hashOf("input") + `', 200, '/v1/embeddings', 'm', '', 'completed', 1, 0, 0, 1, 'file-out', 1764345600000, 1764345700000, 1764345600005)`,
	},
	7: {
		`INSERT INTO webhook_limit VALUES ('acme', 1)`,
		`INSERT INTO webhook (id, tenant, url, events, description, enabled, secret, created_at) VALUES ('wh_1', 'acme', 'https://a.example', 'batch.completed', '', 1, 's', 1764345600000)`,
		`INSERT INTO delivery (id, tenant, webhook, event, type, object, event_at, state) VALUES ('msg_1', 'acme', 'wh_1', 'evt_1', 'batch.completed', 'batch_0', 1764345600000, 'pending')`,
		`INSERT INTO job (id, queue, tenant, kind, args, priority, state, created_at, due_at) VALUES ('msg_1', 'webhooks', 'acme', 'delivery', 'wh_1', 0, 'ready', 1, 1)`,
	},
	8: {
		`INSERT INTO charge (id, tenant, key_id, class, tokens, day, settled_at) VALUES ('batch_0/0', 'acme', 'aaaaaaaa', 'batch', 5, 20420, 1764345600005)`,
		`INSERT INTO charge (id, tenant, key_id, class, tokens, day) VALUES ('batch_1/0', 'acme', 'aaaaaaaa', 'batch', 7, 20420)`,
	},
	9: {`INSERT INTO answer VALUES ('acme', '/v1/batches', 'k', 'r', 'batch_1', 200, '{"id":"batch_1"}', 9764345600000)`},
	10: {
		`UPDATE batch_limit SET jobs = 1, job_bytes = 100 WHERE tenant = 'acme'`,
		`INSERT INTO async_job (id, tenant, key_id, scopes, plan, endpoint, model, metadata, body, body_bytes, state, created_at, expires_at)
			VALUES ('job_1', 'acme', 'aaaaaaaa', '', 'p', '/v1/embeddings', 'm', '', '` + hashOf("body") + `', 100, 'open', 1764345600000, 9764345600000)`,
		`INSERT INTO job (id, queue, tenant, kind, args, priority, state, owner, attempt, created_at, due_at) VALUES ('job_1', 'jobs', 'acme', 'request', '', 0, 'leased', 'host/1', 1, 1, 1)`,
	},
	11: {`UPDATE webhook SET updated_at = 1764345600009 WHERE id = 'wh_1'`},
	12: {
		`UPDATE batch SET forget_at = ended_at + 2592000000 WHERE id = 'batch_0'`,
		`UPDATE batch SET output_lifetime = 3600000 WHERE id = 'batch_1'`,
	},
	13: {
		`UPDATE async_job SET thresholds = '{}', inputs = 2 WHERE id = 'job_1'`,
		`UPDATE batch_limit SET reviews = 4 WHERE tenant = 'acme'`,
		`INSERT INTO moderation_review (id, tenant, job, input, thresholds, category, score, content, content_bytes, created_at, forget_at)
			VALUES ('modrev_0_00000', 'acme', 'job_0', 0, '{}', 'hate', '0.5', '` + hashOf("texts") + `', 9, 1764345600000, 9764345600000)`,
		`INSERT INTO moderation_review (id, tenant, job, input, thresholds, category, score, content, content_bytes, created_at, decision, note, decided_by, decided_at, forget_at)
			VALUES ('modrev_0_00001', 'acme', 'job_0', 1, '{}', 'hate', '0.5', '` + hashOf("texts") + `', 9, 1764345600000, 'passed', 'fine', 'aaaaaaaa', 1764345600001, 9764345600000)`,
		`INSERT INTO moderation_review (id, tenant, job, input, thresholds, category, score, content, content_bytes, created_at, forget_at)
			VALUES ('modrev_0_00002', 'acme', 'job_0', 2, '{}', 'hate', '0.5', '` + hashOf("texts") + `', 9, 1764345600000, 9764345600000)`,
	},
	14: {`UPDATE batch_limit SET review_bytes = 109 WHERE tenant = 'acme'`},
	15: {`INSERT INTO job (id, queue, tenant, kind, args, priority, state, created_at, due_at, traceparent) VALUES ('caused', 'other', 'acme', 'test', 'x', 0, 'ready', 1, 1, '` + aCause + `')`},
}

// writeAs makes a store as a gateway of a version would have left it.
func writeAs(t *testing.T, options Options, version int) {
	t.Helper()
	files, newest := migrationFiles, newestSchema
	defer func() { migrationFiles, newestSchema = files, newest }()
	migrationFiles, newestSchema = files[:version], version
	s, err := Open(t.Context(), options, Migrator)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for v := 1; v <= version; v++ {
		if len(written[v]) == 0 {
			t.Errorf("nothing is written as by version %d", v)
		}
		for _, statement := range written[v] {
			execute(t, s, statement)
		}
	}
	tables := `SELECT name FROM sqlite_schema WHERE type = 'table'`
	if options.Postgres() {
		tables = `SELECT tablename FROM pg_tables WHERE schemaname = current_schema()`
	}
	names, err := query(t.Context(), s, func(row scanner) (name string, err error) {
		err = row.Scan(&name)
		return name, err
	}, tables)
	if err != nil || len(names) < 3 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		if count(t, s.r, `SELECT count(*) FROM `+name) == 0 {
			t.Errorf("version %d has the table %s, of which nothing is written", version, name)
		}
	}
}

// TestAStoreOfEachEarlierVersionIsUpgraded: all that was in it is there, and its work goes on.
func TestAStoreOfEachEarlierVersionIsUpgraded(t *testing.T) {
	for version := 1; version <= newestSchema; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			everywhere(t, func(t *testing.T, options Options) {
				writeAs(t, options, version)
				s := open(t, options, Gateway)
				if from, to := s.Migrated(); from != version || to != newestSchema {
					t.Errorf("from %d to %d", from, to)
				}
				if _, err := s.Check(t.Context()); err != nil {
					t.Error(err)
				}
				for _, written := range []struct {
					since int
					look  func(*testing.T, *Store)
				}{{1, lookAtKeys}, {2, lookAtScopes}, {3, lookAtAudit}, {4, lookAtFiles}, {5, lookAtJobs}, {7, lookAtDelivery}, {8, lookAtCharges}, {9, lookAtAnswer}, {10, lookAtAsyncJob}, {11, lookAtChange}, {12, lookAtLifetime}, {13, lookAtReviews}, {15, lookAtCause}, {6, lookAtEndedBatch}, {6, finishUpgradedBatch}} {
					if version >= written.since {
						written.look(t, s)
					}
				}
			})
		})
	}
}

func lookAtKeys(t *testing.T, s *Store) {
	first, err := s.FindKey(t.Context(), "aaaaaaaa")
	if err != nil || first.Tenant != "acme" || first.SHA256 != "h" || first.Scopes != "" || !first.Expires.IsZero() || !first.Revoked.IsZero() {
		t.Errorf("%+v, %v", first, err)
	}
	second, err := s.FindKey(t.Context(), "bbbbbbbb")
	if err != nil || second.ReplacedBy != "aaaaaaaa" || second.Revoked.UnixMilli() != 1764345600002 || second.Expires.UnixMilli() != 1764345700000 {
		t.Errorf("%+v, %v", second, err)
	}
	if version, err := s.KeysVersion(t.Context()); err != nil || version != 4 {
		t.Errorf("version %d of the keys, %v", version, err)
	}
	if err := s.CreateKey(t.Context(), keyOf("dddddddd", "acme"), AuditEntry{At: time.Now()}, nil); err != nil {
		t.Error(err)
	}
}

func lookAtScopes(t *testing.T, s *Store) {
	if key, err := s.FindKey(t.Context(), "cccccccc"); err != nil || key.Scopes != "class:batch" {
		t.Errorf("%+v, %v", key, err)
	}
}

func lookAtAudit(t *testing.T, s *Store) {
	log, err := s.AuditLog(t.Context(), 0, 10)
	if err != nil || len(log) == 0 || log[len(log)-1].ID != 7 || log[len(log)-1].Act != "key created" || log[len(log)-1].Details[0] != "a=b" {
		t.Errorf("%+v, %v", log, err)
	}
}

func lookAtFiles(t *testing.T, s *Store) {
	file, err := s.FindFile(t.Context(), "acme", "file-acme", time.Now())
	if err != nil || file.Bytes != 200 || file.Name != "in.jsonl" || file.SHA256 != hashOf("input") {
		t.Errorf("%+v, %v", file, err)
	}
	if used, err := s.FileUsage(t.Context(), "acme"); err != nil || used != (FileUsage{Files: 1, Bytes: 200}) {
		t.Errorf("%+v, %v", used, err)
	}
}

func lookAtJobs(t *testing.T, s *Store) {
	if _, err := s.SweepJobs(t.Context()); err != nil { // which a gateway that is alone has done at its start
		t.Fatal(err)
	}
	claimed, err := s.ClaimJobs(t.Context(), "q", "me", 9, aLease)
	if err != nil || len(claimed) != 2 {
		t.Fatalf("%+v, %v", claimed, err)
	}
	for _, job := range claimed {
		if err := s.FinishJob(t.Context(), job); err != nil {
			t.Error(err)
		}
	}
	if dead := findJob(t, s, "d"); dead.State != JobDead || dead.Error != "why" {
		t.Errorf("%+v", dead)
	}
	if _, err := s.ReplayDead(t.Context(), "d", acted("replayed")); err != nil {
		t.Error(err)
	}
}

// finishUpgradedBatch runs the last segment of the batch, and puts its results together.
func finishUpgradedBatch(t *testing.T, s *Store) {
	batch := found(t, s, "acme", "batch_1")
	if batch.Metadata != `{"a":"b"}` || batch.Done != 9 || batch.Pending != 1 {
		t.Errorf("%+v", batch)
	}
	if _, err := s.SweepJobs(t.Context()); err != nil {
		t.Fatal(err)
	}
	jobs := claimBatch(t, s, 9)
	if len(jobs) != 1 || jobs[0].Deaths != 1 {
		t.Fatalf("%+v", jobs)
	}
	if err := finish(t, s, jobs[0]); err != nil {
		t.Fatal(err)
	}
	segments, err := s.SegmentsPage(t.Context(), "acme", "batch_1", 0, 9)
	if err != nil || len(segments) != 2 || segments[0].Result.Output != hashOf("out") || segments[1].State != SegmentDone {
		t.Errorf("%+v, %v", segments, err)
	}
	if last := claimBatch(t, s, 9); len(last) != 1 || last[0].Kind != FinalizeJob {
		t.Errorf("%+v", last)
	} else {
		batch = found(t, s, "acme", "batch_1")
		batch.State = BatchCompleted
		if err := s.FinishBatch(t.Context(), last[0], batch, nil, nil, time.Now(), time.Now().Add(time.Hour)); err != nil || batch.Done != 18 || batch.Failed != 2 {
			t.Errorf("%+v, %v", batch, err)
		}
	}
}

func lookAtAnswer(t *testing.T, s *Store) {
	if answer, err := s.FindAnswer(t.Context(), "acme", "/v1/batches", "k"); err != nil || answer.Resource != "batch_1" || string(answer.Body) != `{"id":"batch_1"}` {
		t.Errorf("%+v, %v", answer, err)
	}
}

func lookAtAsyncJob(t *testing.T, s *Store) {
	if _, err := s.SweepJobs(t.Context()); err != nil {
		t.Fatal(err)
	}
	jobs := claimAsync(t, s, 9)
	if len(jobs) != 1 || jobs[0].Deaths != 1 {
		t.Fatalf("%+v", jobs)
	}
	if err := finishAsync(t, s, jobs[0], completed()); err != nil {
		t.Fatal(err)
	}
	checkOpen(t, s, "acme", 0)
}

func lookAtReviews(t *testing.T, s *Store) {
	checkCounted(t, s, "acme", 2)
	if review, err := decide(t, s, "acme", "modrev_0_00001", "passed", "another"); err != nil || review.DecidedBy != "aaaaaaaa" || review.Note != "fine" {
		t.Errorf("%+v, %v", review, err)
	}
	if _, err := decide(t, s, "acme", "modrev_0_00000", "flagged", "key"); err != nil {
		t.Error(err)
	}
	checkCounted(t, s, "acme", 1)
}

func lookAtCause(t *testing.T, s *Store) {
	if job := findJob(t, s, "caused"); job.Cause != aCause {
		t.Errorf("%+v", job)
	}
}

func lookAtDelivery(t *testing.T, s *Store) {
	job := claimDelivery(t, s)
	delivery, hook, err := s.DeliveryOf(t.Context(), job)
	if err != nil || delivery.Object != "batch_0" || hook.URL != "https://a.example" {
		t.Fatalf("%+v, %+v, %v", delivery, hook, err)
	}
	record(t, s, job, Try{State: DeliveryDelivered, Status: 204})
}

func lookAtCharges(t *testing.T, s *Store) {
	charges, err := s.UnsettledCharges(t.Context(), 9)
	if want := (Charge{ID: "batch_1/0", Tenant: "acme", Key: "aaaaaaaa", Class: "batch", Tokens: 7, Day: 20420}); err != nil || len(charges) != 1 || charges[0] != want {
		t.Fatalf("%+v, %v", charges, err)
	}
	if err := s.SettleCharges(t.Context(), charges); err != nil {
		t.Error(err)
	}
	if pruned, err := s.PruneCharges(t.Context(), 9); err != nil || pruned != 2 {
		t.Errorf("%d charges were forgotten, %v", pruned, err)
	}
}

func lookAtChange(t *testing.T, s *Store) {
	if hook, err := s.FindWebhook(t.Context(), "acme", "wh_1"); err != nil || hook.Updated.UnixMilli() != 1764345600009 {
		t.Errorf("%+v, %v", hook, err)
	}
}

func lookAtLifetime(t *testing.T, s *Store) {
	if batch := found(t, s, "acme", "batch_1"); batch.OutputLifetime != time.Hour {
		t.Errorf("%+v", batch)
	}
}

// lookAtEndedBatch holds that it is forgotten when it would have been.
func lookAtEndedBatch(t *testing.T, s *Store) {
	batch := found(t, s, "acme", "batch_0")
	due := time.UnixMilli(1764345600005).Add(30 * 24 * time.Hour)
	if batch.State != BatchCompleted || batch.Output != "file-out" || batch.Ended.UnixMilli() != 1764345600005 || !batch.Forgotten.Equal(due) {
		t.Errorf("%+v", batch)
	}
	early, err := s.PruneBatches(t.Context(), due.Add(-time.Millisecond), 9)
	if late, err2 := s.PruneBatches(t.Context(), due, 9); err != nil || err2 != nil || early != 0 || late != 1 {
		t.Errorf("%d batches were forgotten before their time, and %d then; %v, %v", early, late, err, err2)
	}
}
