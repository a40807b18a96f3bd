package store

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
)

// jobChannel is what PostgreSQL tells of new jobs on, with their queue's name.
const jobChannel = "triptych_job"

// endedChannel is what PostgreSQL tells of async jobs that have ended on, with their ids.
const endedChannel = "triptych_ended_job"

// listenAgain is how long a broken connection for notifications rests. Polling goes on meanwhile.
const listenAgain = time.Second

// turns remember of each queue which tenant was served last.
type turns struct {
	sync.Mutex
	last map[string]string
}

func (t *turns) of(queue string) string {
	t.Lock()
	defer t.Unlock()
	return t.last[queue]
}

func (t *turns) set(queue, tenant string) {
	t.Lock()
	defer t.Unlock()
	t.last[queue] = tenant
}

// wakes are called after each commit of this process.
type wakes struct {
	sync.Mutex
	calls map[*func()]struct{}
}

func (w *wakes) all() {
	w.Lock()
	defer w.Unlock()
	for call := range w.calls {
		(*call)()
	}
}

// WatchJobs calls wake whenever a queue may have new jobs, until ctx ends: after each commit of this process, which is
// cheaper than to know what it was of, and in PostgreSQL when another one has added some. It may miss some, so callers
// look by themselves too, if less often. wake must not wait, and is called by several goroutines.
func (s *Store) WatchJobs(ctx context.Context, queue string, wake func()) {
	s.wakes.Lock()
	s.wakes.calls[&wake] = struct{}{}
	s.wakes.Unlock()
	defer func() {
		s.wakes.Lock()
		delete(s.wakes.calls, &wake)
		s.wakes.Unlock()
	}()
	s.listenOn(ctx, jobChannel, wake, func(told string) { // and for what was told before
		if told == queue {
			wake()
		}
	})
}

// notifyJobs tells other processes of new jobs, once their transaction is committed.
func (s *Store) notifyJobs(ctx context.Context, tx *sql.Tx, queues []string) error {
	for _, queue := range queues {
		if err := s.notify(ctx, tx, jobChannel, queue); err != nil {
			return err
		}
	}
	return nil
}

// notify tells other processes something on a channel, once the transaction is committed, where the database can.
func (s *Store) notify(ctx context.Context, tx *sql.Tx, channel, told string) error {
	if s.dialect.notify == "" {
		return nil
	}
	_, err := tx.ExecContext(ctx, s.dialect.notify, channel, told)
	return err
}

// WatchEnded calls ended with the id of each async job that any process ends, until ctx ends, where the database can tell: in
// SQLite it tells nothing. It may miss some, so callers look by themselves too. ended must not wait.
func (s *Store) WatchEnded(ctx context.Context, ended func(id string)) {
	s.listenOn(ctx, endedChannel, func() {}, ended)
}

// listenOn calls told with what other processes tell on a channel, and begun whenever it begins to, until ctx ends.
func (s *Store) listenOn(ctx context.Context, channel string, begun func(), told func(payload string)) {
	for s.dialect.notify != "" && ctx.Err() == nil {
		_ = s.listen(ctx, channel, begun, told) // whatever broke it, polling finds out too and tells
		select {
		case <-ctx.Done():
		case <-time.After(listenAgain):
		}
	}
	<-ctx.Done()
}

// listen takes a connection for itself, and waits on it for what other processes tell.
func (s *Store) listen(ctx context.Context, channel string, begun func(), told func(payload string)) error {
	connection, err := s.r.Conn(ctx)
	if err != nil {
		return err
	}
	defer connection.Close()
	return connection.Raw(func(driver any) error {
		postgres, ours := driver.(*stdlib.Conn)
		if !ours {
			return errors.New("no connection of pgx")
		}
		if _, err := postgres.Conn().Exec(ctx, "LISTEN "+channel); err != nil {
			return err
		}
		begun()
		for {
			notification, err := postgres.Conn().WaitForNotification(ctx)
			if err != nil {
				closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), listenAgain)
				defer cancel()
				return errors.Join(err, postgres.Conn().Close(closing)) // nobody else may have it: it listens for ever
			}
			told(notification.Payload)
		}
	})
}
