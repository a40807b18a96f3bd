package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// AnswersKept is for how long the answer to a creation is kept for those who repeat it.
const AnswersKept = 24 * time.Hour

// Answer is what a creation was answered, under the Idempotency-Key of its request.
type Answer struct {
	Route, Key string // the key is one of a tenant's and a route's
	Request    string // what was asked, for comparison: the store does not read it
	Resource   string // the id of what was created
	Status     int
	Body       []byte
	Created    time.Time // by the database's clock
}

// Answering returns the answer to the creation of a resource, before it is created; nil where its request has no key. It is
// called at most once.
type Answering[Resource any] func(Resource) (*Answer, error)

// ErrAnswered means that the same key has created something before, and that nothing was written now.
type ErrAnswered struct{ Answer Answer }

func (e ErrAnswered) Error() string {
	return fmt.Sprintf("the Idempotency-Key %.64q has created %s before", e.Answer.Key, e.Answer.Resource)
}

// FindAnswer returns what a tenant's request was answered, or ErrNotFound.
func (s *Store) FindAnswer(ctx context.Context, tenant, route, key string) (Answer, error) {
	answer, err := s.findAnswer(ctx, s.r, tenant, route, key)
	return answer, s.explain(err)
}

func (s *Store) findAnswer(ctx context.Context, q querier, tenant, route, key string) (answer Answer, err error) {
	var created int64
	var body string
	err = q.QueryRowContext(ctx, `SELECT route, key, request, resource, status, body, created_at FROM answer
		WHERE tenant = $1 AND route = $2 AND key = $3 AND created_at > `+s.dialect.now+` - $4`, tenant, route, key, AnswersKept.Milliseconds()).
		Scan(&answer.Route, &answer.Key, &answer.Request, &answer.Resource, &answer.Status, &body, &created)
	answer.Body, answer.Created = []byte(body), time.UnixMilli(created).UTC()
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("there is no answer under the key %.64q: %w", key, ErrNotFound)
	}
	return answer, err
}

// keepAnswer keeps the answer to a creation in its transaction, before what it creates: whoever comes with the same key meanwhile
// waits for its end, and has ErrAnswered then. Nil is no answer to keep.
func (s *Store) keepAnswer(ctx context.Context, tx *sql.Tx, tenant string, answer *Answer) error {
	if answer == nil {
		return nil
	}
	done, err := tx.ExecContext(ctx, `INSERT INTO answer (tenant, route, key, request, resource, status, body, created_at)
		SELECT $1, $2, $3, $4, $5, $6, $7, clock.now FROM (SELECT `+s.dialect.now+` AS now) AS clock WHERE true
		ON CONFLICT (tenant, route, key) DO UPDATE SET request = excluded.request, resource = excluded.resource, status = excluded.status,
			body = excluded.body, created_at = excluded.created_at WHERE answer.created_at <= excluded.created_at - $8`,
		tenant, answer.Route, answer.Key, answer.Request, answer.Resource, answer.Status, string(answer.Body), AnswersKept.Milliseconds())
	if err != nil {
		return err
	}
	if rows, err := done.RowsAffected(); err != nil || rows == 1 {
		return err
	}
	before, err := s.findAnswer(ctx, tx, tenant, answer.Route, answer.Key)
	if err != nil {
		return err
	}
	return ErrAnswered{before}
}

// PruneAnswers removes answers that are kept no more, and returns how many: a bounded number.
func (s *Store) PruneAnswers(ctx context.Context) (int, error) {
	return s.remove(ctx, `DELETE FROM answer WHERE (tenant, route, key) IN (SELECT tenant, route, key FROM answer
		WHERE created_at <= `+s.dialect.now+` - $1 ORDER BY created_at LIMIT $2`+s.dialect.skipLocked+`)`, AnswersKept.Milliseconds(), jobsAtOnce)
}
